package query

import (
	"math/rand/v2"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/eval/project"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// scope is what the expressions of one operation see: `let` variables and time. The
// functions that it makes share one environment and belong to one goroutine.
type scope struct {
	pc  *expr.ParseContext
	env *expr.Env
}

// newScope binds the variables of let, whose values are constant expressions. coll orders strings.
func newScope(op *OpContext, let bson.Raw, coll *collate.Collator) (*scope, error) {
	s := &scope{pc: expr.NewParseContext(), env: &expr.Env{
		Now: bson.NewDateTime(op.Now), ClusterTime: op.ClusterTime, Interrupt: op.Interrupt, Rand: rand.Float64,
	}}
	s.pc.Collation = coll
	if let == nil {
		let = op.Let
	}
	outer := s.pc
	for name, v := range let.Clone().Elems() {
		if err := expr.CheckVarName(name); err != nil {
			return nil, err
		}
		e, err := expr.Parse(v, outer)
		if err != nil {
			return nil, err
		}
		var deps expr.Deps
		e.AddDeps(&deps)
		if deps.Whole || len(deps.SortedPaths()) > 0 {
			return nil, mongoerr.New(4890500, "Command let Expression tried to access a field, but this is not allowed because command let expressions run before the query examines any documents.")
		}
		s.env.Reset(bson.Empty)
		val, err := e.Eval(s.env)
		if err != nil {
			return nil, err
		}
		var id expr.VarID
		s.pc, id = s.pc.With(strings.Clone(name))
		s.env.SetVar(id, val.Clone())
	}
	return s, nil
}

// coll orders the strings of the operation.
func (s *scope) coll() *collate.Collator {
	if s.pc == nil {
		return nil
	}
	return s.pc.Collation
}

// matchOptions lets $expr use the scope.
func (s *scope) matchOptions() match.Options {
	return match.Options{Collation: s.coll(), Expr: func(v bson.Value) (match.ExprFunc, error) {
		e, err := expr.Parse(v, s.pc)
		if err != nil {
			return nil, err
		}
		if e, err = e.Optimize(); err != nil {
			return nil, err
		}
		return func(doc bson.Raw) (bson.Value, error) {
			s.env.Reset(doc)
			return e.Eval(s.env)
		}, nil
	}}
}

// filter parses a filter into an optimised tree.
func (s *scope) filter(f bson.Raw) (match.Node, error) {
	if f.IsEmpty() {
		return &match.And{}, nil
	}
	n, err := match.Parse(f, s.matchOptions())
	if err != nil {
		return nil, err
	}
	return match.Optimize(n), nil
}

// projection parses a find projection; nil for none or one that changes nothing.
func (s *scope) projection(p bson.Raw, filter match.Node) (*project.Projection, error) {
	if p.IsEmpty() {
		return nil, nil
	}
	proj, err := project.Parse(p, project.Options{Expr: s.pc, Filter: filter, Match: s.matchOptions()})
	if err != nil || proj.IsIdentity() {
		return nil, err
	}
	return proj, nil
}

// collation is what strings are compared by in an operation on t: the collation of the
// request, or else that of the collection or view.
func (t *target) collation(request bson.Raw) (*collate.Collator, error) {
	if request.IsEmpty() {
		switch {
		case t.coll != nil:
			return t.coll.Options.Collation, nil
		case t.view != nil:
			return t.view.Collation, nil
		}
		return nil, nil
	}
	c, err := collate.Parse(request.Clone())
	if err == nil {
		err = c.Err()
	}
	if err == nil && t.view != nil && !collate.Same(c, t.view.Collation) {
		err = mongoerr.New(mongoerr.OptionNotSupportedOnView, "Cannot override a view's default collation: %s", t.ns)
	}
	return c, err
}

// isPoint reports whether the index on _id finds the document with that _id under c.
func (t *target) isPoint(id bson.Value, c *collate.Collator) bool {
	return (c == nil && t.coll.Options.Collation == nil) || !collate.HasString(id) || collate.Same(c, t.coll.Options.Collation)
}
