package node

import (
	"context"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/command"
)

const benchDocs = 10_000

// benchNode is a node in memory with benchDocs documents of 1 KB.
func benchNode(tb testing.TB) *Node {
	n, err := Start(context.Background(), Config{InMemory: true, NoTCP: true, NoUnixSocket: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := n.Close(); err != nil {
			tb.Error(err)
		}
	})
	pad := strings.Repeat("x", 950)
	for i := 0; i < benchDocs; i += 1000 {
		b := bson.NewBuilder(nil).Str("insert", "c").Array("documents")
		for j := range 1000 {
			b.AppendDoc("", bson.D("_id", i+j, "n", i+j, "pad", pad))
		}
		if _, err := n.Run(context.Background(), "bench", b.Finish()); err != nil {
			tb.Fatal(err)
		}
	}
	return n
}

// findOne is what a driver's findOne by _id sends.
func findOne(id int) bson.Raw {
	return bson.D("find", "c", "filter", bson.D("_id", id), "limit", 1, "singleBatch", true,
		"lsid", bson.D("id", bson.UUID{1, 2, 3}), "$db", "bench")
}

// findOnes are the requests for all documents.
func findOnes() []bson.Raw {
	reqs := make([]bson.Raw, benchDocs)
	for i := range reqs {
		reqs[i] = findOne(i)
	}
	return reqs
}

// finder runs findOne over and over, as one connection does.
func finder(tb testing.TB, n *Node, reqs []bson.Raw) func(id int) {
	var b bson.Builder
	var buf []byte
	return func(id int) {
		b.Reset(buf[:0])
		n.cmds.Handle(context.Background(), insideClient{}, command.Request{Body: reqs[id%benchDocs]}, &b)
		reply := b.Finish()
		buf = b.Buffer()
		if got, _ := reply.Path("cursor.firstBatch.0._id").AsInt64(); int(got) != id%benchDocs {
			tb.Errorf("asked for %d: %v", id%benchDocs, reply)
		}
	}
}

// A findOne by _id allocates 20 times at most, from the request's bytes to the reply's.
func TestFindOneAllocations(t *testing.T) {
	find := finder(t, benchNode(t), findOnes())
	i := 0
	if n := testing.AllocsPerRun(2000, func() { find(i); i++ }); n > 20 {
		t.Errorf("a findOne allocates %v times, want 20 at most", n)
	} else {
		t.Logf("%v allocations", n)
	}
}

func BenchmarkFindOne(b *testing.B) {
	find := finder(b, benchNode(b), findOnes())
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		find(i)
	}
}

// BenchmarkFindOneParallel run with -cpu 1,2 tells what a second goroutine adds. On a
// machine that is not idle only the processor time an operation does: what goroutines
// cost each other shows there too.
func BenchmarkFindOneParallel(b *testing.B) {
	n, reqs := benchNode(b), findOnes()
	b.ResetTimer()
	before := processorTime(b)
	defer func() { b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op") }()
	b.RunParallel(func(pb *testing.PB) {
		find := finder(b, n, reqs)
		for i := 0; pb.Next(); i++ {
			find(i * 7)
		}
	})
}

func processorTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkUpdateOne and BenchmarkInsertOne run what a driver's updateOne by _id with $set and insertOne send.
func BenchmarkUpdateOne(b *testing.B) {
	n := benchNode(b)
	reqs := make([]command.Request, benchDocs)
	for i := range reqs {
		reqs[i] = command.Request{
			Body:      bson.D("update", "c", "ordered", true, "lsid", bson.D("id", bson.UUID{1, 2, 3}), "$db", "bench"),
			Sequences: []command.Sequence{{Name: "updates", Docs: []bson.Raw{bson.D("q", bson.D("_id", i), "u", bson.D("$set", bson.D("u", int64(i))))}}},
		}
	}
	var out bson.Builder
	var buf []byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		out.Reset(buf[:0])
		n.cmds.Handle(context.Background(), insideClient{}, reqs[i*7%benchDocs], &out)
		if got, _ := out.Finish().Get("n").AsInt64(); got != 1 {
			b.Fatal(out.Finish())
		}
		buf = out.Buffer()
	}
}

func BenchmarkInsertOne(b *testing.B) {
	n := benchNode(b)
	pad := strings.Repeat("x", 950)
	body := bson.D("insert", "ins", "ordered", true, "writeConcern", bson.D("w", 1), "lsid", bson.D("id", bson.UUID{1, 2, 3}), "$db", "bench")
	var doc, out bson.Builder
	var buf []byte
	docs := make([]bson.Raw, 1)
	seq := []command.Sequence{{Name: "documents", Docs: docs}}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		out.Reset(buf[:0])
		doc.Reset(doc.Buffer()[:0])
		docs[0] = doc.Int32("_id", int32(i)).Str("pad", pad).Finish()
		n.cmds.Handle(context.Background(), insideClient{}, command.Request{Body: body, Sequences: seq}, &out)
		if got, _ := out.Finish().Get("n").AsInt64(); got != 1 {
			b.Fatal(out.Finish())
		}
		buf = out.Buffer()
	}
}
