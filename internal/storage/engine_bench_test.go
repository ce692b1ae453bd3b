package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cairndb/cairn/internal/storage/journal"
)

// The benchmarks run on the real file system, in the test's directory.

const benchDocs = 300_000

// benchStride makes keys ascend (1) or scatter (a large odd number).
var benchStride uint64 = 1

var (
	benchRecords = RecordStore{Table{SpaceReplicated, 64}}
	benchID      = IndexStore{Table{SpaceReplicated, 65}, true}
)

// benchDocs1K are documents of 1 KB that compress about as real ones do; they
// are made once so that the benchmarks do not measure their making.
func benchDocs1K() [][]byte {
	docs := make([][]byte, 997)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range docs {
		var d []byte
		for len(d) < 1000 {
			d = fmt.Appendf(d, "field%d:%x;", len(d)%17, r.Uint32())
		}
		docs[i] = d[:1000]
	}
	return docs
}

func appendBenchKey(dst []byte, i int) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 0x2b), uint64(i)*benchStride)
}

func benchEngine(b *testing.B, o Options) *node {
	o.Dir, o.FS = b.TempDir(), vfs.Default
	if o.CacheBytes == 0 {
		o.CacheBytes = 1 << 30
	}
	return openNode(b, o)
}

// insert is a unit of n documents from number i on, journalled and applied.
type loader struct {
	*node
	docs    [][]byte
	payload []byte
	key     []byte
}

func newLoader(n *node) *loader { return &loader{node: n, docs: benchDocs1K()} }

func (n *loader) insert(i, docs int) {
	u := n.e.NewRecoveryUnit(nil)
	var recs [1]journal.Record
	payload := n.payload[:0]
	for j := i; j < i+docs; j++ {
		d := n.docs[j%len(n.docs)]
		id := RecordID(j + 1)
		benchRecords.Put(u, id, d)
		n.key = appendBenchKey(n.key[:0], j)
		benchID.Put(u, n.key, id, nil)
		payload = append(payload, d...)
	}
	n.payload = payload
	m := n.e.journal.Appended()
	recs[0] = journal.Record{Kind: journal.KindEntry, Index: m.Index + 1, TS: m.TS + 1, Payload: payload}
	end, err := n.e.journal.Append(recs[:])
	if err == nil {
		err = n.e.Apply(Mark{Pos: end, Index: m.Index + 1, TS: m.TS + 1}, u.WriteSet())
	}
	if err != nil {
		n.t.Fatal(err)
	}
	u.Commit(m.Index + 1)
}

func (n *loader) load(docs int) {
	for i := 0; i < docs; i += 500 {
		n.insert(i, min(500, docs-i))
	}
}

