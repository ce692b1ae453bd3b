package plan

import (
	"fmt"
	"hash/fnv"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/match"
)

// Shape is the form of a query without its constants: queries of one shape share a plan.
func (q *Query) Shape() string {
	b := appendShape(nil, q.Filter)
	b = append(b, '|')
	b = append(b, q.SortSpec...)
	b = append(b, '|')
	b = append(b, q.Collation.Spec()...)
	if q.Projection != nil {
		b = append(b, q.ProjSpec...)
	}
	return string(b)
}

// Hash is the queryHash (planCacheShapeHash) of a shape, as explain shows it.
func Hash(shape string) string {
	h := fnv.New32a()
	h.Write([]byte(shape)) // never fails
	return fmt.Sprintf("%08X", h.Sum32())
}

// CacheKey is the shape together with what decides which indexes are eligible: which
// of them exist and which partial and sparse ones this query may use.
func (q *Query) CacheKey(shape string, indexes []*Index) string {
	b := []byte(shape)
	for _, ix := range indexes {
		b = append(b, 0)
		b = append(b, ix.Name...)
		if ix.Multikey {
			b = append(b, 'm')
		}
		if ix.Partial != nil && Implies(q.Filter, ix.Partial) {
			b = append(b, 'p')
		}
	}
	return string(b)
}

func appendShape(b []byte, n match.Node) []byte {
	kids := func(name string, ks []match.Node) []byte {
		b = append(b, name...)
		b = append(b, '[')
		for _, k := range ks {
			b = append(appendShape(b, k), ',')
		}
		return append(b, ']')
	}
	switch n := n.(type) {
	case nil:
		return b
	case *match.And:
		return kids("an", n.Kids)
	case *match.Or:
		return kids("or", n.Kids)
	case *match.Nor:
		return kids("nr", n.Kids)
	case *match.Not:
		return kids("nt", []match.Node{n.Kid})
	case *match.ElemMatchObject:
		return kids("eo"+n.Path.String(), []match.Node{n.Kid})
	case *match.ElemMatchValue:
		return kids("ev"+n.Path.String(), n.Kids)
	case *match.Comparison:
		b = append(append(b, n.Op.String()...), n.Path.String()...)
		return append(b, byte(n.Value.Type.CanonicalOrder())|flagNull(n.Value))
	case *match.In:
		b = append(append(b, "in"...), n.Path.String()...)
		if len(n.Regexes) > 0 {
			b = append(b, '/')
		}
		for _, v := range n.Values {
			if v.IsNullish() {
				b = append(b, '0')
			}
			if v.Type == bson.TypeArray {
				b = append(b, 'a')
				break
			}
		}
		return b
	case *match.Regex:
		b = append(append(b, "re"...), n.Path.String()...)
		if p, _ := RegexPrefix(n.Pattern, n.Options); p != "" {
			b = append(b, '^')
		}
		return b
	case match.Leaf:
		return append(fmt.Appendf(b, "%T", n), n.FieldPath().String()...)
	}
	return fmt.Appendf(b, "%T", n)
}

func flagNull(v bson.Value) byte {
	if v.IsNullish() {
		return 0x80
	}
	return 0
}
