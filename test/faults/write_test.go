package faults

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/node"
)

const writers = 4

// fill writes with several clients at once until each has met an error or has
// written rounds documents, and returns the errors.
func fill(t *testing.T, n *node.Node, b *book, rounds, pad int) (errs []error) {
	ctx := limit(t)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				if err := b.write(ctx, n, 1+w+writers*(i%100), 10+i, pad); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return errs
}

// TestWriteFaults: from some moment on, one kind of write fails.
func TestWriteFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		match func(errorfs.Op) bool
		flush bool // it takes a checkpoint to meet the fault
	}{
		{"journal append", on("/journal/", both(isWrite, not(isSync))), false},
		{"journal sync", on("/journal/", isSync), false},
		{"flushed table", on(".sst", isWrite), true},
		{"flushed table's sync", on(".sst", isSync), true},
		{"MANIFEST", on("MANIFEST-", isWrite), true},
		{"MANIFEST's sync", on("MANIFEST-", isSync), true},
		{"everything", isWrite, false},
	} {
		for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EIO} {
			t.Run(fmt.Sprintf("%s %v", c.name, errno), func(t *testing.T) {
				mem := vfs.NewCrashableMem()
				f := &faulty{match: c.match, err: errno}
				n := start(t, f.wrap(mem))
				b := newBook()
				if errs := fill(t, n, b, 20, 100); len(errs) > 0 {
					t.Fatal(errs)
				}
				f.arm(0)
				ctx := limit(t)
				if c.flush {
					fill(t, n, b, 20, 100) // a flush has something to write
					if _, err := n.Run(ctx, "admin", bson.D("fsync", 1)); err == nil {
						t.Fatal("fsync succeeds")
					} else if err := named(err, errno.Error(), codeOf(errno)); err != nil {
						t.Errorf("fsync: %v", err)
					}
				}
				errs := fill(t, n, b, 1000, 1000)
				if len(errs) != writers {
					t.Fatalf("%d of %d writers met the fault (%d hits)", len(errs), writers, f.hits.Load())
				}
				for _, err := range errs {
					if err := named(err, errno.Error(), codeOf(errno)); err != nil {
						t.Error(err)
					}
				}
				refused(t, n, b, errno)
				crashed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(1, uint64(errno)))})
				if err := n.Close(); err == nil || !strings.Contains(err.Error(), errno.Error()) {
					t.Errorf("close says %v", err)
				}
				reopen(t, "after the close", mem, b)
				reopen(t, "after a crash", crashed, b)
			})
		}
	}
}

func codeOf(errno syscall.Errno) mongoerr.Code {
	if errno == syscall.ENOSPC {
		return mongoerr.OutOfDiskSpace
	}
	return mongoerr.OperationFailed
}

// refused checks a store that has failed: it says so, goes on reading, and refuses
// every kind of write with the cause.
func refused(t *testing.T, n *node.Node, b *book, errno syscall.Errno) {
	t.Helper()
	select {
	case <-n.Failed():
	default:
		t.Error("the node does not say that it failed")
	}
	if err := n.Failure(); err == nil || !strings.Contains(err.Error(), errno.Error()) {
		t.Errorf("the node's failure is %v", err)
	}
	ctx := limit(t)
	if err := b.verify(ctx, n); err != nil {
		t.Errorf("reading after the fault: %v", err)
	}
	for _, cmd := range []bson.Raw{
		bson.D("insert", "docs", "documents", bson.A(bson.D("_id", -1))),
		bson.D("insert", "new", "documents", bson.A(bson.D("_id", -1)), "ordered", false),
		bson.D("update", "docs", "updates", bson.A(bson.D("q", bson.D(), "u", bson.D("$inc", bson.D("n", 1)), "multi", true))),
		bson.D("delete", "docs", "deletes", bson.A(bson.D("q", bson.D(), "limit", 0))),
		bson.D("findAndModify", "docs", "query", bson.D("_id", 1), "remove", true),
		bson.D("create", "other"),
		bson.D("drop", "docs"),
		bson.D("dropDatabase", 1),
		bson.D("createIndexes", "docs", "indexes", bson.A(bson.D("key", bson.D("v", 1), "name", "v_1"))),
		bson.D("collMod", "docs", "validator", bson.D("v", bson.D("$gte", 0))),
		bson.D("aggregate", "docs", "pipeline", bson.A(bson.D("$out", "copy")), "cursor", bson.D()),
	} {
		reply, err := n.Run(ctx, "test", cmd)
		if err == nil {
			err = replyError(reply)
		}
		name, _ := cmd.First()
		if err == nil {
			t.Errorf("%s succeeds on a failed store", name)
		} else if err := named(err, errno.Error(), codeOf(errno)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, cmd := range []bson.Raw{
		bson.D("ping", 1), bson.D("hello", 1), bson.D("serverStatus", 1), bson.D("listCollections", 1),
		bson.D("count", "docs"), bson.D("aggregate", "docs", "pipeline", bson.A(bson.D("$group", bson.D("_id", nil, "n", bson.D("$sum", 1)))), "cursor", bson.D()),
	} {
		if _, err := n.Run(ctx, "test", cmd); err != nil {
			name, _ := cmd.First()
			t.Errorf("%s on a failed store: %v", name, err)
		}
	}
}

// TestFaultAnywhere fails one single write operation after the other, from the first
// of a start to the last of a close.
func TestFaultAnywhere(t *testing.T) {
	steps := int64(1)
	if testing.Short() {
		steps = 7
	}
	oneByOne(t, steps, func(t *testing.T, nth int64) (past bool) {
		mem := vfs.NewCrashableMem()
		f := &faulty{match: isWrite, err: syscall.ENOSPC, once: nth%2 == 0}
		f.arm(nth)
		b := newBook()
		n, err := node.Start(t.Context(), config(f.wrap(mem)))
		if err == nil {
			for _, err := range workload(t, n, b) {
				if err := named(err, "no space left", mongoerr.OutOfDiskSpace); err != nil {
					t.Error(err)
				}
			}
			err = n.Close()
		}
		if past = f.hits.Load() == 0; past {
			t.Logf("%d write operations in all", nth)
		}
		if err != nil && (past || !strings.Contains(err.Error(), "no space left")) {
			t.Errorf("start or close: %v", err)
		}
		f.armed.Store(false)
		crashed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 30, RNG: rand.New(rand.NewPCG(uint64(nth), 1))})
		reopen(t, "after the close", mem, b)
		reopen(t, "after a crash", crashed, b)
		return past
	})
}

