package auth

import (
	"context"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// userExists is the location code of a name that is taken.
const userExists mongoerr.Code = 51003

// checkUserName refuses names and databases that users may not have.
func checkUserName(n Name) error {
	switch {
	case n.Name == "":
		return mongoerr.New(mongoerr.BadValue, "Username cannot be empty")
	case strings.IndexByte(n.Name, 0) >= 0:
		return mongoerr.New(mongoerr.BadValue, "Username cannot contain NULL characters")
	case n.DB == localDB:
		return mongoerr.New(mongoerr.BadValue, "Cannot create users in the local database")
	}
	return nil
}

// newCredentials are the credentials that a command's pwd, mechanisms and digestPassword
// ask for; nil if there is no pwd.
func (r *Request) newCredentials(n Name) (bson.Raw, error) {
	names, err := parseMechanisms(r.arg("mechanisms"))
	if err != nil {
		return nil, err
	}
	switch {
	case r.has("pwd") && n.DB == externalDB:
		return nil, mongoerr.New(mongoerr.BadValue, "Cannot set the password for users defined on the '$external' database")
	case !r.has("pwd"):
		return nil, nil
	}
	digest := r.arg("digestPassword")
	return credentials(n.Name, r.arg("pwd").Str(), names, digest.IsNullish() || digest.Truthy())
}

// CreateUser is createUser.
func (s *Store) CreateUser(ctx context.Context, r Request) (OpTime, error) {
	n, err := r.target()
	if err != nil {
		return OpTime{}, err
	}
	if err := checkUserName(n); err != nil {
		return OpTime{}, err
	}
	if !r.has("pwd") && n.DB != externalDB {
		return OpTime{}, mongoerr.New(mongoerr.BadValue, "Must provide a 'pwd' field for all user documents, except those with '$external' as the user's source db")
	}
	g, err := r.grant()
	if err != nil {
		return OpTime{}, err
	}
	creds, err := r.newCredentials(n)
	if err != nil {
		return OpTime{}, err
	}
	if creds == nil {
		creds = bson.D("external", true)
	}
	b := bson.NewBuilder(nil).Append("_id", n.id()).UUID("userId", bson.NewUUID()).Str("user", n.Name).Str("db", n.DB).AppendDoc("credentials", creds)
	if r.has("customData") {
		b.Append("customData", r.arg("customData"))
	}
	b.AppendArray("roles", roleArray(g.roles))
	doc := g.restrict(b.Finish())
	return s.change(ctx, func(e *edit) error {
		if err := e.roles.checkExist(g.roles); err != nil {
			return err
		}
		if have, err := e.Get(usersNS, n.id()); have != nil || err != nil {
			if err == nil {
				err = mongoerr.New(userExists, "User \"%s\" already exists", n)
			}
			return err
		}
		return e.Put(usersNS, doc)
	})
}

// UpdateUser is updateUser.
func (s *Store) UpdateUser(ctx context.Context, r Request) (OpTime, error) {
	fields := false
	for _, f := range []string{"pwd", "customData", "roles", "authenticationRestrictions", "mechanisms"} {
		fields = fields || r.has(f)
	}
	if !fields {
		return OpTime{}, mongoerr.New(mongoerr.BadValue, "Must specify at least one field to update in updateUser")
	}
	g, err := r.grant()
	if err != nil {
		return OpTime{}, err
	}
	n, err := r.target()
	if err != nil {
		return OpTime{}, err
	}
	creds, err := r.newCredentials(n)
	if err != nil {
		return OpTime{}, err
	}
	return s.changeUser(ctx, r, func(e *edit, _ Name, doc bson.Raw) (bson.Raw, error) {
		switch {
		case creds != nil:
			doc = set(doc, "credentials", creds.Value())
		case r.has("mechanisms"):
			var err error
			if doc, err = keepMechanisms(doc, r.arg("mechanisms")); err != nil {
				return nil, err
			}
		}
		if r.has("customData") {
			doc = set(doc, "customData", r.arg("customData"))
		}
		if r.has("roles") {
			if err := e.roles.checkExist(g.roles); err != nil {
				return nil, err
			}
			doc = set(doc, "roles", roleArray(g.roles).Value())
		}
		return g.restrict(doc), nil
	})
}

// changeUser changes the document of the user that a command is about.
func (s *Store) changeUser(ctx context.Context, r Request, fn func(e *edit, n Name, doc bson.Raw) (bson.Raw, error)) (OpTime, error) {
	return s.changeOne(ctx, &r, usersNS, (*edit).user, fn)
}

// keepMechanisms drops the credentials of all other mechanisms: without a password new
// ones cannot be made.
func keepMechanisms(doc bson.Raw, keep bson.Value) (bson.Raw, error) {
	have := doc.Get("credentials").Doc()
	b := bson.NewBuilder(nil)
	for e := range keep.Doc().Values() {
		v := have.Get(e.Str())
		if v.IsMissing() {
			return nil, mongoerr.New(mongoerr.BadValue, "mechanisms field must be a subset of previously set mechanisms")
		}
	}
	for k, v := range have.Elems() {
		for e := range keep.Doc().Values() {
			if e.Str() == k {
				b.Append(k, v)
				break
			}
		}
	}
	return set(doc, "credentials", b.Finish().Value()), nil
}

// DropUser is dropUser.
func (s *Store) DropUser(ctx context.Context, r Request) (OpTime, error) {
	n, err := r.target()
	if err != nil {
		return OpTime{}, err
	}
	return s.change(ctx, func(e *edit) error {
		if _, err := e.user(n); err != nil {
			return err
		}
		_, err := e.Delete(usersNS, n.id())
		return err
	})
}

// DropAllUsers is dropAllUsersFromDatabase; n counts them.
func (s *Store) DropAllUsers(ctx context.Context, db string) (n int, t OpTime, err error) {
	t, err = s.change(ctx, func(e *edit) error {
		n = 0
		docs, err := e.All(usersNS)
		if err != nil {
			return err
		}
		for _, d := range docs {
			if d.Get("db").Str() != db {
				continue
			}
			if _, err := e.Delete(usersNS, d.Get("_id")); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, t, err
}

// GrantRolesToUser is grantRolesToUser.
func (s *Store) GrantRolesToUser(ctx context.Context, r Request) (OpTime, error) {
	return s.changeUserRoles(ctx, r, with)
}

// RevokeRolesFromUser is revokeRolesFromUser.
func (s *Store) RevokeRolesFromUser(ctx context.Context, r Request) (OpTime, error) {
	return s.changeUserRoles(ctx, r, without)
}

func (s *Store) changeUserRoles(ctx context.Context, r Request, how func(have, names []Name) []Name) (OpTime, error) {
	roles, err := r.someRoles()
	if err != nil {
		return OpTime{}, err
	}
	return s.changeUser(ctx, r, func(e *edit, _ Name, doc bson.Raw) (bson.Raw, error) {
		return set(doc, "roles", roleArray(how(rolesOf(doc), roles)).Value()), e.roles.checkExist(roles)
	})
}

// someRoles is a roles argument that must not be empty.
func (r *Request) someRoles() ([]Name, error) {
	roles, err := r.roles()
	if err == nil && len(roles) == 0 {
		err = mongoerr.New(mongoerr.BadValue, "%s command requires a non-empty \"roles\" array", r.Command)
	}
	return roles, err
}
