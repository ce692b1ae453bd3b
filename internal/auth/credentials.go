package auth

import (
	"crypto/md5" //nolint:gosec // SCRAM-SHA-1 is defined over it
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/xdg-go/scram"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// The mechanisms whose credentials are stored.
const (
	scramSHA1   = "SCRAM-SHA-1"
	scramSHA256 = "SCRAM-SHA-256"
)

// mechanism is how one mechanism's credentials are made.
type mechanism struct {
	name  string
	hash  scram.HashGeneratorFcn
	iters int
	salt  int // bytes; MongoDB's salts are one hash long less the block counter
}

// mechanisms are all, in the order in which they are stored and listed.
var mechanisms = []mechanism{
	{scramSHA1, scram.SHA1, 10000, 16},
	{scramSHA256, scram.SHA256, 15000, 28},
}

// parseMechanisms reads the mechanisms argument: nil if it was not given.
func parseMechanisms(v bson.Value) (names []string, err error) {
	if v.IsNullish() {
		return nil, nil
	}
	for e := range v.Doc().Values() {
		name := e.Str()
		if !slices.ContainsFunc(mechanisms, func(m mechanism) bool { return m.name == name }) {
			return nil, mongoerr.New(mongoerr.BadValue, "Unknown auth mechanism '%s'", name)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, mongoerr.New(mongoerr.BadValue, "mechanisms field must not be empty")
	}
	return names, nil
}

// credentials are the stored form of a password for the mechanisms named, all if none
// is. undigested says that the client sent the password itself, not MD5 of
// "user:mongo:password".
func credentials(user, password string, names []string, undigested bool) (bson.Raw, error) {
	if password == "" {
		return nil, mongoerr.New(mongoerr.BadValue, "Password cannot be empty")
	}
	b := bson.NewBuilder(nil)
	for _, m := range mechanisms {
		if names != nil && !slices.Contains(names, m.name) {
			continue
		}
		secret := password
		switch {
		case m.name == scramSHA256 && !undigested:
			return nil, mongoerr.New(mongoerr.BadValue, "Use of SCRAM-SHA-256 requires undigested passwords")
		case m.name == scramSHA1 && undigested:
			secret = passwordDigest(user, password)
		}
		salt := make([]byte, m.salt)
		if _, err := rand.Read(salt); err != nil {
			return nil, err
		}
		c, err := m.derive(secret, salt)
		if err != nil {
			return nil, mongoerr.New(mongoerr.BadValue, "Error preflighting UTF-8 password: %v", err)
		}
		b.AppendDoc(m.name, c)
	}
	return b.Finish(), nil
}

// derive is one mechanism's document.
func (m mechanism) derive(secret string, salt []byte) (bson.Raw, error) {
	newClient := m.hash.NewClient // prepares the password (SASLprep); the name is not part of what is kept
	if m.name == scramSHA1 {      // the digest is plain ASCII
		newClient = m.hash.NewClientUnprepped
	}
	c, err := newClient("user", secret, "")
	if err != nil {
		return nil, err
	}
	keys, err := c.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: m.iters})
	if err != nil {
		return nil, err
	}
	text := base64.StdEncoding.EncodeToString
	return bson.D("iterationCount", m.iters, "salt", text(salt), "storedKey", text(keys.StoredKey), "serverKey", text(keys.ServerKey)), nil
}

// passwordDigest is what SCRAM-SHA-1 takes for the password in MongoDB.
func passwordDigest(user, password string) string {
	sum := md5.Sum([]byte(user + ":mongo:" + password)) //nolint:gosec // defined so
	return hex.EncodeToString(sum[:])
}

// mechanismsOf are the mechanisms that a user document has credentials for.
func mechanismsOf(user bson.Raw) (names []string) {
	for k := range user.Get("credentials").Doc().Elems() {
		names = append(names, strings.Clone(k))
	}
	return names
}
