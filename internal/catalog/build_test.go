package catalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/storage"
)

// fillColl inserts n documents {_id, u, x} in large units.
func (n *node) fillColl(ns string, count int) {
	n.t.Helper()
	var docs []bson.Raw
	for i := range count {
		docs = append(docs, bson.D("_id", i, "u", i, "x", bson.A(i%7, "t")))
		if len(docs) == 500 || i == count-1 {
			n.must(n.insert(ns, docs...))
			docs = docs[:0]
		}
	}
}

// writers runs goroutines that write to ns until stop is closed.
func (n *node) writers(ns string, count, base int, stop chan struct{}) *sync.WaitGroup {
	var wg sync.WaitGroup
	for g := range count {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 7))
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				var err error
				switch id := r.IntN(base); r.IntN(4) {
				case 0:
					k := base + g*1_000_000 + i
					err = n.insert(ns, bson.D("_id", k, "u", k, "x", bson.A(i)))
				case 1:
					err = n.update(ns, bson.D("_id", id, "u", id, "x", bson.A(i, g, "z")))
				case 2:
					err = n.delete(ns, id)
				default: // takes another's key for a moment
					if err = n.delete(ns, id); err == nil {
						err = n.insert(ns, bson.D("_id", id, "u", id, "x", i))
					}
				}
				if err != nil && !errors.Is(err, storage.ErrNotFound) && !mongoerr.Is(unwrapDoc(err), mongoerr.DuplicateKey) {
					n.t.Error(err)
					return
				}
			}
		})
	}
	return &wg
}

// TestUniqueBuildUnderWriters: 16 writers during the build of two indexes, one unique;
// afterwards every index is right and the log explains all of it.
func TestUniqueBuildUnderWriters(t *testing.T) {
	n := newNode(t)
	const base = 2000
	n.fillColl("db.c", base)
	stop := make(chan struct{})
	wg := n.writers("db.c", 16, base, stop)
	res, err := n.CreateIndexes(ctx, nss("db.c"), []bson.Raw{
		bson.D("key", bson.D("u", 1), "name", "u_1", "unique", true),
		bson.D("key", bson.D("x", 1, "_id", -1), "name", "x"),
	})
	close(stop)
	wg.Wait()
	n.must(err)
	if res.Before != 1 || res.After != 3 || res.Future == nil {
		t.Errorf("result %+v", res)
	}
	n.checkAll()
	if ix := n.Pin().Lookup(nss("db.c")).Index("x"); !ix.Multikey() || fmt.Sprint(ix.MultikeyPaths()) != "[[0] []]" {
		t.Errorf("multikey paths %v", ix.MultikeyPaths())
	}
	f := follower(t, n.entries())
	sameState(t, "follower", f.logical(), n.logical())
	sameState(t, "follower", f.dump(), n.dump())
}

func TestUniqueBuildFails(t *testing.T) {
	for name, count := range map[string]int{"beside writers": 1000, "at once": smallCount - 1} {
		t.Run(name, func(t *testing.T) { testUniqueBuildFails(t, count) })
	}
}

func testUniqueBuildFails(t *testing.T, count int) {
	n := openNode(t, vfs.NewMem())
	n.fillColl("db.c", count)
	n.must(n.insert("db.c", bson.D("_id", "twice", "u", 17)))
	_, err := n.CreateIndexes(ctx, nss("db.c"), []bson.Raw{bson.D("key", bson.D("u", 1), "name", "u_1", "unique", true)})
	e, _ := mongoerr.As(err)
	if e == nil || e.Message != "E11000 duplicate key error collection: db.c index: u_1 dup key: { u: 17 }" {
		t.Fatalf("got %v", err)
	}
	if ix := n.Pin().Lookup(nss("db.c")).Index("u_1"); ix != nil {
		t.Error("the index is still there")
	}
	last := n.entries()[len(n.entries())-1]
	if name, _ := last.Get("o").Doc().First(); name != "abortIndexBuild" {
		t.Errorf("the last entry is %s", last)
	}
	n.must(n.delete("db.c", "twice"))
	_, err = n.CreateIndexes(ctx, nss("db.c"), []bson.Raw{bson.D("key", bson.D("u", 1), "name", "u_1", "unique", true)})
	n.must(err)
	n.checkAll()
	f := follower(t, n.entries())
	sameState(t, "follower", f.dump(), n.dump())
	n = n.reopen()
	n.checkAll()
	if ix := n.Pin().Lookup(nss("db.c")).Index("u_1"); ix == nil || ix.Building() {
		t.Error("the index is gone after a restart")
	}
	n.close()
}

// TestSmallBuildEntries: a build that is done at once has the entries of any other.
func TestSmallBuildEntries(t *testing.T) {
	n := newNode(t)
	n.fillColl("db.c", 10)
	before := len(n.entries())
	res, err := n.CreateIndexes(ctx, nss("db.c"), []bson.Raw{bson.D("key", bson.D("x", 1), "name", "x_1"), bson.D("key", bson.D("u", -1), "name", "u_-1")})
	n.must(err)
	var names []string
	for _, e := range n.entries()[before:] {
		o := e.Get("o").Doc()
		name, _ := o.First()
		names = append(names, name)
		if k := o.Get("indexes").Doc().Len(); k != 2 {
			t.Errorf("entry of %d indexes: %s", k, e)
		}
	}
	if fmt.Sprint(names) != "[startIndexBuild commitIndexBuild]" || res.Future == nil || res.After != 3 {
		t.Errorf("entries %v, result %+v", names, res)
	}
	n.checkAll()
	if len(n.Builds()) != 0 {
		t.Error("a build is left")
	}
}

