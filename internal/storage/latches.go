package storage

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
)

// Latches let one unit at a time write a key, and remember who wrote it last
// for as long as a snapshot is open that does not know (first writer wins).
//
// Keys are known by a 64-bit hash. A collision makes two keys share a latch,
// which costs a wait or, at odds of 2^-64, a needless write conflict; it never
// lets two units through.
//
// Order, which keeps units from waiting for each other in a circle: one record
// latch first, then all unique keys of the unit as one group (one Lock call,
// which sorts them). No record latch is waited for while a unique key is held.
// A unit that locks more groups than that (a multi-document transaction) must
// give its waits an end: by its context.
type Latches struct {
	seed   maphash.Seed
	oldest func() (uint64, bool)
	shards [latchShards]latchShard
	// writers is the number of remembered last writers, swept the number
	// that the last sweep left: they keep sweeps rare.
	writers atomic.Int64
	swept   atomic.Int64
}

const latchShards = 64

type latchShard struct {
	mu      sync.Mutex
	latches map[uint64]*latch
	writers map[uint64]uint64 // hash → index of the last writer
	free    []*latch
	_       [24]byte
}

// latch is a held key; first is the longest waiter.
type latch struct {
	waiters []chan struct{}
}

// NewLatches returns latches that ask oldest for the index of the oldest open
// snapshot.
func NewLatches(oldest func() (uint64, bool)) *Latches {
	l := &Latches{seed: maphash.MakeSeed(), oldest: oldest}
	for i := range l.shards {
		l.shards[i].latches = make(map[uint64]*latch)
	}
	return l
}

// Held are the latches of one unit, released together. The zero value holds
// none. One goroutine at a time, but it may be handed on.
type Held struct {
	l      *Latches
	hashes []uint64
	buf    [4]uint64
	set    map[uint64]struct{} // of hashes, when there are many
}

// Holds reports whether any latch is held.
func (h *Held) Holds() bool { return len(h.hashes) > 0 }

func (l *Latches) shard(h uint64) *latchShard { return &l.shards[h%latchShards] }

// Lock takes the latches of keys, as one sorted group, in addition to those
// that h holds already; a key that h holds is passed over. If ctx ends first
// nothing of the group is held.
func (l *Latches) Lock(ctx context.Context, h *Held, keys ...[]byte) error {
	var buf [8]uint64
	group := l.missing(h, buf[:0], keys)
	for i, x := range group {
		if err := l.lockOne(ctx, x); err != nil {
			for _, y := range group[:i] {
				l.unlockOne(y)
			}
			return err
		}
	}
	h.add(group)
	return nil
}

// TryLock is Lock that takes nothing of the group, and returns false, if it would have to wait.
func (l *Latches) TryLock(h *Held, keys ...[]byte) bool {
	var buf [8]uint64
	group := l.missing(h, buf[:0], keys)
	for i, x := range group {
		if !l.tryOne(x) {
			for _, y := range group[:i] {
				l.unlockOne(y)
			}
			return false
		}
	}
	h.add(group)
	return true
}

// missing appends the sorted hashes of the keys that h does not hold.
func (l *Latches) missing(h *Held, group []uint64, keys [][]byte) []uint64 {
	if h.l == nil {
		h.l, h.hashes = l, h.buf[:0]
	}
	for _, k := range keys {
		x := maphash.Bytes(l.seed, k)
		if !h.holds(x) {
			group = append(group, x)
		}
	}
	slices.Sort(group)
	return slices.Compact(group)
}

func (h *Held) add(group []uint64) {
	h.hashes = append(h.hashes, group...)
	if h.set != nil {
		for _, x := range group {
			h.set[x] = struct{}{}
		}
	}
}

// heldListMax is up to where a list is searched faster than a set.
const heldListMax = 32

func (h *Held) holds(x uint64) bool {
	if len(h.hashes) <= heldListMax {
		return slices.Contains(h.hashes, x)
	}
	if h.set == nil {
		h.set = make(map[uint64]struct{}, 2*len(h.hashes))
		for _, y := range h.hashes {
			h.set[y] = struct{}{}
		}
	}
	_, ok := h.set[x]
	return ok
}

