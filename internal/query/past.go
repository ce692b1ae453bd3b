package query

import (
	"context"
	"slices"
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

// at returns a view of the state at ts, nil if it is not kept.
func (h *history) at(ctx context.Context, l *Local, ts bson.Timestamp) (*view, error) {
	v := h.before(ts)
	if v == nil || v.ts == ts {
		return v, nil
	}
	if same, err := l.quiet(ctx, v.ts, ts); !same || err != nil {
		v.close()
		return nil, err
	}
	v.ts = ts
	return v, nil
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

// quiet reports whether the log has no entry behind from up to to.
func (l *Local) quiet(ctx context.Context, from, to bson.Timestamp) (bool, error) {
	log := l.cat.Log()
	if log == nil {
		return false, nil
	}
	cur, err := log.NewCursor(ctx, storage.Forward)
	if err != nil {
		return false, err
	}
	next := cur.Seek(storage.RecordID(from + 1))
	same := next && bson.Timestamp(cur.RecordID()) > to
	if !next {
		applied := l.log.LastApplied()
		same = cur.Err() == nil && applied.TS <= from
	}
	if err := cur.Err(); err != nil {
		_ = cur.Close()
		return false, err
	}
	return same, cur.Close()
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

// openView opens what the read concern asks for.
func (l *Local) openView(op *OpContext) (*view, error) {
	if op.ReadConcern.Level != "snapshot" {
		return &view{}, nil
	}
	at := op.ReadConcern.AtClusterTime
	if at != 0 {
		if v, err := l.past.at(op.Ctx, l, at); v != nil || err != nil {
			return v, err
		}
	}
	v, err := l.past.latest(l, time.Now())
	if err != nil || at == 0 {
		return v, err
	}
	if v.ts > at {
		v.close()
		return nil, mongoerr.New(mongoerr.SnapshotTooOld, "Read timestamp %s is older than the oldest available timestamp.", plan.Text(bson.V(at)))
	}
	v.ts = at
	return v, nil
}
