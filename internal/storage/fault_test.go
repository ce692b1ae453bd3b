package storage

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// faultFS fails the operations that match while on is set.
type faultFS struct {
	on    atomic.Bool
	hits  atomic.Int64
	match func(errorfs.Op) bool
	err   error
}

func (f *faultFS) wrap(fs vfs.FS) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if f.on.Load() && f.match(op) {
			f.hits.Add(1)
			return f.err
		}
		return nil
	}))
}

func writes(part string) func(errorfs.Op) bool {
	return func(op errorfs.Op) bool {
		return op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose && strings.Contains(op.Path, part)
	}
}

// TestWriteFaultMakesReadOnly: whatever background write fails, the store turns
// read-only with the cause, goes on reading, closes, and loses nothing.
func TestWriteFaultMakesReadOnly(t *testing.T) {
	for _, part := range []string{".sst", manifestPrefix, "db/engine", "db/journal"} {
		for _, how := range []string{"flush", "background"} {
			t.Run(part+" "+how, func(t *testing.T) {
				mem := vfs.NewMem()
				f := &faultFS{match: writes(part), err: syscall.ENOSPC}
				o := testOptions(f.wrap(mem))
				o.MemTableBytes = 64 << 10
				n := openNode(t, o)
				var acked int
				put := func(i int) error {
					_, err := n.commit(func(u *RecoveryUnit) {
						u.Set(tkey(fmt.Sprintf("%05d", i)), []byte(strings.Repeat("v", 1000)))
					})
					return err
				}
				for acked = range 20 {
					if err := put(acked); err != nil {
						t.Fatal(err)
					}
				}
				if err := n.e.Flush(); err != nil {
					t.Fatal(err)
				}
				f.on.Store(true)
				var err error
				if how == "flush" {
					err = n.e.Flush() // nothing new: the next one must write
					if err = errors.Join(err, put(acked+1)); err == nil {
						acked++
						err = n.e.Flush()
					}
				} else {
					for err == nil && acked < 100_000 {
						if err = put(acked + 1); err == nil {
							acked++
						}
					}
				}
				if part == "db/journal" && how == "background" && !errors.Is(err, ErrReadOnly) {
					n.e.Fail(err) // the append failed: the sequencer's duty
					_, err = n.commit(func(u *RecoveryUnit) { u.Set(tkey("x"), nil) })
				}
				if part == "db/journal" && errors.Is(err, syscall.ENOSPC) {
					n.e.Fail(err)
				} else if !errors.Is(err, ErrReadOnly) || !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("error is %v", err)
				}
				if err := n.e.Failure(); !errors.Is(err, ErrReadOnly) || !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("failure is %v", err)
				}
				for i := range acked + 1 {
					if _, err := n.e.Get(tkey(fmt.Sprintf("%05d", i)), nil); err != nil {
						t.Fatalf("read %d of %d after the failure: %v", i, acked, err)
					}
				}
				if err := n.e.Close(); !errors.Is(err, ErrReadOnly) {
					t.Fatalf("close: %v", err)
				}
				f.on.Store(false)
				if part == "db/journal" {
					return // what was not written to the journal is not there
				}
				n = openNode(t, testOptions(mem))
				for i := range acked + 1 {
					if _, err := n.e.Get(tkey(fmt.Sprintf("%05d", i)), nil); err != nil {
						t.Fatalf("read %d of %d after reopening: %v", i, acked, err)
					}
				}
				if err := n.e.Close(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// TestFailedStoreDoesNotSpin: after a failed flush nothing tries again and again.
func TestFailedStoreDoesNotSpin(t *testing.T) {
	f := &faultFS{match: writes(".sst"), err: syscall.ENOSPC}
	n := openNode(t, testOptions(f.wrap(vfs.NewMem())))
	n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey("a"), nil) })
	f.on.Store(true)
	if err := n.e.Flush(); !errors.Is(err, ErrReadOnly) {
		t.Fatal(err)
	}
	for range 1000 {
		runtime.Gosched()
	}
	if hits := f.hits.Load(); hits > 3 {
		t.Fatalf("%d attempts after the failure", hits)
	}
	n.e.Close()
}

func TestReadFaultIsAnError(t *testing.T) {
	mem := vfs.NewMem()
	n := openNode(t, testOptions(mem))
	for i := range 100 {
		n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey(fmt.Sprintf("%03d", i)), []byte(strings.Repeat("v", 1000))) })
	}
	if err := n.e.Close(); err != nil {
		t.Fatal(err)
	}
	f := &faultFS{err: syscall.EIO, match: func(op errorfs.Op) bool {
		return op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".sst")
	}}
	n = openNode(t, testOptions(f.wrap(mem)))
	f.on.Store(true)
	if _, err := n.e.Get(tkey("050"), nil); !errors.Is(err, syscall.EIO) {
		t.Fatalf("get: %v", err)
	}
	c := n.e.NewCursor(testTable.Bounds())
	if rows := count(c); rows == 100 || !errors.Is(c.Err(), syscall.EIO) {
		t.Fatalf("cursor: %d rows, %v", rows, c.Err())
	}
	c.Close()
	u := n.e.NewRecoveryUnit(nil)
	u.Set(tkey("999"), []byte("mine"))
	c = u.NewCursor(testTable.Bounds())
	if rows := count(c); rows >= 100 || !errors.Is(c.Err(), syscall.EIO) {
		t.Fatalf("merged cursor goes on over a read error: %d rows, %v", rows, c.Err())
	}
	c.Close()
	u.Rollback()
	f.on.Store(false)
	if _, err := n.e.Get(tkey("050"), nil); err != nil {
		t.Fatalf("get after the fault: %v", err)
	}
	if err := n.e.Close(); err != nil {
		t.Fatal(err)
	}
}

