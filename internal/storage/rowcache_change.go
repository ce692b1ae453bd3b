package storage

import (
	"slices"
)

// rowChange is a change of keys as the row cache follows it. The zero rowChange follows none.
type rowChange struct {
	c   *rowCache
	seq uint64
	// ops are those on keys that may be kept, as they stand in the write sets: taken before
	// the change, which merges the batches and keeps a large one for itself.
	ops []rowOp
	// keeps tells that there is one to keep though nobody has read its key; then seen are the
	// hashes of the keys that end has done.
	keeps bool
	seen  map[uint64]struct{}
}

// rowOp is an operation, and whether it is to be kept though nobody has read its key.
type rowOp struct {
	wsOp
	keep bool
}

// beginChange begins a change by sets; room is what a change before it left. Keys that are new are
// passed over unless they are to be kept: nothing is kept of them, and what a reader finds of
// them is the new state.
func (e *Engine) beginChange(room rowChange, sets ...*WriteSet) rowChange {
	ch := rowChange{c: e.rows, ops: room.ops[:0], seen: room.seen}
	if ch.c == nil {
		return ch
	}
	ch.seq = ch.c.begin()
	ranges := false
	for _, w := range sets {
		if w == nil || w.Empty() {
			continue
		}
		n := -1
		_, _ = w.each(0, func(op wsOp) error { // it was built from checked operations
			n++
			kept := w.isKept(n)
			switch {
			case op.kind == opDeleteRange:
				ch.c.touchRange(ch.seq, op.key, op.value)
				ranges = true
			case op.key[0] == byte(spaceMeta) || (w.isFresh(n) && !kept):
			default:
				ch.c.touch(ch.seq, op.key)
				ch.ops = append(ch.ops, rowOp{op, kept})
				ch.keeps = ch.keeps || kept
			}
			return nil
		})
	}
	if ranges { // what was put before a range went with it: all of it is read anew
		clear(ch.ops)
		ch.ops = ch.ops[:0]
	}
	return ch
}

// end ends it: the engine shows all of it. Of a key that is changed twice only the last
// operation counts, so the last come first.
func (ch *rowChange) end() {
	if ch.c == nil {
		return
	}
	for _, op := range slices.Backward(ch.ops) {
		if ch.keeps && ch.later(op.key) {
			continue
		}
		switch {
		case op.kind != opSet:
			ch.c.drop(ch.seq, op.key)
		case op.keep:
			ch.c.putNew(ch.seq, op.key, op.value)
		default:
			ch.c.put(ch.seq, op.key, op.value)
		}
	}
	ch.c.end(ch.seq)
	clear(ch.ops)
	clear(ch.seen)
}

// later reports whether an operation behind this one had the same key, or one of its hash. What
// is put may go at once to make room, so that to find it there or not tells nothing.
func (ch *rowChange) later(key []byte) bool {
	h := ch.c.hash(key)
	if _, ok := ch.seen[h]; ok {
		return true
	}
	if ch.seen == nil {
		ch.seen = make(map[uint64]struct{}, len(ch.ops))
	}
	ch.seen[h] = struct{}{}
	return false
}
