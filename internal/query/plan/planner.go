package plan

import (
	"slices"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/eval/project"
	"github.com/cairndb/cairn/internal/eval/sortkey"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Query is what a plan is wanted for.
type Query struct {
	NS         string
	Filter     match.Node       // optimised
	Sort       *sortkey.Pattern // nil or empty: any order
	SortSpec   bson.Raw
	Projection *project.Projection // nil: whole documents
	ProjSpec   bson.Raw
	Skip       int64
	Limit      int64 // 0: none

	HintIndex   *Index
	HintNatural int // 1 or -1: $natural
	Min, Max    bson.Raw
	ReturnKey   bool
	Tailable    bool
	// CountOnly asks for the number of results only.
	CountOnly bool
	// OptionalProjection says that whole documents do as well: the projection is only
	// worth it if an index covers it.
	OptionalProjection bool
	// NeedRecord asks for the whole document always (writes).
	NeedRecord bool
	// RecordIDField is the top-level field whose value is the record id: "ts" in the
	// oplog, whose ids are timestamps. Empty elsewhere.
	RecordIDField string
	// Clustered is the index whose order is the natural one of the collection; nil for the
	// order of the records.
	Clustered *Index
	// Collation is the operation's; Filter and Sort carry it already.
	Collation *collate.Collator
}

// maxExplode bounds the scans that an $in is taken apart into to keep an order.
const maxExplode = 200

// sorted reports whether q wants an order.
func (q *Query) sorted() bool { return q.Sort != nil && len(q.Sort.Parts) > 0 }

// Plan returns the plans for q that are worth a trial, at least one.
func Plan(q *Query, indexes []*Index) ([]*Solution, error) {
	switch q.Filter.(type) {
	case match.AlwaysFalse, *match.AlwaysFalse:
		return []*Solution{q.solution(&Node{Stage: EOF}, true)}, nil
	}
	if q.Min != nil || q.Max != nil {
		return q.planMinMax()
	}
	if q.Clustered != nil && q.HintNatural != 0 && !q.sorted() {
		return []*Solution{q.clusteredScan()}, nil
	}
	if q.HintNatural != 0 || q.Tailable || q.RecordIDField != "" {
		return []*Solution{q.collScan()}, nil
	}
	if q.HintIndex != nil {
		return q.planHinted()
	}
	usable := slices.DeleteFunc(slices.Clone(indexes), func(ix *Index) bool {
		return ix.Special != "" || ix.Hidden || !Implies(q.Filter, ix.Partial)
	})
	sols := q.indexed(usable)
	if len(sols) == 0 && q.Clustered != nil && !q.sorted() {
		sols = append(sols, q.clusteredScan())
	}
	if len(sols) == 0 {
		sols = append(sols, q.collScan())
	}
	return sols, nil
}

// indexed lists the plans that use an index.
func (q *Query) indexed(usable []*Index) []*Solution {
	if or, ok := q.Filter.(*match.Or); ok {
		if s := q.planOr(or, nil, usable, true); s != nil {
			return []*Solution{s}
		}
	}
	kids := conjuncts(q.Filter)
	preds := predicates(kids)
	var sols []*Solution
	for _, ix := range usable {
		if a, ok := newAccess(ix, kids, preds); ok {
			sols = append(sols, q.fromAccess(a, kids)...)
		}
	}
	if len(sols) == 0 {
		for i, k := range kids {
			if or, ok := k.(*match.Or); ok {
				rest := slices.Delete(slices.Clone(kids), i, i+1)
				if s := q.planOr(or, rest, usable, false); s != nil {
					sols = append(sols, s)
				}
			}
		}
	}
	sols = prune(sols)
	if q.sorted() && !slices.ContainsFunc(sols, func(s *Solution) bool { return !s.HasSort }) {
		sols = append(sols, q.sortScans(usable, kids)...)
	}
	if len(sols) == 0 && len(kids) == 0 && q.Projection != nil {
		sols = append(sols, q.coveredScans(usable, kids)...)
	}
	return sols
}

// maxPlans bounds how many plans are tried against each other.
const maxPlans = 16

// prune keeps the most promising plans.
func prune(sols []*Solution) []*Solution {
	if len(sols) > maxPlans {
		sols = sols[:maxPlans]
	}
	return sols
}

// collScan is the plan that reads all records.
func (q *Query) collScan() *Solution {
	n := &Node{Stage: CollScan, Filter: nonTrivial(q.Filter), Backward: q.HintNatural < 0, Tailable: q.Tailable}
	if q.RecordIDField != "" {
		recordBounds(n, q.RecordIDField, conjuncts(q.Filter))
	}
	return q.finish(n, false, q.HintNatural != 0 && !q.sorted())
}

// clusteredScan is collScan in the order of a clustered collection.
func (q *Query) clusteredScan() *Solution {
	n := ixscan(q.Clustered, allBounds(q.Clustered), q.HintNatural < 0, nil)
	return q.aboveScan(n, conjuncts(q.Filter), true)
}

func nonTrivial(n match.Node) match.Node { return conjunction(conjuncts(n)) }

// recordBounds narrows a scan where a timestamp field is the record id.
func recordBounds(n *Node, field string, kids []match.Node) {
	for _, k := range kids {
		c, ok := k.(*match.Comparison)
		if !ok || c.Path.String() != field || c.Value.Type != bson.TypeTimestamp {
			continue
		}
		ts := int64(c.Value.Timestamp())
		if ts < 0 {
			continue
		}
		if c.Op == match.Eq || c.Op == match.Gt || c.Op == match.Gte {
			if !n.HasMin || ts > n.MinRecord {
				n.HasMin, n.MinRecord = true, ts
			}
		}
		if c.Op == match.Eq || c.Op == match.Lt || c.Op == match.Lte {
			if !n.HasMax || ts < n.MaxRecord {
				n.HasMax, n.MaxRecord = true, ts
			}
		}
		n.ShowRange = true
	}
}

// fromAccess makes the plans of one index.
func (q *Query) fromAccess(a *access, kids []match.Node) []*Solution {
	if !q.sorted() {
		return []*Solution{q.scan(a, kids, false, true)}
	}
	if back, ok := sortOrder(a.ix, a.bounds, q.Sort); ok {
		return []*Solution{q.scan(a, kids, back, true)}
	}
	if s := q.explode(a, kids); s != nil {
		return []*Solution{s}
	}
	return []*Solution{q.scan(a, kids, false, false)}
}

// ixscan makes the node of one index scan.
func ixscan(ix *Index, bounds []Intervals, back bool, filter match.Node) *Node {
	return &Node{Stage: IxScan, Index: ix, Bounds: bounds, Backward: back, Filter: filter, Dedup: ix.Multikey}
}

// scan makes the plan that scans a's index; ordered says that its order is the wanted one.
func (q *Query) scan(a *access, kids []match.Node, back, ordered bool) *Solution {
	key, doc := a.filters(kids)
	return q.aboveScan(ixscan(a.ix, a.bounds, back, conjunction(key)), doc, ordered)
}

// aboveScan puts the fetch on an index scan unless it is covered.
func (q *Query) aboveScan(n *Node, doc []match.Node, ordered bool) *Solution {
	if len(doc) == 0 && q.covered(n.Index) && (ordered || q.sortCovered(n.Index)) {
		return q.finish(n, true, ordered)
	}
	return q.finish(&Node{Stage: Fetch, Filter: conjunction(doc), Kids: []*Node{n}}, false, ordered)
}

// covered reports whether the keys of ix hold all that the projection wants.
func (q *Query) covered(ix *Index) bool {
	if q.CountOnly {
		return true
	}
	return !q.NeedRecord && q.Projection != nil && !ix.Multikey && ix.Special == "" && ix.Collation == nil && q.Projection.Covered(ix.KeyPattern)
}

func (q *Query) sortCovered(ix *Index) bool {
	for _, p := range q.Sort.Parts {
		if p.Meta != "" || !slices.ContainsFunc(ix.Parts, func(k KeyPart) bool { return k.Path == p.Path }) {
			return false
		}
	}
	return true
}

// finish puts sort, skip, projection and limit on n.
func (q *Query) finish(n *Node, covered, ordered bool) *Solution {
	sort := q.sorted() && !ordered
	if sort {
		n = &Node{Stage: Sort, SortPattern: q.Sort, SortSpec: q.SortSpec, Kids: []*Node{n}}
		if q.Limit > 0 {
			n.LimitAmount = q.Limit + q.Skip
		}
	}
	if q.Skip > 0 {
		n = &Node{Stage: Skip, LimitAmount: q.Skip, Kids: []*Node{n}}
	}
	switch {
	case q.ReturnKey:
		n = &Node{Stage: ReturnKey, Kids: []*Node{n}}
	case q.Projection != nil && !q.NeedRecord && (covered || !q.OptionalProjection):
		st := ProjectionDefault
		if covered {
			st = ProjectionCovered
		} else if q.Projection.Simple() {
			st = ProjectionSimple
		}
		n = &Node{Stage: st, Projection: q.Projection, ProjSpec: q.ProjSpec, Kids: []*Node{n}}
	}
	if q.Limit > 0 && !sort { // a sort stops at its own limit
		n = &Node{Stage: Limit, LimitAmount: q.Limit, Kids: []*Node{n}}
	}
	return q.solution(n, sort)
}

func (q *Query) solution(root *Node, sort bool) *Solution {
	s := &Solution{Root: root, HasSort: sort}
	root.Walk(func(n *Node) {
		if n.Stage == Fetch {
			s.HasFetch = true
		}
	})
	return s
}

// sortScans are whole scans of indexes that give the wanted order.
func (q *Query) sortScans(usable []*Index, kids []match.Node) []*Solution {
	var sols []*Solution
	for _, ix := range usable {
		if ix.Sparse {
			continue
		}
		bounds := allBounds(ix)
		if back, ok := sortOrder(ix, bounds, q.Sort); ok {
			sols = append(sols, q.aboveScan(ixscan(ix, bounds, back, nil), kids, true))
		}
	}
	return sols
}

// coveredScans are whole scans of indexes that spare the records.
func (q *Query) coveredScans(usable []*Index, kids []match.Node) []*Solution {
	var sols []*Solution
	for _, ix := range usable {
		if !ix.Sparse && q.covered(ix) {
			sols = append(sols, q.aboveScan(ixscan(ix, allBounds(ix), false, nil), kids, !q.sorted()))
		}
	}
	return sols
}

func allBounds(ix *Index) []Intervals {
	b := make([]Intervals, len(ix.Parts))
	for i := range b {
		b[i] = AllValues()
	}
	return b
}

// planHinted plans with the index that the client named, whatever it is good for.
func (q *Query) planHinted() ([]*Solution, error) {
	ix := q.HintIndex
	if ix.Hidden || ix.Special != "" {
		return nil, errBadHint(q.NS)
	}
	kids := conjuncts(q.Filter)
	if or, ok := q.Filter.(*match.Or); ok {
		if s := q.planOr(or, nil, []*Index{ix}, true); s != nil {
			return []*Solution{s}, nil
		}
	}
	if a, ok := newAccess(ix, kids, predicates(kids)); ok {
		return q.fromAccess(a, kids), nil
	}
	bounds := allBounds(ix)
	back, ordered := false, true
	if q.sorted() {
		back, ordered = sortOrder(ix, bounds, q.Sort)
	}
	return []*Solution{q.aboveScan(ixscan(ix, bounds, back, nil), kids, ordered)}, nil
}

func errBadHint(ns string) error {
	return mongoerr.New(mongoerr.BadValue, "error processing query: ns=%s planner returned error :: caused by :: hint provided does not correspond to an existing index", ns)
}

// planMinMax plans a query with min() or max(), which name a range of one index.
func (q *Query) planMinMax() ([]*Solution, error) {
	ix := q.HintIndex
	if ix == nil {
		return nil, mongoerr.New(51173, "When using min()/max() a hint of which index to use must be provided")
	}
	r := &KeyRange{}
	for _, side := range []struct {
		spec bson.Raw
		dst  *[]bson.Value
		name string
	}{{q.Min, &r.Min, "min"}, {q.Max, &r.Max, "max"}} {
		if side.spec == nil {
			continue
		}
		i := 0
		for k, v := range side.spec.Elems() {
			if i >= len(ix.Parts) || ix.Parts[i].Path != k {
				return nil, errMinMax(ix)
			}
			*side.dst = append(*side.dst, ix.Collation.Value(v))
			i++
		}
		if i != len(ix.Parts) {
			return nil, errMinMax(ix)
		}
	}
	n := ixscan(ix, nil, false, nil)
	n.MinMax = r
	ordered := true
	if q.sorted() {
		n.Backward, ordered = sortOrder(ix, allBounds(ix), q.Sort)
	}
	return []*Solution{q.aboveScan(n, conjuncts(q.Filter), ordered)}, nil
}

func errMinMax(ix *Index) error {
	return mongoerr.New(51174, "The index chosen is not compatible with min/max: %s", Text(ix.KeyPattern.Value()))
}