func count(c Cursor) (rows int) {
	for ok := c.First(); ok; ok = c.Next() {
		rows++
	}
	return rows
}

func TestCorruptTableIsMarked(t *testing.T) {
	mem := vfs.NewMem()
	n := openNode(t, testOptions(mem))
	for i := range 200 {
		n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey(fmt.Sprintf("%03d", i)), []byte(strings.Repeat("v", 1000))) })
	}
	if err := n.e.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := mem.List("db/engine")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			f, err := mem.OpenReadWrite("db/engine/"+name, vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("damaged"), 100); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
	}
	e, err := Open(testOptions(mem))
	if err == nil {
		_, err = e.Get(tkey("000"), nil)
		e.Crash()
	}
	if !errors.Is(err, ErrCorruption) {
		t.Fatalf("reading a damaged table: %v", err)
	}
}

func TestDirectoryIsLocked(t *testing.T) {
	for _, fs := range []vfs.FS{vfs.NewMem(), vfs.Default} {
		o := testOptions(fs)
		o.Dir = fs.PathJoin(t.TempDir(), "db")
		n := openNode(t, o)
		if _, err := Open(o); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), o.Dir) {
			t.Fatalf("second open: %v", err)
		}
		if err := n.e.Close(); err != nil {
			t.Fatal(err)
		}
		n = openNode(t, o)
		if err := n.e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVersionIsChecked(t *testing.T) {
	write := func(fs vfs.FS, name, s string) {
		if err := fs.MkdirAll(fs.PathDir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		f.Write([]byte(s))
		f.Close()
	}
	for _, c := range []struct{ name, file, text, want string }{
		{"newer", "db/VERSION", "cairn format 2\n", "newer cairn"},
		{"garbage", "db/VERSION", "hello", "hello"},
		{"zero", "db/VERSION", "cairn format 0\n", "format 0"},
		{"mongod", "db/WiredTiger", "WiredTiger\n", "mongod"},
		{"missing", "db/engine/x", "", "no VERSION"},
	} {
		fs := vfs.NewMem()
		write(fs, c.file, c.text)
		_, err := Open(testOptions(fs))
		if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := Open(Options{Dir: "none", FS: vfs.NewMem(), ReadOnly: true}); err == nil {
		t.Error("read-only open of nothing succeeds")
	}
}

func TestCloseLeavesNoGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(vfs.NewMem())
		o.CheckpointInterval = 0
		n := openNode(t, o)
		n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey("a"), []byte("1")) })
		before := n.e.ckpt.count.Load()
		<-time.After(61 * time.Second)
		synctest.Wait()
		if n.e.ckpt.count.Load() == before {
			t.Error("no checkpoint in 61 s")
		}
		if m, err := n.e.Checkpoint(); err != nil || m != n.e.Applied() {
			t.Errorf("checkpoint holds %+v (%v), applied is %+v", m, err, n.e.Applied())
		}
		if err := n.e.Close(); err != nil {
			t.Error(err)
		}
		// synctest fails the test if a goroutine of it is left.
	})
}

// TestStalledWriter: a writer that waits for flushes goes on when they do, and
// is let go with an error when the store fails.
func TestStalledWriter(t *testing.T) {
	for _, fails := range []bool{false, true} {
		gate := make(chan struct{})
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") {
				<-gate
			}
			return nil
		}))
		o := testOptions(fs)
		o.MemTableBytes = 256 << 10
		n := openNode(t, o)
		done := make(chan error, 1)
		stop := make(chan struct{})
		go func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				if _, err := n.commit(func(u *RecoveryUnit) { u.Set(tkey(fmt.Sprint(i%100)), make([]byte, 10_000)) }); err != nil {
					done <- err
					return
				}
			}
		}()
		for n.e.stall.stalls.Load() == 0 {
			runtime.Gosched()
		}
		if fails {
			n.e.Fail(syscall.EIO)
		}
		if !fails {
			close(gate)
			close(stop)
		}
		err := <-done
		if fails {
			close(gate)
		}
		if errors.Is(err, syscall.EIO) != fails {
			t.Fatalf("fails %v: the writer got %v", fails, err)
		}
		if err := n.e.Close(); (err != nil) != fails {
			t.Fatal(err)
		}
	}
}

// TestCompactionReadFault: a compaction that cannot read its input ends in a
// read-only store and not in a loop.
func TestCompactionReadFault(t *testing.T) {
	mem := vfs.NewMem()
	f := &faultFS{err: syscall.EIO, match: func(op errorfs.Op) bool {
		return op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".sst")
	}}
	n := openNode(t, testOptions(f.wrap(mem)))
	f.on.Store(true)
	for i := 0; n.e.Failure() == nil; i++ {
		// Overlapping tables, until Pebble compacts them.
		_, err := n.commit(func(u *RecoveryUnit) {
			u.Set(tkey("a"), fmt.Append(nil, i))
			u.Set(tkey("z"), fmt.Append(nil, i))
		})
		if err = errors.Join(err, n.e.Flush()); err != nil && !errors.Is(err, ErrReadOnly) {
			t.Fatal(err)
		}
		if i == 10_000 {
			t.Fatal("nothing was compacted")
		}
	}
	if err := n.e.Close(); !errors.Is(err, ErrReadOnly) || !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	n = openNode(t, testOptions(mem))
	if err := n.e.Close(); err != nil {
		t.Fatal(err)
	}
}
