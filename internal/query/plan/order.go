package plan

import (
	"slices"

	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/eval/sortkey"
)

// sortOrder reports whether a scan of ix within bounds comes in the order of s, and
// whether it must run backward for it. Fields that the bounds pin to one value may
// stand anywhere.
func sortOrder(ix *Index, bounds []Intervals, s *sortkey.Pattern) (back, ok bool) {
	if ix.Special != "" || !collate.Same(ix.Collation, s.Collation) {
		return false, false
	}
	pinned := func(path string) bool {
		for i, p := range ix.Parts {
			if p.Path == path && bounds[i].IsPoint() && !ix.partMultikey(i) {
				return true
			}
		}
		return false
	}
	i, decided := 0, false
	for _, part := range s.Parts {
		if part.Meta != "" {
			return false, false
		}
		for i < len(ix.Parts) && ix.Parts[i].Path != part.Path && bounds[i].IsPoint() {
			i++
		}
		if i >= len(ix.Parts) || ix.Parts[i].Path != part.Path {
			if pinned(part.Path) {
				continue
			}
			return false, false
		}
		if ix.partMultikey(i) && !allOpen(bounds) {
			return false, false // the least key in bounds need not be the least of the document
		}
		reverse := ix.Parts[i].Desc != part.Descending
		if bounds[i].IsPoint() {
			i++
			continue
		}
		if decided && reverse != back {
			return false, false
		}
		back, decided = reverse, true
		i++
	}
	return back, true
}

func allOpen(bounds []Intervals) bool {
	return !slices.ContainsFunc(bounds, func(b Intervals) bool { return !b.IsAll() })
}

// explode takes a scan whose leading fields are lists of points apart into one scan for
// each, whose merge has the wanted order. It returns nil if that does not help.
func (q *Query) explode(a *access, kids []match.Node) *Solution {
	n, scans := 0, 1
	for n < len(a.bounds) && len(a.bounds[n]) > 0 && a.bounds[n].IsPoints() {
		scans *= len(a.bounds[n])
		n++
		if scans > maxExplode {
			return nil
		}
	}
	if scans < 2 || a.ix.Multikey {
		return nil
	}
	key, doc := a.filters(kids)
	merge := &Node{Stage: SortMerge, SortPattern: q.Sort, SortSpec: q.SortSpec}
	at := make([]int, n)
	for {
		bounds := slices.Clone(a.bounds)
		for i, j := range at {
			bounds[i] = Intervals{a.bounds[i][j]}
		}
		back, ok := sortOrder(a.ix, bounds, q.Sort)
		if !ok {
			return nil
		}
		merge.Kids = append(merge.Kids, ixscan(a.ix, bounds, back, conjunction(key)))
		i := n - 1
		for ; i >= 0; i-- {
			if at[i]++; at[i] < len(a.bounds[i]) {
				break
			}
			at[i] = 0
		}
		if i < 0 {
			break
		}
	}
	if !q.sortCovered(a.ix) {
		return nil // the merge compares keys
	}
	if len(doc) == 0 && q.covered(a.ix) {
		return q.finish(merge, true, true)
	}
	return q.finish(&Node{Stage: Fetch, Filter: conjunction(doc), Kids: []*Node{merge}}, false, true)
}

// planOr plans a disjunction as the union of one scan for each branch; nil if a branch
// has no index. rest are the other members of the conjunction around it.
func (q *Query) planOr(or *match.Or, rest []match.Node, usable []*Index, root bool) *Solution {
	var branches []*Node
	exact := true
	for _, k := range or.Kids {
		kids := conjuncts(k)
		preds := predicates(kids)
		var best *access
		for _, ix := range usable {
			if a, ok := newAccess(ix, kids, preds); ok && (best == nil || a.score() < best.score()) {
				best = a
			}
		}
		if best == nil {
			return nil
		}
		key, doc := best.filters(kids)
		n := ixscan(best.ix, best.bounds, false, conjunction(key))
		if len(doc) > 0 {
			if root {
				n = &Node{Stage: Fetch, Filter: conjunction(doc), Kids: []*Node{n}}
			}
			exact = false
		}
		branches = append(branches, n)
	}
	if !root && !exact {
		rest = append(slices.Clone(rest), or)
	}
	var sol *Solution
	if m := q.orderedBranches(branches); m != nil {
		sol = q.finish(fetchOver(m, rest), false, true)
	} else {
		sol = q.finish(fetchOver(&Node{Stage: Or, Kids: branches}, rest), false, false)
	}
	if root {
		sol.Root = &Node{Stage: Subplan, Kids: []*Node{sol.Root}}
	}
	return sol
}

// orderedBranches merges branches that all come in the wanted order; nil if they do not.
func (q *Query) orderedBranches(branches []*Node) *Node {
	if !q.sorted() {
		return nil
	}
	for _, b := range branches {
		scan := b.leafmost()
		back, ok := sortOrder(scan.Index, scan.Bounds, q.Sort)
		if !ok || !q.sortCovered(scan.Index) || scan.Index.Multikey {
			return nil
		}
		scan.Backward = back
	}
	return &Node{Stage: SortMerge, SortPattern: q.Sort, SortSpec: q.SortSpec, Kids: branches}
}

// fetchOver puts a FETCH on a union, unless every branch has its own and nothing is
// left to filter.
func fetchOver(n *Node, rest []match.Node) *Node {
	fetched := true
	for _, k := range n.Kids {
		fetched = fetched && k.Stage == Fetch
	}
	if fetched && len(rest) == 0 {
		return n
	}
	return &Node{Stage: Fetch, Filter: conjunction(rest), Kids: []*Node{n}}
}