// oneByOne runs fn for every step-th operation that may fail, until it says that there were fewer
// operations, or one fails. A subtest that -run leaves out says nothing, so that there is a bound.
func oneByOne(t *testing.T, step int64, fn func(t *testing.T, nth int64) (past bool)) {
	const bound = 10_000
	ran, past := int64(0), false
	for nth := int64(0); nth < bound && !past && !t.Failed(); nth += step {
		t.Run(fmt.Sprint(nth), func(t *testing.T) {
			ran++
			past = fn(t, nth)
		})
	}
	if ran*step >= bound {
		t.Errorf("more than %d operations: the end is never reached", bound)
	}
}

// workload does some of everything that writes and returns the errors.
func workload(t *testing.T, n *node.Node, b *book) (errs []error) {
	ctx := limit(t)
	run := func(db string, cmd bson.Raw) {
		reply, err := n.Run(ctx, db, cmd)
		if err == nil {
			err = replyError(reply)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	for i := range 5 {
		if err := b.write(ctx, n, i+1, i, 500); err != nil {
			errs = append(errs, err)
		}
	}
	run("test", bson.D("createIndexes", "docs", "indexes", bson.A(bson.D("key", bson.D("v", 1), "name", "v_1"))))
	run("test", bson.D("insert", "docs", "documents", bson.A(bson.D("_id", 100, "v", 1), bson.D("_id", 101, "v", 2))))
	run("admin", bson.D("fsync", 1))
	for i := range 5 {
		if err := b.write(ctx, n, i+1, 10+i, 500); err != nil {
			errs = append(errs, err)
		}
	}
	run("test", bson.D("delete", "docs", "deletes", bson.A(bson.D("q", bson.D("_id", bson.D("$gte", 100)), "limit", 0))))
	run("admin", bson.D("fsync", 1))
	return errs
}

// TestSmallDisk fills disks of several sizes to the last byte, under load.
func TestSmallDisk(t *testing.T) {
	for _, size := range []int64{20_000, 300_000, 1_000_003, 9_000_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			d := newSmallDisk(mem, size)
			b := newBook()
			n, err := node.Start(t.Context(), config(d))
			if err != nil {
				if !d.full.Load() || !strings.Contains(err.Error(), "no space left") {
					t.Fatalf("start: %v", err)
				}
				reopen(t, "after the failed start", mem, b)
				return
			}
			errs := fill(t, n, b, 1<<20, 2000)
			if len(errs) != writers {
				t.Fatalf("%d writers ended with an error", len(errs))
			}
			for _, err := range errs {
				if err := named(err, "no space left", mongoerr.OutOfDiskSpace); err != nil {
					t.Error(err)
				}
			}
			refused(t, n, b, syscall.ENOSPC)
			crashed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(2, uint64(size)))})
			if err := n.Close(); err == nil {
				t.Error("close says nothing of the failure")
			}
			reopen(t, "after the close", mem, b)
			reopen(t, "after a crash", crashed, b)
		})
	}
}

// A store that was being created when the disk became full opens from whatever of the directory a crash leaves.
func TestCrashAfterAnUnfinishedCreation(t *testing.T) {
	for nth, failed := int64(0), true; failed; nth++ {
		mem := vfs.NewCrashableMem()
		f := &faulty{match: isWrite, err: syscall.ENOSPC}
		f.arm(nth)
		n, err := node.Start(t.Context(), config(f.wrap(mem)))
		if failed = err != nil; !failed {
			_ = n.Close() // the disk is full; the first start that succeeds ends the test
		}
		f.armed.Store(false)
		for i := range uint64(12) {
			fs := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 30, RNG: rand.New(rand.NewPCG(uint64(nth), i))})
			n, err := node.Start(t.Context(), config(fs))
			if err != nil {
				t.Fatalf("after the failure of operation %d: %v", nth, err)
			}
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
