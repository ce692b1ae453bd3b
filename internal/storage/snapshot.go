package storage

import (
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// Snapshot is a view that does not change. Close it: while it is open the
// engine keeps every version that it shows.
type Snapshot struct {
	e     *Engine
	db    *pebble.Snapshot
	mark  Mark
	floor uint64 // index known to be contained; the registry's order
	prev  *Snapshot
	next  *Snapshot
	done  atomic.Bool
	bare  bool // not registered: for reads only
}

// snapshotRegistry knows the open snapshots, oldest first.
type snapshotRegistry struct {
	mu    sync.Mutex
	first *Snapshot
	last  *Snapshot
	n     int
}

// Snapshot takes the latest state. It knows the exact journal mark that it
// contains, since every batch carries its own.
func (e *Engine) Snapshot() (*Snapshot, error) {
	if e.closed.Load() {
		return nil, ErrClosed
	}
	s := &Snapshot{e: e}
	// Registered before it is taken: a writer that looks at OldestSnapshot
	// after its batch was applied sees every snapshot that may lack the batch.
	e.snapshots.add(s, &e.appliedIndex)
	return s.take()
}

// ReadSnapshot is Snapshot for reads alone: a unit must not depend on it. Nothing is kept of
// later writers because of it, so it may be held for minutes. Close it before the engine.
func (e *Engine) ReadSnapshot() (*Snapshot, error) {
	if e.closed.Load() {
		return nil, ErrClosed
	}
	s := &Snapshot{e: e, bare: true}
	e.readSnapshots.Add(1)
	return s.take()
}

// take takes the state, once the snapshot is registered.
func (s *Snapshot) take() (*Snapshot, error) {
	s.db = s.e.db.NewSnapshot()
	m, err := s.e.readMark(s.db)
	if err != nil {
		_ = s.Close() // the read's error says more
		return nil, err
	}
	s.mark = m
	return s, nil
}

// Mark is the journal prefix that the snapshot shows.
func (s *Snapshot) Mark() Mark { return s.mark }

// Index is the exact last index that the snapshot contains.
func (s *Snapshot) Index() uint64 { return s.mark.Index }

// Get reads from the snapshot.
func (s *Snapshot) Get(key, dst []byte) ([]byte, error) {
	if s.done.Load() || s.e.closed.Load() {
		return nil, ErrClosed
	}
	return getFrom(s.db, key, dst)
}

// NewCursor opens a cursor over the snapshot.
func (s *Snapshot) NewCursor(lower, upper []byte) Cursor {
	if s.done.Load() || s.e.closed.Load() {
		return errCursor{ErrClosed}
	}
	return newBaseCursor(s.db, &s.e.pressure.cursors, lower, upper)
}

// Close releases the snapshot; cursors opened from it stay usable. A second
// call does nothing.
func (s *Snapshot) Close() error {
	if !s.done.CompareAndSwap(false, true) {
		return nil
	}
	if s.bare {
		s.e.readSnapshots.Add(-1)
		return convErr(s.db.Close())
	}
	oldest, any := s.e.snapshots.remove(s)
	s.e.latches.prune(oldest, any)
	return convErr(s.db.Close())
}

func (r *snapshotRegistry) add(s *Snapshot, index *atomic.Uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.floor = index.Load() // under the lock, so that the list is in order
	s.prev = r.last
	if r.last != nil {
		r.last.next = s
	} else {
		r.first = s
	}
	r.last = s
	r.n++
}

func (r *snapshotRegistry) remove(s *Snapshot) (oldest uint64, any bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		r.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		r.last = s.prev
	}
	s.prev, s.next = nil, nil
	r.n--
	if r.first == nil {
		return 0, false
	}
	return r.first.floor, true
}

// OldestSnapshot is the index of the oldest open snapshot; it contains at
// least everything up to there. ok is false if none is open.
func (e *Engine) OldestSnapshot() (index uint64, ok bool) {
	e.snapshots.mu.Lock()
	defer e.snapshots.mu.Unlock()
	if e.snapshots.first == nil {
		return 0, false
	}
	return e.snapshots.first.floor, true
}
