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
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// TestCrashDuringHistory crashes at random moments of a random history with DDL, with
// flushes in between and unsynced bytes surviving at random. What comes up is the state
// after some prefix of the log that holds everything synced: the same that a fresh store
// makes of that prefix.
func TestCrashDuringHistory(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			h := newHistory(openNode(t, fs), seed+1000)
			defer h.onFailure()
			r := rand.New(rand.NewPCG(seed, 9))
			type crash struct {
				fs     *vfs.MemFS
				synced int // entries that were safe
			}
			var crashes []crash
			synced := 0
			for i := range 240 {
				h.step()
				switch {
				case i%41 == 40:
					h.must(h.eng.Flush())
				case i%23 == 22:
					h.must(h.seq.Sync(ctx))
					synced = len(h.entries())
				case i%30 == 29:
					crashes = append(crashes, crash{fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r}), synced})
				}
			}
			log := h.entries()
			h.node.close()
			for i, c := range crashes {
				m := openNode(t, c.fs)
				m.waitBuilds()
				m.checkAll()
				own := m.entries()
				// A build that the crash interrupted has been finished since, with entries of its own.
				prefix := 0
				for prefix < len(own) && prefix < len(log) && string(own[prefix]) == string(log[prefix]) {
					prefix++
				}
				if prefix < c.synced {
					t.Fatalf("crash %d: %d entries are left of %d that were synced", i, prefix, c.synced)
				}
				f := follower(t, own)
				sameState(t, fmt.Sprintf("crash %d", i), m.logical(), f.logical())
				m.replay(own[len(own)/2:])
				sameState(t, fmt.Sprintf("crash %d, replayed", i), m.logical(), f.logical())
				m.close()
			}
		})
	}
}

// TestRecoveredCounters: after a crash the counters are exact without a scan.
func TestRecoveredCounters(t *testing.T) {
	fs := vfs.NewCrashableMem()
	n := openNode(t, fs)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 60 {
				id := g*1000 + i
				n.must(n.insert("db.c", bson.D("_id", id, "s", "text")))
				switch i % 3 {
				case 0:
					n.must(n.delete("db.c", id))
				case 1:
					n.must(n.update("db.c", bson.D("_id", id, "s", "longer text")))
				}
				if i == 30 && g == 0 {
					n.must(n.eng.Flush())
				}
			}
		})
	}
	wg.Wait()
	n.must(n.insert("local.c", bson.D("_id", 1), bson.D("_id", 2)))
	n.must(n.seq.Sync(ctx))
	clone := fs.CrashClone(vfs.CrashCloneCfg{})
	n.close()
	m := openNode(t, clone)
	defer m.close()
	if c := m.Pin().Lookup(nss("db.c")); c.Count() != 8*40 {
		t.Errorf("count %d", c.Count())
	}
	if c := m.Pin().Lookup(nss("local.c")); c.Count() != 2 {
		t.Errorf("count of the private collection: %d", c.Count())
	}
	m.checkAll()
}

// TestDDLWaitsForWriters: DDL does not begin before a unit on the collection has ended,
// gives up with its context, and keeps new writers out meanwhile.
func TestDDLWaitsForWriters(t *testing.T) {
	n := newNode(t)
	n.must(n.insert("db.c", bson.D("_id", 1)))
	c, grant, err := n.BeginWrite(ctx, nss("db.c"), false)
	n.must(err)
	cctx, cancel := context.WithCancelCause(ctx)
	gone := errors.New("gave up")
	cancel(gone)
	if _, err := n.Drop(cctx, nss("db.c")); !errors.Is(err, gone) {
		t.Fatalf("drop beside a writer: %v", err)
	}
	w := n.NewUnit()
	n.must(c.Insert(ctx, w, []bson.Raw{bson.D("_id", 2)}, nil))
	dropped := make(chan error)
	go func() {
		_, err := n.Drop(ctx, nss("db.c"))
		dropped <- err
	}()
	_, err = n.Commit(w)
	n.must(err)
	select {
	case err := <-dropped:
		t.Fatalf("dropped beside a writer: %v", err)
	default:
	}
	grant.Release()
	n.must(<-dropped)
	if !c.Dropped() || n.Pin().Lookup(nss("db.c")) != nil {
		t.Error("not dropped")
	}
}

