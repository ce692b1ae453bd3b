// Package project reshapes documents: the projections of find, and $project,
// $addFields and $unset of aggregation.
//
// It owns parsing and validating them with MongoDB's errors, and their evaluation on
// raw bytes: untouched fields are copied, never decoded. It promises MongoDB's order
// of fields: what is kept stays in the document's order, what is computed follows in
// the order of the specification. A Projection is immutable and may be shared between
// goroutines, each with its own Extra.
//
// It must not know collections, plans, clocks or randomness; variables, time and
// metadata come in through Extra.
package project

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/eval/match"
)

// Options of parsing.
type Options struct {
	// Expr holds the variables in scope of computed fields; nil means none.
	Expr *expr.ParseContext
	// Filter is the query's filter; the positional `$` needs it.
	Filter match.Node
	// Match is for the filters inside $elemMatch.
	Match match.Options
}

// Kind tells inclusions from exclusions.
type Kind int8

// The kinds of projections. An empty projection and one of only computed additions
// ($addFields) is an Exclusion.
const (
	Inclusion Kind = iota
	Exclusion
)

// Projection is a parsed projection.
type Projection struct {
	kind       Kind
	root       *node
	positional string // path of `path.$`, without `.$`
	needsEnv   bool
	simple     bool
	foldErr    error
}

// Extra is what some projections need beside the document.
type Extra struct {
	// Env evaluates computed fields; without one an empty Env is used.
	Env *expr.Env
	// Details of the match, for the positional `$`.
	Details *match.Details
}

// action is what a projection does at one field.
type action int8

const (
	actInclude action = iota
	actExclude
	actDescend
	actCompute
	actSlice
	actElemMatch
)

// field is one named entry of a node.
type field struct {
	name string
	act  action

	sub        *node // actDescend
	expr       expr.Expr
	skip       int64 // actSlice: skip and limit; limit < 0 counts from the end, skip unset
	limit      int64
	hasSkip    bool
	elem       *match.Matcher // actElemMatch, a filter on {"": [element]}
	positional bool           // on the path of the positional `$`
	spec       bson.Value
}

// node is one level of the projection's tree.
type node struct {
	fields   []*field // in the order of the specification
	computed bool     // something below is computed
}

func (n *node) find(name string) *field {
	for _, f := range n.fields {
		if f.name == name {
			return f
		}
	}
	return nil
}

// FoldError returns the error of a constant expression in a projection of aggregation:
// MongoDB reports it when it optimises the pipeline, not when it parses the stage.
func (p *Projection) FoldError() error { return p.foldErr }

// Kind returns whether p names what is kept or what is dropped.
func (p *Projection) Kind() Kind { return p.kind }

// IsIdentity reports whether p leaves every document as it is.
func (p *Projection) IsIdentity() bool { return p.kind == Exclusion && len(p.root.fields) == 0 }

// Simple reports whether p only keeps or drops top-level fields (PROJECTION_SIMPLE).
func (p *Projection) Simple() bool { return p.simple }

// NeedsPositional reports whether Apply needs Extra.Details.
func (p *Projection) NeedsPositional() bool { return p.positional != "" }

// DependsOn returns the paths that p reads if these are all that matters of the
// document; ok is false if the whole document is needed.
func (p *Projection) DependsOn() (paths []string, ok bool) {
	if p.kind == Exclusion {
		return nil, false
	}
	var d expr.Deps
	p.root.addDeps("", &d)
	if d.Whole {
		return nil, false
	}
	return d.SortedPaths(), true
}

func (n *node) addDeps(prefix string, d *expr.Deps) {
	for _, f := range n.fields {
		switch f.act {
		case actInclude, actSlice, actElemMatch:
			d.AddPath(prefix + f.name)
		case actDescend:
			f.sub.addDeps(prefix+f.name+".", d)
			if f.sub.computed {
				d.AddPath(prefix + f.name) // its shape decides where values go
			}
		case actCompute:
			f.expr.AddDeps(d)
		}
	}
}

// ComputedDeps adds what the computed fields of p read.
func (p *Projection) ComputedDeps(d *expr.Deps) { p.root.computedDeps(d) }

func (n *node) computedDeps(d *expr.Deps) {
	for _, f := range n.fields {
		switch f.act {
		case actDescend:
			f.sub.computedDeps(d)
		case actCompute:
			f.expr.AddDeps(d)
		}
	}
}

// Covered reports whether p can be computed from the fields of an index key pattern
// alone (the caller sees to multikey paths).
func (p *Projection) Covered(keyPattern bson.Raw) bool {
	if p.kind == Exclusion || p.positional != "" {
		return false
	}
	return p.root.covered("", keyPattern)
}

func (n *node) covered(prefix string, keyPattern bson.Raw) bool {
	for _, f := range n.fields {
		switch {
		case f.act == actExclude:
		case f.act == actInclude && keyPattern.Has(prefix+f.name):
		case f.act == actDescend && f.sub.covered(prefix+f.name+".", keyPattern):
		default:
			return false
		}
	}
	return true
}

// Serialize returns p as explain shows it (transformBy): _id made explicit, flags as bools.
func (p *Projection) Serialize() bson.Raw {
	b := bson.NewBuilder(nil)
	p.root.append(b, p)
	return b.Finish()
}

func (n *node) append(b *bson.Builder, p *Projection) {
	for _, f := range n.fields {
		switch f.act {
		case actInclude:
			name := f.name
			if f.positional {
				name += ".$"
			}
			b.Bool(name, true)
		case actExclude:
			b.Bool(f.name, false)
		case actDescend:
			b.Doc(f.name)
			f.sub.append(b, p)
			b.End()
		case actCompute:
			f.expr.Append(b, f.name)
		default:
			b.Append(f.name, f.spec)
		}
	}
}

// insert adds f at path; fail makes the error of a collision.
func (n *node) insert(path string, f *field) error {
	full := path
	for {
		head, rest, more := strings.Cut(path, ".")
		old := n.find(head)
		if f.act == actCompute || f.act == actElemMatch {
			n.computed = true
		}
		if !more {
			if old != nil {
				return errf(31250, "Path collision at %s", full)
			}
			f.name = head
			n.fields = append(n.fields, f)
			return nil
		}
		if old == nil {
			old = &field{name: head, act: actDescend, sub: &node{}}
			n.fields = append(n.fields, old)
		}
		if old.act != actDescend {
			return errf(31249, "Path collision at %s remaining portion %s", full, rest)
		}
		old.positional = old.positional || f.positional
		n, path = old.sub, rest
	}
}
