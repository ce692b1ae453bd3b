package pipeline

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/eval/accum"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// groupStage is $group.
type groupStage struct {
	id     expr.Expr
	fields []*accum.Field
	grows  []bool // whether a field's state may become large
}

func parseGroup(ps *parser, _ string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeDocument {
		return nil, mongoerr.New(15947, "a group's fields must be specified in an object")
	}
	g := &groupStage{}
	for k, e := range v.Doc().Elems() {
		if k == "_id" {
			if g.id != nil {
				return nil, mongoerr.New(15948, "a group's _id may only be specified once")
			}
			id, err := expr.Parse(e, ps.o.Expr)
			if err != nil {
				return nil, err
			}
			g.id = id
			continue
		}
		f, err := accum.Parse(k, e, accum.Options{Expr: ps.o.Expr, Key: ps.o.groupKey})
		if err != nil {
			return nil, err
		}
		for _, o := range g.fields {
			if o.Name == k {
				return nil, mongoerr.New(16406, "duplicate field: %s", k)
			}
		}
		g.fields = append(g.fields, f)
		g.grows = append(g.grows, growing(f.Op.Name))
	}
	if g.id == nil {
		return nil, mongoerr.New(15955, "a group specification must include an _id")
	}
	return []stage{g}, nil
}

func growing(op string) bool {
	switch op {
	case "$push", "$addToSet", "$mergeObjects", "$first", "$last", "$min", "$max":
		return true
	}
	return false
}

// groupKey appends bytes that are equal exactly for values that group together.
func (o *Options) groupKey(dst []byte, v bson.Value) []byte {
	return keystring.Append(dst, o.collated(v), false, nil)
}

func (g *groupStage) info() stageInfo { return stageInfo{name: "$group"} }

func (g *groupStage) serialize(b *bson.Builder) {
	b.Doc("").Doc("$group")
	g.id.Append(b, "_id")
	for _, f := range g.fields {
		f.Append(b)
	}
	b.End().End()
}

func (g *groupStage) optimize() (stage, error) {
	n := &groupStage{grows: g.grows}
	var err error
	if n.id, err = g.id.Optimize(); err != nil {
		return nil, err
	}
	n.fields, err = optimizeFields(g.fields)
	return n, err
}

// optimizeFields optimizes what the accumulators of a stage are given.
func optimizeFields(fields []*accum.Field) ([]*accum.Field, error) {
	out := make([]*accum.Field, 0, len(fields))
	for _, f := range fields {
		c := *f
		var err error
		if c.Arg, err = f.Arg.Optimize(); err != nil {
			return nil, err
		}
		out = append(out, &c)
	}
	return out, nil
}

func (g *groupStage) deps(d *expr.Deps) visibility {
	g.id.AddDeps(d)
	for _, f := range g.fields {
		f.Arg.AddDeps(d)
	}
	return sealed
}

func (g *groupStage) open(o *Options, src Iterator) (Iterator, error) {
	return &groupIter{src: src, g: g, o: o, groups: map[string]*group{}}, nil
}

// group is the state of one key.
type group struct {
	key    string
	id     bson.Value
	states []accum.State
}

type groupIter struct {
	src    Iterator
	g      *groupStage
	o      *Options
	filled bool

	groups map[string]*group
	order  []*group // as they came
	memory int64
	key    []byte

	sorter Sorter
	pairs  Pairs
	have   bool // pairs stands on a pair that is not merged yet
	pos    int
	out    *bson.Builder
	buf    []byte
}

func (it *groupIter) Next(ctx context.Context) (bson.Raw, error) {
	if !it.filled {
		it.filled = true
		if err := it.fill(ctx); err != nil {
			return nil, err
		}
	}
	if it.pairs != nil {
		return it.nextSpilled()
	}
	if it.pos == len(it.order) {
		return nil, nil
	}
	g := it.order[it.pos]
	it.order[it.pos] = nil
	it.pos++
	return it.document(g), nil
}

