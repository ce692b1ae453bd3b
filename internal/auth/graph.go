package auth

import (
	"slices"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// graph is who inherits from whom: the documents of all user-defined roles. Built-in
// roles inherit from none. Documents written past the commands may make a cycle, so
// every walk remembers where it was.
type graph map[Name]bson.Raw

func newGraph(docs []bson.Raw) graph {
	g := graph{}
	for _, d := range docs {
		if n, ok := nameOf(roleField, d); ok {
			g[n] = d
		}
	}
	return g
}

// nameOf is the name in a stored document.
func nameOf(kind string, doc bson.Raw) (Name, bool) {
	n, db := doc.Get(kind), doc.Get("db")
	return Name{n.Str(), db.Str()}, n.Type == bson.TypeString && db.Type == bson.TypeString
}

func (g graph) exists(n Name) bool {
	if _, ok := builtin(n); ok {
		return true
	}
	return g[n] != nil
}

// inherited returns all roles that names stand for: themselves and what they inherit
// from, nearest first, as far as they exist.
func (g graph) inherited(names []Name) (out []Name) {
	queue := slices.Clone(names)
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		if slices.Contains(out, n) || !g.exists(n) {
			continue
		}
		out = append(out, n)
		queue = append(queue, rolesOf(g[n])...)
	}
	return out
}

// privileges are a role's own.
func (g graph) privileges(n Name) []privilege {
	if list, ok := builtin(n); ok {
		return list
	}
	return storedPrivileges(g[n])
}

// allPrivileges are those of the roles in names and of what they inherit from, one for
// each resource.
func (g graph) allPrivileges(names []Name) (out []privilege) {
	for _, n := range g.inherited(names) {
		out = merge(out, g.privileges(n))
	}
	return out
}

// restrictions are the authentication restrictions of the roles in names and of what
// they inherit from, an array for each role that has some.
func (g graph) restrictions(names []Name) (out []bson.Value) {
	for _, n := range g.inherited(names) {
		if v := g[n].Get("authenticationRestrictions"); v.Type == bson.TypeArray && !v.Doc().IsEmpty() {
			out = append(out, v)
		}
	}
	return out
}

// checkExist refuses names of which one is no role.
func (g graph) checkExist(names []Name) error {
	for _, n := range names {
		if !g.exists(n) {
			return mongoerr.New(mongoerr.RoleNotFound, "Could not find role: %s", n)
		}
	}
	return nil
}

// checkGrant refuses roles that n, which may be about to be made, must not inherit from.
func (g graph) checkGrant(n Name, roles []Name) error {
	for _, r := range roles {
		if r == n {
			return mongoerr.New(mongoerr.InvalidRoleModification, "Cannot grant role %s to itself.", n)
		}
		if n.DB != adminDB && r.DB != n.DB {
			return mongoerr.New(mongoerr.InvalidRoleModification, "Roles on the '%s' database cannot be granted roles from other databases", n.DB)
		}
	}
	if err := g.checkExist(roles); err != nil {
		return err
	}
	for _, r := range roles {
		if slices.Contains(g.inherited([]Name{r}), n) {
			return mongoerr.New(mongoerr.InvalidRoleModification, "Granting %s to %s would introduce a cycle in the role graph.", r, n)
		}
	}
	return nil
}

// role returns the document of a role that may be changed.
func (g graph) role(n Name) (bson.Raw, error) {
	if _, ok := builtin(n); ok {
		return nil, mongoerr.New(mongoerr.InvalidRoleModification, "%s is a built-in role and cannot be modified", n)
	}
	if g[n] == nil {
		return nil, mongoerr.New(mongoerr.RoleNotFound, "Role '%s' not found", n)
	}
	return g[n], nil
}
