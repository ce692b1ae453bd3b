package pipeline

import (
	"context"
	"time"

	"github.com/cairndb/cairn/internal/bson"
)

// StageStats is what one stage did in a run for explain.
type StageStats struct {
	Returned int64
	Elapsed  time.Duration // with the stages before it
}

// countingIter counts what a stage gives and how long it takes.
type countingIter struct {
	src Iterator
	st  *StageStats
}

func (it *countingIter) Next(ctx context.Context) (bson.Raw, error) {
	start := time.Now()
	doc, err := it.src.Next(ctx)
	it.st.Elapsed += time.Since(start)
	if doc != nil {
		it.st.Returned++
	}
	return doc, err
}

func (it *countingIter) Close() error { return it.src.Close() }

// RunStats runs the pipeline over source to its end, throws the results away and
// returns what each stage did. It must not be used on a pipeline that writes.
func (p *Pipeline) RunStats(ctx context.Context, source Iterator) ([]StageStats, error) {
	stats := make([]StageStats, len(p.stages))
	it := source
	if it == nil {
		it = emptyIterator{}
	}
	for i, s := range p.stages {
		next, err := s.open(p.o, it)
		if err != nil {
			it.Close()
			return nil, err
		}
		it = &countingIter{next, &stats[i]}
	}
	defer it.Close()
	for {
		if doc, err := it.Next(ctx); err != nil || doc == nil {
			return stats, err
		}
	}
}

// ExplainStats is Explain with the figures of RunStats.
func (p *Pipeline) ExplainStats(b *bson.Builder, stats []StageStats) {
	one := bson.NewArrayBuilder(nil)
	for i, s := range p.stages {
		one.Reset(one.Buffer()[:0])
		s.serialize(one)
		_, doc := one.Finish().First()
		b.Doc("").AppendElems(doc.Doc())
		b.Int64("nReturned", stats[i].Returned)
		b.Int64("executionTimeMillisEstimate", stats[i].Elapsed.Milliseconds())
		b.End()
	}
}
