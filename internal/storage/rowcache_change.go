package storage

import "slices"

// rowChange is a change of keys as the row cache follows it. The zero rowChange follows none.
type rowChange struct {
	c   *rowCache
	seq uint64
	// ops are those on keys that may be kept, as they stand in the write sets: taken before
	// the change, which merges the batches and keeps a large one for itself.
	ops []wsOp
}

// beginChange begins a change by sets; ops is room for its operations. Keys that are new are
// passed over: nothing is kept of them, and what a reader finds of them is the new state.
func (e *Engine) beginChange(ops []wsOp, sets ...*WriteSet) rowChange {
	ch := rowChange{c: e.rows, ops: ops[:0]}
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
			switch {
			case op.kind == opDeleteRange:
				ch.c.touchRange(ch.seq, op.key, op.value)
				ranges = true
			case op.key[0] == byte(spaceMeta) || w.isFresh(n):
			default:
				ch.c.touch(ch.seq, op.key)
				ch.ops = append(ch.ops, op)
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
		if op.kind == opSet {
			ch.c.put(ch.seq, op.key, op.value)
		} else {
			ch.c.drop(ch.seq, op.key)
		}
	}
	ch.c.end(ch.seq)
	clear(ch.ops)
}
