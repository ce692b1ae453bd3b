package storage

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cairndb/cairn/internal/storage/journal"
)

// testTable is a replicated table of the tests.
var testTable = Table{SpaceReplicated, 100}

// node is an engine with the smallest possible sequencer and applier: an entry
// is the local-unit encoding of its write set, in any space.
type node struct {
	t testing.TB
	e *Engine
}

func testOptions(fs vfs.FS) Options {
	return Options{Dir: "db", FS: fs, CacheBytes: 8 << 20, CheckpointInterval: -1, NoSettle: true}
}

func openNode(t testing.TB, o Options) *node {
	t.Helper()
	n, err := tryOpenNode(t, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return n
}

func tryOpenNode(t testing.TB, o Options) (*node, error) {
	e, err := Open(o)
	if err != nil {
		return nil, err
	}
	n := &node{t: t, e: e}
	if _, err := e.Recover(context.Background(), n.replay); err != nil {
		e.Crash()
		return nil, err
	}
	return n, nil
}

// encodeEntry is a payload that replay understands: key length u8 | key | value
// (delete: value missing), for each operation.
func encodeEntry(w *WriteSet) []byte {
	var p []byte
	if _, err := w.each(0, func(op wsOp) error {
		p = append(p, byte(op.kind), byte(len(op.key)))
		p = append(p, op.key...)
		p = append(p, byte(len(op.value)>>16), byte(len(op.value)>>8), byte(len(op.value)))
		p = append(p, op.value...)
		return nil
	}); err != nil {
		panic(err)
	}
	return p
}

func decodeEntry(p []byte, u *RecoveryUnit) error {
	for len(p) > 0 {
		kind, n := opKind(p[0]), int(p[1])
		key := p[2 : 2+n]
		p = p[2+n:]
		vn := int(p[0])<<16 | int(p[1])<<8 | int(p[2])
		val := p[3 : 3+vn]
		p = p[3+vn:]
		switch kind {
		case opSet:
			u.Set(key, val)
		case opDelete:
			u.Delete(key)
		case opDeleteRange:
			u.DeleteRange(key, val)
		default:
			return fmt.Errorf("kind %d", kind)
		}
	}
	return nil
}

func (n *node) replay(u *RecoveryUnit, unit []journal.Record) error {
	for _, r := range unit {
		if err := decodeEntry(r.Payload, u); err != nil {
			return err
		}
	}
	u.adoptDrops()
	return nil
}

// append puts the unit in the journal, as parts records.
func (n *node) append(u *RecoveryUnit, parts int) (Mark, error) {
	m := n.e.journal.Appended()
	p := encodeEntry(u.WriteSet())
	var recs []journal.Record
	for i := range parts {
		// Only the last part says what to do; the others stand for the
		// entries of a chained unit.
		r := journal.Record{Kind: journal.KindEntry, More: i < parts-1, Index: m.Index + 1, TS: m.TS + 1}
		if i == parts-1 {
			r.Payload = p
		}
		m.Index, m.TS = r.Index, r.TS
		recs = append(recs, r)
	}
	end, err := n.e.journal.Append(recs)
	m.Pos = end
	return m, err
}

// commit runs one unit through journal and engine.
func (n *node) commit(fn func(u *RecoveryUnit)) (Mark, error) {
	u := n.e.NewRecoveryUnit(nil)
	fn(u)
	m, err := n.append(u, 1)
	if err == nil {
		err = n.e.Apply(m, u.ws)
	}
	if err != nil {
		u.Rollback()
		return m, err
	}
	u.Commit(m.Index)
	return m, nil
}

func (n *node) mustCommit(fn func(u *RecoveryUnit)) Mark {
	n.t.Helper()
	m, err := n.commit(fn)
	if err != nil {
		n.t.Fatalf("commit: %v", err)
	}
	return m
}

func tkey(s string) []byte { return testTable.AppendKey(nil, []byte(s)) }

// dump lists what a reader shows of the test table.
func dump(t testing.TB, r Reader) string {
	t.Helper()
	c := r.NewCursor(testTable.Bounds())
	s := ""
	for ok := c.First(); ok; ok = c.Next() {
		_, rest, _ := SplitKey(c.Key())
		s += fmt.Sprintf("%s=%s ", rest, c.Value())
	}
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

// reportCPU reports the processor time an operation from here to the call of what it
// returns: on a machine that is not idle that says more than the time on the wall.
func reportCPU(b *testing.B) func() {
	before := processorTime(b)
	b.ResetTimer()
	return func() { b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op") }
}

func processorTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
