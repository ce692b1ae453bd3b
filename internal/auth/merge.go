package auth

import (
	"context"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Merge is _mergeAuthzCollections, by which mongorestore brings users and roles: the
// documents of tempUsersCollection and tempRolesCollection take the place of those of
// their names. db restricts it to users and roles of one database, "" does not. With drop
// those that are not in the temporary collections go.
func (s *Store) Merge(ctx context.Context, r Request) (OpTime, error) {
	users, roles := r.arg("tempUsersCollection").Str(), r.arg("tempRolesCollection").Str()
	if users == "" && roles == "" {
		return OpTime{}, mongoerr.New(mongoerr.BadValue, "Must provide at least one of \"tempUsersCollection\" and \"tempRolesCollection\"")
	}
	if r.arg("db").IsMissing() {
		return OpTime{}, mongoerr.New(40414, "BSON field '_mergeAuthzCollections.db' is missing but a required field")
	}
	db, drop := r.arg("db").Str(), r.arg("drop").Truthy()
	newUsers, err := s.temporary(ctx, users, userField, checkUser)
	if err != nil {
		return OpTime{}, err
	}
	newRoles, err := s.temporary(ctx, roles, roleField, checkRole)
	if err != nil {
		return OpTime{}, err
	}
	return s.change(ctx, func(e *edit) error {
		if users != "" {
			if err := e.merge(usersNS, userField, newUsers, db, drop); err != nil {
				return err
			}
		}
		if roles == "" {
			return nil
		}
		return e.merge(rolesNS, roleField, newRoles, db, drop)
	})
}

// temporary reads a collection of documents that are to be merged.
func (s *Store) temporary(ctx context.Context, ns, kind string, check func(n Name, doc bson.Raw) error) ([]bson.Raw, error) {
	if ns == "" {
		return nil, nil
	}
	n, ok := catalog.ParseNamespace(ns)
	if !ok {
		return nil, mongoerr.New(mongoerr.InvalidNamespace, "Invalid namespace specified '%s'", ns)
	}
	docs, err := s.cat.All(ctx, n)
	if err != nil {
		return nil, err
	}
	for i, d := range docs {
		name, ok := nameOf(kind, d)
		if !ok || name.Name == "" || name.DB == "" {
			return nil, badDocument(kind, "needs '%s' and 'db' fields that are non-empty strings: %s", kind, d.Get("_id"))
		}
		if err := check(name, d); err != nil {
			return nil, err
		}
		// The _id goes first in every stored document; whoever wrote this one may have had another.
		docs[i] = bson.NewBuilder(nil).Append("_id", name.id()).AppendElems(unset(d, "_id")).Finish()
	}
	return docs, nil
}

func badDocument(kind, format string, args ...any) error {
	return mongoerr.New(mongoerr.UnsupportedFormat, strings.ToUpper(kind[:1])+kind[1:]+" document "+format, args...)
}

func checkUser(n Name, doc bson.Raw) error {
	if doc.Get("credentials").Type != bson.TypeDocument {
		return badDocument(userField, "needs 'credentials' object: %s", n)
	}
	return checkRoleList(userField, n, doc)
}

func checkRole(n Name, doc bson.Raw) error {
	if _, ok := builtin(n); ok {
		return mongoerr.New(mongoerr.BadValue, "Cannot create roles with the same name as a built-in role")
	}
	if doc.Get("privileges").Type != bson.TypeArray {
		return badDocument(roleField, "needs 'privileges' array: %s", n)
	}
	return checkRoleList(roleField, n, doc)
}

func checkRoleList(kind string, n Name, doc bson.Raw) error {
	v := doc.Get("roles")
	if v.Type != bson.TypeArray || len(rolesOf(doc)) != v.Doc().Len() {
		return badDocument(kind, "needs 'roles' array of {role, db} documents: %s", n)
	}
	return nil
}

// merge puts documents into a collection; those of other databases than db are left out.
func (e *edit) merge(ns catalog.Namespace, kind string, docs []bson.Raw, db string, drop bool) error {
	present := map[Name]bool{}
	for _, d := range docs {
		n, _ := nameOf(kind, d)
		if db != "" && n.DB != db {
			continue
		}
		present[n] = true
		if err := e.Put(ns, d); err != nil {
			return err
		}
	}
	if !drop {
		return nil
	}
	have, err := e.All(ns)
	if err != nil {
		return err
	}
	for _, d := range have {
		n, _ := nameOf(kind, d)
		if present[n] || db != "" && n.DB != db {
			continue
		}
		if _, err := e.Delete(ns, d.Get("_id")); err != nil {
			return err
		}
	}
	return nil
}
