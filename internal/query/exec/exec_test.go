package exec

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/eval/sortkey"
	"github.com/cairndb/cairn/internal/query/plan"
	"github.com/cairndb/cairn/internal/storage"
)

// fixture is a collection on a real engine in memory, with keys made by the simplest
// rules: top-level fields, at most one array.
type fixture struct {
	t     testing.TB
	e     *storage.Engine
	coll  *Collection
	docs  []bson.Raw
	ixs   []*plan.Index
	store storage.RecordStore
}

// records makes a record store fit for executions.
type records struct{ storage.RecordStore }

func (s records) Get(r storage.Reader, id storage.RecordID, dst []byte) (bson.Raw, error) {
	b, err := s.RecordStore.Get(r, id, dst)
	return b, err
}

func (s records) CursorRange(_ context.Context, r storage.Reader, d storage.Direction, lower, upper storage.RecordID) (storage.RecordCursor, error) {
	return s.RecordStore.CursorRange(r, d, lower, upper), nil
}

func newFixture(t testing.TB, docs []bson.Raw, patterns ...bson.Raw) *fixture {
	t.Helper()
	e, err := storage.Open(storage.Options{Dir: "db", FS: vfs.NewMem(), CacheBytes: 64 << 20, CheckpointInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	f := &fixture{t: t, e: e, docs: docs, store: storage.RecordStore{Table: storage.Table{Space: storage.SpaceReplicated, Ident: 100}}}
	f.coll = &Collection{NS: "db.c", Records: records{f.store}}
	w := e.NewWriteSet()
	for i, d := range docs {
		w.Set(f.store.AppendRecordKey(nil, storage.RecordID(i+1)), d)
	}
	for i, p := range append([]bson.Raw{bson.D("_id", 1)}, patterns...) {
		f.addIndex(w, i, p)
	}
	if err := e.ApplyUnlogged(w); err != nil {
		t.Fatal(err)
	}
	w.Release()
	return f
}

func (f *fixture) addIndex(w *storage.WriteSet, n int, pattern bson.Raw) {
	h := &Index{Store: storage.IndexStore{Table: storage.Table{Space: storage.SpaceReplicated, Ident: storage.Ident(200 + n)}, ByID: n == 0}, Ordering: keystring.NewOrdering(pattern)}
	ix := &plan.Index{Name: fmt.Sprintf("ix%d", n), KeyPattern: pattern, Parts: plan.ParseKeyPattern(pattern), IsID: n == 0, Unique: n == 0, Ref: h}
	ix.MultikeyPaths = make([][]int, len(ix.Parts))
	for i, d := range f.docs {
		id := storage.RecordID(i + 1)
		keys := [][]bson.Value{nil}
		for j, p := range ix.Parts {
			vals := []bson.Value{d.Get(p.Path)}
			if vals[0].IsMissing() {
				vals[0] = bson.V(nil)
			}
			if vals[0].Type == bson.TypeArray {
				ix.Multikey, ix.MultikeyPaths[j] = true, []int{0}
				if vals = slices.Collect(vals[0].Doc().Values()); len(vals) == 0 {
					vals = []bson.Value{{Type: bson.TypeUndefined}}
				}
			}
			var next [][]bson.Value
			for _, k := range keys {
				for _, v := range vals {
					next = append(next, append(slices.Clone(k), v))
				}
			}
			keys = next
		}
		for _, k := range keys {
			var tb keystring.TypeBits
			ks := h.Store.AppendKey(nil, keystring.AppendKey(nil, k, h.Ordering, &tb))
			if h.Store.ByID {
				w.Set(ks, append(storage.AppendRecordID(nil, id), tb.Bytes()...))
			} else {
				w.Set(storage.AppendRecordID(ks, id), slices.Clone(tb.Bytes()))
			}
		}
	}
	f.ixs = append(f.ixs, ix)
}

func (f *fixture) options(filter match.Node) Options {
	o := Options{Reader: f.e, NewSorter: f.e.NewSorter}
	if filter != nil {
		o.Full = match.New(filter)
	}
	return o
}

func (f *fixture) parse(filter bson.Raw) match.Node {
	f.t.Helper()
	n, err := parseFilter(filter)
	if err != nil {
		f.t.Fatalf("%s: %v", filter, err)
	}
	return n
}

func parseFilter(filter bson.Raw) (match.Node, error) {
	n, err := match.Parse(filter, match.Options{})
	if err != nil {
		return nil, err
	}
	return match.Optimize(n), nil
}

// run returns the ids that a plan gives; every is how often cursors are given up.
func (f *fixture) run(s *plan.Solution, filter match.Node, every int) []storage.RecordID {
	f.t.Helper()
	x := New(f.coll, s, f.options(filter))
	defer x.Close()
	var out []storage.RecordID
	var row Row
	for {
		ok, err := x.Next(&row)
		if err != nil {
			f.t.Fatal(err)
		}
		if !ok {
			return out
		}
		out = append(out, row.ID)
		if len(out)%every == 0 {
			x.Save()
		}
	}
}

var scalars = []any{0, 1, 2, 2.5, int64(3), "", "a", "ab", "b", nil, true, bson.DateTime(5)}

func randomValue(r *rand.Rand) any {
	if r.IntN(6) == 0 {
		a := []any{}
		for range r.IntN(3) {
			a = append(a, scalars[r.IntN(len(scalars))])
		}
		return a
	}
	return scalars[r.IntN(len(scalars))]
}

func randomDocs(r *rand.Rand, n int) []bson.Raw {
	docs := make([]bson.Raw, n)
	for i := range docs {
		kv := []any{"_id", i}
		for _, f := range []string{"a", "b", "c"} {
			if r.IntN(5) > 0 {
				v := randomValue(r)
				if _, isArray := v.([]any); isArray && f != "b" {
					v = 7 // one array a document
				}
				kv = append(kv, f, v)
			}
		}
		docs[i] = bson.D(kv...)
	}
	return docs
}

func randomPredicate(r *rand.Rand) bson.Raw {
	v := func() any { return scalars[r.IntN(len(scalars))] }
	f := []string{"a", "b", "c", "_id"}[r.IntN(4)]
	switch r.IntN(11) {
	case 0, 1:
		return bson.D(f, v())
	case 2:
		return bson.D(f, bson.D("$gt", v()))
	case 3:
		return bson.D(f, bson.D("$gte", v(), "$lt", v()))
	case 4:
		return bson.D(f, bson.D("$in", []any{v(), v(), v()}))
	case 5:
		return bson.D(f, bson.D("$ne", v()))
	case 6:
		return bson.D(f, bson.D("$exists", r.IntN(2) == 0))
	case 7:
		return bson.D(f, bson.D("$type", []any{"number", "string", "null", "array", "bool"}[r.IntN(5)]))
	case 8:
		return bson.D(f, bson.D("$regex", []any{"^a", "b", "^ab$"}[r.IntN(3)]))
	case 9:
		return bson.D(f, bson.D("$elemMatch", bson.D("$gte", v(), "$lte", v())))
	default:
		return bson.D(f, bson.D("$not", bson.D("$lte", v())))
	}
}

func randomFilter(r *rand.Rand, depth int) bson.Raw {
	if depth == 0 || r.IntN(2) == 0 {
		return randomPredicate(r)
	}
	var kids []bson.Raw
	for range 1 + r.IntN(3) {
		kids = append(kids, randomFilter(r, depth-1))
	}
	return bson.D([]string{"$and", "$and", "$or", "$nor"}[r.IntN(4)], kids)
}

// TestPlansAgree runs every plan for random filters and orders over random documents:
// all must give what a look at every document gives, in the wanted order.
func TestPlansAgree(t *testing.T) {
	seed := uint64(1)
	r := rand.New(rand.NewPCG(seed, 7))
	patterns := [][]bson.Raw{
		{bson.D("a", 1), bson.D("b", 1), bson.D("a", 1, "c", -1)},
		{bson.D("a", -1, "b", 1), bson.D("b", -1, "c", 1), bson.D("c", 1)},
		{bson.D("a", 1, "b", -1, "c", 1), bson.D("c", -1, "a", 1)},
	}
	sorts := []bson.Raw{nil, nil, bson.D("a", 1), bson.D("c", -1), bson.D("b", 1), bson.D("a", 1, "c", -1), bson.D("a", -1, "c", 1), bson.D("c", 1, "b", 1)}
	used := map[string]int{}
	for round := range 6 {
		f := newFixture(t, randomDocs(r, 120), patterns[round%len(patterns)]...)
		for range 400 {
			raw := randomFilter(r, 2)
			filter := f.parse(raw)
			q := &plan.Query{NS: "db.c", Filter: filter, SortSpec: sorts[r.IntN(len(sorts))]}
			if q.SortSpec != nil {
				q.Sort, _ = sortkey.Parse(q.SortSpec)
			}
			if r.IntN(8) == 0 {
				q.HintIndex = f.ixs[r.IntN(len(f.ixs))]
			}
			sols, err := plan.Plan(q, f.ixs)
			if err != nil {
				t.Fatalf("%s: %v", raw, err)
			}
			want := f.brute(filter)
			for _, s := range sols {
				got := f.run(s, filter, 1+r.IntN(20))
				f.checkOrder(q.Sort, got, s, raw)
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Fatalf("seed %d: filter %s sort %s plan %s\n got %v\nwant %v\n%s", seed, plan.Text(raw.Value()), plan.Text(q.SortSpec.Value()), s.Summary(), got, want, explain(s))
				}
				s.Root.Walk(func(n *plan.Node) { used[string(n.Stage)]++ })
			}
		}
	}
	for _, st := range []string{"COLLSCAN", "IXSCAN", "FETCH", "OR", "SORT", "SORT_MERGE", "SUBPLAN"} {
		if used[st] == 0 {
			t.Errorf("no plan had a %s", st)
		}
	}
}

func explain(s *plan.Solution) string {
	b := bson.NewBuilder(nil)
	plan.AppendPlan(b, s)
	return plan.Text(b.Finish().Value())
}

func (f *fixture) brute(filter match.Node) []storage.RecordID {
	var out []storage.RecordID
	m := match.New(filter)
	for i, d := range f.docs {
		if ok, err := m.Match(d); err != nil {
			f.t.Fatal(err)
		} else if ok {
			out = append(out, storage.RecordID(i+1))
		}
	}
	return out
}

func (f *fixture) checkOrder(p *sortkey.Pattern, ids []storage.RecordID, s *plan.Solution, raw bson.Raw) {
	f.t.Helper()
	if p == nil {
		return
	}
	for i := 1; i < len(ids); i++ {
		c, err := p.Compare(f.docs[ids[i-1]-1], f.docs[ids[i]-1])
		if err != nil {
			f.t.Fatal(err)
		}
		if c > 0 {
			f.t.Fatalf("filter %s: %s behind %s\n%s", plan.Text(raw.Value()), plan.Text(f.docs[ids[i-1]-1].Value()), plan.Text(f.docs[ids[i]-1].Value()), explain(s))
		}
	}
}
