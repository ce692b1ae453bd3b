package repo

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	masterSize = 32
	saltSize   = 32
	tagSize    = chacha20poly1305.Overhead
)

// keys derives everything secret from the repository's master key. A repository that is not
// encrypted has keys without a master: ids are plain SHA-256 and the chunker's table is public.
type keys struct {
	master []byte
	id     []byte    // HMAC key of chunk ids
	name   []byte    // HMAC key of object names that would tell something
	gear   []byte    // seed of the chunker's table
	macs   sync.Pool // hash.Hash keyed with id
}

func newKeys(master []byte) (*keys, error) {
	k := &keys{master: master}
	if master == nil {
		return k, nil
	}
	for _, d := range []struct {
		to    *[]byte
		label string
	}{{&k.id, "chunk ids"}, {&k.name, "object names"}, {&k.gear, "chunker"}} {
		b, err := hkdf.Key(sha256.New, master, nil, "cairn backup 1: "+d.label, 32)
		if err != nil {
			return nil, err
		}
		*d.to = b
	}
	k.macs.New = func() any { return hmac.New(sha256.New, k.id) }
	return k, nil
}

func (k *keys) encrypted() bool { return k.master != nil }

// chunkID names a chunk by its content: SHA-256, or with a key HMAC-SHA-256, so that who has no
// key cannot tell whether a content that he knows is in the repository.
func (k *keys) chunkID(data []byte) ID {
	if !k.encrypted() {
		return sha256.Sum256(data)
	}
	h := k.macs.Get().(hash.Hash)
	h.Reset()
	h.Write(data)
	var id ID
	h.Sum(id[:0])
	k.macs.Put(h)
	return id
}

// hideName replaces a text in an object's name, if the repository is encrypted.
func (k *keys) hideName(text string) string {
	if !k.encrypted() {
		return text
	}
	h := hmac.New(sha256.New, k.name)
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// aead is the cipher of one object: its key is derived from the master and the object's own
// random salt, so nonces may count from 0 and can never meet twice.
func (k *keys) aead(salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, k.master, salt, "cairn backup 1: object", chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	return chacha20poly1305.New(key)
}

func newSalt() []byte {
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails: the runtime ends the process if it cannot
	return salt
}

// randomHex is a random name of 2n digits.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// nonce numbers the parts of one object.
func nonce(n uint64) []byte {
	b := make([]byte, chacha20poly1305.NonceSize)
	for i := range 8 {
		b[4+i] = byte(n >> (56 - 8*i))
	}
	return b
}

// encrypt appends salt and ciphertext to the header; header and name are authenticated.
func (k *keys) encrypt(header []byte, name string, plain []byte) ([]byte, error) {
	salt := newSalt()
	a, err := k.aead(salt)
	if err != nil {
		return nil, err
	}
	ad := append(append([]byte{}, header...), k.boundName(header, name)...)
	return a.Seal(append(header, salt...), nonce(0), plain, ad), nil
}

func (k *keys) decrypt(header, body []byte, name string) ([]byte, error) {
	if len(body) < saltSize+tagSize {
		return nil, errors.New("too short for what is encrypted")
	}
	a, err := k.aead(body[:saltSize])
	if err != nil {
		return nil, err
	}
	ad := append(append([]byte{}, header...), k.boundName(header, name)...)
	plain, err := a.Open(nil, nonce(0), body[saltSize:], ad)
	if err != nil {
		return nil, errors.New("it does not decrypt: changed, put in another's place, or of another repository")
	}
	return plain, nil
}

// boundName is what of the name is authenticated: nothing where the name follows from the bytes.
func (k *keys) boundName(header []byte, name string) string {
	if namedByDigest(objectKind(header[7])) {
		return ""
	}
	return name
}

// ID names a chunk by its content.
type ID [32]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText makes an ID hexadecimal in JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) != 2*len(id) {
		return fmt.Errorf("an id has %d digits, not %d", 2*len(id), len(text))
	}
	_, err := hex.Decode(id[:], text)
	return err
}
