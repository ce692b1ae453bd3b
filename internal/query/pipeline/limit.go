package pipeline

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// limitStage is $limit.
type limitStage struct{ n int64 }

// skipStage is $skip.
type skipStage struct{ n int64 }

// stageNumber reads the whole number of $limit and $skip.
func stageNumber(name string, v bson.Value, code mongoerr.Code) (int64, error) {
	elem := name + ": " + expr.ToJSON(v)
	if !v.IsNumber() {
		return 0, mongoerr.New(code, "invalid argument to %s stage: Expected a number in: %s", name, elem)
	}
	n, ok := v.AsInt64()
	if !ok {
		if f, _ := v.AsFloat64(); f > 0 && f < 1<<63 {
			return 0, mongoerr.New(code, "invalid argument to %s stage: Expected an integer: %s", name, elem)
		}
		return 0, mongoerr.New(code, "invalid argument to %s stage: Cannot represent as a 64-bit integer: %s", name, elem)
	}
	if n < 0 {
		return 0, mongoerr.New(code, "invalid argument to %s stage: Expected a non-negative number in: %s", name, elem)
	}
	return n, nil
}

func parseLimit(_ *parser, name string, v bson.Value) ([]stage, error) {
	n, err := stageNumber(name, v, 5107201)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, mongoerr.New(15958, "the limit must be positive")
	}
	return []stage{&limitStage{n}}, nil
}

func parseSkip(_ *parser, name string, v bson.Value) ([]stage, error) {
	n, err := stageNumber(name, v, 5107200)
	if err != nil {
		return nil, err
	}
	return []stage{&skipStage{n}}, nil
}

func (s *limitStage) info() stageInfo            { return stageInfo{name: "$limit"} }
func (s *limitStage) optimize() (stage, error)   { return s, nil }
func (s *limitStage) deps(*expr.Deps) visibility { return seesInput }

func (s *limitStage) serialize(b *bson.Builder) { b.Doc("").Int64("$limit", s.n).End() }

func (s *limitStage) open(_ *Options, src Iterator) (Iterator, error) {
	return &limitIter{src, s.n}, nil
}

func (s *skipStage) info() stageInfo            { return stageInfo{name: "$skip"} }
func (s *skipStage) optimize() (stage, error)   { return s, nil }
func (s *skipStage) deps(*expr.Deps) visibility { return seesInput }

func (s *skipStage) serialize(b *bson.Builder) { b.Doc("").Int64("$skip", s.n).End() }

func (s *skipStage) open(o *Options, src Iterator) (Iterator, error) {
	return &skipIter{src, s.n, o}, nil
}

type limitIter struct {
	src  Iterator
	left int64
}

func (it *limitIter) Next(ctx context.Context) (bson.Raw, error) {
	if it.left == 0 {
		return nil, nil
	}
	it.left--
	return it.src.Next(ctx)
}

func (it *limitIter) Close() error { return it.src.Close() }

type skipIter struct {
	src  Iterator
	left int64
	o    *Options
}

func (it *skipIter) Next(ctx context.Context) (bson.Raw, error) {
	for ; it.left > 0; it.left-- {
		if it.left&127 == 0 {
			if err := it.o.interrupt(); err != nil {
				return nil, err
			}
		}
		if doc, err := it.src.Next(ctx); err != nil || doc == nil {
			return nil, err
		}
	}
	return it.src.Next(ctx)
}

func (it *skipIter) Close() error { return it.src.Close() }
