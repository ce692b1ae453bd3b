package session

import (
	"crypto/sha256"
	"encoding/base64"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// ID is a logical session's identity: what a client calls it, and the digest of
// the user it belongs to.
type ID struct {
	UUID bson.UUID
	User [sha256.Size]byte
}

// Nobody is the digest that stands for no user, as the log of a server without
// authentication shows it.
var Nobody = sha256.Sum256(nil)

// ParseID reads an lsid. A session that a server made for itself inside another one
// (txnNumber, txnUUID) is refused: clients must not use those.
func ParseID(lsid bson.Raw) (id ID, err error) {
	id.User = Nobody
	it := lsid.Iter()
	for it.Next() {
		switch v := it.Value(); it.Key() {
		case "id":
			u, ok := v.UUID()
			if !ok {
				return ID{}, mongoerr.New(mongoerr.TypeMismatch, "BSON field 'OperationSessionInfo.lsid.id' is the wrong binData type, expected type 'UUID'")
			}
			id.UUID = u
		case "uid":
			_, data := v.Binary()
			if v.Type != bson.TypeBinary || len(data) != sha256.Size {
				return ID{}, mongoerr.New(mongoerr.UnsupportedFormat, "uid is not a SHA-256 digest")
			}
			copy(id.User[:], data)
		case "txnNumber", "txnUUID":
			return ID{}, mongoerr.New(mongoerr.InvalidOptions, "Internal sessions are not allowed to be used by a client")
		default:
			return ID{}, mongoerr.New(mongoerr.UnknownField, "BSON field 'OperationSessionInfo.lsid.%s' is an unknown field.", it.Key())
		}
	}
	return id, it.Err()
}

// Doc is the session's lsid as the log and config.transactions show it.
func (id ID) Doc() bson.Raw {
	b := bson.NewBuilder(make([]byte, 0, 80))
	return b.UUID("id", id.UUID).Binary("uid", bson.BinaryGeneric, id.User[:]).Finish()
}

// String is how messages name a session.
func (id ID) String() string {
	return id.UUID.String() + " - " + base64.StdEncoding.EncodeToString(id.User[:]) + " -  - "
}
