package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/eval/project"
	"github.com/cairndb/cairn/internal/eval/sortkey"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// memHost is a Host over collections in memory.
type memHost struct {
	colls   map[string][]bson.Raw
	opens   int // calls of Open
	spills  int
	writes  strings.Builder
	aborted bool
}

type sliceIter struct{ docs []bson.Raw }

func (it *sliceIter) Next(context.Context) (bson.Raw, error) {
	if len(it.docs) == 0 {
		return nil, nil
	}
	d := it.docs[0]
	it.docs = it.docs[1:]
	return d, nil
}

func (it *sliceIter) Close() error { return nil }

// find is a naive find with filter, sort, skip, limit and projection.
func (h *memHost) find(ns Namespace, f Find, pc *expr.ParseContext, env *expr.Env) (Iterator, error) {
	filter := f.Filter
	if filter == nil {
		filter = bson.Empty
	}
	m, err := match.Compile(filter, match.Options{Expr: match.ExprIn(pc, env)})
	if err != nil {
		return nil, err
	}
	var docs []bson.Raw
	for _, d := range h.colls[ns.Coll] {
		ok, err := m.Match(d)
		if err != nil {
			return nil, err
		}
		if ok {
			docs = append(docs, d)
		}
	}
	if f.Sort != nil {
		p, err := sortkey.Parse(f.Sort)
		if err != nil {
			return nil, err
		}
		slices.SortStableFunc(docs, func(a, b bson.Raw) int {
			c, err := p.Compare(a, b)
			if err != nil {
				panic(err)
			}
			return c
		})
	}
	docs = docs[min(int64(len(docs)), f.Skip):]
	if f.Limit > 0 {
		docs = docs[:min(int64(len(docs)), f.Limit)]
	}
	if f.Projection != nil {
		p, err := project.Parse(f.Projection, project.Options{})
		if err != nil {
			return nil, err
		}
		for i, d := range docs {
			if docs[i], err = p.Apply(d, nil); err != nil {
				return nil, err
			}
		}
	}
	return &sliceIter{docs}, nil
}

func (h *memHost) Open(_ context.Context, ns Namespace, p *Pipeline, env *expr.Env) (Iterator, error) {
	h.opens++
	f, rest := p.SplitFind()
	src, err := h.find(ns, f, p.ExprContext(), env)
	if err != nil {
		return nil, err
	}
	return rest.Run(src)
}

type memPair struct{ k, v []byte }

type memSorter struct {
	pairs []memPair
	pos   int
}

func (h *memHost) NewSorter(int64) Sorter { h.spills++; return &memSorter{pos: -1} }

func (s *memSorter) Add(k, v []byte) error {
	s.pairs = append(s.pairs, memPair{bytes.Clone(k), bytes.Clone(v)})
	return nil
}

func (s *memSorter) Sorted() (Pairs, error) {
	slices.SortStableFunc(s.pairs, func(a, b memPair) int { return bytes.Compare(a.k, b.k) })
	return s, nil
}

func (s *memSorter) Spilled() int64 { return 0 }
func (s *memSorter) Close() error   { return nil }
func (s *memSorter) Err() error     { return nil }
func (s *memSorter) Next() bool     { s.pos++; return s.pos < len(s.pairs) }
func (s *memSorter) Key() []byte    { return s.pairs[s.pos].k }
func (s *memSorter) Value() []byte  { return s.pairs[s.pos].v }

type memOut struct {
	h    *memHost
	ns   Namespace
	docs []bson.Raw
}

func (h *memHost) BeginOut(_ context.Context, ns Namespace) (OutWriter, error) {
	return &memOut{h: h, ns: ns}, nil
}

func (o *memOut) Insert(_ context.Context, docs []bson.Raw) error {
	o.docs = append(o.docs, docs...)
	return nil
}
func (o *memOut) Commit(context.Context) error { o.h.colls[o.ns.Coll] = o.docs; return nil }
func (o *memOut) Abort()                       { o.h.aborted = true }

