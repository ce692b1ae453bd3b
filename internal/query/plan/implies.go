package plan

import (
	"slices"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/match"
)

// Implies reports whether every document that q matches is matched by p. It may say
// no where the truth is yes; it decides whether a partial index holds all results.
func Implies(q, p match.Node) bool {
	switch p := p.(type) {
	case nil, match.AlwaysTrue, *match.AlwaysTrue:
		return true
	case *match.And:
		for _, k := range p.Kids {
			if !Implies(q, k) {
				return false
			}
		}
		return true
	}
	if or, ok := q.(*match.Or); ok {
		for _, k := range or.Kids {
			if !Implies(k, p) {
				return false
			}
		}
		return len(or.Kids) > 0
	}
	if or, ok := p.(*match.Or); ok {
		for _, k := range or.Kids {
			if Implies(q, k) {
				return true
			}
		}
	}
	if and, ok := q.(*match.And); ok {
		for _, k := range and.Kids {
			if Implies(k, p) {
				return true
			}
		}
		return false
	}
	ql, qok := q.(match.Leaf)
	pl, pok := p.(match.Leaf)
	if !qok || !pok || ql.FieldPath().String() != pl.FieldPath().String() {
		return false
	}
	return leafImplies(ql, pl)
}

func leafImplies(q, p match.Leaf) bool {
	if !alike(q, p) {
		return false
	}
	if string(match.Serialize(q)) == string(match.Serialize(p)) {
		return true
	}
	switch p := p.(type) {
	case *match.Exists:
		return impliesExists(q)
	case *match.TypeOp:
		if c, ok := q.(*match.Comparison); ok && c.Value.Type != bson.TypeArray && c.Value.Type != bson.TypeMinKey && c.Value.Type != bson.TypeMaxKey && !c.Value.IsNullish() {
			return sameBracket(p.Types, c)
		}
	case *match.Comparison:
		switch q := q.(type) {
		case *match.Comparison:
			return comparisonImplies(q.Op, q.Value, p)
		case *match.In:
			if len(q.Regexes) > 0 || len(q.Values) == 0 {
				return false
			}
			for _, v := range q.Values {
				if !comparisonImplies(match.Eq, v, p) {
					return false
				}
			}
			return true
		}
	case *match.In:
		switch q := q.(type) {
		case *match.Comparison:
			return q.Op == match.Eq && inHas(p, q.Value)
		case *match.In:
			for _, v := range q.Values {
				if !inHas(p, v) {
					return false
				}
			}
			return len(q.Regexes) == 0 && len(q.Values) > 0
		}
	}
	return false
}

// alike reports whether q and p compare by the same collation, as far as that matters.
func alike(q, p match.Leaf) bool {
	switch p.(type) {
	case *match.Comparison, *match.In:
	default:
		return true // looks at no string
	}
	qc, qs := collationOf(q)
	pc, ps := collationOf(p)
	return collate.Same(qc, pc) || (!qs && !ps)
}

// collationOf returns what a leaf compares by, and whether it compares with a string.
func collationOf(n match.Leaf) (*collate.Collator, bool) {
	switch n := n.(type) {
	case *match.Comparison:
		return n.Collation, collate.HasString(n.Value)
	case *match.In:
		return n.Collation, slices.ContainsFunc(n.Values, collate.HasString)
	}
	return nil, false
}

// sameBracket reports whether all values that c can match have a type of the set.
func sameBracket(set match.TypeSet, c *match.Comparison) bool {
	if c.Value.IsNumber() {
		return set.AllNumbers
	}
	return set.Has(c.Value.Type)
}

func inHas(p *match.In, v bson.Value) bool {
	for _, w := range p.Values {
		if p.Collation.Equal(v, w) {
			return true
		}
	}
	return false
}

func impliesExists(q match.Leaf) bool {
	switch q := q.(type) {
	case *match.Comparison:
		return !q.Value.IsNullish()
	case *match.In:
		for _, v := range q.Values {
			if v.IsNullish() {
				return false
			}
		}
		return true
	case *match.Exists, *match.Regex, *match.Mod, *match.Size, *match.TypeOp, *match.ElemMatchObject, *match.ElemMatchValue, *match.BitTest:
		return true
	}
	return false
}

// comparisonImplies reports whether "op v" implies p.
func comparisonImplies(op match.Op, v bson.Value, p *match.Comparison) bool {
	if v.Type.CanonicalOrder() != p.Value.Type.CanonicalOrder() || v.Type == bson.TypeArray {
		return false
	}
	if isNaN(v) || isNaN(p.Value) {
		return op == match.Eq && p.Op == match.Eq && isNaN(v) && isNaN(p.Value)
	}
	c := p.Collation.Compare(v, p.Value)
	switch p.Op {
	case match.Eq:
		return op == match.Eq && c == 0
	case match.Gt:
		return (op == match.Gt && c >= 0) || ((op == match.Gte || op == match.Eq) && c > 0)
	case match.Gte:
		return (op == match.Gt || op == match.Gte || op == match.Eq) && c >= 0
	case match.Lt:
		return (op == match.Lt && c <= 0) || ((op == match.Lte || op == match.Eq) && c < 0)
	case match.Lte:
		return (op == match.Lt || op == match.Lte || op == match.Eq) && c <= 0
	}
	return false
}
