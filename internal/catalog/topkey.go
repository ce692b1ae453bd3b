package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/cairndb/cairn/internal/storage"
)

// topKey is at least the greatest key that was ever put into an index: a key beyond it
// is new, without a look into the store. Most inserts have growing _ids. Those of several
// clients come a little out of order, so it also knows the gaps that the last keys beyond
// left: nothing was ever put between their ends, and a key in one is new too.
type topKey struct {
	mu    sync.Mutex
	known bool
	key   []byte

	gaps   [maxGaps]gap
	count  int // gaps in use, the first ones
	turn   int // the one to give up next when all are
	wasted int // looks in a row that found no gap
}

// gap is an open interval of keys none of which was ever put.
type gap struct{ lo, hi []byte }

const (
	// maxGaps is about how many clients may insert at once, each somewhere else.
	maxGaps = 32
	// maxWasted looks that found no gap show that the keys are not those of a growing order.
	maxWasted = 512
)

// passes reports whether key is known never to have been put, and counts it among those that
// were from now on. Whoever puts a key asks, whether the answer matters or not.
func (t *topKey) passes(s storage.IndexStore, r storage.Reader, key []byte) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	beyond, err := t.beyondLocked(s, r, key)
	if err != nil {
		return false, err
	}
	if !beyond {
		return t.fill(key), nil
	}
	t.add(t.key, key)
	t.key = append(t.key[:0], key...)
	return true, nil
}

// fill looks for the gap that key lies in and makes two of it.
func (t *topKey) fill(key []byte) bool {
	for i := range t.count {
		g := &t.gaps[i]
		if bytes.Compare(key, g.hi) >= 0 || bytes.Compare(key, g.lo) <= 0 {
			continue
		}
		t.wasted = 0
		var buf [64]byte
		lo := append(buf[:0], g.lo...)
		if adjacent(key, g.hi) {
			t.count--
			*g, t.gaps[t.count] = t.gaps[t.count], *g
		} else {
			g.lo = append(g.lo[:0], key...)
		}
		t.add(lo, key)
		return true
	}
	if t.count > 0 {
		if t.wasted++; t.wasted > maxWasted {
			t.count, t.wasted = 0, 0
		}
	}
	return false
}

// add notes that nothing was put between lo and hi.
func (t *topKey) add(lo, hi []byte) {
	if len(lo) == 0 || adjacent(lo, hi) {
		return
	}
	i := t.count
	if i < maxGaps {
		t.count++
	} else {
		i, t.turn = t.turn, (t.turn+1)%maxGaps
	}
	g := &t.gaps[i]
	g.lo, g.hi = append(g.lo[:0], lo...), append(g.hi[:0], hi...)
}

// adjacent reports whether no key of the kind of a and b, numbers that count or ObjectIds,
// stands between them: a gap like that is not worth noting.
func adjacent(a, b []byte) bool {
	n := len(a)
	if n != len(b) {
		return false
	}
	if n <= 8 {
		var x, y [8]byte
		copy(x[8-n:], a)
		copy(y[8-n:], b)
		return binary.BigEndian.Uint64(y[:])-binary.BigEndian.Uint64(x[:]) <= 2
	}
	return bytes.Equal(a[:n-8], b[:n-8]) && binary.BigEndian.Uint64(b[n-8:])-binary.BigEndian.Uint64(a[n-8:]) <= 2
}

// beyond reports whether key is beyond all that were put, for who only looks.
func (t *topKey) beyond(s storage.IndexStore, r storage.Reader, key []byte) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.beyondLocked(s, r, key)
}

func (t *topKey) beyondLocked(s storage.IndexStore, r storage.Reader, key []byte) (bool, error) {
	if !t.known {
		cur := s.Cursor(r, storage.Backward, storage.IndexBounds{})
		if cur.Next() {
			t.key = append(t.key[:0], cur.KeyString()...)
		}
		if err := errors.Join(cur.Err(), cur.Close()); err != nil {
			return false, err
		}
		t.known = true
	}
	return bytes.Compare(key, t.key) > 0, nil
}
