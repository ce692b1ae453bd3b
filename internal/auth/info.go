package auth

import (
	"context"
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// selection is what usersInfo or rolesInfo is asked for: all of a database, of every
// database, or those named.
type selection struct {
	all, everywhere bool
	db              string
	names           []Name
}

// parseSelection reads the value of usersInfo or rolesInfo.
func (r *Request) parseSelection(kind string) (*selection, error) {
	_, v := r.Body.First()
	where := r.Command + "." + r.Command
	switch {
	case v.IsNumber():
		if n, ok := v.AsInt64(); !ok || n != 1 {
			return nil, mongoerr.New(mongoerr.BadValue, "%s must be 1, a name, {%s, db}, an array of those or {forAllDBs: true}", r.Command, kind)
		}
		return &selection{all: true, db: r.DB}, nil
	case v.Type == bson.TypeDocument && v.Doc().Has("forAllDBs"):
		if f := v.Doc().Get("forAllDBs"); f.Type != bson.TypeBool || !f.Bool() || v.Doc().Len() != 1 {
			return nil, mongoerr.New(mongoerr.BadValue, "%s: {forAllDBs: true} takes no other value and no other field", r.Command)
		}
		return &selection{all: true, everywhere: true}, nil
	case v.Type == bson.TypeArray:
		names, err := parseNames(kind, where, r.DB, v)
		return &selection{names: names}, err
	}
	n, err := parseName(kind, where, r.DB, v)
	return &selection{names: []Name{n}}, err
}

// takes reports whether a stored document of that name is asked for.
func (s *selection) takes(n Name) bool {
	if s.all {
		return s.everywhere || n.DB == s.db
	}
	return slices.Contains(s.names, n)
}

// UsersInfo is usersInfo. match compiles its filter.
func (s *Store) UsersInfo(ctx context.Context, r Request, match func(filter bson.Raw) (func(bson.Raw) (bool, error), error)) (users []bson.Raw, err error) {
	sel, err := r.parseSelection(userField)
	if err != nil {
		return nil, err
	}
	details := r.arg("showPrivileges").Truthy() || r.arg("showAuthenticationRestrictions").Truthy()
	if details && sel.all {
		return nil, mongoerr.New(mongoerr.IllegalOperation, "Privilege or restriction details require exact-match usersInfo queries")
	}
	keep := func(bson.Raw) (bool, error) { return true, nil }
	if r.has("filter") {
		if keep, err = match(r.arg("filter").Doc()); err != nil {
			return nil, err
		}
	}
	docs, err := s.cat.All(ctx, usersNS)
	if err != nil {
		return nil, err
	}
	var g graph
	if details {
		if g, err = s.graph(ctx); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(docs, func(a, b bson.Raw) int {
		x, _ := nameOf(userField, a)
		y, _ := nameOf(userField, b)
		if c := strings.Compare(x.Name, y.Name); c != 0 {
			return c
		}
		return strings.Compare(x.DB, y.DB)
	})
	for _, d := range docs {
		n, ok := nameOf(userField, d)
		if !ok || !sel.takes(n) {
			continue
		}
		doc := r.describeUser(d, g)
		ok, err := keep(doc)
		if err != nil {
			return nil, err
		}
		if ok {
			users = append(users, doc)
		}
	}
	return users, nil
}

func (s *Store) graph(ctx context.Context) (graph, error) {
	docs, err := s.cat.All(ctx, rolesNS)
	return newGraph(docs), err
}

// describeUser is one user as usersInfo shows it; g is nil if no privileges are asked for.
func (r *Request) describeUser(doc bson.Raw, g graph) bson.Raw {
	b := bson.NewBuilder(nil)
	mechs := mechanismsOf(doc)
	if doc.Path("credentials.external").Truthy() {
		mechs = []string{"external"}
	}
	for k, v := range doc.Elems() {
		switch k {
		case "credentials":
			if g != nil {
				b.Any("mechanisms", mechs)
			}
			if !r.arg("showCredentials").Truthy() {
				continue
			}
		case "customData":
			if show := r.arg("showCustomData"); !show.IsNullish() && !show.Truthy() {
				continue
			}
		case "authenticationRestrictions":
			continue
		}
		b.Append(k, v)
	}
	if g == nil {
		return b.Any("mechanisms", mechs).Finish()
	}
	roles := rolesOf(doc)
	b.AppendArray("inheritedRoles", roleArray(g.inherited(roles))).AppendArray("inheritedPrivileges", privilegeArray(g.allPrivileges(roles))).
		Any("inheritedAuthenticationRestrictions", g.restrictions(roles))
	if r.arg("showAuthenticationRestrictions").Truthy() {
		if own := doc.Get("authenticationRestrictions"); own.Type == bson.TypeArray {
			b.Append("authenticationRestrictions", own)
		} else {
			b.Array("authenticationRestrictions").End()
		}
	}
	return b.Finish()
}

// RolesInfo is rolesInfo. With showPrivileges: "asUserFragment" fragment is what a user
// with the roles asked for would have; roles is nil then.
func (s *Store) RolesInfo(ctx context.Context, r Request) (roles []bson.Raw, fragment bson.Raw, err error) {
	sel, err := r.parseSelection(roleField)
	if err != nil {
		return nil, nil, err
	}
	g, err := s.graph(ctx)
	if err != nil {
		return nil, nil, err
	}
	show := r.arg("showPrivileges")
	if show.Type == bson.TypeString {
		switch {
		case show.Str() != "asUserFragment":
			return nil, nil, mongoerr.New(mongoerr.BadValue, "Enumeration value '%s' for field 'rolesInfo.showPrivileges' is not a valid value.", show.Str())
		case sel.all:
			return nil, nil, mongoerr.New(mongoerr.IllegalOperation, "Cannot get user fragment for all roles in a database")
		}
		return nil, g.fragment(sel.names), nil
	}
	names := sel.names
	if sel.all {
		names = g.all(sel, r.arg("showBuiltinRoles").Truthy())
	}
	for _, n := range names {
		if g.exists(n) {
			roles = append(roles, g.describe(n, show.Truthy(), r.arg("showAuthenticationRestrictions").Truthy()))
		}
	}
	return roles, nil, nil
}

// all are the roles of a database or of all, the built-in ones first.
func (g graph) all(sel *selection, builtins bool) (names []Name) {
	for n := range g {
		if sel.takes(n) {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b Name) int {
		if c := strings.Compare(a.DB, b.DB); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	if !builtins {
		return names
	}
	if sel.everywhere { // the databases are without number: those of admin stand for them
		return append(builtinNames(adminDB), names...)
	}
	return append(builtinNames(sel.db), names...)
}

// describe is one role as rolesInfo shows it.
func (g graph) describe(n Name, privileges, restrictions bool) bson.Raw {
	b := bson.NewBuilder(nil)
	own := g.privileges(n)
	_, isBuiltin := builtin(n)
	roles := rolesOf(g[n])
	if isBuiltin {
		roles = nil
		b.Str("role", n.Name).Str("db", n.DB).Bool("isBuiltin", true).Array("roles").End()
	} else {
		for k, v := range g[n].Elems() {
			switch {
			case k == "privileges" && !privileges, k == "authenticationRestrictions":
				continue
			}
			b.Append(k, v)
		}
		if restrictions {
			b.Any("authenticationRestrictions", ownRestrictions(g[n]))
		}
		b.Bool("isBuiltin", false)
	}
	b.AppendArray("inheritedRoles", roleArray(g.inherited(roles)))
	if privileges {
		if isBuiltin {
			b.AppendArray("privileges", privilegeArray(own))
		}
		b.AppendArray("inheritedPrivileges", privilegeArray(append(slices.Clone(own), g.allPrivileges(roles)...)))
	}
	if restrictions {
		if isBuiltin {
			b.Array("authenticationRestrictions").End()
		}
		b.Any("inheritedAuthenticationRestrictions", append(ownRestrictions(g[n]), g.restrictions(roles)...))
	}
	return b.Finish()
}

func ownRestrictions(doc bson.Raw) []bson.Value {
	if v := doc.Get("authenticationRestrictions"); v.Type == bson.TypeArray && !v.Doc().IsEmpty() {
		return []bson.Value{v}
	}
	return nil
}

// fragment is what a user who has the roles named would inherit.
func (g graph) fragment(names []Name) bson.Raw {
	return bson.NewBuilder(nil).AppendArray("roles", roleArray(names)).
		AppendArray("inheritedRoles", roleArray(g.inherited(names))).
		AppendArray("inheritedPrivileges", privilegeArray(g.allPrivileges(names))).
		Any("inheritedAuthenticationRestrictions", g.restrictions(names)).Finish()
}

// Mechanisms are those that a user ("db.name") can authenticate with; nil if there is no
// such user.
func (s *Store) Mechanisms(user string) ([]string, error) {
	db, name, ok := strings.Cut(user, ".")
	if !ok {
		return nil, mongoerr.New(mongoerr.BadValue, "UserName must contain a '.' separated database.user pair")
	}
	doc, err := s.cat.One(usersNS, Name{name, db}.id())
	return mechanismsOf(doc), err
}
