package query

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query/plan"
	"github.com/cairndb/cairn/internal/storage"
)

// DefaultSnapshotWindow is how long what a snapshot read saw can be read again by its
// atClusterTime (minSnapshotHistoryWindowInSeconds).
const DefaultSnapshotWindow = 5 * time.Minute

// maxPast bounds how many states are kept; the oldest goes first.
const maxPast = 1000

// pastState is the data and the catalog at one moment, kept for reads at its time.
type pastState struct {
	snap *storage.Snapshot
	cat  *catalog.Version
	used time.Time // when it last was the latest state
	refs int       // the history's own and one of each view; under history.mu
}

// history keeps the states that snapshot reads saw, so that a session reads the same state
// again: the engine has older versions of a document only for a snapshot that is open.
type history struct {
	mu     sync.Mutex
	kept   []*pastState // oldest first
	window time.Duration
	dead   []*storage.Snapshot // to be closed once mu is free
}

// SetSnapshotWindow changes how long the states of snapshot reads are kept; 0 keeps none.
func (l *Local) SetSnapshotWindow(d time.Duration) {
	l.past.mu.Lock()
	l.past.window = d
	l.past.mu.Unlock()
	l.past.expire(time.Now())
}

// SnapshotWindow returns how long the states of snapshot reads are kept.
func (l *Local) SnapshotWindow() time.Duration {
	l.past.mu.Lock()
	defer l.past.mu.Unlock()
	return l.past.window
}

// latest returns a view of the present state.
func (h *history) latest(l *Local, now time.Time) (*view, error) {
	if v := h.newest(l.cat.Pin(), l.eng.Applied().Index, now); v != nil {
		return v, nil
	}
	// The catalog that is pinned before and behind the snapshot is that of the snapshot.
	for {
		cat := l.cat.Pin()
		snap, err := l.eng.ReadSnapshot()
		if err != nil {
			return nil, err
		}
		if l.cat.Pin() == cat {
			return h.keep(&pastState{snap: snap, cat: cat, used: now}), nil
		}
		if err := snap.Close(); err != nil {
			return nil, err
		}
	}
}

// newest returns a view of the newest kept state if it is that of cat and of the entry index.
func (h *history) newest(cat *catalog.Version, index uint64, now time.Time) *view {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.kept); n > 0 && h.kept[n-1].snap.Index() == index && h.kept[n-1].cat == cat {
		h.kept[n-1].used = now
		return h.view(h.kept[n-1])
	}
	return nil
}

// keep adds a state, in its place among those of readers that were faster, and returns a view of it.
func (h *history) keep(p *pastState) *view {
	h.mu.Lock()
	defer h.unlock()
	v := h.view(p)
	if h.window <= 0 {
		return v
	}
	i := len(h.kept)
	for i > 0 && h.kept[i-1].snap.Index() > p.snap.Index() {
		i--
	}
	p.refs++
	h.kept = slices.Insert(h.kept, i, p)
	if len(h.kept) > maxPast {
		h.drop(1)
	}
	return v
}

// at returns a view of the state at ts for a read of ns, nil if it is not kept. A state near
// by is as good if nothing happened in between to what is read.
func (h *history) at(ctx context.Context, l *Local, ts bson.Timestamp, ns *Namespace, now time.Time) (*view, error) {
	older := h.before(ts)
	if older != nil && older.ts == ts {
		return older, nil
	}
	if older != nil {
		same, err := l.untouched(ctx, older.ts, ts, ns)
		if same && err == nil {
			older.ts = ts
			return older, nil
		}
		older.close()
		if err != nil {
			return nil, err
		}
	}
	newer := h.after(ts)
	if newer == nil {
		var err error
		if newer, err = h.latest(l, now); err != nil {
			return nil, err
		}
	}
	same := newer.ts <= ts // the present, and the time is that of the next entry at most
	if !same && now.Sub(time.Unix(int64(ts.Seconds()), 0)) <= l.SnapshotWindow() {
		var err error
		if same, err = l.untouched(ctx, ts, newer.ts, ns); err != nil {
			newer.close()
			return nil, err
		}
	}
	if !same {
		newer.close()
		return nil, nil
	}
	newer.ts = ts
	return newer, nil
}

// before returns a view of the newest kept state that is not newer than ts.
func (h *history) before(ts bson.Timestamp) *view {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.kept) - 1; i >= 0; i-- {
		if bson.Timestamp(h.kept[i].snap.Mark().TS) <= ts {
			return h.view(h.kept[i])
		}
	}
	return nil
}

// after returns a view of the oldest kept state that is newer than ts.
func (h *history) after(ts bson.Timestamp) *view {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.kept {
		if bson.Timestamp(p.snap.Mark().TS) > ts {
			return h.view(p)
		}
	}
	return nil
}

// maxLookedAt bounds the entries that one read looks at to find out whether a state is its own.
const maxLookedAt = 100_000

