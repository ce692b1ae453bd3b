package auth

import (
	"context"
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// roleExists is the location code of a name that is taken.
const roleExists mongoerr.Code = 51002

// checkRoleName refuses names and databases that new roles may not have.
func checkRoleName(n Name) error {
	switch {
	case n.Name == "":
		return mongoerr.New(mongoerr.BadValue, "Role name must be non-empty")
	case strings.IndexByte(n.Name, 0) >= 0:
		return mongoerr.New(mongoerr.BadValue, "Role name cannot contain NULL characters")
	case n.DB == localDB:
		return mongoerr.New(mongoerr.BadValue, "Cannot create roles in the local database")
	case n.DB == externalDB:
		return mongoerr.New(mongoerr.BadValue, "Cannot create roles in the $external database")
	}
	if _, ok := builtin(n); ok {
		return mongoerr.New(mongoerr.BadValue, "Cannot create roles with the same name as a built-in role")
	}
	return nil
}

// privileges is the checked privileges argument.
func (r *Request) privileges() ([]privilege, error) {
	list, err := parsePrivileges(r.Command+".privileges", r.arg("privileges"))
	if err != nil {
		return nil, err
	}
	return list, checkTargets(r.DB, list)
}

// CreateRole is createRole.
func (s *Store) CreateRole(ctx context.Context, r Request) (OpTime, error) {
	n, err := r.target()
	if err != nil {
		return OpTime{}, err
	}
	if err := checkRoleName(n); err != nil {
		return OpTime{}, err
	}
	privileges, err := r.privileges()
	if err != nil {
		return OpTime{}, err
	}
	g, err := r.grant()
	if err != nil {
		return OpTime{}, err
	}
	b := bson.NewBuilder(nil).Append("_id", n.id()).Str("role", n.Name).Str("db", n.DB).
		AppendArray("privileges", privilegeArray(privileges)).AppendArray("roles", roleArray(g.roles))
	doc := g.restrict(b.Finish())
	return s.change(ctx, func(e *edit) error {
		if err := e.roles.checkGrant(n, g.roles); err != nil {
			return err
		}
		if e.roles[n] != nil {
			return mongoerr.New(roleExists, "Role \"%s\" already exists", n)
		}
		return e.Put(rolesNS, doc)
	})
}

// changeRole changes the document of the role that a command is about.
func (s *Store) changeRole(ctx context.Context, r Request, fn func(e *edit, n Name, doc bson.Raw) (bson.Raw, error)) (OpTime, error) {
	return s.changeOne(ctx, &r, rolesNS, func(e *edit, n Name) (bson.Raw, error) { return e.roles.role(n) }, fn)
}

// UpdateRole is updateRole.
func (s *Store) UpdateRole(ctx context.Context, r Request) (OpTime, error) {
	if !r.has("privileges") && !r.has("roles") && !r.has("authenticationRestrictions") {
		return OpTime{}, mongoerr.New(mongoerr.BadValue, "updateRole command requires at least one of 'privileges', 'roles' and 'authenticationRestrictions'")
	}
	privileges, err := r.privileges()
	if err != nil {
		return OpTime{}, err
	}
	g, err := r.grant()
	if err != nil {
		return OpTime{}, err
	}
	return s.changeRole(ctx, r, func(e *edit, n Name, doc bson.Raw) (bson.Raw, error) {
		if r.has("privileges") {
			doc = set(doc, "privileges", privilegeArray(privileges).Value())
		}
		if r.has("roles") {
			if err := e.roles.checkGrant(n, g.roles); err != nil {
				return nil, err
			}
			doc = set(doc, "roles", roleArray(g.roles).Value())
		}
		return g.restrict(doc), nil
	})
}

// GrantRolesToRole is grantRolesToRole.
func (s *Store) GrantRolesToRole(ctx context.Context, r Request) (OpTime, error) {
	roles, err := r.someRoles()
	if err != nil {
		return OpTime{}, err
	}
	return s.changeRole(ctx, r, func(e *edit, n Name, doc bson.Raw) (bson.Raw, error) {
		return set(doc, "roles", roleArray(with(rolesOf(doc), roles)).Value()), e.roles.checkGrant(n, roles)
	})
}

// RevokeRolesFromRole is revokeRolesFromRole.
func (s *Store) RevokeRolesFromRole(ctx context.Context, r Request) (OpTime, error) {
	roles, err := r.someRoles()
	if err != nil {
		return OpTime{}, err
	}
	return s.changeRole(ctx, r, func(e *edit, _ Name, doc bson.Raw) (bson.Raw, error) {
		return set(doc, "roles", roleArray(without(rolesOf(doc), roles)).Value()), e.roles.checkExist(roles)
	})
}

// GrantPrivilegesToRole is grantPrivilegesToRole.
func (s *Store) GrantPrivilegesToRole(ctx context.Context, r Request) (OpTime, error) {
	return s.changePrivileges(ctx, r, merge)
}

// RevokePrivilegesFromRole is revokePrivilegesFromRole.
func (s *Store) RevokePrivilegesFromRole(ctx context.Context, r Request) (OpTime, error) {
	return s.changePrivileges(ctx, r, subtract)
}

func (s *Store) changePrivileges(ctx context.Context, r Request, how func(have, list []privilege) []privilege) (OpTime, error) {
	list, err := r.privileges()
	if err != nil {
		return OpTime{}, err
	}
	if len(list) == 0 {
		return OpTime{}, mongoerr.New(mongoerr.BadValue, "%s command requires a non-empty \"privileges\" array", r.Command)
	}
	return s.changeRole(ctx, r, func(_ *edit, _ Name, doc bson.Raw) (bson.Raw, error) {
		return set(doc, "privileges", privilegeArray(how(storedPrivileges(doc), list)).Value()), nil
	})
}

// DropRole is dropRole: users and roles that have the role lose it.
func (s *Store) DropRole(ctx context.Context, r Request) (OpTime, error) {
	n, err := r.target()
	if err != nil {
		return OpTime{}, err
	}
	return s.change(ctx, func(e *edit) error {
		if _, err := e.roles.role(n); err != nil {
			return err
		}
		return e.dropRoles([]Name{n})
	})
}

// DropAllRoles is dropAllRolesFromDatabase; n counts them.
func (s *Store) DropAllRoles(ctx context.Context, db string) (n int, t OpTime, err error) {
	t, err = s.change(ctx, func(e *edit) error {
		var names []Name
		for name := range e.roles {
			if name.DB == db {
				names = append(names, name)
			}
		}
		slices.SortFunc(names, func(a, b Name) int { return strings.Compare(a.Name, b.Name) })
		n = len(names)
		return e.dropRoles(names)
	})
	return n, t, err
}

// dropRoles removes roles and takes them from all that have them.
func (e *edit) dropRoles(names []Name) error {
	if len(names) == 0 {
		return nil
	}
	users, err := e.All(usersNS)
	if err != nil {
		return err
	}
	for _, d := range users {
		if have := rolesOf(d); len(without(have, names)) < len(have) {
			if err := e.Put(usersNS, set(d, "roles", roleArray(without(have, names)).Value())); err != nil {
				return err
			}
		}
	}
	docs, err := e.All(rolesNS)
	if err != nil {
		return err
	}
	for _, d := range docs {
		if n, ok := nameOf(roleField, d); ok && slices.Contains(names, n) {
			if _, err := e.Delete(rolesNS, d.Get("_id")); err != nil {
				return err
			}
			continue
		}
		if have := rolesOf(d); len(without(have, names)) < len(have) {
			if err := e.Put(rolesNS, set(d, "roles", roleArray(without(have, names)).Value())); err != nil {
				return err
			}
		}
	}
	return nil
}
