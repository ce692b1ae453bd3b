package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

const loadedEntries = 3000

// loadTables fills testTable by a bulk load that makes files.
func loadTables(t *testing.T, e *Engine) error {
	l := e.NewBulkLoader(testTable, 1<<20)
	for i := range loadedEntries {
		if err := l.Add(fmt.Appendf(nil, "%08d", i*7919%loadedEntries), []byte("some value")); err != nil {
			return err
		}
	}
	return errors.Join(l.Load(t.Context(), nil), l.Close())
}

// countLoaded is the number of entries of testTable.
func countLoaded(t *testing.T, e *Engine) (n int) {
	t.Helper()
	lower, upper := testTable.Bounds()
	c := e.NewCursor(lower, upper)
	for ok := c.First(); ok; ok = c.Next() {
		n++
	}
	if err := errors.Join(c.Err(), c.Close()); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestIngestFault fails each write operation of a load in turn. One on a temporary file is
// the load's own error, one on the engine's files the store's end; either way nothing of the
// load is seen, then or after the next start, and nothing is left behind.
func TestIngestFault(t *testing.T) {
	for nth := int64(1); ; nth++ {
		mem := vfs.NewMem()
		var count atomic.Int64
		var failed atomic.Pointer[string]
		f := &faultFS{err: syscall.ENOSPC}
		f.match = func(op errorfs.Op) bool {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || op.Kind == errorfs.OpFileClose || count.Add(1) != nth {
				return false
			}
			failed.Store(&op.Path)
			return true
		}
		o := testOptions(f.wrap(mem))
		o.IngestBytes = 2 << 10
		n := openNode(t, o)
		n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey("other"), []byte("v")) })
		if err := n.e.Flush(); err != nil {
			t.Fatal(err)
		}
		before := countLoaded(t, n.e)
		f.on.Store(true)
		err := loadTables(t, n.e)
		f.on.Store(false)
		at := failed.Load()
		if at == nil { // all operations have had their turn
			if err != nil || countLoaded(t, n.e) != before+loadedEntries || nth < 10 {
				t.Fatalf("the load without a fault, after %d with one: %v", nth-1, err)
			}
			if err := n.e.Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
		if err == nil {
			// Where a link fails there is a copy; a failed removal takes nothing back.
			if got := countLoaded(t, n.e); got != before+loadedEntries {
				t.Fatalf("fault %d at %s: no error, and %d entries", nth, *at, got)
			}
		} else if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("fault %d at %s: %v", nth, *at, err)
		}
		if err != nil && n.e.Failure() == nil {
			if got := countLoaded(t, n.e); got != before {
				t.Fatalf("fault %d at %s: %d entries are there", nth, *at, got-before)
			}
			if names, _ := mem.List("db/tmp"); len(names) > 1 { // the removal may be what failed
				t.Fatalf("fault %d at %s: left %v", nth, *at, names)
			}
		}
		broken := n.e.Failure() != nil
		if cerr := n.e.Close(); (cerr != nil) != broken {
			t.Fatalf("fault %d at %s: close: %v", nth, *at, cerr)
		}
		n = openNode(t, testOptions(mem))
		if _, err := n.e.Get(tkey("other"), nil); err != nil {
			t.Fatalf("fault %d at %s: %v", nth, *at, err)
		}
		if got := countLoaded(t, n.e) - before; got != 0 && got != loadedEntries {
			t.Fatalf("fault %d at %s: %d entries after a restart", nth, *at, got)
		}
		if err := n.e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIngestCrash crashes at file operations of a load: all of it is there, or nothing.
func TestIngestCrash(t *testing.T) {
	for seed := range uint64(20) {
		mem := vfs.NewCrashableMem()
		r := rand.New(rand.NewPCG(seed, 9))
		var on atomic.Bool
		var clones []*vfs.MemFS
		o := testOptions(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if on.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && r.IntN(8) == 0 {
				clones = append(clones, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r}))
			}
			return nil
		})))
		o.IngestBytes = 2 << 10
		n := openNode(t, o)
		n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey("other"), []byte("v")) })
		if err := n.e.Flush(); err != nil {
			t.Fatal(err)
		}
		on.Store(true)
		if err := loadTables(t, n.e); err != nil {
			t.Fatal(err)
		}
		on.Store(false)
		clones = append(clones, mem.CrashClone(vfs.CrashCloneCfg{}))
		if err := n.e.Close(); err != nil {
			t.Fatal(err)
		}
		for i, c := range clones {
			m := openNode(t, testOptions(c))
			got := countLoaded(t, m.e) - 1
			if got != 0 && got != loadedEntries || i == len(clones)-1 && got == 0 {
				t.Fatalf("%d entries in clone %d of %d", got, i, len(clones))
			}
			if names, _ := c.List("db/tmp"); len(names) != 0 {
				t.Errorf("left in tmp: %v", names)
			}
			if err := m.e.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
