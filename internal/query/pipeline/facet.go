package pipeline

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// facetStage is $facet.
type facetStage struct {
	names []string
	subs  []*Pipeline
}

func parseFacet(ps *parser, _ string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeDocument || v.Doc().IsEmpty() {
		return nil, mongoerr.New(40169, "the $facet specification must be a non-empty object")
	}
	f := &facetStage{}
	for k, e := range v.Doc().Elems() {
		if strings.Contains(k, ".") {
			return nil, mongoerr.New(16412, "FieldPath field names may not contain '.'. Consider using $getField or $setField.")
		}
		if strings.HasPrefix(k, "$") {
			return nil, mongoerr.New(16410, "FieldPath field names may not start with '$'. Consider using $getField or $setField.")
		}
		if e.Type != bson.TypeArray {
			return nil, mongoerr.New(40170, "arguments to $facet must be arrays, %s is type %s", k, e.Type)
		}
		specs, err := stageSpecs(e, func(v bson.Value) error {
			return mongoerr.New(40171, "elements of arrays in $facet spec must be non-empty objects, %s argument contained an element of type %s: %s", k, v.Type, expr.ToJSON(v))
		})
		if err != nil {
			return nil, err
		}
		sub, err := parsePipeline(specs, ps.o, inFacet, ps.depth+1)
		if err != nil {
			return nil, err
		}
		f.names, f.subs = append(f.names, k), append(f.subs, sub)
	}
	return []stage{f}, nil
}

// stageSpecs reads an array of stages.
func stageSpecs(v bson.Value, bad func(v bson.Value) error) ([]bson.Raw, error) {
	var specs []bson.Raw
	for s := range v.Doc().Values() {
		if s.Type != bson.TypeDocument {
			return nil, bad(s)
		}
		specs = append(specs, s.Doc())
	}
	return specs, nil
}

func (f *facetStage) info() stageInfo { return stageInfo{name: "$facet"} }

func (f *facetStage) optimize() (stage, error) {
	for _, p := range f.subs {
		if err := p.rewrite(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *facetStage) serialize(b *bson.Builder) {
	b.Doc("").Doc("$facet")
	for i, p := range f.subs {
		b.AppendArray(f.names[i], p.Serialize())
	}
	b.End().End()
}

func (f *facetStage) deps(d *expr.Deps) visibility {
	for _, p := range f.subs {
		if p.deps(d) != sealed {
			d.Whole = true
		}
	}
	return sealed
}

func (f *facetStage) foreign() []Namespace {
	var out []Namespace
	for _, p := range f.subs {
		out = append(out, p.Namespaces()...)
	}
	return out
}

func (f *facetStage) open(o *Options, src Iterator) (Iterator, error) {
	return &facetIter{src: src, f: f, o: o}, nil
}

// facetIter gives its one document.
type facetIter struct {
	src  Iterator
	f    *facetStage
	o    *Options
	done bool

	cur bson.Raw
	eof bool
}

// errStopped ends sub-pipelines whose $facet is given up.
var errStopped = errors.New("facet stopped")

// facetRun is one sub-pipeline as a coroutine: it is resumed for each document of the
// input and gathers what it makes. All of them see each document before the next one is
// read, so that nothing is buffered.
type facetRun struct {
	next func() (struct{}, bool)
	stop func()
	out  *bson.Builder
	err  error
	live bool
}

// facetSource is the input of a sub-pipeline.
type facetSource struct {
	it    *facetIter
	yield func(struct{}) bool
}

func (s *facetSource) Next(context.Context) (bson.Raw, error) {
	if !s.yield(struct{}{}) {
		return nil, errStopped
	}
	if s.it.eof {
		return nil, nil
	}
	return s.it.cur, nil
}

func (s *facetSource) Close() error { return nil }

func (it *facetIter) start(ctx context.Context, p *Pipeline) *facetRun {
	r := &facetRun{out: bson.NewArrayBuilder(nil), live: true}
	r.next, r.stop = iter.Pull(func(yield func(struct{}) bool) {
		out, err := p.Run(&facetSource{it, yield})
		if err != nil {
			r.err = err
			return
		}
		defer out.Close()
		for {
			doc, err := out.Next(ctx)
			if err != nil || doc == nil {
				r.err = err
				return
			}
			r.out.AppendDoc("", doc)
			if int64(r.out.Len()) > MaxMemory {
				r.err = mongoerr.New(4031700, "document constructed by $facet is %d bytes, which exceeds the limit of %d bytes", r.out.Len(), MaxMemory)
				return
			}
		}
	})
	return r
}

func (it *facetIter) Next(ctx context.Context) (bson.Raw, error) {
	if it.done {
		return nil, nil
	}
	it.done = true
	runs := make([]*facetRun, len(it.f.subs))
	for i, p := range it.f.subs {
		runs[i] = it.start(ctx, p)
		defer runs[i].stop()
	}
	if err := it.resume(runs); err != nil { // up to where each asks for a document
		return nil, err
	}
	for n := 0; !it.eof; n++ {
		if n&127 == 127 {
			if err := it.o.interrupt(); err != nil {
				return nil, err
			}
		}
		var err error
		if it.cur, err = it.src.Next(ctx); err != nil {
			return nil, err
		}
		it.eof = it.cur == nil
		if err := it.resume(runs); err != nil {
			return nil, err
		}
	}
	b := bson.NewBuilder(nil)
	for i, r := range runs {
		b.AppendArray(it.f.names[i], bson.Array(r.out.Finish()))
	}
	return b.Finish(), nil
}

// resume lets every sub-pipeline that still runs take one document.
func (it *facetIter) resume(runs []*facetRun) error {
	for _, r := range runs {
		if !r.live {
			continue
		}
		if _, r.live = r.next(); r.err != nil {
			return r.err
		}
	}
	return nil
}

func (it *facetIter) Close() error { return it.src.Close() }
