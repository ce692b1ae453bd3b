package storage

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
)

// rowChange is a change of keys as the row cache follows it. The zero rowChange follows none.
type rowChange struct {
	c    *rowCache
	seq  uint64
	sets []*WriteSet
	// The operations of a set, taken before the change: the batches are merged by it, and one
	// that is large is the engine's afterwards.
	ops []rowOps
	one [1]rowOps
}

type rowOps struct {
	repr []byte
	n    int
}

// beginChange begins a change by sets.
func (e *Engine) beginChange(sets ...*WriteSet) rowChange {
	ch := rowChange{c: e.rows, sets: sets}
	if ch.c == nil {
		return ch
	}
	ch.seq = ch.c.begin()
	ch.ops = ch.one[:0]
	for _, w := range sets {
		var o rowOps
		if w != nil && !w.Empty() {
			o = rowOps{w.b.Repr(), w.Len()}
		}
		ch.ops = append(ch.ops, o)
		o.each(func(_ int, kind pebble.InternalKeyKind, key, value []byte) {
			switch {
			case kind == pebble.InternalKeyKindRangeDelete:
				ch.c.touchRange(ch.seq, key, value)
			case key[0] != byte(spaceMeta):
				ch.c.touch(ch.seq, key)
			}
		})
	}
	return ch
}

// end ends it: the engine shows all of it.
func (ch *rowChange) end() {
	if ch.c == nil {
		return
	}
	put := false
	for i, o := range ch.ops {
		w := ch.sets[i]
		if w == nil || w.dels > 0 {
			continue
		}
		o.each(func(n int, kind pebble.InternalKeyKind, key, value []byte) {
			switch {
			case key[0] == byte(spaceMeta):
			case kind == pebble.InternalKeyKindSet && w.point(n):
				ch.c.put(ch.seq, key, value)
				put = true
			case put: // it may have been one of these: what comes last counts
				ch.c.touch(ch.seq, key)
			}
		})
	}
	ch.c.end(ch.seq)
}

// each calls fn for the operations, in their order.
func (o rowOps) each(fn func(n int, kind pebble.InternalKeyKind, key, value []byte)) {
	if o.n == 0 {
		return
	}
	r := batchrepr.Reader(o.repr[batchrepr.HeaderLen:])
	for n := range o.n {
		kind, key, value, ok, err := r.Next()
		if !ok || err != nil {
			return // it was built from checked operations
		}
		fn(n, kind, key, value)
	}
}
