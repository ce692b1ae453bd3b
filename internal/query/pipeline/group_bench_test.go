package pipeline

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
)

// benchDocs are documents of about 200 bytes.
func benchDocs(n, keys int) []bson.Raw {
	docs := make([]bson.Raw, n)
	for i := range docs {
		docs[i] = bson.D("_id", i, "k", fmt.Sprintf("key%05d", i%keys), "n", i%1000, "x", float64(i)*0.5, "pad", strings.Repeat("p", 130))
	}
	return docs
}

func benchmarkPipeline(b *testing.B, stages ...bson.Raw) {
	docs := benchDocs(20000, 100)
	h := &memHost{colls: map[string][]bson.Raw{"c": docs}}
	p, err := Parse(stages, testOptions(h, Namespace{"test", "c"}))
	if err != nil {
		b.Fatal(err)
	}
	if err := p.Optimize(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		it, err := p.Run(&sliceIter{docs})
		if err != nil {
			b.Fatal(err)
		}
		for {
			d, err := it.Next(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			if d == nil {
				break
			}
		}
		it.Close()
		n += len(docs)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "docs/s")
}

func BenchmarkGroupSumAvg(b *testing.B) {
	benchmarkPipeline(b, bson.D("$group", bson.D("_id", "$k", "s", bson.D("$sum", "$n"), "a", bson.D("$avg", "$x"))))
}

func BenchmarkProjectComputed(b *testing.B) {
	benchmarkPipeline(b, bson.D("$project", bson.D("k", 1, "t", bson.D("$add", bson.A("$n", "$x")))))
}

func BenchmarkMatchSortLimit(b *testing.B) {
	benchmarkPipeline(b, bson.D("$match", bson.D("n", bson.D("$gte", 100))), bson.D("$sort", bson.D("x", -1)), bson.D("$limit", 10))
}
