package match

import "github.com/cairndb/cairn/internal/bson"

// Serialize returns the tree as a filter again, in the form of explain's parsedQuery.
func Serialize(n Node) bson.Raw {
	b := bson.NewBuilder(nil)
	appendNode(b, n)
	return b.Finish()
}

// appendNode adds the elements of n to the open document.
func appendNode(b *bson.Builder, n Node) {
	switch n := n.(type) {
	case *And:
		if len(n.Kids) > 0 {
			appendKids(b, "$and", n.Kids)
		}
	case *Or:
		appendKids(b, "$or", n.Kids)
	case *Nor:
		appendKids(b, "$nor", n.Kids)
	case AlwaysTrue:
		b.Int32("$alwaysTrue", 1)
	case AlwaysFalse:
		b.Int32("$alwaysFalse", 1)
	case *Expr:
		b.Append("$expr", n.Source)
	case *JSONSchema:
		b.AppendDoc("$jsonSchema", n.Source)
	case *Not:
		if l, ok := negatedLeaf(n); ok {
			b.Doc(l.FieldPath().String()).Doc("$not")
			appendOps(b, n.Kid)
			b.End().End()
			return
		}
		appendKids(b, "$nor", []Node{n.Kid})
	case Leaf:
		b.Doc(n.FieldPath().String())
		appendOps(b, n)
		b.End()
	}
}

// negatedLeaf returns a leaf if all that n negates stands at one path.
func negatedLeaf(n *Not) (Leaf, bool) {
	switch k := n.Kid.(type) {
	case Leaf:
		return k, true
	case *Not:
		return negatedLeaf(k)
	case *And:
		var first Leaf
		for _, kid := range k.Kids {
			l, ok := kid.(Leaf)
			if not, isNot := kid.(*Not); isNot {
				l, ok = negatedLeaf(not)
			}
			if !ok || (first != nil && l.FieldPath().String() != first.FieldPath().String()) {
				return nil, false
			}
			first = l
		}
		return first, first != nil
	}
	return nil, false
}

func appendKids(b *bson.Builder, name string, kids []Node) {
	b.Array(name)
	for _, k := range kids {
		b.Doc("")
		appendNode(b, k)
		b.End()
	}
	b.End()
}

// appendOps adds the operators of n without its path.
func appendOps(b *bson.Builder, n Node) {
	switch n := n.(type) {
	case *And:
		for _, k := range n.Kids {
			appendOps(b, k)
		}
	case *Not:
		b.Doc("$not")
		appendOps(b, n.Kid)
		b.End()
	case *Comparison:
		b.Append(n.Op.String(), n.Value)
	case *In:
		b.Array("$in")
		for _, v := range n.Values {
			b.Append("", v)
		}
		for _, r := range n.Regexes {
			b.Regex("", bson.Regex{Pattern: r.Pattern, Options: r.Options})
		}
		b.End()
	case *Exists:
		b.Bool("$exists", true)
	case *TypeOp:
		b.Array("$type")
		if n.Types.AllNumbers {
			b.Str("", "number")
		}
		for _, t := range n.Types.Types {
			b.Int32("", int32(int8(t)))
		}
		b.End()
	case *Regex:
		b.Str("$regex", n.Pattern)
		if n.Options != "" {
			b.Str("$options", n.Options)
		}
	case *Mod:
		b.Array("$mod").Int64("", n.Divisor).Int64("", n.Remainder).End()
	case *Size:
		b.Int32("$size", int32(n.N))
	case *ElemMatchObject:
		b.Doc("$elemMatch")
		appendNode(b, n.Kid)
		b.End()
	case *ElemMatchValue:
		b.Doc("$elemMatch")
		for _, k := range n.Kids {
			appendOps(b, k)
		}
		b.End()
	case *BitTest:
		b.Array(n.Test.String())
		for _, p := range n.Positions {
			b.Int32("", int32(p))
		}
		b.End()
	}
}
