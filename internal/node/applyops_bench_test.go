package node

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/command"
)

// BenchmarkApplyOps replays oplog entries by applyOps, as mongorestore --oplogReplay and
// `cairn backup` do, from the request's bytes to the reply's. An operation is one entry.
func BenchmarkApplyOps(b *testing.B) {
	for _, bc := range []struct {
		name  string
		size  int
		every int // one insert in so many entries; the others update what was inserted
		of    int // entries a command
	}{
		{"inserts of 100 B, 1000 a command", 100, 1, 1000},
		{"inserts of 100 B, 5000 a command", 100, 1, 5000},
		{"inserts of 1 KB and updates, 1000 a command", 1000, 2, 1000},
		{"inserts of 100 B and deletes, 1000 a command", 100, -2, 1000},
	} {
		b.Run(bc.name, func(b *testing.B) { benchApplyOps(b, bc.size, bc.every, bc.of) })
	}
}

func benchApplyOps(b *testing.B, size, every, of int) {
	n, err := Start(context.Background(), Config{DBPath: b.TempDir(), NoTCP: true, NoUnixSocket: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	run := func(cmd bson.Raw) bson.Raw {
		var out bson.Builder
		out.Reset(nil)
		n.cmds.Handle(context.Background(), insideClient{}, command.Request{Body: cmd}, &out)
		reply := out.Finish()
		if ok, _ := reply.Get("ok").AsFloat64(); ok != 1 {
			b.Fatal(reply)
		}
		return reply
	}
	run(bson.D("create", "c", "$db", "bench"))
	list := run(bson.D("listCollections", 1, "$db", "bench"))
	uuid, _ := list.Path("cursor.firstBatch.0.info.uuid").UUID()
	pad := strings.Repeat("x", size-30)
	next, updated := 0, 0
	entry := func(i int) bson.Raw {
		switch {
		case i%2 == 1 && every == 2:
			updated++
			id := updated * 7919 % next
			return bson.D("op", "u", "ns", "bench.c", "ui", uuid, "o", bson.D("$v", 2, "diff", bson.D("u", bson.D("n", -updated))), "o2", bson.D("_id", id))
		case i%2 == 1 && every == -2:
			return bson.D("op", "d", "ns", "bench.c", "ui", uuid, "o", bson.D("_id", next-1))
		}
		next++
		return bson.D("op", "i", "ns", "bench.c", "ui", uuid, "o", bson.D("_id", next-1, "n", next, "pad", pad))
	}
	var cmd bson.Builder
	var buf []byte
	done := 0
	before := processorTime(b)
	b.ResetTimer()
	for done < b.N {
		b.StopTimer()
		start := processorTime(b)
		cmd.Reset(buf[:0])
		cmd.Array("applyOps")
		for i := range of {
			cmd.AppendDoc("", entry(i))
		}
		cmd.End().Str("$db", "admin")
		body := cmd.Finish()
		buf = cmd.Buffer()
		before += processorTime(b) - start
		b.StartTimer()
		if got, _ := run(body).Get("applied").AsInt64(); int(got) != of {
			b.Fatalf("%d entries applied of %d", got, of)
		}
		done += of
	}
	b.StopTimer()
	b.ReportMetric(float64(processorTime(b)-before)/float64(done), "cpu-ns/entry")
	b.ReportMetric(float64(done)/b.Elapsed().Seconds(), "entries/s")
	count := run(bson.D("count", "c", "$db", "bench")).Get("n")
	if got, _ := count.AsInt64(); every != -2 && int(got) != next {
		b.Fatalf("%d documents are there, want %d", got, next)
	}
}
