package pipeline

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// graphStage is $graphLookup: what can be reached from a document over a field that refers
// to another, found breadth first, one query a depth.
type graphStage struct {
	from              Namespace
	as                string
	connectFrom       string
	connectTo         string
	start             expr.Expr
	maxDepth          int64 // -1: any
	depthField        string
	restrict          bson.Raw // nil: any document
	sub               *Pipeline
	subEnv            *expr.Env
	fromPath, asPath  []string
	depthPath         []string
	hasStart, hasFrom bool
}

func parseGraphLookup(ps *parser, _ string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeDocument {
		return nil, lookupError("the $graphLookup stage specification must be an object, but found %s", v.Type)
	}
	g := &graphStage{from: Namespace{DB: ps.o.NS.DB}, maxDepth: -1}
	for k, e := range v.Doc().Elems() {
		if err := g.argument(ps, k, e); err != nil {
			return nil, err
		}
	}
	if !g.hasFrom || g.as == "" || !g.hasStart || g.connectFrom == "" || g.connectTo == "" {
		return nil, mongoerr.New(40105, "$graphLookup requires 'from', 'as', 'startWith', 'connectFromField', and 'connectToField' to be specified.")
	}
	for _, p := range []string{g.as, g.connectFrom, g.connectTo, g.depthField} {
		if p == "" {
			continue
		}
		if err := expr.CheckFieldPath(p); err != nil {
			return nil, err
		}
	}
	g.fromPath, g.asPath = splitPath(g.connectFrom), splitPath(g.as)
	if g.depthField != "" {
		g.depthPath = splitPath(g.depthField)
	}
	var err error
	if g.sub, g.subEnv, err = ps.subPipeline(nil, g.from, ps.o.Expr, inLookup); err != nil {
		return nil, err
	}
	if g.restrict != nil {
		if _, err := newMatch(g.sub.o, g.restrict); err != nil {
			e, ok := mongoerr.As(err)
			if !ok {
				return nil, err
			}
			return nil, mongoerr.New(40186, "Failed to parse 'restrictSearchWithMatch' option to $graphLookup stage: %s", e.Message)
		}
	}
	return []stage{g}, nil
}

func (g *graphStage) argument(ps *parser, k string, e bson.Value) (err error) {
	switch k {
	case "startWith":
		pc := ps.o.Expr
		if pc == nil {
			pc = expr.NewParseContext()
		}
		g.start, err = expr.Parse(e, pc)
		g.hasStart = true
		return err
	case "maxDepth":
		if !e.IsNumber() {
			return mongoerr.New(40100, "maxDepth requires a numeric argument, found type: %s", e.Type)
		}
		f, _ := e.AsFloat64()
		if f < 0 {
			return mongoerr.New(40101, "maxDepth requires a nonnegative argument, found: %s", expr.ToJSON(e))
		}
		n, ok := e.AsInt64()
		if !ok || float64(n) != f {
			return mongoerr.New(40102, "maxDepth could not be represented as a long long: %s", expr.ToJSON(e))
		}
		g.maxDepth = n
		return nil
	case "restrictSearchWithMatch":
		if e.Type != bson.TypeDocument {
			return mongoerr.New(40185, "restrictSearchWithMatch must be an object, found %s", e.Type)
		}
		g.restrict = e.Doc()
		return nil
	case "from", "as", "connectFromField", "connectToField", "depthField":
	default:
		return mongoerr.New(40104, "Unknown argument to $graphLookup: %s", k)
	}
	if e.Type == bson.TypeDocument && k == "from" {
		return lookupError("$graphLookup with syntax {from: {db:<>, coll:<>},..} is not supported for db: %s and coll: %s",
			e.Doc().Get("db").Str(), e.Doc().Get("coll").Str())
	}
	if e.Type != bson.TypeString {
		return mongoerr.New(40103, "expected string as argument for %s, found: %s", k, expr.ToJSON(e))
	}
	switch s := e.Str(); k {
	case "from":
		g.from.Coll, g.hasFrom = s, s != ""
	case "as":
		g.as = s
	case "connectFromField":
		g.connectFrom = s
	case "connectToField":
		g.connectTo = s
	case "depthField":
		g.depthField = s
	}
	return nil
}

func (g *graphStage) info() stageInfo { return stageInfo{name: "$graphLookup"} }

func (g *graphStage) optimize() (stage, error) {
	start, err := g.start.Optimize()
	if err != nil {
		return nil, err
	}
	n := *g
	n.start = start
	return &n, nil
}

func (g *graphStage) serialize(b *bson.Builder) {
	b.Doc("").Doc("$graphLookup").Str("from", g.from.Coll).Str("as", g.as).Str("connectToField", g.connectTo).Str("connectFromField", g.connectFrom)
	g.start.Append(b, "startWith")
	if g.depthField != "" {
		b.Str("depthField", g.depthField)
	}
	if g.maxDepth >= 0 {
		b.Int64("maxDepth", g.maxDepth)
	}
	if g.restrict != nil {
		b.AppendDoc("restrictSearchWithMatch", g.restrict)
	}
	b.End().End()
}

