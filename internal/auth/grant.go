package auth

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
)

// This file is what commands about users and commands about roles have in common.

// grant is what both can be given: roles, and the addresses they may be used from.
type grant struct {
	roles        []Name
	restrictions bson.Value // nullish: not spoken of
}

// grant is the checked roles and authenticationRestrictions arguments.
func (r *Request) grant() (g grant, err error) {
	if g.roles, err = r.roles(); err != nil {
		return g, err
	}
	g.restrictions = r.arg("authenticationRestrictions")
	return g, checkRestrictions(g.restrictions)
}

// restrict gives the document of a user or role the restrictions; empty ones take away what it has.
func (g *grant) restrict(doc bson.Raw) bson.Raw {
	if g.restrictions.IsNullish() {
		return doc
	}
	doc = unset(doc, "authenticationRestrictions")
	if g.restrictions.Doc().IsEmpty() {
		return doc
	}
	return set(doc, "authenticationRestrictions", g.restrictions)
}

// changeOne changes the document of the user or role that a command is about.
func (s *Store) changeOne(ctx context.Context, r *Request, ns catalog.Namespace, find func(e *edit, n Name) (bson.Raw, error),
	fn func(e *edit, n Name, doc bson.Raw) (bson.Raw, error)) (OpTime, error) {
	n, err := r.target()
	if err != nil {
		return OpTime{}, err
	}
	return s.change(ctx, func(e *edit) error {
		doc, err := find(e, n)
		if err != nil {
			return err
		}
		if doc, err = fn(e, n, doc); err != nil {
			return err
		}
		return e.Put(ns, doc)
	})
}
