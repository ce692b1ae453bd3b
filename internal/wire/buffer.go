package wire

import "sync"

// Buffer is a pooled byte slice. Who holds it may append to B and must give it
// back with Free exactly once.
type Buffer struct{ B []byte }

// Classes of pooled buffers: 4 KiB, 16 KiB … 4 MiB. A larger buffer is left to the
// garbage collector, so that one huge message does not cost memory for ever.
const (
	minClassBits = 12
	classStep    = 2
	classes      = 6
	maxPooled    = 1 << (minClassBits + classStep*(classes-1))
)

var bufferPools [classes]sync.Pool

// GetBuffer returns an empty buffer with a capacity of at least n.
func GetBuffer(n int) *Buffer {
	if n > maxPooled {
		return &Buffer{B: make([]byte, 0, n)}
	}
	c, size := 0, 1<<minClassBits
	for size < n {
		c, size = c+1, size<<classStep
	}
	if b, ok := bufferPools[c].Get().(*Buffer); ok {
		return b
	}
	return &Buffer{B: make([]byte, 0, size)}
}

// Free returns b to its pool; b.B must not be used afterwards.
func (b *Buffer) Free() {
	if b == nil {
		return
	}
	n := cap(b.B)
	if n < 1<<minClassBits || n >= 2*maxPooled {
		return
	}
	c := 0
	for c+1 < classes && 1<<(minClassBits+classStep*(c+1)) <= n {
		c++
	}
	b.B = b.B[:0]
	bufferPools[c].Put(b)
}