func (g *graphStage) deps(d *expr.Deps) visibility {
	g.start.AddDeps(d)
	if g.restrict != nil {
		if m, err := newMatch(g.sub.o, g.restrict); err == nil { // variables of `let` in an $expr
			inner := &expr.Deps{}
			m.deps(inner)
			for id := range inner.Vars {
				d.AddVar(id)
			}
		}
	}
	return seesInput
}

func (g *graphStage) passes(path string) bool { return !related(path, g.as) }

func (g *graphStage) foreign() []Namespace { return []Namespace{g.from} }

func (g *graphStage) open(o *Options, src Iterator) (Iterator, error) {
	return &graphIter{src: src, g: g, o: o, b: bson.NewBuilder(nil)}, nil
}

type graphIter struct {
	src      Iterator
	g        *graphStage
	o        *Options
	buf, arr []byte
	b        *bson.Builder
}

func (it *graphIter) Close() error { return it.src.Close() }

func (it *graphIter) Next(ctx context.Context) (bson.Raw, error) {
	doc, err := it.src.Next(ctx)
	if err != nil || doc == nil {
		return nil, err
	}
	found, err := it.search(ctx, doc)
	if err != nil {
		return nil, err
	}
	it.b.Reset(it.buf[:0])
	withPath(it.b, doc, it.g.asPath, found.Value())
	out := it.b.Finish()
	it.buf = it.b.Buffer()
	return out, nil
}

// frontier are the values that the next depth is looked for by, each once.
type frontier struct {
	vals []bson.Value
	seen map[string]bool
}

func (f *frontier) add(v bson.Value) {
	key := string(append([]byte{byte(v.Type)}, v.Data...))
	if v.IsMissing() || f.seen[key] {
		return
	}
	if f.seen == nil {
		f.seen = map[string]bool{}
	}
	f.seen[key] = true
	f.vals = append(f.vals, v.Clone())
}

// search is the walk from one document. A document is visited once, at its least depth.
func (it *graphIter) search(ctx context.Context, doc bson.Raw) (bson.Array, error) {
	g, outer := it.g, it.o.env()
	g.subEnv.InheritVars(outer)
	outer.Reset(doc)
	start, err := g.start.Eval(outer)
	if err != nil {
		return nil, err
	}
	next := &frontier{}
	if start.Type == bson.TypeArray {
		for v := range start.Doc().Values() {
			next.add(v)
		}
	} else {
		next.add(start)
	}
	visited := map[string]bool{}
	b := bson.NewArrayBuilder(it.arr[:0])
	for depth := int64(0); len(next.vals) > 0 && (g.maxDepth < 0 || depth <= g.maxDepth); depth++ {
		if err := it.o.interrupt(); err != nil {
			return nil, err
		}
		if next, err = it.step(ctx, next, depth, visited, b); err != nil {
			return nil, err
		}
	}
	a := bson.Array(b.Finish())
	it.arr = b.Buffer()
	return a, nil
}

// step finds the documents of one depth and returns what they refer to.
func (it *graphIter) step(ctx context.Context, from *frontier, depth int64, visited map[string]bool, b *bson.Builder) (*frontier, error) {
	g := it.g
	filter := anyOf(g.connectTo, from.vals)
	if g.restrict != nil {
		filter = bson.D("$and", []bson.Raw{filter, g.restrict})
	}
	m, err := newMatch(g.sub.o, filter)
	if err != nil {
		return nil, err
	}
	inner, err := openOn(ctx, &Pipeline{[]stage{m}, g.sub.o, g.sub.depth}, g.from)
	if err != nil {
		return nil, err
	}
	defer inner.Close()
	next := &frontier{}
	for {
		d, err := inner.Next(ctx)
		if err != nil || d == nil {
			return next, err
		}
		id := d.Get("_id")
		if id.IsMissing() {
			return nil, mongoerr.New(40271, "Documents in the '%s' namespace must contain an _id for de-duplication in $graphLookup", g.from)
		}
		key := string(append([]byte{byte(id.Type)}, id.Data...))
		if visited[key] {
			continue
		}
		visited[key] = true
		if g.depthPath == nil {
			b.AppendDoc("", d)
		} else {
			with := bson.NewBuilder(make([]byte, 0, len(d)+len(g.depthField)+16))
			withPath(with, d, g.depthPath, bson.V(depth))
			b.AppendDoc("", with.Finish())
		}
		if int64(b.Len()) > MaxMemory {
			return nil, mongoerr.New(40099, "$graphLookup reached maximum memory consumption")
		}
		visitValues(d, g.fromPath, next.add)
	}
}

// anyOf is a filter for the documents that have one of the values at a path. A regular
// expression among them is looked for as the value that it is.
func anyOf(path string, vals []bson.Value) bson.Raw {
	var plain []bson.Value
	var or []bson.Raw
	for _, v := range vals {
		if v.Type == bson.TypeRegex {
			or = append(or, bson.D(path, bson.D("$eq", v)))
			continue
		}
		plain = append(plain, v)
	}
	in := bson.D(path, bson.D("$in", plain))
	if len(or) == 0 {
		return in
	}
	return bson.D("$or", append(or, in))
}
