package query

import (
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
)

func loaded(b *testing.B, n int) *server {
	s := newServer(b)
	s.index(`{"key": {"k": 1}, "name": "k_1"}`)
	pad := strings.Repeat("x", 900)
	for i := 0; i < n; i += 1000 {
		docs := make([]bson.Raw, 1000)
		for j := range docs {
			docs[j] = bson.D("_id", i+j, "k", (i+j)/10, "n", 0, "pad", pad)
		}
		s.insert(docs...)
	}
	return s
}

func BenchmarkFindByID(b *testing.B) {
	s := loaded(b, 10000)
	var buf []byte
	var out bson.Builder
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		out.Reset(buf[:0])
		if err := s.Find(newOp(), &FindRequest{NS: testNS, Filter: bson.D("_id", i%10000), Limit: 1, SingleBatch: true}, &out); err != nil {
			b.Fatal(err)
		}
		out.Finish()
		buf = out.Buffer()
	}
}

func BenchmarkFindByIDParallel(b *testing.B) {
	s := loaded(b, 10000)
	b.RunParallel(func(pb *testing.PB) {
		var buf []byte
		var out bson.Builder
		for i := 0; pb.Next(); i++ {
			out.Reset(buf[:0])
			if err := s.Find(newOp(), &FindRequest{NS: testNS, Filter: bson.D("_id", i*7%10000), Limit: 1, SingleBatch: true}, &out); err != nil {
				b.Fatal(err)
			}
			out.Finish()
			buf = out.Buffer()
		}
	})
}

func benchFind(b *testing.B, r func(i int) *FindRequest) {
	s := loaded(b, 10000)
	var buf []byte
	var out bson.Builder
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		out.Reset(buf[:0])
		q := r(i)
		q.NS = testNS
		if err := s.Find(newOp(), q, &out); err != nil {
			b.Fatal(err)
		}
		out.Finish()
		buf = out.Buffer()
	}
}

func BenchmarkFindByIndex10(b *testing.B) {
	benchFind(b, func(i int) *FindRequest { return &FindRequest{Filter: bson.D("k", i%1000)} })
}

func BenchmarkRange100(b *testing.B) {
	benchFind(b, func(i int) *FindRequest {
		return &FindRequest{Filter: bson.D("_id", bson.D("$gte", i%9000, "$lt", i%9000+100))}
	})
}

func BenchmarkFullScan10000(b *testing.B) {
	benchFind(b, func(i int) *FindRequest { return &FindRequest{Filter: bson.D("n", -1)} })
}

func BenchmarkInsertOne(b *testing.B) {
	s := newServer(b)
	pad := strings.Repeat("x", 900)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.insert(bson.D("_id", i, "k", i, "n", 0, "pad", pad))
	}
}

func BenchmarkInsertMany1000(b *testing.B) {
	s := newServer(b)
	pad := strings.Repeat("x", 900)
	docs := make([]bson.Raw, 1000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for j := range docs {
			docs[j] = bson.D("_id", i*1000+j, "k", i, "n", 0, "pad", pad)
		}
		s.insert(docs...)
	}
}

func BenchmarkUpdateOneInc(b *testing.B) {
	s := loaded(b, 1000)
	u := bson.D("$inc", bson.D("n", 1)).Value()
	b.ReportAllocs()
	for b.Loop() {
		rep, err := s.Update(newOp(), &UpdateRequest{NS: testNS, Updates: []UpdateStatement{{Q: bson.D("_id", 7), U: u}}})
		if err != nil || rep.N != 1 {
			b.Fatal(rep, err)
		}
	}
}

func BenchmarkUpdateMany10000(b *testing.B) {
	s := loaded(b, 10000)
	u := bson.D("$inc", bson.D("n", 1)).Value()
	b.ReportAllocs()
	for b.Loop() {
		rep, err := s.Update(newOp(), &UpdateRequest{NS: testNS, Updates: []UpdateStatement{{Q: bson.Empty, U: u, Multi: true}}})
		if err != nil || rep.N != 10000 {
			b.Fatal(rep, err)
		}
	}
}
