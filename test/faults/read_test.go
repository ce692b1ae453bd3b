package faults

import (
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/node"
)

// stored is a closed store with some MB in tables.
func stored(t *testing.T, b *book) *vfs.MemFS {
	t.Helper()
	mem := vfs.NewCrashableMem()
	n := start(t, mem)
	ctx := limit(t)
	if _, err := n.Run(ctx, "test", bson.D("createIndexes", "docs", "indexes", bson.A(bson.D("key", bson.D("v", 1), "name", "v_1")))); err != nil {
		t.Fatal(err)
	}
	for id := range 400 {
		if err := b.write(ctx, n, id, id, 10_000); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	return mem
}

// TestReadFaults: tables cannot be read for a while. Commands that need them fail
// with the cause, those that do not go on, and nothing is damaged.
func TestReadFaults(t *testing.T) {
	b := newBook()
	mem := stored(t, b)
	f := &faulty{match: on(".sst", isRead), err: syscall.EIO}
	n := start(t, f.wrap(mem))
	ctx := limit(t)
	f.arm(0)
	multi := func(u bson.Raw) bson.Raw {
		return bson.D("update", "docs", "updates", bson.A(bson.D("q", bson.D(), "u", u, "multi", true)))
	}
	for _, cmd := range []bson.Raw{
		bson.D("find", "docs", "batchSize", 1000),
		bson.D("find", "docs", "filter", bson.D("_id", 200)),
		bson.D("find", "docs", "filter", bson.D("v", bson.D("$gte", 100)), "batchSize", 1000),
		bson.D("count", "docs", "query", bson.D("pad", "x")),
		bson.D("aggregate", "docs", "pipeline", bson.A(bson.D("$sort", bson.D("pad", 1))), "cursor", bson.D()),
		multi(bson.D("$set", bson.D("w", 1))),
		bson.D("delete", "docs", "deletes", bson.A(bson.D("q", bson.D("pad", "x"), "limit", 0))),
		bson.D("findAndModify", "docs", "query", bson.D("_id", 300), "update", bson.D("$set", bson.D("w", 1))),
		bson.D("createIndexes", "docs", "indexes", bson.A(bson.D("key", bson.D("w", 1), "name", "w_1"))),
		bson.D("dbHash", 1),
	} {
		reply, err := n.Run(ctx, "test", cmd)
		if err == nil {
			err = replyError(reply)
		}
		name, _ := cmd.First()
		if err == nil {
			t.Errorf("%s succeeds without reading: %v", name, reply)
		} else if err := named(err, syscall.EIO.Error(), mongoerr.FileStreamFailed, mongoerr.OperationFailed); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	r, err := n.Run(ctx, "test", bson.D("validate", "docs", "full", true))
	if err == nil && r.Get("valid").Bool() {
		t.Error("validate finds a collection sound that it cannot read")
	}
	if f.hits.Load() == 0 {
		t.Fatal("no fault was met")
	}
	f.armed.Store(false)
	if n.Failure() == nil {
		if err := sound(ctx, n, b); err != nil {
			t.Errorf("after the fault: %v", err)
		}
	}
	if err := n.Close(); err != nil && !strings.Contains(err.Error(), syscall.EIO.Error()) {
		t.Errorf("close: %v", err)
	}
	reopen(t, "healthy again", mem, b)
}

// TestLogReadFault: the journal's files cannot be read; only readers of the log notice.
func TestLogReadFault(t *testing.T) {
	b := newBook()
	mem := stored(t, b)
	f := &faulty{match: on("/journal/", isRead), err: syscall.EIO}
	n := start(t, f.wrap(mem))
	ctx := limit(t)
	f.arm(0)
	if _, err := all(ctx, n, "local", "oplog.rs"); err == nil {
		t.Error("the log is read from nowhere")
	} else if err := named(err, syscall.EIO.Error(), mongoerr.FileStreamFailed); err != nil {
		t.Error(err)
	}
	if err := b.write(ctx, n, 1, 1000, 10); err != nil {
		t.Errorf("a write needs no look into the log: %v", err)
	}
	if err := b.verify(ctx, n); err != nil {
		t.Error(err)
	}
	f.armed.Store(false)
	if err := sound(ctx, n, b); err != nil {
		t.Errorf("after the fault: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestStartReadFaults fails one read after the other while a crashed store starts:
// the start fails with the cause, or does without, and the next one succeeds.
func TestStartReadFaults(t *testing.T) {
	mem := vfs.NewCrashableMem()
	b := newBook()
	n := start(t, mem)
	workload(t, n, b)
	ctx := limit(t)
	for i := range 20 {
		if err := b.write(ctx, n, i+1, 1000+i, 500); err != nil {
			t.Fatal(err)
		}
	}
	image := mem.CrashClone(vfs.CrashCloneCfg{})
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	oneByOne(t, 1, func(t *testing.T, nth int64) (past bool) {
		fs := image.CrashClone(vfs.CrashCloneCfg{})
		f := &faulty{match: isRead, err: syscall.EIO, once: true}
		f.arm(nth)
		n, err := node.Start(t.Context(), config(f.wrap(fs)))
		f.armed.Store(false)
		past = f.hits.Load() == 0
		if err == nil {
			if err := b.verify(ctx, n); err != nil {
				t.Error(err)
			}
			err = n.Close()
		}
		if err != nil && (past || !strings.Contains(err.Error(), syscall.EIO.Error())) {
			t.Errorf("start or close: %v", err)
		}
		reopen(t, "healthy again", fs, b)
		return past
	})
}