// TestCappedNeverSkips: with many writers a reader of a capped collection who goes on
// behind the last RecordId it saw misses nothing.
func TestCappedNeverSkips(t *testing.T) {
	n := newNode(t)
	_, err := n.Create(ctx, nss("db.cap"), bson.D("capped", true, "size", 1<<20))
	n.must(err)
	const writers, each = 6, 80
	var wg sync.WaitGroup
	for g := range writers {
		wg.Go(func() {
			for i := range each {
				n.must(n.insert("db.cap", bson.D("_id", g*1000+i)))
			}
		})
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	c := n.Pin().Lookup(nss("db.cap"))
	var last storage.RecordID
	seen := 0
	for over := false; ; {
		cur, err := c.CursorRange(ctx, n.eng, storage.Forward, last+1, 0)
		n.must(err)
		for cur.Next() {
			last = cur.RecordID()
			seen++
		}
		n.must(errors.Join(cur.Err(), cur.Close()))
		if over {
			break
		}
		select {
		case <-finished:
			over = true
		default:
		}
	}
	if seen != writers*each {
		t.Errorf("saw %d of %d", seen, writers*each)
	}
}

// TestCappedEvictsUnderWriters: the limits hold after every unit, and each eviction is in
// the log.
func TestCappedEvictsUnderWriters(t *testing.T) {
	n := newNode(t)
	_, err := n.Create(ctx, nss("db.cap"), bson.D("capped", true, "size", 4096, "max", 10))
	n.must(err)
	_, err = n.CreateIndexes(ctx, nss("db.cap"), []bson.Raw{bson.D("key", bson.D("u", 1), "name", "u", "unique", true)})
	n.must(err)
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			for i := range 50 {
				id := g*1000 + i
				n.must(n.insert("db.cap", bson.D("_id", id, "u", id), bson.D("_id", id+500, "u", id+500)))
				if err := n.update("db.cap", bson.D("_id", id, "u", -id-1)); err != nil && !errors.Is(err, storage.ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if c := n.Pin().Lookup(nss("db.cap")); c.Count() != 10 {
		t.Errorf("%d documents", c.Count())
	}
	n.checkAll()
	f := follower(t, n.entries())
	sameState(t, "follower", f.dump(), n.dump())
}

// TestLogCollection: local.oplog.rs is read as a collection and written by nobody.
func TestLogCollection(t *testing.T) {
	n := newNode(t)
	n.must(n.insert("db.c", bson.D("_id", 1), bson.D("_id", 2)))
	for _, name := range []string{"local.oplog.rs", "local.oplog.$main"} {
		c, err := n.Resolve(nss(name))
		n.must(err)
		cur, err := c.Cursor(ctx, n.eng, storage.Forward)
		n.must(err)
		count := 0
		var last storage.RecordID
		for cur.Next() {
			count, last = count+1, cur.RecordID()
			if bson.Raw(cur.Value()).Get("ts").Timestamp() != oplog.Timestamp(last) {
				t.Error("the RecordId is not the ts")
			}
		}
		n.must(errors.Join(cur.Err(), cur.Close()))
		if count != 3 || c.Count() != 3 || !c.IsCapped() || !c.IsOplog() {
			t.Errorf("%s: %d entries, count %d", name, count, c.Count())
		}
		part, err := c.CursorRange(ctx, n.eng, storage.Backward, last, 0)
		n.must(err)
		if !part.Next() || part.RecordID() != last || part.Next() {
			t.Error("a bounded cursor leaves its bounds")
		}
		n.must(part.Close())
		if d, err := c.Get(n.eng, last, nil); err != nil || d.Get("op").Str() != "i" {
			t.Errorf("Get: %s, %v", d, err)
		}
		if err := c.Insert(ctx, n.NewUnit(), []bson.Raw{bson.D("_id", 1)}, nil); !mongoerr.Is(err, mongoerr.InvalidNamespace) {
			t.Errorf("insert: %v", err)
		}
	}
	if err := ValidateWritable(nss("local.oplog.$main")); !mongoerr.Is(err, mongoerr.InvalidNamespace) {
		t.Errorf("write: %v", err)
	}
	if got := fmt.Sprint(n.Databases()); got != "[db local]" {
		t.Errorf("databases %s", got)
	}
}
