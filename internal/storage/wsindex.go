package storage

import (
	"bytes"
	"sort"
)

// wsIndex is the sorted view of a write set: for each key the last operation
// on it. It is a list of sorted blocks, so that inserting into it while it is
// read through stays cheap at any size. Keys and values alias the batch's
// buffers, whose bytes never change.
type wsIndex struct {
	parsed int // offset in the batch up to which the index reaches
	count  uint32
	blocks [][]wsEntry
	ranges []wsRange // deleted ranges; they hide the view, not later entries
}

type wsEntry struct {
	key, value []byte
	deleted    bool
}

type wsRange struct{ lower, upper []byte }

const wsBlockMax = 256

// index brings the index up to date and returns it.
func (w *WriteSet) index() (*wsIndex, error) {
	if w.idx == nil {
		w.idx = &wsIndex{}
	}
	x := w.idx
	if x.count == w.b.Count() {
		return x, nil
	}
	end, err := w.each(x.parsed, func(op wsOp) error {
		switch op.kind {
		case opDeleteRange:
			x.removeRange(op.key, op.value)
		default:
			x.put(wsEntry{key: op.key, value: op.value, deleted: op.kind == opDelete})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	x.parsed, x.count = end, w.b.Count()
	w.gen++
	return x, nil
}

// wsPlace is the place of an entry; past the end, block is len(blocks).
type wsPlace struct{ block, i int }

// seekGE finds the first entry with a key >= k.
func (x *wsIndex) seekGE(k []byte) wsPlace {
	// The last block whose first key is <= k may hold it.
	b := sort.Search(len(x.blocks), func(i int) bool { return bytes.Compare(x.blocks[i][0].key, k) > 0 }) - 1
	if b < 0 {
		return wsPlace{0, 0}
	}
	blk := x.blocks[b]
	i := sort.Search(len(blk), func(i int) bool { return bytes.Compare(blk[i].key, k) >= 0 })
	if i == len(blk) {
		return wsPlace{b + 1, 0}
	}
	return wsPlace{b, i}
}

func (x *wsIndex) valid(p wsPlace) bool { return p.block >= 0 && p.block < len(x.blocks) }

func (x *wsIndex) at(p wsPlace) *wsEntry { return &x.blocks[p.block][p.i] }

func (x *wsIndex) next(p wsPlace) wsPlace {
	if p.i++; p.i == len(x.blocks[p.block]) {
		return wsPlace{p.block + 1, 0}
	}
	return p
}

// prev also works from the place past the end; before the first entry the
// block is -1.
func (x *wsIndex) prev(p wsPlace) wsPlace {
	if p.i > 0 {
		return wsPlace{p.block, p.i - 1}
	}
	if p.block == 0 {
		return wsPlace{-1, 0}
	}
	return wsPlace{p.block - 1, len(x.blocks[p.block-1]) - 1}
}

func (x *wsIndex) get(k []byte) (*wsEntry, bool) {
	p := x.seekGE(k)
	if x.valid(p) && bytes.Equal(x.at(p).key, k) {
		return x.at(p), true
	}
	return nil, false
}

func (x *wsIndex) put(e wsEntry) {
	if len(x.blocks) == 0 {
		x.blocks = append(x.blocks, append(make([]wsEntry, 0, 16), e))
		return
	}
	p := x.seekGE(e.key)
	if x.valid(p) && bytes.Equal(x.at(p).key, e.key) {
		*x.at(p) = e
		return
	}
	// Before the first entry of a block the end of the block in front does too.
	if p.i == 0 && p.block > 0 {
		p = wsPlace{p.block - 1, len(x.blocks[p.block-1])}
	}
	blk := append(x.blocks[p.block], wsEntry{})
	copy(blk[p.i+1:], blk[p.i:])
	blk[p.i] = e
	x.blocks[p.block] = blk
	if len(blk) > wsBlockMax {
		x.split(p.block, p.i)
	}
}

// split halves block b, or, when it grew at its end as ascending keys make it
// do, leaves it full and starts a new one.
func (x *wsIndex) split(b, grewAt int) {
	blk := x.blocks[b]
	cut := len(blk) / 2
	if grewAt == len(blk)-1 {
		cut = grewAt
	}
	right := append(make([]wsEntry, 0, wsBlockMax+1), blk[cut:]...)
	x.blocks = append(x.blocks, nil)
	copy(x.blocks[b+2:], x.blocks[b+1:])
	x.blocks[b], x.blocks[b+1] = blk[:cut:cut], right
}

func (x *wsIndex) removeRange(lower, upper []byte) {
	x.ranges = append(x.ranges, wsRange{lower, upper})
	if len(x.blocks) == 0 {
		return
	}
	kept := x.blocks[:0:0]
	for _, blk := range x.blocks {
		out := blk[:0]
		for _, e := range blk {
			if bytes.Compare(e.key, lower) < 0 || bytes.Compare(e.key, upper) >= 0 {
				out = append(out, e)
			}
		}
		if len(out) > 0 {
			kept = append(kept, out)
		}
	}
	x.blocks = kept
}

// hides reports whether a deleted range covers k in the view below.
func (x *wsIndex) hides(k []byte) bool {
	for i := range x.ranges {
		if bytes.Compare(x.ranges[i].lower, k) <= 0 && bytes.Compare(k, x.ranges[i].upper) < 0 {
			return true
		}
	}
	return false
}
