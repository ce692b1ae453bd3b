package repo

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// Every object but the marker begins with a header of 16 bytes; docs/FORMATS.md.
const (
	headerSize  = 16
	objectMagic = "CAIRNB"
	version     = 1 // of the objects; that of the whole is the marker's
	digestSize  = sha256.Size
)

// objectKind is the byte in the header; a kind lies below its own prefix.
type objectKind uint8

const (
	kindKey objectKind = iota + 1
	kindPack
	kindIndex
	kindManifest
	kindRecord
	kindLock
	kindTrash
)

// kinds gives the name that errors and findings use, and the prefix.
var kinds = [...]struct{ name, prefix string }{
	kindKey:      {"key", "keys/"},
	kindPack:     {"pack", "packs/"},
	kindIndex:    {"index", "index/"},
	kindManifest: {"manifest", "manifests/"},
	kindRecord:   {"record", "records/"},
	kindLock:     {"lock", "locks/"},
	kindTrash:    {"trash", "trash/"},
}

func (k objectKind) String() string { return kinds[k].name }

func (k objectKind) prefix() string { return kinds[k].prefix }

// CorruptError is an object, or a chunk in it, that is not what was written.
type CorruptError struct {
	Kind   string // marker, key, pack, index, manifest, record, lock, trash, chunk
	Object string // its name in the store
	Why    string
}

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s %s is damaged: %s", e.Kind, e.Object, e.Why)
}

func corrupt(kind objectKind, name, format string, args ...any) error {
	return &CorruptError{Kind: kind.String(), Object: name, Why: fmt.Sprintf(format, args...)}
}

// VersionError is an object written by a newer version of the format.
type VersionError struct {
	Object         string
	Version, Known int
}

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has format version %d, this cairn knows version %d: use a newer cairn", e.Object, e.Version, e.Known)
}

func makeHeader(kind objectKind, encrypted bool) []byte {
	h := make([]byte, headerSize)
	copy(h, objectMagic)
	h[6], h[7] = version, byte(kind)
	if encrypted {
		h[8] = 1
	}
	return h
}

// parseHeader checks the header and says whether the rest is encrypted.
func parseHeader(kind objectKind, name string, data []byte) (encrypted bool, err error) {
	switch {
	case len(data) < headerSize:
		return false, corrupt(kind, name, "%d bytes are too short for an object", len(data))
	case string(data[:6]) != objectMagic:
		return false, corrupt(kind, name, "it does not begin with %s", objectMagic)
	case data[6] != version:
		return false, &VersionError{name, int(data[6]), version}
	case data[7] != byte(kind):
		return false, corrupt(kind, name, "its header says kind %d, not %d", data[7], kind)
	case data[8] > 1:
		return false, corrupt(kind, name, "unknown flags %#x", data[8])
	}
	for _, b := range data[9:headerSize] {
		if b != 0 {
			return false, corrupt(kind, name, "reserved bytes of the header are not zero")
		}
	}
	return data[8] == 1, nil
}

// seal makes an object of a payload: header, then (salt, ciphertext) or the payload, then, for
// objects that are not named by their digest, the digest of all before.
func (k *keys) seal(kind objectKind, name string, payload []byte) ([]byte, error) {
	out := makeHeader(kind, k.encrypted())
	if k.encrypted() {
		var err error
		if out, err = k.encrypt(out, name, padded(payload)); err != nil {
			return nil, err
		}
	} else {
		out = append(out, payload...)
	}
	if !namedByDigest(kind) {
		sum := sha256.Sum256(out)
		out = append(out, sum[:]...)
	}
	return out, nil
}

