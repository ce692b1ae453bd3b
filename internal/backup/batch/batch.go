package batch

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
)

// MaxDocument is the longest document a server sends: its limit, and the room it leaves
// for what it adds itself.
const MaxDocument = 16<<20 + 64<<10

// Sizes of the buffers.
const (
	bufferStep = 256 << 10 // sizes are rounded up, so that replies of about the same size share buffers
	keepBytes  = 16 << 20  // of buffers without a user
)

// pool keeps buffers. Other than a sync.Pool it forgets none of them before it is full.
type pool struct {
	mu    sync.Mutex
	free  [][]byte
	bytes int
}

// get returns a buffer of length n.
func (p *pool) get(n int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	best := -1
	for i, b := range p.free {
		if cap(b) >= n && (best < 0 || cap(b) < cap(p.free[best])) {
			best = i
		}
	}
	if best < 0 {
		return make([]byte, n, (n+n/8+bufferStep-1)/bufferStep*bufferStep)
	}
	b := p.free[best]
	last := len(p.free) - 1
	p.free[best] = p.free[last]
	p.free = p.free[:last]
	p.bytes -= cap(b)
	return b[:n]
}

// put keeps a buffer, in place of smaller ones if need be: a larger one serves all.
func (p *pool) put(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cap(b) > keepBytes {
		return
	}
	for p.bytes+cap(b) > keepBytes {
		least := -1
		for i, f := range p.free {
			if cap(f) < cap(b) && (least < 0 || cap(f) < cap(p.free[least])) {
				least = i
			}
		}
		if least < 0 {
			return
		}
		p.bytes -= cap(p.free[least])
		p.free = slices.Delete(p.free, least, least+1)
	}
	p.free = append(p.free, b)
	p.bytes += cap(b)
}

// Batch is the documents of one reply.
type Batch struct {
	d   *Dialer
	buf []byte // the message
	arr []byte // of it, the elements of the array
}

// Next returns the next document, which is good until Release; ok is false behind the last
// one. Nothing is copied.
func (b *Batch) Next() (doc []byte, ok bool, err error) {
	p := b.arr
	if len(p) == 0 {
		return nil, false, nil
	}
	if p[0] != 3 {
		return nil, false, fmt.Errorf("the server sent a batch with an element of type %d, which is no document", p[0])
	}
	i := 1
	for i < len(p) && p[i] != 0 { // the position in the array, as text
		i++
	}
	i++
	if len(p)-i < 5 {
		return nil, false, fmt.Errorf("the server sent a batch that ends within a document")
	}
	size := int(binary.LittleEndian.Uint32(p[i:]))
	if size < 5 || size > MaxDocument || size > len(p)-i || p[i+size-1] != 0 {
		return nil, false, fmt.Errorf("the server sent %d bytes that are no document", size)
	}
	b.arr = p[i+size:]
	return p[i : i+size : i+size], true, nil
}

// Documents closes the gaps between the documents, in place, and returns them one after
// the other with their number. The bytes are good until Release. It is called once, and
// instead of Next.
func (b *Batch) Documents() (docs []byte, n int, err error) {
	all, at := b.arr, 0
	for ; ; n++ {
		doc, ok, err := b.Next()
		if err != nil {
			return nil, 0, err
		}
		if !ok {
			return all[:at], n, nil
		}
		at += copy(all[at:], doc)
	}
}

// Release gives the memory back. The batch and its documents are not used after it.
func (b *Batch) Release() {
	if b.buf != nil {
		if b.d.Scribble {
			for i := range b.buf {
				b.buf[i] = 0xdb
			}
		}
		b.d.pool.put(b.buf)
	}
	b.buf, b.arr = nil, nil
}
