package storage

import (
	"math"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// aheadRows is how many rows are kept with one that was missed, aheadBytes how many bytes
	// of them. Right after a load, when there are many levels to look at, the miss itself costs as
	// much as twenty rows that come with it (40 µs), a whole run a third of a millisecond.
	aheadRows  = 256
	aheadBytes = 320 << 10
	// aheadKnown rows that the cache has already end a run: another miss was here before.
	aheadKnown = 4
	// aheadSteps is how many steps of the engine's iterator a run should need at most. One
	// that needed more met deleted rows or old versions; the next aheadPause misses then
	// do without, and twice as many each time that it happens again.
	aheadSteps    = 4 * aheadRows
	aheadPause    = 64
	maxAheadPause = 1 << 16
)

// rowAhead is when the row cache reads ahead. The zero value does from the first miss on.
type rowAhead struct {
	full  atomic.Bool  // the cache has no room that was never used
	skip  atomic.Int64 // misses to let pass
	pause atomic.Int64 // how many the last bad run cost
}

// due reports whether the miss of key is one to read ahead from.
func (a *rowAhead) due(key []byte) bool {
	if a.full.Load() {
		return false
	}
	if a.skip.Load() > 0 {
		a.skip.Add(-1)
		return false
	}
	t, _, ok := SplitKey(key)
	return ok && t.Ident >= FirstIdent
}

// took tells how many steps a run needed.
func (a *rowAhead) took(steps int) {
	if steps <= aheadSteps {
		if p := a.pause.Load(); p > 0 {
			a.pause.Store(p / 2)
		}
		return
	}
	pause := min(max(2*a.pause.Load(), aheadPause), maxAheadPause)
	a.pause.Store(pause)
	a.skip.Store(pause)
}

// aheadKind is which rows are kept with one that was missed.
type aheadKind uint8

const (
	aheadBehind  aheadKind = iota // those behind it in the order of keys
	aheadRecords                  // those of its group of record ids, see readAhead
	aheadNothing
)

// readAhead keeps what stands beside a key that was missed and found in the engine, as long
// as the cache has room that was never used: a run costs a tenth of what as many misses
// would. Where the cache is full what is read decides what stays, one row at a time.
//
// Records are brought in by groups of ids that begin at multiples of a power of two, as many as
// aheadBytes has room for if they are as large as the one that was missed. Runs that began
// where the misses fall would overlap and leave gaps: in random order a table is read in
// by one miss for each group, not by one for every ten rows.
func (e *Engine) readAhead(key []byte, size int, kind aheadKind, h *hinter) {
	c := e.rows
	if kind == aheadNothing || !c.ahead.due(key) {
		return
	}
	// As in a fill: a change that ends behind this may be missing from what the iterator shows.
	ended := c.ended.Load()
	t, _, _ := SplitKey(key)
	lower := append(append(make([]byte, 0, len(key)+1), key...), 0)
	_, upper := t.Bounds()
	if kind == aheadRecords {
		var ok bool
		if lower, upper, ok = c.recordGroup(t, DecodeRecordID(key[prefixLen:]), size); !ok {
			return
		}
	}
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return // the reader has what it asked for; who reads on meets the error
	}
	defer it.Close()
	if h != nil {
		h.list = slices.Grow(h.list, aheadRows)
	}
	n, read, known := 0, 0, 0
	for ok := it.First(); ok && n < aheadRows && read < aheadBytes && (known < aheadKnown || kind == aheadRecords); ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			break
		}
		n++
		read += len(v)
		has, room := c.fillAhead(ended, it.Key(), v, h)
		if !room {
			c.ahead.full.Store(true)
			break
		}
		if has {
			known++
		}
	}
	st := it.Stats()
	c.ahead.took(st.ForwardStepCount[pebble.InternalIterCall])
}

// recordGroup returns the bounds of the group of a record of size bytes. It says no if there is
// nothing to gain: the group has one record, or two others of it are kept, so that it was
// brought in before and lost this one since.
func (c *rowCache) recordGroup(t Table, id RecordID, size int) (lower, upper []byte, ok bool) {
	n := RecordID(aheadRows)
	for n > 1 && int64(n)*int64(size) > aheadBytes {
		n /= 2
	}
	if n == 1 {
		return nil, nil, false
	}
	first := id &^ (n - 1)
	var buf [prefixLen + recordIDLen]byte
	if c.has(t.AppendRecordKey(buf[:0], id^1)) && c.has(t.AppendRecordKey(buf[:0], id^(n/2))) {
		return nil, nil, false
	}
	lower = t.AppendRecordKey(make([]byte, 0, 2*len(buf)), first)
	if first > math.MaxInt64-n {
		_, upper = t.Bounds()
		return lower, upper, true
	}
	both := t.AppendRecordKey(lower, first+n)
	return lower, both[len(lower):], true
}

// has reports whether the value of key is kept.
func (c *rowCache) has(key []byte) bool {
	h := c.hash(key)
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(s.find(uint32(h), key))
	return e != nil && e.flags()&rowStale == 0
}

// fillAhead is fill for a key that nobody asked for: it takes room that was never used, and
// nothing that is kept. has says that the key was there, room that there is more of it.
func (c *rowCache) fillAhead(ended uint64, key, value []byte, hints *hinter) (has, room bool) {
	if len(key)+len(value) > maxRowBytes {
		return false, true
	}
	h := c.hash(key)
	s := c.shard(h)
	s.mu.Lock()
	if len(s.chunks) >= s.max {
		s.mu.Unlock()
		return false, false
	}
	pos := s.find(uint32(h), key)
	has = pos != 0 && s.entry(pos).flags()&rowStale == 0
	if !has && s.touched <= ended {
		pos = s.put(uint32(h), key, value)
	}
	gen := s.gen(pos)
	s.mu.Unlock()
	hints.put(c, value, c.shardNumber(h), gen, pos)
	return has, true
}
