package query

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/sortkey"
	"github.com/cairndb/cairn/internal/query/plan"
)

// gen makes documents with arrays at several levels and queries on them.
type gen struct{ *rand.Rand }

func (g gen) scalar() any {
	return []any{0, 1, 2, 3.5, "a", "b", nil, true, int64(2)}[g.IntN(9)]
}

func (g gen) value(depth int) any {
	switch n := g.IntN(10); {
	case n < 5 || depth == 0:
		return g.scalar()
	case n < 7:
		a := []any{}
		for range g.IntN(3) {
			a = append(a, g.value(depth-1))
		}
		return a
	default:
		kv := []any{}
		for _, f := range []string{"b", "c"} {
			if g.IntN(4) > 0 {
				kv = append(kv, f, g.value(depth-1))
			}
		}
		return bson.D(kv...)
	}
}

func (g gen) doc(i int) bson.Raw {
	kv := []any{"_id", i}
	if g.IntN(6) > 0 {
		kv = append(kv, "a", g.value(2))
	}
	if g.IntN(4) > 0 {
		kv = append(kv, "x", g.scalar())
	}
	return bson.D(kv...)
}

func (g gen) ops(v func() any) bson.Raw {
	switch g.IntN(9) {
	case 0, 1:
		return bson.D("$eq", v())
	case 2:
		return bson.D("$gt", v())
	case 3:
		return bson.D("$gte", v(), "$lte", v())
	case 4:
		return bson.D("$in", []any{v(), v()})
	case 5:
		return bson.D("$ne", v())
	case 6:
		return bson.D("$exists", g.IntN(2) == 0)
	case 7:
		return bson.D("$elemMatch", bson.D("$gte", v(), "$lt", v()))
	default:
		return bson.D("$not", bson.D("$gt", v()))
	}
}

func (g gen) predicate() bson.Raw {
	v := func() any { return g.scalar() }
	switch path := []string{"a", "a.b", "a.c", "a.b.c", "x", "a.0", "a.0.b"}[g.IntN(7)]; {
	case g.IntN(6) == 0:
		return bson.D("a", bson.D("$elemMatch", bson.D("b", g.ops(v), "c", g.ops(v))))
	case g.IntN(12) == 0:
		return bson.D(path, []any{g.scalar()})
	default:
		return bson.D(path, g.ops(v))
	}
}

func (g gen) filter(depth int) bson.Raw {
	if depth == 0 || g.IntN(3) == 0 {
		return g.predicate()
	}
	var kids []bson.Raw
	for range 1 + g.IntN(3) {
		kids = append(kids, g.filter(depth-1))
	}
	return bson.D([]string{"$and", "$and", "$or", "$nor"}[g.IntN(4)], kids)
}

