package match

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
)

// Options of parsing.
type Options struct {
	// Expr compiles the argument of $expr; nil refuses $expr.
	Expr ExprParser
	// Collation is what strings are compared by; nil is the simple collation.
	Collation *collate.Collator
}

// Matcher is a filter ready to run.
type Matcher struct{ root Node }

// Compile parses and optimises filter.
func Compile(filter bson.Raw, o Options) (*Matcher, error) {
	n, err := Parse(filter, o)
	if err != nil {
		return nil, err
	}
	return New(Optimize(n)), nil
}

// New returns a matcher of a tree.
func New(root Node) *Matcher { return &Matcher{root} }

// Root returns the tree.
func (m *Matcher) Root() Node { return m.root }

// Match reports whether doc satisfies the filter.
func (m *Matcher) Match(doc bson.Raw) (bool, error) { return m.root.matchDoc(doc, nil) }

// MatchDetails is Match that also records which array element matched.
func (m *Matcher) MatchDetails(doc bson.Raw, d *Details) (bool, error) {
	d.Reset()
	return m.root.matchDoc(doc, d)
}