// Conflict is ErrWriteConflict if a key that h holds was written behind the
// snapshot with index seen.
func (h *Held) Conflict(seen uint64) error { return h.conflict(0, seen) }

// conflict is Conflict for the keys that were locked from the given one on.
func (h *Held) conflict(from int, seen uint64) error {
	for _, x := range h.hashes[from:] {
		s := h.l.shard(x)
		s.mu.Lock()
		w, ok := s.writers[x]
		s.mu.Unlock()
		if ok && w > seen {
			return fmt.Errorf("%w: written at index %d, read at %d", ErrWriteConflict, w, seen)
		}
	}
	return nil
}

// Release gives all latches up. wrote is the index of the unit that wrote
// under them, or 0 if nothing was written.
func (h *Held) Release(wrote uint64) {
	if len(h.hashes) == 0 {
		return
	}
	remember := false
	if wrote > 0 {
		oldest, any := h.l.oldest()
		remember = any && oldest < wrote
	}
	for _, x := range h.hashes {
		if remember {
			h.l.remember(x, wrote)
		}
		h.l.unlockOne(x)
	}
	h.hashes, h.set = h.buf[:0], nil
}

func (l *Latches) tryOne(x uint64) bool {
	s := l.shard(x)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.latches[x]; taken {
		return false
	}
	s.latches[x] = s.newLatch()
	return true
}

func (l *Latches) lockOne(ctx context.Context, x uint64) error {
	s := l.shard(x)
	s.mu.Lock()
	la, taken := s.latches[x]
	if !taken {
		s.latches[x] = s.newLatch()
		s.mu.Unlock()
		return nil
	}
	ch := make(chan struct{})
	la.waiters = append(la.waiters, ch)
	s.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	if i := slices.Index(la.waiters, ch); i >= 0 {
		la.waiters = slices.Delete(la.waiters, i, i+1)
		s.mu.Unlock()
		return context.Cause(ctx)
	}
	s.mu.Unlock()
	// It was handed to us just as we gave up.
	l.unlockOne(x)
	return context.Cause(ctx)
}

// unlockOne hands the latch to the longest waiter, or frees it.
func (l *Latches) unlockOne(x uint64) {
	s := l.shard(x)
	s.mu.Lock()
	defer s.mu.Unlock()
	la := s.latches[x]
	if la == nil {
		panic("storage: a latch was released that is not held")
	}
	if len(la.waiters) > 0 {
		ch := la.waiters[0]
		la.waiters = slices.Delete(la.waiters, 0, 1)
		close(ch)
		return
	}
	delete(s.latches, x)
	s.free = append(s.free, la)
}

func (s *latchShard) newLatch() *latch {
	if n := len(s.free); n > 0 {
		la := s.free[n-1]
		s.free = s.free[:n-1]
		return la
	}
	return &latch{}
}

func (l *Latches) remember(x, index uint64) {
	s := l.shard(x)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writers == nil {
		s.writers = make(map[uint64]uint64)
	}
	if _, there := s.writers[x]; !there {
		l.writers.Add(1)
	}
	s.writers[x] = index
}

// prune forgets the writers that every open snapshot knows. It is called when
// a snapshot closes and sweeps only when that pays.
func (l *Latches) prune(oldest uint64, any bool) {
	n := l.writers.Load()
	if n == 0 || (any && n < 2*l.swept.Load()+1024) {
		return
	}
	left := int64(0)
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		before := len(s.writers)
		if !any {
			// A snapshot may have come meanwhile, but it is newer than all that is forgotten here
			// only if nothing was written since: ask again under the lock.
			oldest, any = l.oldest()
		}
		if !any {
			s.writers = nil
		} else {
			for x, index := range s.writers {
				if index <= oldest {
					delete(s.writers, x)
				}
			}
		}
		l.writers.Add(int64(len(s.writers) - before))
		left += int64(len(s.writers))
		s.mu.Unlock()
	}
	l.swept.Store(left)
}
