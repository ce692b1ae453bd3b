package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"
)

// KeyInfo tells about one key that opens the repository.
type KeyInfo struct {
	ID        string    `json:"id"`   // the last part of its object's name
	Type      string    `json:"type"` // passphrase or recipient
	Recipient string    `json:"recipient,omitempty"`
	Label     string    `json:"label,omitempty"`
	Created   time.Time `json:"created"`
}

// keyPayload is what age encrypts in a key object.
type keyPayload struct {
	Repository string `json:"repository"`
	Key        []byte `json:"key"`
}

// A key object is the header, u32 size of the age file, the age file (to one recipient: the
// master key), then, sealed with the master key, what KeyInfo says, then the digest.
func (r *Repo) writeKey(ctx context.Context, to age.Recipient, info KeyInfo) error {
	payload, err := json.Marshal(keyPayload{r.marker.ID, r.keys.master})
	if err != nil {
		return err
	}
	var file bytes.Buffer
	w, err := age.Encrypt(&file, to)
	if err != nil {
		return fmt.Errorf("encrypting the repository's key: %w", err)
	}
	if _, err := w.Write(payload); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	text, err := json.Marshal(info)
	if err != nil {
		return err
	}
	name := kindKey.prefix() + info.ID
	header := makeHeader(kindKey, true)
	out := binary.LittleEndian.AppendUint32(bytes.Clone(header), uint32(file.Len()))
	out = append(out, file.Bytes()...)
	sealed, err := r.keys.encrypt(bytes.Clone(header), name, padded(text))
	if err != nil {
		return err
	}
	out = append(out, sealed[headerSize:]...)
	sum := sha256.Sum256(out)
	return r.store.put(ctx, name, append(out, sum[:]...))
}

// splitKey checks a key object and cuts it into its two parts.
func splitKey(name string, data []byte) (file, sealed []byte, err error) {
	if len(data) < headerSize+4+digestSize {
		return nil, nil, corrupt(kindKey, name, "%d bytes are too short for a key", len(data))
	}
	body := data[:len(data)-digestSize]
	if err := checkDigest(kindKey, name, body, data[len(body):]); err != nil {
		return nil, nil, err
	}
	encrypted, err := parseHeader(kindKey, name, body)
	if err != nil {
		return nil, nil, err
	}
	n := binary.LittleEndian.Uint32(body[headerSize:])
	rest := body[headerSize+4:]
	if !encrypted || uint64(n) > uint64(len(rest)) {
		return nil, nil, corrupt(kindKey, name, "an age file of %d bytes does not fit", n)
	}
	return rest[:n], rest[n:], nil
}

func (r *Repo) addFirstKeys(ctx context.Context, o InitOptions) error {
	for _, to := range o.Recipients {
		if _, err := r.AddRecipient(ctx, to, ""); err != nil {
			return err
		}
	}
	if o.Passphrase != "" {
		if _, err := r.AddPassphrase(ctx, o.Passphrase, ""); err != nil {
			return err
		}
	}
	return nil
}

// AddRecipient lets the owner of a public key open the repository.
func (r *Repo) AddRecipient(ctx context.Context, to age.Recipient, label string) (KeyInfo, error) {
	info := KeyInfo{ID: randomHex(8), Type: "recipient", Label: label, Created: r.now().UTC().Truncate(time.Second)}
	if s, ok := to.(fmt.Stringer); ok {
		info.Recipient = s.String()
	}
	return info, r.addKey(ctx, to, info)
}

// AddPassphrase lets who knows a passphrase open the repository.
func (r *Repo) AddPassphrase(ctx context.Context, passphrase, label string) (KeyInfo, error) {
	info := KeyInfo{ID: randomHex(8), Type: "passphrase", Label: label, Created: r.now().UTC().Truncate(time.Second)}
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return info, err
	}
	if r.opts.cost > 0 {
		to.SetWorkFactor(r.opts.cost)
	}
	return info, r.addKey(ctx, to, info)
}