func (h *memHost) Insert(_ context.Context, ns Namespace, docs []bson.Raw) error {
	for _, d := range docs {
		fmt.Fprintf(&h.writes, "insert %s %s\n", ns, extjson.String(d))
	}
	return nil
}

func (h *memHost) Update(_ context.Context, ns Namespace, ws []MergeWrite) ([]int64, error) {
	n := make([]int64, len(ws))
	for i, w := range ws {
		u, err := extjson.MarshalValue(w.U, false)
		if err != nil {
			return nil, err
		}
		c := ""
		if w.Constants != nil {
			c = " c: " + extjson.String(w.Constants)
		}
		fmt.Fprintf(&h.writes, "update %s q: %s u: %s%s upsert: %v supplied: %v\n", ns, extjson.String(w.Q), u, c, w.Upsert, w.UpsertSupplied)
		if w.Upsert {
			n[i] = 1
		}
	}
	return n, nil
}

func (h *memHost) HasUniqueIndex(_ context.Context, _ Namespace, fields []string) (bool, error) {
	return fields[0] != "nounique", nil
}

func (h *memHost) PlanCacheStats(context.Context, Namespace) ([]bson.Raw, error) { return nil, nil }

func (h *memHost) CollStats(_ context.Context, ns Namespace, _ bson.Raw) (bson.Raw, error) {
	return bson.D("ns", ns.String(), "count", len(h.colls[ns.Coll])), nil
}

func (h *memHost) IndexStats(context.Context, Namespace) ([]bson.Raw, error) {
	return []bson.Raw{bson.D("name", "_id_")}, nil
}

func (h *memHost) Sessions(context.Context) ([]bson.Raw, error) { return nil, nil }

func (h *memHost) CurrentOp(context.Context, bson.Raw) ([]bson.Raw, error) {
	return []bson.Raw{bson.D("op", "command")}, nil
}

func describe(err error) string {
	if e, ok := mongoerr.As(err); ok {
		return fmt.Sprintf("error %d %s: %s\n", e.Code, e.Code, e.Message)
	}
	return fmt.Sprintf("plain error: %v\n", err)
}

func specsOf(t *testing.T, text string) []bson.Raw {
	t.Helper()
	d, err := extjson.Unmarshal([]byte(`{"p":` + text + `}`))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var out []bson.Raw
	for v := range d.Get("p").Doc().Values() {
		out = append(out, v.Doc())
	}
	return out
}

func testOptions(h *memHost, ns Namespace) *Options {
	n := 0.0
	env := &expr.Env{Now: 1582979696789, Rand: func() float64 { n += 0.37; return n - float64(int(n)) }}
	return &Options{NS: ns, Expr: expr.NewParseContext(), Env: env, Host: h, AllowDiskUse: true}
}

// runPlain runs a pipeline without optimising it or handing anything to a find.
func runPlain(h *memHost, specs []bson.Raw, o *Options) ([]bson.Raw, error) {
	p, err := Parse(specs, o)
	if err != nil {
		return nil, err
	}
	it, err := p.Run(&sliceIter{h.colls[o.NS.Coll]})
	if err != nil {
		return nil, err
	}
	return drain(it)
}

func runOptimized(h *memHost, specs []bson.Raw, o *Options) ([]bson.Raw, error) {
	p, err := Parse(specs, o)
	if err != nil {
		return nil, err
	}
	if err := p.Optimize(); err != nil {
		return nil, err
	}
	if p.HasSource() {
		it, err := p.Run(nil)
		if err != nil {
			return nil, err
		}
		return drain(it)
	}
	it, err := h.Open(context.Background(), o.NS, p, o.Env)
	if err != nil {
		return nil, err
	}
	return drain(it)
}

func drain(it Iterator) ([]bson.Raw, error) {
	defer it.Close()
	var out []bson.Raw
	for {
		d, err := it.Next(context.Background())
		if err != nil || d == nil {
			return out, err
		}
		if err := bson.Validate(d, 200); err != nil {
			return out, err
		}
		out = append(out, d.Clone())
	}
}

