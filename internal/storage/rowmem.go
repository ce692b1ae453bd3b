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
type rowMemory struct {
	mu    sync.Mutex
	slabs bool
	free  []byte // of the newest slab
}

// chunk returns rowChunkBytes.
func (m *rowMemory) chunk() []byte {
	if !m.slabs {
		return make([]byte, rowChunkBytes)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.free) == 0 {
		m.free = make([]byte, rowSlabBytes) // not touched before it is used
		wantLargePages(m.free)
	}
	c := m.free[:rowChunkBytes:rowChunkBytes]
	m.free = m.free[rowChunkBytes:]
	return c
}
