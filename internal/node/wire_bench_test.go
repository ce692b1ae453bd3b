package node

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/wire"
)

// BenchmarkWire sends commands over loopback from 16 connections to a node on disk, by clients
// that do no more than write and read: cpu-ns/op is what a command costs both together. What
// a row has above ping is the command's own. The lowest of some runs counts: -count 8.
func BenchmarkWire(b *testing.B) {
	const conns = 16
	n, err := Start(context.Background(), Config{DBPath: b.TempDir(), NoUnixSocket: true, AnyPort: true, CacheBytes: 1 << 30, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := n.Close(); err != nil {
			b.Error(err)
		}
	})
	pad := strings.Repeat("x", 950)
	for i := 0; i < benchDocs; i += 1000 {
		cmd := bson.NewBuilder(nil).Str("insert", "c").Array("documents")
		for j := range 1000 {
			cmd.AppendDoc("", bson.D("_id", i+j, "n", i+j, "pad", pad))
		}
		if _, err := n.Run(context.Background(), "bench", cmd.Finish()); err != nil {
			b.Fatal(err)
		}
	}
	lsid := bson.D("id", bson.UUID{1, 2, 3})
	next := 0
	rows := []struct {
		name string
		make func(r *rand.Rand, conn, i int) *wire.Msg
	}{
		{"ping", func(*rand.Rand, int, int) *wire.Msg {
			return &wire.Msg{Body: bson.D("ping", 1, "lsid", lsid, "$db", "admin")}
		}},
		{"findOne", func(r *rand.Rand, _, _ int) *wire.Msg {
			return &wire.Msg{Body: bson.D("find", "c", "filter", bson.D("_id", r.IntN(benchDocs)), "limit", 1, "singleBatch", true, "lsid", lsid, "$db", "bench")}
		}},
		{"updateOne", func(r *rand.Rand, _, i int) *wire.Msg {
			return &wire.Msg{Body: bson.D("update", "c", "ordered", true, "lsid", lsid, "$db", "bench"),
				Sequences: []wire.Docs{{ID: "updates", Docs: []bson.Raw{bson.D("q", bson.D("_id", r.IntN(benchDocs)), "u", bson.D("$set", bson.D("u", int64(i))))}}}}
		}},
		{"insertOne", func(_ *rand.Rand, _, i int) *wire.Msg {
			return &wire.Msg{Body: bson.D("insert", "ins", "ordered", true, "writeConcern", bson.D("w", 1), "lsid", lsid, "$db", "bench"),
				Sequences: []wire.Docs{{ID: "documents", Docs: []bson.Raw{bson.D("_id", i, "n", i, "pad", pad)}}}}
		}},
		{"range100", func(r *rand.Rand, _, _ int) *wire.Msg {
			lo := r.IntN(benchDocs - 100)
			return &wire.Msg{Body: bson.D("find", "c", "filter", bson.D("_id", bson.D("$gte", lo, "$lt", lo+100)), "sort", bson.D("_id", 1), "batchSize", 101, "lsid", lsid, "$db", "bench")}
		}},
	}
	for _, row := range rows {
		b.Run(row.name, func(b *testing.B) {
			msgs := make([][][]byte, conns)
			clients := make([]net.Conn, conns)
			r := rand.New(rand.NewPCG(uint64(b.N), 1))
			for i := range conns {
				nc, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n.Port()))
				if err != nil {
					b.Fatal(err)
				}
				clients[i] = nc
				defer nc.Close()
				for range b.N/conns + 1 {
					msgs[i] = append(msgs[i], row.make(r, i, next).Append(nil))
					next++
				}
			}
			b.ResetTimer()
			cpu := processorTime(b)
			var wg sync.WaitGroup
			for i, nc := range clients {
				wg.Go(func() {
					in := wire.NewReader(nc, wire.MaxMessageSize)
					for _, m := range msgs[i] {
						if _, err := nc.Write(m); err != nil {
							b.Error(err)
							return
						}
						if _, err := in.Next(); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(processorTime(b)-cpu)/float64(b.N), "cpu-ns/op")
		})
	}
}