// open is the reverse of seal.
func (k *keys) open(kind objectKind, name string, data []byte) ([]byte, error) {
	body := data
	if namedByDigest(kind) {
		if err := checkName(kind, name, data); err != nil {
			return nil, err
		}
	} else {
		if len(data) < headerSize+digestSize {
			return nil, corrupt(kind, name, "%d bytes are too short for an object", len(data))
		}
		body = data[:len(data)-digestSize]
		if err := checkDigest(kind, name, body, data[len(data)-digestSize:]); err != nil {
			return nil, err
		}
	}
	encrypted, err := parseHeader(kind, name, body)
	if err != nil {
		return nil, err
	}
	if encrypted != k.encrypted() {
		return nil, corrupt(kind, name, "encrypted: %v, but the repository's marker says %v", encrypted, k.encrypted())
	}
	if !encrypted {
		return body[headerSize:], nil
	}
	plain, err := k.decrypt(body[:headerSize], body[headerSize:], name)
	if err != nil {
		return nil, corrupt(kind, name, "%v", err)
	}
	return unpadded(kind, name, plain)
}

// namedByDigest says that the last part of the object's name is the SHA-256 of its bytes.
func namedByDigest(kind objectKind) bool { return kind == kindPack || kind == kindIndex }

func checkName(kind objectKind, name string, data []byte) error {
	got := digestName(data)
	if len(name) < len(got) || name[len(name)-len(got):] != got {
		return corrupt(kind, name, "its SHA-256 is %s, which is not its name", got)
	}
	return nil
}

// checkDigest tells a newer version apart from damage: the digest's place belongs to the version.
func checkDigest(kind objectKind, name string, body, digest []byte) error {
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], digest) {
		if len(body) > 6 && string(body[:6]) == objectMagic && body[6] > version {
			return &VersionError{name, int(body[6]), version}
		}
		return corrupt(kind, name, "its SHA-256 does not match its bytes")
	}
	return nil
}

// codec has the one zstd encoder and decoder of a repository; both serve any number of callers.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

// maxPlain bounds what a damaged or hostile object can make us allocate.
const maxPlain = 256 << 20

func newCodec(level zstd.EncoderLevel, workers int) (*codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(workers), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(256<<10))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(workers), zstd.WithDecoderMaxMemory(maxPlain))
	if err != nil {
		return nil, err
	}
	return &codec{enc, dec}, nil
}

// sealJSON stores a value as zstd of its JSON.
func (r *Repo) sealJSON(kind objectKind, name string, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, name, err)
	}
	return r.keys.seal(kind, name, r.codec.enc.EncodeAll(text, nil))
}

func (r *Repo) openJSON(kind objectKind, name string, data []byte, v any) error {
	packed, err := r.keys.open(kind, name, data)
	if err != nil {
		return err
	}
	text, err := r.codec.dec.DecodeAll(packed, nil)
	if err != nil {
		return corrupt(kind, name, "%v", err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return corrupt(kind, name, "%v", err)
	}
	return nil
}

// padded adds the payload's length in front and zeros behind, up to a size that tells little
// (paddedSize). Used before encryption only.
func padded(payload []byte) []byte {
	n := 4 + len(payload)
	out := make([]byte, paddedSize(n))
	binary.LittleEndian.PutUint32(out, uint32(len(payload)))
	copy(out[4:], payload)
	return out
}

func unpadded(kind objectKind, name string, plain []byte) ([]byte, error) {
	if len(plain) < 4 || uint64(binary.LittleEndian.Uint32(plain)) > uint64(len(plain)-4) {
		return nil, corrupt(kind, name, "its padding is longer than it is")
	}
	return slices.Clip(plain[4 : 4+binary.LittleEndian.Uint32(plain)]), nil
}

// paddedSize rounds up so that a size has as many significant bits as its exponent has (Padmé):
// sizes tell log log n bits, the cost is 12 % at most, 1.6 % for a pack of 16 MB.
func paddedSize(n int) int {
	if n < 256 {
		return 256
	}
	e := 0
	for v := n; v > 1; v >>= 1 {
		e++
	}
	s := 0
	for v := e; v > 0; v >>= 1 {
		s++
	}
	mask := 1<<(e-s) - 1
	return (n + mask) &^ mask
}