// untouched reports whether the log is known to have nothing behind from up to to that
// changes what is read of ns, or anything at all if ns is nil.
func (l *Local) untouched(ctx context.Context, from, to bson.Timestamp, ns *Namespace) (bool, error) {
	log := l.cat.Log()
	if log == nil || log.Stats().First > from+1 {
		return false, nil
	}
	cur, err := log.NewCursor(ctx, storage.Forward)
	if err != nil {
		return false, err
	}
	same := true
	n := 0
	for ok := cur.Seek(storage.RecordID(from + 1)); same && ok && bson.Timestamp(cur.RecordID()) <= to; ok = cur.Next() {
		n++
		same = n <= maxLookedAt && !touches(bson.Raw(cur.Value()), ns)
	}
	if err := cur.Err(); err != nil {
		_ = cur.Close()
		return false, err
	}
	return same, cur.Close()
}

// touches reports whether an entry, or an operation in one, may change what is read of ns.
// DDL counts for the whole database.
func touches(e bson.Raw, ns *Namespace) bool {
	op := e.Get("op").Str()
	if op == "n" {
		return false
	}
	if ns == nil {
		return true
	}
	if op != "c" {
		is := e.Get("ns").Str()
		return is == ns.String() || is == ns.DB+"."+catalog.SystemViews
	}
	if o := e.Get("o").Doc(); o.Has("applyOps") {
		for v := range o.Get("applyOps").Doc().Values() {
			if touches(v.Doc(), ns) {
				return true
			}
		}
		return false
	}
	return strings.HasPrefix(e.Get("ns").Str(), ns.DB+".")
}

// readsOnly returns the namespace of an aggregation that reads no other, nil if it may.
func readsOnly(ns Namespace, pipeline []bson.Raw) *Namespace {
	for _, s := range pipeline {
		switch name, _ := s.First(); name {
		case "$lookup", "$unionWith", "$graphLookup", "$facet", "$merge", "$out":
			return nil
		}
	}
	return &ns
}

func (h *history) view(p *pastState) *view {
	p.refs++
	return &view{snap: p.snap, past: p, h: h, ts: bson.Timestamp(p.snap.Mark().TS)}
}

func (h *history) release(p *pastState) {
	h.mu.Lock()
	h.unref(p)
	h.unlock()
}

// unref is called with h.mu held, unlock closes what nobody refers to any more.
func (h *history) unref(p *pastState) {
	if p.refs--; p.refs == 0 {
		h.dead = append(h.dead, p.snap)
	}
}

// drop forgets the n oldest states; h.mu is held.
func (h *history) drop(n int) {
	for _, p := range h.kept[:n] {
		h.unref(p)
	}
	h.kept = slices.Delete(h.kept, 0, n)
}

// unlock releases h.mu and closes the snapshots that are done with.
func (h *history) unlock() {
	dead := h.dead
	h.dead = nil
	h.mu.Unlock()
	for _, s := range dead {
		_ = s.Close() // it gives up memory; nothing was written through it
	}
}

// expire forgets what is older than the window.
func (h *history) expire(now time.Time) {
	h.mu.Lock()
	defer h.unlock()
	n := 0
	for n < len(h.kept) && now.Sub(h.kept[n].used) >= h.window {
		n++
	}
	h.drop(n)
}

// clear forgets everything.
func (h *history) clear() {
	h.mu.Lock()
	defer h.unlock()
	h.drop(len(h.kept))
}

// view is what a read sees: the latest state, or one that is held for it.
type view struct {
	snap *storage.Snapshot // nil: the latest state
	past *pastState
	h    *history
	ts   bson.Timestamp // the time that the reply tells
}

func (v *view) close() {
	if v != nil && v.past != nil {
		v.h.release(v.past)
		v.past = nil
	}
}

// version is the catalog that belongs to the view.
func (v *view) version(l *Local) *catalog.Version {
	if v != nil && v.past != nil {
		return v.past.cat
	}
	return l.cat.Pin()
}

// openView opens what the read concern asks for. ns is the only collection that is read, nil
// if there are more or it is not known.
func (l *Local) openView(op *OpContext, ns *Namespace) (*view, error) {
	if op.ReadConcern.Level != "snapshot" {
		return &view{}, nil
	}
	now := time.Now()
	at := op.ReadConcern.AtClusterTime
	if at == 0 {
		return l.past.latest(l, now)
	}
	if ns != nil && (l.cat.Pin().Lookup(*ns) == nil || ns.DB == catalog.LocalDB) {
		ns = nil // a view reads others, and what is gone by now was touched
	}
	v, err := l.past.at(op.Ctx, l, at, ns, now)
	if err == nil && v == nil {
		err = mongoerr.New(mongoerr.SnapshotTooOld, "Read timestamp %s is older than the oldest available timestamp.", plan.Text(bson.V(at)))
	}
	return v, err
}
