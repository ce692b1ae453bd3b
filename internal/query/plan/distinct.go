package plan

import "github.com/cairndb/cairn/internal/eval/match"

// DistinctPlan returns a plan that reads one key for each value of a path, or nil if no
// index can give exactly these: it must begin with the path, its bounds must stand for
// the whole filter, and on an array no filter may bound it (an array's other elements
// are wanted too).
func DistinctPlan(q *Query, indexes []*Index, path string) *Solution {
	kids := conjuncts(q.Filter)
	preds := predicates(kids)
	if q.HintNatural != 0 || q.RecordIDField != "" {
		return nil
	}
	switch q.Filter.(type) {
	case match.AlwaysFalse, *match.AlwaysFalse:
		return nil
	}
	for _, ix := range indexes {
		if ix.Special != "" || ix.Collation != nil || q.Collation != nil || ix.Hidden || ix.Sparse || ix.Parts[0].Path != path || !Implies(nil, ix.Partial) {
			continue
		}
		if q.HintIndex != nil && q.HintIndex != ix {
			continue
		}
		if ix.Multikey && (len(kids) > 0 || components(path) > 1) {
			continue
		}
		n := &Node{Stage: DistinctScan, Index: ix, Bounds: allBounds(ix)}
		if len(kids) > 0 {
			a, ok := newAccess(ix, kids, preds)
			if !ok {
				continue
			}
			if key, doc := a.filters(kids); len(key)+len(doc) > 0 {
				continue
			}
			n.Bounds = a.bounds
		}
		return q.solution(n, false)
	}
	return nil
}
