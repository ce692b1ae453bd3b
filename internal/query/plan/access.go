package plan

import (
	"slices"

	"github.com/cairndb/cairn/internal/eval/match"
)

// pred is one predicate of a conjunction that an index may serve.
type pred struct {
	kid  int        // which member of the conjunction it belongs to
	leaf match.Node // what is translated into bounds
	path string
	// elem is the $elemMatch around it, nil for none, and elemDepth the number of
	// components of that one's path.
	elem      *match.ElemMatchObject
	elemDepth int
}

// conjuncts returns the members of the top-level conjunction of n.
func conjuncts(n match.Node) []match.Node {
	switch n := n.(type) {
	case nil:
		return nil
	case *match.And:
		return n.Kids
	case match.AlwaysTrue, *match.AlwaysTrue:
		return nil
	}
	return []match.Node{n}
}

// conjunction is the inverse of conjuncts: nil stands for everything.
func conjunction(kids []match.Node) match.Node {
	switch len(kids) {
	case 0:
		return nil
	case 1:
		return kids[0]
	}
	return &match.And{Kids: kids}
}

// predicates lists what indexes may serve in a conjunction.
func predicates(kids []match.Node) []pred {
	var out []pred
	for i, k := range kids {
		out = appendPreds(out, i, k, "", nil, 0)
	}
	return out
}

func appendPreds(out []pred, kid int, n match.Node, prefix string, elem *match.ElemMatchObject, depth int) []pred {
	join := func(p *match.Path) string {
		if prefix == "" {
			return p.String()
		}
		return prefix + "." + p.String()
	}
	switch n := n.(type) {
	case *match.Not:
		if l, ok := n.Kid.(match.Leaf); ok {
			if _, isElem := n.Kid.(*match.ElemMatchObject); !isElem {
				out = append(out, pred{kid, n, join(l.FieldPath()), elem, depth})
			}
		}
	case *match.ElemMatchObject:
		path := join(n.Path)
		for _, k := range conjuncts(n.Kid) {
			out = appendPreds(out, kid, k, path, n, components(path))
		}
	case match.Leaf:
		out = append(out, pred{kid, n, join(n.FieldPath()), elem, depth})
	}
	return out
}

// access is a way to find the documents of a conjunction through one index.
type access struct {
	ix     *Index
	bounds []Intervals
	groups [][]choice // the predicates behind the bounds of each part
	exact  []bool     // by member: the bounds stand for it entirely
	onKey  []bool     // by member: it must be filtered, but on the key
	prefix int        // number of leading parts with bounds
}

// choice is a predicate with its bounds on one part.
type choice struct {
	pred
	b Intervals
	t Tightness
}

// newAccess returns the best use of ix for the predicates; ok is false if its first
// part gets no bounds.
func newAccess(ix *Index, kids []match.Node, preds []pred) (*access, bool) {
	a := &access{ix: ix, exact: make([]bool, len(kids)), onKey: make([]bool, len(kids))}
	open := true
	for i, part := range ix.Parts {
		group := a.choose(i, candidates(ix, i, part.Path, preds))
		b := AllValues()
		for _, c := range group {
			b = Intersect(b, c.b)
		}
		a.bounds, a.groups = append(a.bounds, b), append(a.groups, group)
		if len(group) == 0 {
			open = false
		} else if open {
			a.prefix++
		}
	}
	if a.prefix == 0 {
		return nil, false
	}
	// A member is served exactly if every predicate in it is used and exact; members with
	// $elemMatch never are.
	for _, g := range a.groups {
		for _, c := range g {
			if c.elem != nil {
				continue
			}
			a.exact[c.kid] = c.t == Exact
			a.onKey[c.kid] = c.t == InexactCovered
		}
	}
	return a, true
}

func candidates(ix *Index, i int, path string, preds []pred) []choice {
	var out []choice
	for _, p := range preds {
		if p.path != path {
			continue
		}
		if b, t, ok := translate(p.leaf, ix, i); ok {
			if t == InexactCovered && ix.Collation != nil {
				t = InexactFetch // the keys do not tell the strings
			}
			out = append(out, choice{p, b, t})
		}
	}
	return out
}

// choose picks the predicates whose bounds part i may use together, given what the
// earlier parts use.
func (a *access) choose(i int, cs []choice) []choice {
	cs = slices.DeleteFunc(cs, func(c choice) bool { return !a.compounds(i, c) })
	if len(cs) < 2 || !a.ix.partMultikey(i) {
		return cs
	}
	// On an array different elements may satisfy different predicates: only those of one
	// $elemMatch, with no array further down, hold for the same element.
	best := 0
	for j := range cs {
		if rank(cs[j].b) < rank(cs[best].b) {
			best = j
		}
	}
	c := cs[best]
	group := []choice{c}
	if c.elem != nil && !a.ix.multikeyBetween(i, c.elemDepth, components(c.path)) {
		for j := range cs {
			if j != best && cs[j].elem == c.elem {
				group = append(group, cs[j])
			}
		}
	}
	return group
}

// compounds reports whether c can bound part i beside what bounds the parts before it.
func (a *access) compounds(i int, c choice) bool {
	for j := range a.groups {
		if len(a.groups[j]) == 0 {
			continue
		}
		shared := commonPrefix(a.ix.Parts[i].Path, a.ix.Parts[j].Path)
		if shared == 0 || !a.ix.multikeyUpTo(i, shared) {
			continue
		}
		other := a.groups[j][0]
		if c.elem == nil || other.elem != c.elem || a.ix.multikeyBetween(i, c.elemDepth, shared) {
			return false
		}
	}
	return true
}

// rank orders bounds by how much they are likely to exclude.
func rank(b Intervals) int {
	switch {
	case len(b) == 0:
		return 0
	case b.IsPoint():
		return 1
	case b.IsPoints():
		return 2
	case b.IsAll():
		return 5
	case b[0].Lo.Type != b[len(b)-1].Hi.Type:
		return 4
	}
	return 3
}

// score orders accesses without a trial: smaller is better.
func (a *access) score() int {
	s := 0
	for i := 0; i < 8; i++ {
		r := 5
		if i < a.prefix {
			r = rank(a.bounds[i])
		}
		s = s*6 + r
	}
	return s
}

// filters splits the members that bounds do not stand for into what is filtered on the
// key and what on the document.
func (a *access) filters(kids []match.Node) (key, doc []match.Node) {
	for i, k := range kids {
		switch {
		case a.exact[i]:
		case a.onKey[i]:
			key = append(key, k)
		default:
			doc = append(doc, k)
		}
	}
	return key, doc
}
