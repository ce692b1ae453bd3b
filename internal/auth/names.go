package auth

import (
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Name is a user or a role: its own name and its database's. A role's name is never a
// user's, so one type serves both.
type Name struct{ Name, DB string }

// String returns "name@db", as messages show it.
func (n Name) String() string { return n.Name + "@" + n.DB }

// id is the _id of the user's or role's document.
func (n Name) id() bson.Value { return bson.V(n.DB + "." + n.Name) }

// Kinds of names, by the field that holds the name in a document.
const (
	userField = "user"
	roleField = "role"
)

// The databases with rules of their own.
const (
	adminDB    = "admin"
	localDB    = "local"
	configDB   = "config"
	externalDB = "$external"
)

// parseName reads "name" (of database db) or {user|role: name, db: db}. where names the
// argument in messages.
func parseName(kind, where, db string, v bson.Value) (Name, error) {
	switch v.Type {
	case bson.TypeString:
		return Name{strings.Clone(v.Str()), strings.Clone(db)}, nil
	case bson.TypeDocument:
		n, of := v.Doc().Get(kind), v.Doc().Get("db")
		for _, f := range []struct {
			name string
			v    bson.Value
		}{{kind, n}, {"db", of}} {
			if f.v.IsMissing() {
				return Name{}, mongoerr.New(40414, "BSON field '%s.%s' is missing but a required field", where, f.name)
			}
			if f.v.Type != bson.TypeString {
				return Name{}, wrongType(where+"."+f.name, f.v, "string")
			}
		}
		for k := range v.Doc().Elems() {
			if k != kind && k != "db" {
				return Name{}, mongoerr.New(mongoerr.UnknownField, "BSON field '%s.%s' is an unknown field.", where, k)
			}
		}
		return Name{strings.Clone(n.Str()), strings.Clone(of.Str())}, nil
	}
	return Name{}, mongoerr.New(mongoerr.BadValue, "%s must be a string or an object, not %s", strings.ToUpper(kind[:1])+kind[1:]+" names", v.Type)
}

// ParseRoles reads the roles argument of a command, each once and in the order given.
func ParseRoles(where, db string, v bson.Value) ([]Name, error) {
	return parseNames(roleField, where, db, v)
}

func parseNames(kind, where, db string, v bson.Value) (names []Name, err error) {
	for e := range v.Doc().Values() {
		n, err := parseName(kind, where, db, e)
		if err != nil {
			return nil, err
		}
		if n.Name == "" {
			return nil, mongoerr.New(mongoerr.BadValue, "%s name must be non-empty", strings.ToUpper(kind[:1])+kind[1:])
		}
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names, nil
}

// rolesOf reads the roles array of a stored document; what is no role is passed over.
func rolesOf(doc bson.Raw) (names []Name) {
	for e := range doc.Get("roles").Doc().Values() {
		d := e.Doc()
		if r, db := d.Get("role"), d.Get("db"); r.Type == bson.TypeString && db.Type == bson.TypeString {
			names = append(names, Name{r.Str(), db.Str()})
		}
	}
	return names
}

// roleArray is names in the form {role, db}.
func roleArray(names []Name) bson.Array {
	b := bson.NewArrayBuilder(nil)
	for _, n := range names {
		b.Doc("").Str("role", n.Name).Str("db", n.DB).End()
	}
	return bson.Array(b.Finish())
}

// with adds what is not there yet; without removes.
func with(have, more []Name) []Name {
	out := slices.Clone(have)
	for _, n := range more {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func without(have, gone []Name) []Name {
	return slices.DeleteFunc(slices.Clone(have), func(n Name) bool { return slices.Contains(gone, n) })
}

func wrongType(field string, v bson.Value, want string) error {
	return mongoerr.New(mongoerr.TypeMismatch, "BSON field '%s' is the wrong type '%s', expected type '%s'", field, v.Type, want)
}

// set returns doc with one field replaced in its place, or added at the end.
func set(doc bson.Raw, key string, v bson.Value) bson.Raw {
	b := bson.NewBuilder(nil)
	done := false
	for k, old := range doc.Elems() {
		if k == key {
			old, done = v, true
		}
		b.Append(k, old)
	}
	if !done {
		b.Append(key, v)
	}
	return b.Finish()
}

// unset returns doc without some fields.
func unset(doc bson.Raw, keys ...string) bson.Raw {
	b := bson.NewBuilder(nil)
	for k, v := range doc.Elems() {
		if !slices.Contains(keys, k) {
			b.Append(k, v)
		}
	}
	return b.Finish()
}
