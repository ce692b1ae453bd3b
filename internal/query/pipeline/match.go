package pipeline

import (
	"context"
	"strconv"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// matchStage is $match.
type matchStage struct {
	filter bson.Raw
	root   match.Node
	pc     *expr.ParseContext
}

func (o *Options) env() *expr.Env {
	if o.Env == nil {
		o.Env = &expr.Env{}
	}
	return o.Env
}

func (o *Options) matchOptions() match.Options {
	return match.Options{Expr: match.ExprIn(o.Expr, o.env()), Collation: o.collation()}
}

func parseMatch(ps *parser, _ string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeDocument {
		return nil, mongoerr.New(15959, "the match filter must be an expression in an object")
	}
	m, err := newMatch(ps.o, v.Doc())
	if err != nil {
		return nil, err
	}
	return []stage{m}, nil
}

func newMatch(o *Options, filter bson.Raw) (*matchStage, error) {
	root, err := match.Parse(filter, o.matchOptions())
	if err != nil {
		return nil, err
	}
	return &matchStage{filter, match.Optimize(root), o.Expr}, nil
}

func (m *matchStage) info() stageInfo          { return stageInfo{name: "$match"} }
func (m *matchStage) optimize() (stage, error) { return m, nil }

func (m *matchStage) serialize(b *bson.Builder) {
	b.Doc("").AppendDoc("$match", m.filter).End()
}

func (m *matchStage) deps(d *expr.Deps) visibility {
	filterDeps(m.root, m.pc, d)
	return seesInput
}

// open compiles the filter anew: a matcher with $expr is bound to one environment.
func (m *matchStage) open(o *Options, src Iterator) (Iterator, error) {
	root, err := match.Parse(m.filter, o.matchOptions())
	if err != nil {
		return nil, err
	}
	return &matchIter{src, match.New(match.Optimize(root)), o}, nil
}

type matchIter struct {
	src Iterator
	m   *match.Matcher
	o   *Options
}

func (it *matchIter) Next(ctx context.Context) (bson.Raw, error) {
	for n := 0; ; n++ {
		if n&127 == 127 {
			if err := it.o.interrupt(); err != nil {
				return nil, err
			}
		}
		doc, err := it.src.Next(ctx)
		if err != nil || doc == nil {
			return nil, err
		}
		if ok, err := it.m.Match(doc); err != nil {
			return nil, err
		} else if ok {
			return doc, nil
		}
	}
}

func (it *matchIter) Close() error { return it.src.Close() }

func (o *Options) interrupt() error {
	if o.Env != nil && o.Env.Interrupt != nil {
		return o.Env.Interrupt()
	}
	return nil
}

// filterDeps adds the paths that a filter reads.
func filterDeps(n match.Node, pc *expr.ParseContext, d *expr.Deps) {
	switch n := n.(type) {
	case *match.And:
		for _, k := range n.Kids {
			filterDeps(k, pc, d)
		}
	case *match.Or:
		for _, k := range n.Kids {
			filterDeps(k, pc, d)
		}
	case *match.Nor:
		for _, k := range n.Kids {
			filterDeps(k, pc, d)
		}
	case *match.Not:
		filterDeps(n.Kid, pc, d)
	case *match.Expr:
		e, err := expr.Parse(n.Source, pc)
		if err != nil {
			d.Whole = true
			return
		}
		e.AddDeps(d)
	case *match.AlwaysTrue, *match.AlwaysFalse:
	case match.Leaf:
		d.AddPath(readPath(n.FieldPath().Parts()))
	default:
		d.Whole = true
	}
}

// readPath cuts a path before a part that may be an array index: the array is read as
// a whole.
func readPath(parts []string) string {
	for i, p := range parts {
		if i > 0 {
			if _, err := strconv.ParseUint(p, 10, 32); err == nil {
				return strings.Join(parts[:i], ".")
			}
		}
	}
	return strings.Join(parts, ".")
}
