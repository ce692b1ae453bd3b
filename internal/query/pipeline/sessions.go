package pipeline

import (
	"context"
	"crypto/sha256"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// sessionStore is the collection that $listSessions is run on. The sessions are kept in
// memory, so that what it shows is what $listLocalSessions does.
var sessionStore = Namespace{"config", "system.sessions"}

// parseListSessions parses $listLocalSessions and $listSessions: {}, {allUsers: true} or
// {users: [{user, db} …]}. Without access control all sessions are of the nameless user,
// and everybody sees them.
func parseListSessions(ps *parser, name string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeDocument {
		return nil, mongoerr.New(mongoerr.TypeMismatch, "%s options must be specified in an object, but found: %s", name, v.Type)
	}
	if name == "$listSessions" && ps.o.NS != sessionStore {
		return nil, mongoerr.New(mongoerr.InvalidNamespace, "%s may only be run against %s", name, sessionStore)
	}
	all, users := true, map[string]bool{}
	for k, e := range v.Doc().Elems() {
		switch {
		case k == "allUsers" && e.Type == bson.TypeBool:
		case k == "allUsers":
			return nil, mongoerr.New(mongoerr.TypeMismatch, "BSON field '%s.%s' is the wrong type '%s', expected type 'bool'", name, k, e.Type)
		case k != "users":
			return nil, mongoerr.New(mongoerr.UnknownField, "BSON field '%s.%s' is an unknown field.", name, k)
		case e.Type != bson.TypeArray:
			return nil, mongoerr.New(mongoerr.TypeMismatch, "BSON field '%s.%s' is the wrong type '%s', expected type 'array'", name, k, e.Type)
		default:
			for u := range e.Doc().Values() {
				if u.Type != bson.TypeDocument {
					return nil, mongoerr.New(mongoerr.TypeMismatch, "BSON field '%s.users' is the wrong type '%s', expected type 'object'", name, u.Type)
				}
				user, db := u.Doc().Get("user"), u.Doc().Get("db")
				for field, is := range map[string]bson.Value{"db": db, "user": user} {
					if is.Type != bson.TypeString {
						return nil, mongoerr.New(40414, "BSON field '%s.users.%s' is missing but a required field", name, field)
					}
				}
				all, users[userDigest(user.Str()+"@"+db.Str())] = false, true
			}
		}
	}
	if !all && v.Doc().Get("allUsers").Truthy() {
		return nil, mongoerr.New(mongoerr.UnsupportedFormat, "%s may not specify {allUsers:true} and {users:[...]} at the same time", name)
	}
	return []stage{&sourceStage{name, v, func(ctx context.Context, o *Options) ([]bson.Raw, error) {
		if !all && !users[userDigest("")] {
			return nil, nil
		}
		return o.Host.Sessions(ctx)
	}}}, nil
}

// userDigest is what a session's _id.uid says of its user: SHA-256 of "user@db".
func userDigest(user string) string {
	sum := sha256.Sum256([]byte(user))
	return string(sum[:])
}
