package storage

import (
	"sync"
	"sync/atomic"
)

const (
	// rowSlabBytes is how much memory of the row cache is taken at once.
	rowSlabBytes = 8 << 20
	// minSlabCache is the size from which on a row cache takes slabs: a small one would not fill
	// them, and fits what the processor knows of pages.
	minSlabCache = 4 * rowSlabBytes
)

// rowMemory gives out the chunks of a row cache. Rows are asked for in no order, and each time
// the processor has to find out where the page is: on large pages, which are few, it knows. That
// is a quarter of the time of a hit.
//
// Large pages are asked for when a slab is full of rows, so that the system makes them of the small
// ones in its own time. A large page that is made where the first row is written has to be
// cleared right there, and in a virtual machine whose host takes back what is free, every large
// page has to be got from the host first: 240 instead of 70 ms for 128 MB, on the way of whoever
// reads after a load.
type rowMemory struct {
	mu    sync.Mutex
	slabs bool
	slab  *rowSlab // the newest
	free  []byte   // of it
}

// rowSlab is memory that is cut into chunks.
type rowSlab struct {
	mem   []byte
	empty atomic.Int32 // chunks that are not full yet
}

// chunk returns rowChunkBytes, and the slab they are of, if any.
func (m *rowMemory) chunk() ([]byte, *rowSlab) {
	if !m.slabs {
		return make([]byte, rowChunkBytes), nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.free) == 0 {
		m.slab = &rowSlab{mem: make([]byte, rowSlabBytes)} // not touched before it is used
		m.slab.empty.Store(rowSlabBytes / rowChunkBytes)
		m.free = m.slab.mem
	}
	c := m.free[:rowChunkBytes:rowChunkBytes]
	m.free = m.free[rowChunkBytes:]
	return c, m.slab
}

// filled says that one more chunk of the slab is full.
func (s *rowSlab) filled() {
	if s != nil && s.empty.Add(-1) == 0 {
		wantLargePages(s.mem)
	}
}

// writeFirst writes to every page of b, which is all zeros. A page that is read before it is written
// to costs twice: first the system shows the one that it keeps for zeros, and later it
// has to make all processors forget that.
func writeFirst(b []byte) {
	const page = 4 << 10
	for i := 0; i < len(b); i += page {
		b[i] = 0
	}
}
