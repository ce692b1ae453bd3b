// Package project reshapes documents: the projections of find, and $project,
// $addFields and $unset of aggregation.
//
// It owns parsing and validating them with MongoDB's errors, and their evaluation on
// raw bytes: untouched fields are copied, never decoded. It promises MongoDB's order
// of fields: what is kept stays in the document's order, what is computed follows in
// the order of the specification.
//
// It must not know collections, plans, clocks or randomness; expressions come in as
// functions.
package project

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Options of parsing.
type Options struct {
	// Expr compiles computed fields; nil refuses them.
	Expr match.ExprParser
	// Filter is the query's filter; the positional `$` needs it.
	Filter match.Node
	// MatchOptions are for the filters inside $elemMatch.
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
type Projection struct{ kind Kind }

// Extra is what some projections need beside the document.
type Extra struct {
	// Details of the match, for the positional `$`; nil otherwise.
	Details *match.Details
	// Meta returns metadata for {$meta: name}; it may be nil.
	Meta func(name string) bson.Value
}

var errTODO = mongoerr.New(mongoerr.InternalError, "not built yet")

// Parse reads the projection of a find command.
func Parse(spec bson.Raw, o Options) (*Projection, error) { return nil, errTODO }

// ParseProject reads the argument of the $project stage.
func ParseProject(spec bson.Value, o Options) (*Projection, error) { return nil, errTODO }

// ParseAddFields reads the argument of $addFields or $set (stage names which).
func ParseAddFields(stage string, spec bson.Value, o Options) (*Projection, error) {
	return nil, errTODO
}

// ParseUnset reads the argument of the $unset stage: a string or an array of strings.
func ParseUnset(spec bson.Value) (*Projection, error) { return nil, errTODO }

// Kind returns whether p names what is kept or what is dropped.
func (p *Projection) Kind() Kind { return p.kind }

// IsIdentity reports whether p leaves every document as it is.
func (p *Projection) IsIdentity() bool { return false }

// Simple reports whether p only keeps or drops top-level fields (PROJECTION_SIMPLE).
func (p *Projection) Simple() bool { return false }

// NeedsPositional reports whether Apply needs Extra.Details.
func (p *Projection) NeedsPositional() bool { return false }

// DependsOn returns the paths that p reads if these are all that matters of the
// document; ok is false if the whole document is needed.
func (p *Projection) DependsOn() (paths []string, ok bool) { return nil, false }

// Covered reports whether p can be computed from the fields of an index key pattern
// alone (the caller sees to multikey paths).
func (p *Projection) Covered(keyPattern bson.Raw) bool { return false }

// Append adds the projected document to dst, behind what it holds, and returns it.
func (p *Projection) Append(dst []byte, doc bson.Raw, x *Extra) ([]byte, error) {
	return dst, errTODO
}

// Apply returns the projected document in bytes of its own.
func (p *Projection) Apply(doc bson.Raw, x *Extra) (bson.Raw, error) {
	b, err := p.Append(nil, doc, x)
	return bson.Raw(b), err
}

// Serialize returns p as explain shows it (transformBy).
func (p *Projection) Serialize() bson.Raw { return nil }