func text(docs []bson.Raw, err error) string {
	if err != nil {
		return describe(err)
	}
	var sb strings.Builder
	for _, d := range docs {
		sb.WriteString(extjson.String(d) + "\n")
	}
	if len(docs) == 0 {
		sb.WriteString("nothing\n")
	}
	return sb.String()
}

// TestScripts runs testdata. Commands: insert, agg (optimised; compared with the run
// that is neither optimised nor split), plan (what the find gets and what is left),
// explain. The options "spill" and "nodisk" set the memory limit to nothing.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		h := &memHost{colls: map[string][]bson.Raw{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			ns := Namespace{DB: "test", Coll: "c"}
			for _, a := range d.CmdArgs {
				switch a.Key {
				case "coll":
					ns.Coll = a.Vals[0]
				case "db":
					ns = Namespace{DB: a.Vals[0]}
				}
			}
			if d.Cmd == "insert" {
				for line := range strings.Lines(d.Input) {
					h.colls[ns.Coll] = append(h.colls[ns.Coll], extjson.MustParse(line))
				}
				return ""
			}
			if d.Cmd == "show" {
				return text(h.colls[ns.Coll], nil)
			}
			o := testOptions(h, ns)
			if d.HasArg("spill") || d.HasArg("nodisk") {
				defer func(n int64) { MaxMemory = n }(MaxMemory)
				MaxMemory = 300
				o.AllowDiskUse = !d.HasArg("nodisk")
			}
			specs := specsOf(t, d.Input)
			if d.Cmd == "agg" {
				return agg(t, h, specs, o, d)
			}
			p, err := Parse(specs, o)
			if err == nil {
				err = p.Optimize()
			}
			if err != nil {
				return describe(err)
			}
			if d.Cmd == "explain" {
				return text(explained(p), nil)
			}
			f, rest := p.SplitFind()
			out := fmt.Sprintf("filter: %s sort: %s skip: %d limit: %d projection: %s\n", orNone(f.Filter), orNone(f.Sort), f.Skip, f.Limit, orNone(f.Projection))
			for _, s := range explained(rest) {
				out += extjson.String(s) + "\n"
			}
			return out
		})
	})
}

func orNone(d bson.Raw) string {
	if d == nil {
		return "none"
	}
	return extjson.String(d)
}

func explained(p *Pipeline) []bson.Raw {
	var out []bson.Raw
	for v := range p.Serialize().Raw().Values() {
		out = append(out, v.Doc())
	}
	return out
}

func agg(t *testing.T, h *memHost, specs []bson.Raw, o *Options, d *datadriven.TestData) string {
	h.writes.Reset()
	h.opens, h.spills = 0, 0
	got := text(runOptimized(h, specs, o))
	if h.writes.Len() > 0 {
		return h.writes.String()
	}
	if d.HasArg("opens") {
		got += fmt.Sprintf("opens: %d\n", h.opens-1)
	}
	if d.HasArg("spill") && h.spills == 0 {
		t.Errorf("%s: nothing was spilled", d.Pos)
	}
	if o.NS.Coll != "" && !d.HasArg("once") && !strings.HasPrefix(got, "error") {
		plain := text(runPlain(h, specs, testOptions(h, o.NS)))
		if d.HasArg("spill") || d.HasArg("unordered") {
			plain, got = sortLines(plain), sortLines(got)
		}
		if plain != strings.SplitN(got, "opens:", 2)[0] {
			t.Errorf("%s: unoptimised run gives\n%s", d.Pos, plain)
		}
	}
	return got
}

func sortLines(s string) string {
	lines := strings.SplitAfter(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func TestTable(t *testing.T) {
	prev := ""
	for _, r := range Table() {
		if r.Name <= prev {
			t.Errorf("%s does not follow %s", r.Name, prev)
		}
		prev = r.Name
		if (r.Status == expr.Implemented) != (r.parse != nil) {
			t.Errorf("%s: status and implementation disagree", r.Name)
		}
	}
}
