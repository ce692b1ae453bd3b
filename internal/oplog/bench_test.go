package oplog

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func benchNode(b *testing.B) *node {
	b.Helper()
	e, err := storage.Open(storage.Options{FS: vfs.Default, Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := e.Recover(context.Background(), replay); err != nil {
		b.Fatal(err)
	}
	s, err := NewSequencer(e, SequencerOptions{})
	if err != nil {
		b.Fatal(err)
	}
	n := &node{s, e}
	b.Cleanup(func() { n.close(b) })
	return n
}

// BenchmarkCommitEntry is the oplog's own part of a small write: a unit with
// one entry and no change of a table.
func BenchmarkCommitEntry(b *testing.B) {
	n := benchNode(b)
	doc := idBytes(1, 80)
	b.ReportAllocs()
	for b.Loop() {
		w := n.unit()
		w.Log(&Entry{Op: OpInsert, NS: "test.c", UUID: testUUID, O: doc, RID: 5})
		if _, err := n.Commit(w); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommitInsert adds the record.
func BenchmarkCommitInsert(b *testing.B) {
	n := benchNode(b)
	doc := idBytes(1, 80)
	b.ReportAllocs()
	for id := int64(1); b.Loop(); id++ {
		w := n.unit()
		insert(w, id, doc)
		if _, err := n.Commit(w); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommitInsert500 is a unit of 500 documents of 1 KB; the time is that
// of a document.
func BenchmarkCommitInsert500(b *testing.B) {
	n := benchNode(b)
	doc := idBytes(1, 1000)
	b.ReportAllocs()
	b.SetBytes(1000)
	var w *WriteUnit
	for id := int64(1); b.Loop(); id++ {
		if w == nil {
			w = n.unit()
		}
		insert(w, id, doc)
		if id%500 == 0 {
			if _, err := n.Commit(w); err != nil {
				b.Fatal(err)
			}
			w = nil
		}
	}
	if w != nil {
		w.Rollback()
	}
}

func benchParallel(b *testing.B, journaled bool) {
	n := benchNode(b)
	doc := idBytes(1, 80)
	var ids atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32) // times two cores: 64 writers
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w := n.unit()
			insert(w, ids.Add(1), doc)
			f, err := n.Commit(w)
			if err == nil && journaled {
				err = f.WaitJournaled(context.Background())
			}
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	m := n.Metrics()
	b.ReportMetric(float64(m.Units)/float64(m.Groups), "units/group")
	b.ReportMetric(m.AcksPerSync(), "acks/fsync")
}

func BenchmarkParallelApplied(b *testing.B)   { benchParallel(b, false) }
func BenchmarkParallelJournaled(b *testing.B) { benchParallel(b, true) }

func BenchmarkDecode(b *testing.B) {
	e := Entry{Op: OpInsert, NS: "test.c", UUID: testUUID, O: idBytes(1, 80), RID: 5}
	doc := bson.Raw(e.Append(nil))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(doc); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOplogSeek(b *testing.B) {
	n := benchNode(b)
	doc := idBytes(1, 80)
	var ts []Timestamp
	for range 50_000 {
		w := n.unit()
		w.Log(&Entry{Op: OpInsert, NS: "test.c", UUID: testUUID, O: doc, RID: 5})
		f, err := n.Commit(w)
		if err != nil {
			b.Fatal(err)
		}
		ts = append(ts, f.OpTime.TS)
	}
	l := openLog(b, n, LogOptions{})
	defer l.Close()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c := openCursor(b, l, storage.Forward)
		if want := ts[i*7919%len(ts)]; !c.SeekTS(want) || c.TS() != want {
			b.Fatal(c.Err())
		}
		_ = c.Close()
	}
}