// TestIndexesAgree asks random queries with every index as a hint, and with none: all
// give what a scan of the collection gives, in the wanted order.
func TestIndexesAgree(t *testing.T) {
	specs := []string{
		`{"key": {"a": 1}, "name": "a"}`, `{"key": {"a.b": 1}, "name": "ab"}`, `{"key": {"a.b": 1, "a.c": -1}, "name": "abc"}`,
		`{"key": {"x": -1, "a.b": 1}, "name": "xab"}`, `{"key": {"a.c": 1, "x": 1}, "name": "acx"}`, `{"key": {"a.b.c": 1}, "name": "deep"}`,
		`{"key": {"a.b": 1, "x": 1}, "name": "sparse", "sparse": true}`, `{"key": {"x": 1}, "name": "partial", "partialFilterExpression": {"x": {"$gt": 1}}}`,
		`{"key": {"a": 1, "x": 1}, "name": "partial2", "partialFilterExpression": {"a": {"$exists": true}}}`, `{"key": {"a.0": 1}, "name": "pos"}`,
	}
	sorts := []bson.Raw{nil, nil, nil, bson.D("a", 1), bson.D("a.b", -1), bson.D("x", 1), bson.D("x", -1, "a.b", 1), bson.D("a.b", 1, "a.c", -1)}
	for seed := uint64(1); seed <= 4; seed++ {
		g := gen{rand.New(rand.NewPCG(seed, 3))}
		s := newServer(t)
		var hints []bson.Value
		for _, i := range g.Perm(len(specs))[:6] {
			s.index(specs[i])
			hints = append(hints, js(t, specs[i]).Get("name"))
		}
		byID := map[int32]bson.Raw{}
		for i := range 150 {
			d := g.doc(i)
			rep, err := s.Insert(newOp(), &InsertRequest{NS: testNS, Documents: []bson.Raw{d}})
			if err != nil {
				t.Fatal(err)
			}
			if rep.N == 1 { // parallel arrays are refused
				byID[int32(i)] = d
			}
		}
		ids := func(r *FindRequest) []int32 {
			docs, err := s.tryFind(r)
			if err != nil && strings.Contains(err.Error(), "parallel arrays") {
				return nil // has no order
			}
			if err != nil {
				t.Fatalf("seed %d: %s: %v", seed, plan.Text(r.Filter.Value()), err)
			}
			out := []int32{}
			for _, d := range docs {
				out = append(out, d.Get("_id").Int32())
			}
			checkSorted(t, r, docs)
			slices.Sort(out)
			return out
		}
		for range 300 {
			r := &FindRequest{Filter: g.filter(2), Sort: sorts[g.IntN(len(sorts))]}
			natural := *r
			natural.Sort, natural.Hint = nil, bson.V(bson.D("$natural", 1))
			want := ids(&natural)
			for _, hint := range append(hints, bson.Value{}) {
				if strings.HasPrefix(hint.Str(), "partial") || hint.Str() == "sparse" {
					continue // a hint to an index that lacks documents gives what it has
				}
				h := *r
				h.Hint = hint
				if got := ids(&h); got != nil && !slices.Equal(got, want) {
					b := bson.NewBuilder(nil)
					_ = s.Explain(newOp(), &ExplainRequest{Verbosity: "queryPlanner", Find: &h}, b)
					t.Fatalf("seed %d: filter %s sort %s hint %s\n got %v\nwant %v\n%s\n%s", seed, plan.Text(r.Filter.Value()), plan.Text(r.Sort.Value()), plan.Text(hint), got, want,
						missingDocs(byID, got, want), pretty(b.Finish().Path("queryPlanner.winningPlan"), ""))
				}
			}
			n, err := s.Count(newOp(), &CountRequest{NS: testNS, Query: r.Filter})
			if err != nil || int(n) != len(want) {
				t.Fatalf("seed %d: count of %s is %d, want %d (%v)", seed, plan.Text(r.Filter.Value()), n, len(want), err)
			}
		}
		for _, key := range []string{"a", "a.b", "x", "a.c"} {
			for _, f := range []bson.Raw{nil, bson.D("x", 1), bson.D("x", bson.D("$gt", 1))} {
				if a, b := s.distinctText(key, f, bson.Value{}), s.distinctText(key, f, bson.V(bson.D("$natural", 1))); a != b {
					t.Fatalf("seed %d: distinct %s %s\n got %s\nwant %s", seed, key, plan.Text(f.Value()), a, b)
				}
			}
		}
	}
}

func (s *server) distinctText(key string, q bson.Raw, hint bson.Value) string {
	b := bson.NewBuilder(nil)
	if err := s.Distinct(newOp(), &DistinctRequest{NS: testNS, Key: key, Query: q, Hint: hint}, b); err != nil {
		s.t.Fatal(err)
	}
	d := b.Finish()
	// Equal numbers of different types are one value; which type is shown is open.
	return strings.NewReplacer("2.0", "2").Replace(plan.Text(d.Value()))
}

func missingDocs(byID map[int32]bson.Raw, got, want []int32) string {
	var out []string
	for _, id := range want {
		if !slices.Contains(got, id) {
			out = append(out, "lacks "+plan.Text(byID[id].Value()))
		}
	}
	for _, id := range got {
		if !slices.Contains(want, id) {
			out = append(out, "wrong "+plan.Text(byID[id].Value()))
		}
	}
	return strings.Join(out, "\n")
}

func checkSorted(t *testing.T, r *FindRequest, docs []bson.Raw) {
	t.Helper()
	if r.Sort == nil {
		return
	}
	p, err := sortkey.Parse(r.Sort)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < len(docs); i++ {
		c, err := p.Compare(docs[i-1], docs[i])
		if err != nil {
			t.Fatal(err)
		}
		if c > 0 {
			t.Fatalf("filter %s sort %s hint %s: %s behind %s", plan.Text(r.Filter.Value()), plan.Text(r.Sort.Value()), fmt.Sprint(plan.Text(r.Hint)), plan.Text(docs[i-1].Value()), plan.Text(docs[i].Value()))
		}
	}
}