func (r *Repo) addKey(ctx context.Context, to age.Recipient, info KeyInfo) error {
	if !r.keys.encrypted() {
		return errors.New("the repository is not encrypted; encryption is chosen at init")
	}
	return r.writeKey(ctx, to, info)
}

// unlock finds the master key with what the options hold.
func (r *Repo) unlock(ctx context.Context, m *Marker) ([]byte, error) {
	identities := r.opts.Identities
	if r.opts.Passphrase != "" {
		id, err := age.NewScryptIdentity(r.opts.Passphrase)
		if err != nil {
			return nil, err
		}
		identities = append(identities[:len(identities):len(identities)], id)
	}
	objects, err := r.store.list(ctx, kindKey.prefix())
	if err != nil {
		return nil, err
	}
	var damage error
	for _, o := range objects {
		data, err := r.store.get(ctx, o.name)
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		master, err := openKey(o.name, data, m.ID, identities)
		switch {
		case err != nil:
			damage = errors.Join(damage, err)
		case master != nil:
			return master, nil
		}
	}
	if damage != nil {
		return nil, damage
	}
	return nil, fmt.Errorf("%w (it has %d)", ErrWrongKey, len(objects))
}

// openKey returns nil if the identities are not for this key, or it is another repository's.
func openKey(name string, data []byte, repository string, identities []age.Identity) ([]byte, error) {
	file, _, err := splitKey(name, data)
	if err != nil {
		return nil, err
	}
	plain, err := age.Decrypt(bytes.NewReader(file), identities...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) || errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, nil
	}
	if err != nil {
		return nil, corrupt(kindKey, name, "%v", err)
	}
	text, err := io.ReadAll(io.LimitReader(plain, 1<<16))
	var p keyPayload
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err == nil && len(p.Key) != masterSize {
		err = fmt.Errorf("a key of %d bytes", len(p.Key))
	}
	if err != nil {
		return nil, corrupt(kindKey, name, "%v", err)
	}
	if p.Repository != repository {
		return nil, nil
	}
	return p.Key, nil
}

// Keys lists the keys that open the repository.
func (r *Repo) Keys(ctx context.Context) ([]KeyInfo, error) {
	objects, err := r.store.list(ctx, kindKey.prefix())
	if err != nil {
		return nil, err
	}
	var out []KeyInfo
	for _, o := range objects {
		info, err := r.readKeyInfo(ctx, o.name)
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, info)
	}
	return out, nil
}

func (r *Repo) readKeyInfo(ctx context.Context, name string) (info KeyInfo, err error) {
	data, err := r.store.get(ctx, name)
	if err != nil {
		return info, err
	}
	_, sealed, err := splitKey(name, data)
	if err != nil {
		return info, err
	}
	if !r.keys.encrypted() {
		return info, corrupt(kindKey, name, "the repository is not encrypted and has no keys")
	}
	plain, err := r.keys.decrypt(makeHeader(kindKey, true), sealed, name)
	if err == nil {
		plain, err = unpadded(kindKey, name, plain)
	}
	if err == nil {
		err = json.Unmarshal(plain, &info)
	}
	if err != nil {
		return info, corrupt(kindKey, name, "%v", err)
	}
	if kindKey.prefix()+info.ID != name {
		return info, corrupt(kindKey, name, "it says that it is %s", info.ID)
	}
	return info, nil
}

// RemoveKey takes a key's access away. The last one stays, for without it nothing could be read.
// Who had access may have kept the master key: data that must be safe from him goes into a new
// repository.
func (r *Repo) RemoveKey(ctx context.Context, id string) error {
	all, err := r.Keys(ctx)
	if err != nil {
		return err
	}
	found := false
	for _, k := range all {
		found = found || k.ID == id
	}
	switch {
	case !found:
		return fmt.Errorf("the repository has no key %s", id)
	case len(all) == 1:
		return fmt.Errorf("key %s is the only one: add another before you remove it", id)
	}
	return r.store.remove(ctx, kindKey.prefix()+id)
}
