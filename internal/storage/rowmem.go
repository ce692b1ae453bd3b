package storage

import "sync"

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
// Large pages are asked for when a slab is full, so that the system makes them of the small ones
// in its own time. A large page that is made where the first row is written has to be cleared
// right there, and in a virtual machine whose host takes back what is free, every large page has
// to be got from the host first: 240 instead of 70 ms for 128 MB, on the way of whoever reads
// after a load.
type rowMemory struct {
	mu    sync.Mutex
	slabs bool
	slab  []byte // the newest
	free  []byte // of it
}

// chunk returns rowChunkBytes.
func (m *rowMemory) chunk() []byte {
	if !m.slabs {
		return make([]byte, rowChunkBytes)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.free) == 0 {
		if m.slab != nil {
			wantLargePages(m.slab)
		}
		m.slab = make([]byte, rowSlabBytes) // not touched before it is used
		m.free = m.slab
	}
	c := m.free[:rowChunkBytes:rowChunkBytes]
	m.free = m.free[rowChunkBytes:]
	return c
}