func (it *groupIter) fill(ctx context.Context) error {
	env := it.o.env()
	for n := 0; ; n++ {
		if n&127 == 127 {
			if err := it.o.interrupt(); err != nil {
				return err
			}
		}
		doc, err := it.src.Next(ctx)
		if err != nil {
			return err
		}
		if doc == nil {
			break
		}
		env.Reset(doc)
		if err := it.add(env); err != nil {
			return err
		}
		if it.memory > MaxMemory {
			if err := it.spill(); err != nil {
				return err
			}
		}
	}
	if it.sorter == nil {
		it.groups = nil
		return nil
	}
	if err := it.spill(); err != nil {
		return err
	}
	var err error
	if it.pairs, err = it.sorter.Sorted(); err != nil {
		return err
	}
	it.have = it.pairs.Next()
	return nil
}

func (it *groupIter) add(env *expr.Env) error {
	id, err := it.g.id.Eval(env)
	if err != nil {
		return err
	}
	if id.IsMissing() {
		id.Type = bson.TypeNull
	}
	it.key = it.o.groupKey(it.key[:0], id)
	g := it.groups[string(it.key)]
	if g == nil {
		g = it.newGroup(string(it.key), id)
		it.groups[g.key] = g
		it.order = append(it.order, g)
	}
	for i, f := range it.g.fields {
		v, err := f.Arg.Eval(env)
		if err != nil {
			return err
		}
		st := g.states[i]
		if !it.g.grows[i] {
			if err := st.Add(v); err != nil {
				return err
			}
			continue
		}
		before := st.Size()
		if err := st.Add(v); err != nil {
			return err
		}
		it.memory += int64(st.Size() - before)
	}
	return nil
}

func (it *groupIter) newGroup(key string, id bson.Value) *group {
	g := &group{key: key, id: id.Clone(), states: make([]accum.State, len(it.g.fields))}
	for i, f := range it.g.fields {
		g.states[i] = f.New()
	}
	it.memory += int64(2*len(key) + len(id.Data) + 120 + 100*len(g.states))
	return g
}

// spill writes all groups to the sorter: parts of one group meet again in its order.
func (it *groupIter) spill() error {
	if !it.o.AllowDiskUse {
		return mongoerr.New(mongoerr.QueryExceededMemoryLimit,
			"Exceeded memory limit for $group, but didn't allow external sort. Pass allowDiskUse:true to opt in.")
	}
	if it.sorter == nil {
		it.sorter = it.o.Host.NewSorter(MaxMemory / 4)
	}
	b := bson.NewBuilder(nil)
	for _, g := range it.order {
		b.Reset(b.Buffer()[:0])
		b.Append("i", g.id)
		b.Array("s")
		for _, s := range g.states {
			s.Save(b, "")
		}
		if err := it.sorter.Add([]byte(g.key), b.Finish()); err != nil {
			return err
		}
	}
	clear(it.groups)
	clear(it.order)
	it.order, it.memory = it.order[:0], 0
	return nil
}

// nextSpilled merges the pairs of the next key.
func (it *groupIter) nextSpilled() (bson.Raw, error) {
	if !it.have {
		return nil, it.pairs.Err()
	}
	key := string(it.pairs.Key())
	g := it.newGroup(key, bson.Raw(it.pairs.Value()).Get("i"))
	for it.have && string(it.pairs.Key()) == key {
		i := 0
		for s := range bson.Raw(it.pairs.Value()).Get("s").Doc().Values() {
			if err := g.states[i].Merge(s); err != nil {
				return nil, err
			}
			i++
		}
		it.have = it.pairs.Next()
	}
	return it.document(g), it.pairs.Err()
}

func (it *groupIter) document(g *group) bson.Raw {
	env := it.o.env()
	env.Reset(bson.Empty)
	if it.out == nil {
		it.out = bson.NewBuilder(nil)
	}
	it.out.Reset(it.buf[:0])
	it.out.Append("_id", g.id)
	for i, f := range it.g.fields {
		v := g.states[i].Value(env)
		if v.IsMissing() {
			v.Type = bson.TypeNull
		}
		it.out.Append(f.Name, v)
	}
	doc := it.out.Finish()
	it.buf = it.out.Buffer()
	return doc
}

func (it *groupIter) Close() error {
	if it.pairs != nil {
		it.pairs.Close() // temporary files: the next start removes what is left
	}
	if it.sorter != nil {
		it.sorter.Close()
	}
	it.groups, it.order, it.pairs, it.sorter = nil, nil, nil, nil
	return it.src.Close()
}
