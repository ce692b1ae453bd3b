package catalog

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/storage"
)

// BenchmarkGetByID is the processor time of reads by _id in random order: the first pass over a
// collection that was just loaded (every document is read in once, most of them before they are
// asked for), and a later one, which the row cache answers.
func BenchmarkGetByID(b *testing.B) {
	const rows, unit = 100_000, 500
	docs := benchDocs(rows)
	var passes [2]time.Duration
	for range b.N {
		n, err := tryOpenStore(b, storage.Options{Dir: b.TempDir(), CacheBytes: 1 << 30})
		if err != nil {
			b.Fatal(err)
		}
		for i := 0; i < rows; i += unit {
			n.must(n.insert("db.c", docs[i:i+unit]...))
		}
		c, err := n.Resolve(nss("db.c"))
		n.must(err)
		n.must(errors.Join(n.eng.Compact(c.store.Table), n.eng.Compact(c.IDIndex().Store.Table)))
		order := rand.New(rand.NewPCG(1, 2)).Perm(rows)
		var dst []byte
		for p := range passes {
			runtime.GC()
			from := processTime()
			for _, i := range order {
				doc, err := c.GetByID(n.eng, docs[i].Get("_id"), dst)
				if err != nil || len(doc) != len(docs[i]) {
					b.Fatal(i, len(doc), err)
				}
				dst = doc
			}
			passes[p] += processTime() - from
		}
		n.close()
	}
	b.ReportMetric(float64(passes[0].Nanoseconds())/float64(b.N)/rows, "first-cpu-ns/read")
	b.ReportMetric(float64(passes[1].Nanoseconds())/float64(b.N)/rows, "again-cpu-ns/read")
}

func processTime() time.Duration {
	var ru syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
