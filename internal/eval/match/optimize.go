package match

import (
	"cmp"
	"slices"

	"github.com/cairndb/cairn/internal/bson"
)

// Optimize rewrites a tree into an equivalent simpler one in canonical order: nested
// conjunctions and disjunctions are flattened, an $in of one value becomes an equality,
// a disjunction of equalities on one path an $in, and constants fold.
func Optimize(n Node) Node {
	n = simplify(n)
	sortTree(n)
	return n
}

func simplify(n Node) Node {
	switch n := n.(type) {
	case *And:
		return simplifyAnd(n)
	case *Or:
		return simplifyOr(n)
	case *Nor:
		return simplifyNor(n)
	case *Not:
		return simplifyNot(n)
	case *In:
		switch {
		case len(n.Values) == 0 && len(n.Regexes) == 0:
			return AlwaysFalse{}
		case len(n.Values) == 1 && len(n.Regexes) == 0:
			return &Comparison{n.Path, Eq, n.Values[0], n.Collation}
		case len(n.Values) == 0 && len(n.Regexes) == 1:
			return n.Regexes[0]
		}
		return n
	case *ElemMatchObject:
		return &ElemMatchObject{n.Path, simplify(n.Kid)}
	case *ElemMatchValue:
		kids := make([]Node, len(n.Kids))
		for i, k := range n.Kids {
			kids[i] = simplify(k)
		}
		return &ElemMatchValue{n.Path, kids}
	}
	return n
}

func simplifyAnd(n *And) Node {
	var kids []Node
	for _, k := range n.Kids {
		switch k := simplify(k).(type) {
		case AlwaysTrue:
		case AlwaysFalse:
			return k
		case *And:
			kids = append(kids, k.Kids...)
		default:
			kids = append(kids, k)
		}
	}
	if len(kids) == 1 {
		return kids[0]
	}
	return &And{kids}
}

func simplifyOr(n *Or) Node {
	var kids []Node
	for _, k := range n.Kids {
		switch k := simplify(k).(type) {
		case AlwaysFalse:
		case AlwaysTrue:
			return &And{}
		case *Or:
			kids = append(kids, k.Kids...)
		case *And:
			if len(k.Kids) == 0 {
				return k
			}
			kids = append(kids, k)
		default:
			kids = append(kids, k)
		}
	}
	kids = foldEqualities(kids)
	switch len(kids) {
	case 0:
		return AlwaysFalse{}
	case 1:
		return kids[0]
	}
	return &Or{kids}
}

// foldEqualities turns equalities on the same path into one $in.
func foldEqualities(kids []Node) []Node {
	var out []Node
	type group struct {
		at int
		in *In
	}
	groups := map[string]*group{}
	for _, k := range kids {
		leaf, ok := k.(Leaf)
		if !ok || !foldable(k) {
			out = append(out, k)
			continue
		}
		path := leaf.FieldPath()
		g := groups[path.String()]
		if g == nil {
			groups[path.String()] = &group{len(out), nil}
			out = append(out, k)
			continue
		}
		if g.in == nil {
			g.in = &In{Path: path}
			g.in.merge(out[g.at])
			out[g.at] = g.in
		}
		g.in.merge(k)
	}
	for _, g := range groups {
		if g.in != nil {
			g.in.prepare()
		}
	}
	return out
}

// foldable reports whether n is an equality that an $in can hold with the same meaning.
func foldable(n Node) bool {
	switch n := n.(type) {
	case *Comparison:
		// A regular expression in $in would be run, not compared; a document of
		// operators cannot stand there.
		return n.Op == Eq && n.Value.Type != bson.TypeRegex && !isOperatorDocument(n.Value, false)
	case *Regex, *In:
		return true
	}
	return false
}

func (n *In) merge(k Node) {
	switch k := k.(type) {
	case *Comparison:
		n.Values, n.Collation = append(n.Values, k.Value), k.Collation
	case *Regex:
		n.Regexes = append(n.Regexes, k)
	case *In:
		n.Values, n.Collation = append(n.Values, k.Values...), k.Collation
		n.Regexes = append(n.Regexes, k.Regexes...)
	}
}

func simplifyNor(n *Nor) Node {
	var kids []Node
	for _, k := range n.Kids {
		switch k := simplify(k).(type) {
		case AlwaysFalse:
		case AlwaysTrue:
			return AlwaysFalse{}
		case *And:
			if len(k.Kids) == 0 {
				return AlwaysFalse{}
			}
			kids = append(kids, k)
		default:
			kids = append(kids, k)
		}
	}
	if len(kids) == 0 {
		return &And{}
	}
	return &Nor{kids}
}

func simplifyNot(n *Not) Node {
	switch k := simplify(n.Kid).(type) {
	case AlwaysFalse:
		return &And{}
	case AlwaysTrue:
		return AlwaysFalse{}
	case *Not:
		return k.Kid
	case *And:
		if len(k.Kids) == 0 {
			return AlwaysFalse{}
		}
		return &Not{k}
	default:
		return &Not{k}
	}
}

// sortTree puts children into canonical order: by type of node, then by path.
func sortTree(n Node) {
	var kids []Node
	switch n := n.(type) {
	case *And:
		kids = n.Kids
	case *Or:
		kids = n.Kids
	case *Nor:
		kids = n.Kids
	case *Not:
		sortTree(n.Kid)
	case *ElemMatchObject:
		sortTree(n.Kid)
	case *ElemMatchValue:
		kids = n.Kids
	}
	for _, k := range kids {
		sortTree(k)
	}
	slices.SortStableFunc(kids, func(a, b Node) int {
		if c := cmp.Compare(a.kind(), b.kind()); c != 0 {
			return c
		}
		return cmp.Compare(pathOf(a), pathOf(b))
	})
}

func pathOf(n Node) string {
	if l, ok := n.(Leaf); ok {
		return l.FieldPath().String()
	}
	return ""
}
