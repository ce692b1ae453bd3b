package pipeline

import (
	"context"
	"encoding/binary"
	"math"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// sampleStage is $sample: the first documents of a random order.
type sampleStage struct{ size int64 }

func parseSample(_ *parser, _ string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeDocument {
		return nil, mongoerr.New(28745, "the $sample stage specification must be an object")
	}
	s := &sampleStage{}
	for k, e := range v.Doc().Elems() {
		if k != "size" {
			return nil, mongoerr.New(28748, "unrecognized option to $sample: %s", k)
		}
		if !e.IsNumber() {
			return nil, mongoerr.New(28746, "size argument to $sample must be a number")
		}
		f, _ := e.AsFloat64()
		if s.size = int64(f); f <= 0 || s.size < 1 {
			return nil, mongoerr.New(28747, "size argument to $sample must be a positive integer")
		}
	}
	if s.size == 0 {
		return nil, mongoerr.New(28749, "$sample stage must specify a size")
	}
	return []stage{s}, nil
}

func (s *sampleStage) info() stageInfo          { return stageInfo{name: "$sample"} }
func (s *sampleStage) optimize() (stage, error) { return s, nil }

func (s *sampleStage) deps(d *expr.Deps) visibility {
	d.Impure = true
	return seesInput
}

func (s *sampleStage) serialize(b *bson.Builder) {
	b.Doc("").Doc("$sample").Int64("size", s.size).End().End()
}

func (s *sampleStage) open(o *Options, src Iterator) (Iterator, error) {
	if o.env().Rand == nil {
		return nil, mongoerr.New(mongoerr.InternalError, "$sample has no source of random numbers here")
	}
	return &sampleIter{src: src, o: o, sorter: docSorter{o: o, stage: "$sample", limit: s.size}}, nil
}

type sampleIter struct {
	src    Iterator
	o      *Options
	sorter docSorter
	filled bool
}

func (it *sampleIter) Next(ctx context.Context) (bson.Raw, error) {
	var key [8]byte
	for n := 0; !it.filled; n++ {
		if n&127 == 127 {
			if err := it.o.interrupt(); err != nil {
				return nil, err
			}
		}
		doc, err := it.src.Next(ctx)
		if err != nil {
			return nil, err
		}
		if doc == nil {
			it.filled = true
			if err := it.sorter.finish(); err != nil {
				return nil, err
			}
			break
		}
		// Numbers in [0, 1) are ordered as their bits are.
		binary.BigEndian.PutUint64(key[:], math.Float64bits(it.o.Env.Rand()))
		if err := it.sorter.add(key[:], doc); err != nil {
			return nil, err
		}
	}
	return it.sorter.next()
}

func (it *sampleIter) Close() error {
	it.sorter.close()
	return it.src.Close()
}