// pausedBuild starts a build that stops in the middle of its scan; go on by closing the channel.
func pausedBuild(n *node, ns string, spec bson.Raw) (*buildState, func()) {
	n.t.Helper()
	d, err := n.beginDDL(ctx)
	n.must(err)
	parsed, err := ParseIndexSpec(spec)
	n.must(err)
	b, _, err := n.planIndexes(d, nss(ns), []*IndexSpec{parsed}, &CreateIndexesResult{}, false)
	n.must(err)
	d.end()
	return b, func() { n.startBuild(b) }
}

func TestBuildIsInterruptedOrResumed(t *testing.T) {
	spec := bson.D("key", bson.D("u", 1), "name", "u_1", "unique", true)
	t.Run("ctx", func(t *testing.T) {
		n := newNode(t)
		n.fillColl("db.c", 2000)
		cctx, cancel := context.WithCancelCause(ctx)
		cancel(mongoerr.New(mongoerr.Interrupted, "operation was interrupted"))
		if _, err := n.CreateIndexes(cctx, nss("db.c"), []bson.Raw{spec}); !mongoerr.Is(err, mongoerr.Interrupted) {
			t.Errorf("got %v", err)
		}
		n.checkAll()
	})
	t.Run("drop", func(t *testing.T) {
		n := newNode(t)
		n.fillColl("db.c", 2000)
		b, run := pausedBuild(n, "db.c", spec)
		_, err := n.Drop(ctx, nss("db.c"))
		n.must(err)
		run()
		if err := b.wait(ctx); !mongoerr.Is(err, mongoerr.IndexBuildAborted) {
			t.Errorf("got %v", err)
		}
		f := follower(t, n.entries())
		sameState(t, "follower", f.dump(), n.dump())
	})
	t.Run("rename", func(t *testing.T) {
		n := newNode(t)
		n.fillColl("db.c", 2000)
		b, run := pausedBuild(n, "db.c", spec)
		_, err := n.Rename(ctx, nss("db.c"), nss("db.d"), RenameOptions{})
		n.must(err)
		run()
		n.must(b.wait(ctx))
		n.checkAll()
		f := follower(t, n.entries())
		sameState(t, "follower", f.dump(), n.dump())
	})
	t.Run("restart", func(t *testing.T) {
		n := openNode(t, vfs.NewMem())
		n.fillColl("db.c", 2000)
		pausedBuild(n, "db.c", spec)
		n.must(n.insert("db.c", bson.D("_id", "new", "u", "new")))
		n = n.reopen()
		defer n.close()
		n.waitBuilds()
		if ix := n.Pin().Lookup(nss("db.c")).Index("u_1"); ix == nil || ix.Building() {
			t.Fatal("the build was not resumed")
		}
		n.checkAll()
	})
}

// waitBuilds returns when no index build runs.
func (n *node) waitBuilds() {
	for {
		n.builds.mu.Lock()
		var b *buildState
		for _, b = range n.builds.mu.running {
			break
		}
		n.builds.mu.Unlock()
		if b == nil {
			return
		}
		_ = b.wait(ctx)
	}
}

// TestCrashDuringBuild crashes at random moments of a build under writers: recovery ends
// with the index right, being built anew, or gone, and never with half of it.
func TestCrashDuringBuild(t *testing.T) {
	for seed := range uint64(4) {
		fs := vfs.NewCrashableMem()
		n := openNode(t, fs)
		const base = 600
		n.fillColl("db.c", base)
		stop := make(chan struct{})
		wg := n.writers("db.c", 4, base, stop)
		var clones []*vfs.MemFS
		r := rand.New(rand.NewPCG(seed, 3))
		done := make(chan error)
		go func() {
			_, err := n.CreateIndexes(ctx, nss("db.c"), []bson.Raw{bson.D("key", bson.D("u", 1), "name", "u_1", "unique", true), bson.D("key", bson.D("x", 1), "name", "x_1")})
			done <- err
		}()
		take := func() {
			clones = append(clones, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r}))
		}
		for running := true; running; {
			select {
			case err := <-done:
				n.must(err)
				running = false
			default:
			}
			if len(clones) < 6 {
				take()
			} else {
				n.must(<-done)
				running = false
			}
		}
		take()
		close(stop)
		wg.Wait()
		n.must(n.seq.Sync(ctx))
		take()
		n.close()
		for i, c := range clones {
			m := openNode(t, c)
			m.waitBuilds()
			m.checkAll()
			if coll := m.Pin().Lookup(nss("db.c")); i == len(clones)-1 && (coll == nil || coll.Index("u_1") == nil || coll.Index("u_1").Building()) {
				t.Error("a committed index is gone after a crash behind a sync")
			}
			m.close()
		}
	}
}
