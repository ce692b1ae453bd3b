package source

import (
	"errors"
	"flag"
	"syscall"
	"testing"
	"time"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

var benchURI = flag.String("uri", "", "a server of its own for BenchmarkTail, so that the CPU time is the client's alone")

// BenchmarkTail reads 100,000 entries of inserts of about 100 bytes. cpu-µs/entry is the
// user and system time of this process: with -uri that of the capture alone.
func BenchmarkTail(b *testing.B) {
	uri := *benchURI
	if uri == "" {
		uri = cairntest.Start(b)
	}
	c := connect(b, uri)
	const n = 100_000
	s := open(b, c)
	from := newestOrNone(b, s)
	load := time.Now()
	fill(b, c, n)
	b.Logf("load: %v", time.Since(load))
	enough := errors.New("enough")
	var cpu time.Duration
	var size int64
	for b.Loop() {
		got := 0
		size = 0
		before := cpuTime(b)
		err := s.Tail(b.Context(), from, func(raw bson.Raw) error {
			size += int64(len(raw))
			if raw.Get("op").Str() == "i" {
				got++
			}
			if got == n {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			b.Fatal(err)
		}
		cpu += cpuTime(b) - before
	}
	b.SetBytes(size)
	b.ReportMetric(float64(cpu.Microseconds())/float64(b.N)/n, "cpu-µs/entry")
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

func newestOrNone(b *testing.B, s *Source) entry.OpTime {
	from, err := s.Newest(b.Context())
	if err != nil && !errors.Is(err, ErrEmpty) {
		b.Fatal(err)
	}
	return from
}

func fill(b testing.TB, c *mongo.Client, n int) {
	coll := c.Database("bench").Collection(dbson.NewObjectID().Hex())
	var docs []any
	for i := range n {
		docs = append(docs, dbson.D{{Key: "name", Value: "somebody"}, {Key: "gender", Value: "male"}, {Key: "age", Value: i % 100}, {Key: "pad", Value: "0123456789012345678"}})
		if len(docs) == 1000 {
			if _, err := coll.InsertMany(b.Context(), docs); err != nil {
				b.Fatal(err)
			}
			docs = docs[:0]
		}
	}
}

func cpuTime(b *testing.B) time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
