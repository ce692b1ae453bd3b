package catalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

func entryOf(n *node, op oplog.Op, ns string, o, o2 bson.Raw) *oplog.Entry {
	n.t.Helper()
	c, err := n.Resolve(nss(ns))
	n.must(err)
	return &oplog.Entry{Op: op, NS: ns, UUID: c.UUID, O: o, O2: o2}
}

// TestReplayGathered: the log of a random history, replayed in gathered units, leaves what it
// leaves replayed one unit an entry, and what a follower makes of the entries that the replay
// logged is the same bytes.
func TestReplayGathered(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHistory(newNode(t), seed+500)
			defer h.onFailure()
			for range 200 {
				h.step()
			}
			log := h.entries()
			replay := func(each bool) *history {
				to := newHistory(newNode(t), 1)
				r := to.NewReplay()
				for _, d := range log {
					e, err := oplog.Decode(d)
					h.must(err)
					// An error of an entry is the same either way: it is passed over.
					if err := r.Apply(ctx, &e); err != nil {
						t.Logf("%v", err)
					}
					if each {
						h.must(r.Flush())
					}
				}
				if err := r.Finish(ctx); err != nil && !mongoerr.Is(err, mongoerr.DuplicateKey) {
					t.Fatal(err)
				}
				to.checkAll()
				return to
			}
			gathered, single := replay(false), replay(true)
			sameState(t, "gathered", gathered.logical(), single.logical())
			if g, s := gathered.seq.Metrics().Units, single.seq.Metrics().Units; g >= s {
				t.Errorf("%d units gathered, %d one by one", g, s)
			}
			sameState(t, "follower", follower(t, gathered.entries()).dump(), gathered.dump())
		})
	}
}

// TestReplayUnits: how entries of several collections share units.
func TestReplayUnits(t *testing.T) {
	n := newNode(t)
	n.must(n.insert("db.a", bson.D("_id", -1)))
	n.must(n.insert("db.b", bson.D("_id", -1)))
	before := n.seq.Metrics().Units
	r := n.NewReplay()
	for i := range 1200 {
		ns := []string{"db.a", "db.b"}[i%2]
		n.must(r.Apply(ctx, entryOf(n, oplog.OpInsert, ns, bson.D("_id", i, "x", i), nil)))
		n.must(r.Apply(ctx, entryOf(n, oplog.OpUpdate, ns, bson.D("$v", 2, "diff", bson.D("u", bson.D("x", -i))), bson.D("_id", i))))
		if i%3 == 0 {
			n.must(r.Apply(ctx, entryOf(n, oplog.OpDelete, ns, bson.D("_id", i), nil)))
		}
	}
	n.must(r.Finish(ctx))
	if got := n.seq.Metrics().Units - before; got != 6 { // 2,800 entries
		t.Errorf("%d units, want 6", got)
	}
	for _, ns := range []string{"db.a", "db.b"} {
		c, err := n.Resolve(nss(ns))
		n.must(err)
		if docs := n.docs(ns); len(docs) != 401 || c.Count() != 401 {
			t.Errorf("%s holds %d documents, counted as %d", ns, len(docs), c.Count())
		}
	}
}

// TestReplayRefused: an entry that is refused leaves nothing of itself and takes nothing of the
// entries before it along.
func TestReplayRefused(t *testing.T) {
	n := newNode(t)
	n.must(n.insert("db.a", bson.D("_id", 0)))
	r := n.NewReplay()
	n.must(r.Apply(ctx, entryOf(n, oplog.OpInsert, "db.a", bson.D("_id", 1), nil)))
	err := r.Apply(ctx, entryOf(n, oplog.OpInsert, "db.a", bson.D("x", 2), nil))
	if !mongoerr.Is(err, mongoerr.NoSuchKey) {
		t.Fatalf("an insert without _id: %v", err)
	}
	err = r.Apply(ctx, &oplog.Entry{Op: oplog.OpInsert, NS: "db.gone", O: bson.D("_id", 1)})
	if !mongoerr.Is(err, mongoerr.NamespaceNotFound) {
		t.Fatalf("an insert into no collection: %v", err)
	}
	n.must(r.Apply(ctx, entryOf(n, oplog.OpInsert, "db.a", bson.D("_id", 3), nil)))
	n.must(r.Finish(ctx))
	if docs := n.docs("db.a"); len(docs) != 3 {
		t.Errorf("%v", docs)
	}
	// Given up in the middle nothing stays locked.
	r = n.NewReplay()
	n.must(r.Apply(ctx, entryOf(n, oplog.OpInsert, "db.a", bson.D("_id", 4), nil)))
	r.Close()
	n.must(n.insert("db.a", bson.D("_id", 4, "second", true)))
	_, err = n.Drop(ctx, nss("db.a"))
	n.must(err)
}

// TestReplayAmongWriters: replays, writers of the same documents and DDL get in each other's
// way at every point and all come through.
func TestReplayAmongWriters(t *testing.T) {
	const ids, rounds = 20, 150
	n := newNode(t)
	names := []string{"db.a", "db.b"}
	for _, ns := range names {
		n.must(n.insert(ns, bson.D("_id", -1)))
		_, err := n.CreateIndexes(ctx, nss(ns), []bson.Raw{bson.D("key", bson.D("u", 1), "name", "u_1", "unique", true, "sparse", true)})
		n.must(err)
	}
	var wg sync.WaitGroup
	seed := uint64(0)
	work := func(f func(r *rand.Rand, ns string, id int) error) {
		seed++
		seed := seed
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 2))
			for range rounds {
				err := f(r, names[r.IntN(2)], r.IntN(ids))
				if err != nil && !mongoerr.Is(err, mongoerr.DuplicateKey) {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 2 {
		work(func(r *rand.Rand, _ string, _ int) error { // replays
			rep := n.NewReplay()
			defer rep.Close()
			for range 30 {
				ns, id := names[r.IntN(2)], r.IntN(ids)
				e := entryOf(n, oplog.OpInsert, ns, bson.D("_id", id, "u", r.Int64()), nil)
				switch r.IntN(4) {
				case 0:
					e = entryOf(n, oplog.OpDelete, ns, bson.D("_id", id), nil)
				case 1, 2:
					e = entryOf(n, oplog.OpUpdate, ns, bson.D("$v", 2, "diff", bson.D("u", bson.D("u", r.Int64()))), bson.D("_id", id))
				default:
					e.RID = int64(r.IntN(40) + 1)
				}
				if err := rep.Apply(ctx, e); err != nil {
					return err
				}
			}
			return rep.Finish(ctx)
		})
		work(func(r *rand.Rand, ns string, id int) error { // writers
			switch r.IntN(3) {
			case 0:
				return n.insert(ns, bson.D("_id", id, "u", r.Int64()))
			case 1:
				return missing(n.delete(ns, id))
			}
			return missing(n.update(ns, bson.D("_id", id, "u", r.Int64())))
		})
	}
	work(func(r *rand.Rand, ns string, _ int) error { // DDL
		if r.IntN(4) > 0 {
			return nil
		}
		if _, err := n.CreateIndexes(ctx, nss(ns), []bson.Raw{bson.D("key", bson.D("x", 1), "name", "x_1")}); err != nil {
			return err
		}
		_, err := n.DropIndexes(ctx, nss(ns), bson.V("x_1"))
		return err
	})
	wg.Wait()
	newHistory(n, 1).checkAll()
	sameState(t, "follower", follower(t, n.entries()).dump(), n.dump())
}

func missing(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	return err
}
