package node

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// BenchmarkRecovery replays 200,000 inserted documents of 1 KB through the
// catalog, of which the engine holds nothing: the worst that a crash can leave
// of them.
func BenchmarkRecovery(b *testing.B) {
	for _, unit := range []int{1, 500} {
		b.Run(fmt.Sprintf("units of %d", unit), func(b *testing.B) { benchRecovery(b, unit) })
	}
}

func benchRecovery(b *testing.B, unit int) {
	const docs = 200_000
	ctx, o := context.Background(), storage.Options{Dir: b.TempDir(), CacheBytes: 1 << 30, CheckpointInterval: -1}
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	e, err := storage.Open(o)
	must(err)
	cat, err := catalog.Open(catalog.Options{Engine: e})
	must(err)
	_, err = cat.Recover(ctx)
	must(err)
	seq, err := oplog.NewSequencer(e, oplog.SequencerOptions{})
	must(err)
	must(cat.Start(seq, nil))
	ns, _ := catalog.ParseNamespace("bench.docs")
	rng, text := rand.New(rand.NewPCG(1, 2)), bytes.NewBuffer(nil)
	for text.Len() < 970 {
		fmt.Fprintf(text, "%x ", rng.Uint32())
	}
	for i := 0; i < docs; i += unit {
		c, grant, err := cat.BeginWrite(ctx, ns, true)
		must(err)
		w := cat.NewUnit()
		list := make([]bson.Raw, unit)
		for k := range list {
			list[k] = bson.D("_id", i+k, "s", text.String())
		}
		must(c.Insert(ctx, w, list, nil))
		_, err = cat.Commit(w)
		must(err)
		grant.Release()
	}
	must(seq.Sync(ctx))
	cat.Close()
	e.Crash()
	_ = seq.Close() // it cannot write any more

	var took time.Duration
	for b.Loop() {
		must(os.RemoveAll(filepath.Join(o.Dir, "engine")))
		e, err := storage.Open(o)
		must(err)
		cat, err := catalog.Open(catalog.Options{Engine: e})
		must(err)
		st, err := cat.Recover(ctx)
		must(err)
		if st.Entries < docs {
			b.Fatalf("%d entries replayed", st.Entries)
		}
		took += st.Took
		cat.Close()
		e.Crash()
	}
	b.ReportMetric(docs*float64(b.N)/took.Seconds(), "entries/s")
}
