package exec

import (
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/sortkey"
	"github.com/cairndb/cairn/internal/query/plan"
)

func benchDocs(n int) []bson.Raw {
	docs := make([]bson.Raw, n)
	pad := strings.Repeat("x", 900)
	for i := range docs {
		docs[i] = bson.D("_id", i, "k", i%1000, "n", (i*7919)%100003, "pad", pad)
	}
	return docs
}

func BenchmarkCollScanNoMatch(b *testing.B) {
	f := newFixture(b, benchDocs(20000))
	if err := f.e.Flush(); err != nil {
		b.Fatal(err)
	}
	filter, err := parseFilter(bson.D("k", -1))
	if err != nil {
		b.Fatal(err)
	}
	q := &plan.Query{Filter: filter}
	b.ReportAllocs()
	for b.Loop() {
		sols, _ := plan.Plan(q, nil)
		f.run(sols[0], filter, 1<<30)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/20000, "ns/doc")
}

func BenchmarkSortLimit(b *testing.B) {
	f := newFixture(b, benchDocs(20000))
	spec := bson.D("n", -1)
	pat, err := sortkey.Parse(spec)
	if err != nil {
		b.Fatal(err)
	}
	q := &plan.Query{Sort: pat, SortSpec: spec, Limit: 10}
	b.ReportAllocs()
	for b.Loop() {
		sols, _ := plan.Plan(q, nil)
		f.run(sols[0], nil, 1<<30)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/20000, "ns/doc")
}

func BenchmarkIndexFetch(b *testing.B) {
	f := newFixture(b, benchDocs(20000), bson.D("k", 1))
	filter, err := parseFilter(bson.D("k", 5))
	if err != nil {
		b.Fatal(err)
	}
	q := &plan.Query{Filter: filter}
	b.ReportAllocs()
	for b.Loop() {
		sols, _ := plan.Plan(q, f.ixs)
		f.run(sols[0], filter, 1<<30)
	}
}
