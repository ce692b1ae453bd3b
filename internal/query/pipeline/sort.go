package pipeline

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/eval/sortkey"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// sortStage is $sort, with the limit of a $limit behind it.
type sortStage struct {
	spec  bson.Raw
	pat   *sortkey.Pattern
	limit int64
}

func parseSort(ps *parser, _ string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeDocument {
		return nil, mongoerr.New(15973, "the $sort key specification must be an object")
	}
	if v.Doc().IsEmpty() {
		return nil, mongoerr.New(15976, "$sort stage must have at least one sort key")
	}
	pat, err := sortkey.Parse(v.Doc())
	if err != nil {
		return nil, err
	}
	pat.Collation = ps.o.collation()
	return []stage{&sortStage{spec: v.Doc(), pat: pat}}, nil
}

func (s *sortStage) info() stageInfo          { return stageInfo{name: "$sort"} }
func (s *sortStage) optimize() (stage, error) { return s, nil }

func (s *sortStage) serialize(b *bson.Builder) {
	b.Doc("").Doc("$sort").Doc("sortKey").AppendElems(s.pat.Serialize()).End()
	if s.limit > 0 {
		b.Int64("limit", s.limit)
	}
	b.End().End()
}

func (s *sortStage) deps(d *expr.Deps) visibility {
	for _, p := range s.pat.Parts {
		if p.Meta != "" {
			d.AddMeta(p.Meta)
			continue
		}
		d.AddPath(readPath(splitPath(p.Path)))
	}
	return seesInput
}

func (s *sortStage) open(o *Options, src Iterator) (Iterator, error) {
	return &sortIter{src: src, s: s, o: o, sorter: docSorter{o: o, stage: "Sort", limit: s.limit}}, nil
}

type sortIter struct {
	src    Iterator
	s      *sortStage
	o      *Options
	sorter docSorter
	filled bool
	key    sortkey.Key
	enc    []byte
}

func (it *sortIter) Next(ctx context.Context) (bson.Raw, error) {
	if !it.filled {
		it.filled = true
		if err := it.fill(ctx); err != nil {
			return nil, err
		}
	}
	return it.sorter.next()
}

func (it *sortIter) fill(ctx context.Context) error {
	parts := it.s.pat.Parts
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
			return it.sorter.finish()
		}
		if it.key, err = it.s.pat.KeyMeta(it.key, doc, it.o.env().Meta); err != nil {
			return err
		}
		it.enc = it.enc[:0]
		for i, v := range it.key {
			it.enc = keystring.Append(it.enc, it.o.collated(v), parts[i].Descending, nil)
		}
		if err := it.sorter.add(it.enc, doc); err != nil {
			return err
		}
	}
}

func (it *sortIter) Close() error {
	it.sorter.close()
	return it.src.Close()
}

// collation is that of the operation.
func (o *Options) collation() *collate.Collator {
	if o.Expr == nil {
		return nil
	}
	return o.Expr.Collation
}

// collated returns a value whose plain order is that of v under the collation.
func (o *Options) collated(v bson.Value) bson.Value { return o.collation().Value(v) }