func benchInsert(b *testing.B, unit int) {
	n := newLoader(benchEngine(b, Options{}))
	b.ResetTimer()
	i := 0
	for b.Loop() {
		n.insert(i, unit)
		i += unit
	}
	b.StopTimer()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(i), "ns/doc")
	if err := n.e.Close(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkInsertUnitOf1(b *testing.B)   { benchInsert(b, 1) }
func BenchmarkInsertUnitOf500(b *testing.B) { benchInsert(b, 500) }

func BenchmarkLoaded(b *testing.B) {
	if os.Getenv("CAIRN_BENCH_LOADED") == "" && testing.Short() {
		b.Skip()
	}
	if s := os.Getenv("CAIRN_BENCH_SCATTER"); s != "" {
		benchStride = 0x9e3779b97f4a7c15
	}
	n := newLoader(benchEngine(b, Options{}))
	defer n.e.Close()
	start := time.Now()
	n.load(benchDocs)
	b.Logf("load: %v", time.Since(start))
	m := n.e.db.Metrics()
	b.Logf("after load: L0 %d files, %d sublevels, memtable %d MB, read amp %d, %d compactions",
		m.Levels[0].TablesCount, m.Levels[0].Sublevels, m.MemTable.Size>>20, m.ReadAmp(), m.Compact.Count)
	cold := func() {
		start := time.Now()
		benchScanOnce(b, n.e)
		b.Logf("first scan: %.2f Mdocs/s", benchDocs/time.Since(start).Seconds()/1e6)
	}
	cold()
	b.Run("scan after load", func(b *testing.B) { benchScan(b, n.e) })
	b.Run("get by id", func(b *testing.B) { benchGet(b, n.e) })
	if err := n.e.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := n.e.db.Compact(context.Background(), []byte{0}, []byte{0xff}, false); err != nil {
		b.Fatal(err)
	}
	b.Logf("settled: %s", n.e.Describe())
	cold()
	b.Run("scan settled", func(b *testing.B) { benchScan(b, n.e) })
	b.Run("get by id, settled", func(b *testing.B) { benchGet(b, n.e) })
}

// benchScan scans with a cursor and with Pebble's bare iterator in turn, so
// that both meet the same compactions, and reports the rate and the ratio.
func benchScan(b *testing.B, e *Engine) {
	var ours, raw time.Duration
	rows := 0
	for b.Loop() {
		start := time.Now()
		rows += benchScanOnce(b, e)
		between := time.Now()
		benchRawScan(e)
		ours, raw = ours+between.Sub(start), raw+time.Since(between)
	}
	b.ReportMetric(float64(rows)/ours.Seconds()/1e6, "Mdocs/s")
	b.ReportMetric(raw.Seconds()/ours.Seconds(), "of-raw")
}

func benchScanOnce(b *testing.B, r Reader) (rows int) {
	c := benchRecords.Cursor(r, Forward)
	sum := 0
	for c.Next() {
		sum += len(c.Value()) + int(c.RecordID()&1)
		rows++
	}
	if c.Err() != nil || rows != benchDocs {
		b.Fatal(c.Err(), rows)
	}
	c.Close()
	return rows
}

func benchRawScan(e *Engine) (sum int) {
	lo, hi := benchRecords.Bounds()
	it, _ := e.db.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		sum += len(it.Value())
	}
	return sum
}

func benchGet(b *testing.B, r Reader) {
	var buf, idbuf, key []byte
	idbuf = make([]byte, 64)
	for b.Loop() {
		key = appendBenchKey(key[:0], rand.IntN(benchDocs))
		id, _, err := benchID.Find(r, key, idbuf)
		if err != nil {
			b.Fatal(err)
		}
		if buf, err = benchRecords.Get(r, id, buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenEmpty is the engine's part of the time to the first ping.
func BenchmarkOpenEmpty(b *testing.B) {
	for b.Loop() {
		n := benchEngine(b, Options{CacheBytes: 4 << 30})
		if err := n.e.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBulkLoad loads an index of a million entries.
func BenchmarkBulkLoad(b *testing.B) {
	const entries = 1_000_000
	for b.Loop() {
		n := benchEngine(b, Options{})
		l := n.e.NewBulkLoader(benchID.Table, 64<<20)
		s := IndexStore{benchID.Table, false}
		var key []byte
		for i := range entries {
			key = appendBenchKey(key[:0], i*0x9e3779b9)
			if err := l.AddIndexEntry(s, key, RecordID(i+1), nil); err != nil {
				b.Fatal(err)
			}
		}
		if err := l.Load(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(l.Close(), n.e.Close()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*entries/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkColdScan scans a settled store whose files are in the page cache
// but whose blocks are not in the block cache.
func BenchmarkColdScan(b *testing.B) {
	o := Options{Dir: b.TempDir(), FS: vfs.Default, CacheBytes: 1 << 30}
	n := newLoader(openNode(b, o))
	n.load(benchDocs)
	if err := errors.Join(n.e.Flush(), n.e.Compact(benchRecords.Table), n.e.Close()); err != nil {
		b.Fatal(err)
	}
	rows := 0
	for b.Loop() {
		b.StopTimer()
		n := openNode(b, o)
		b.StartTimer()
		rows += benchScanOnce(b, n.e)
		b.StopTimer()
		if err := n.e.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds()/1e6, "Mdocs/s")
}
