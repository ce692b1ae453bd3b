package tool

import (
	"errors"
	"io"
	"syscall"
	"unsafe"
)

// Sizes of a BulkWriter's writes.
const (
	// bulkSize is also the least that Go's copy moves around the processor's caches.
	bulkSize  = 1 << 20
	bulkAlign = 4096
)

// BulkWriter writes large files around the page cache where the system can: a dump is not
// read again soon, filling the cache costs most of the time of writing, and what it would
// push out are the pages of the server beside it. Small files go through the cache.
// It is not safe for concurrent use.
//
// What a device has fetched from memory is slow to be written again, a tenth of the speed of
// memory on virtual machines, since each line comes back from another processor's cache. So
// writes are gathered in one buffer and go to the device from another, which is filled by one
// copy that is long enough to pass the caches by.
type BulkWriter struct {
	w      *WholeFile
	buf    []byte // bulkSize long; nil before the first write and after Flush
	n      int
	out    []byte // aligned, for the device; nil until the first write around the page cache
	direct bool
	tried  bool
}

// bulkBuffers are buffers without a writer: a dump of many small files would spend more
// time on making new ones than on what it writes.
var bulkBuffers = make(chan []byte, 16)

// bulkBuffer returns an aligned buffer.
func bulkBuffer() []byte {
	select {
	case b := <-bulkBuffers:
		return b
	default:
	}
	raw := make([]byte, bulkSize+bulkAlign)
	skip := 0
	if at := int(uintptr(unsafe.Pointer(&raw[0])) % bulkAlign); at != 0 {
		skip = bulkAlign - at
	}
	return raw[skip : skip+bulkSize]
}

// Bulk returns a writer on w. Its Flush comes before w is sealed.
func (w *WholeFile) Bulk() *BulkWriter { return &BulkWriter{w: w} }

// Write implements io.Writer.
func (b *BulkWriter) Write(p []byte) (int, error) {
	if b.buf == nil {
		b.buf = bulkBuffer()
	}
	total := 0
	for len(p) > 0 {
		m := copy(b.buf[b.n:], p)
		b.n += m
		total += m
		p = p[m:]
		if b.n == len(b.buf) {
			if err := b.spill(b.n); err != nil {
				return total, err
			}
		}
	}
	return total, nil
}

// spill writes the first n bytes, all or a multiple of the alignment, and keeps the rest.
func (b *BulkWriter) spill(n int) error {
	if !b.tried && n == len(b.buf) && b.w.temp != "" {
		b.tried = true
		b.direct = setDirect(b.w.f, true)
	}
	from := b.buf[:n]
	if b.direct {
		if b.out == nil {
			b.out = bulkBuffer()
		}
		from = b.out[:copy(b.out, from)]
	}
	m, err := b.w.Write(from)
	if err != nil && b.direct && errors.Is(err, syscall.EINVAL) {
		// It said it could, and cannot: nothing was written.
		b.direct = false
		setDirect(b.w.f, false)
		m, err = b.w.Write(b.buf[:n])
	}
	if err == nil && m < n {
		err = io.ErrShortWrite
	}
	if err != nil {
		return err
	}
	copy(b.buf, b.buf[n:b.n])
	b.n -= n
	return nil
}

// Flush writes what is left.
func (b *BulkWriter) Flush() error {
	err := b.flush()
	for _, buf := range [][]byte{b.buf, b.out} {
		if buf == nil {
			continue
		}
		select {
		case bulkBuffers <- buf:
		default:
		}
	}
	b.buf, b.out, b.n = nil, nil, 0
	return err
}

func (b *BulkWriter) flush() error {
	if b.direct {
		if n := b.n &^ (bulkAlign - 1); n > 0 {
			if err := b.spill(n); err != nil {
				return err
			}
		}
		setDirect(b.w.f, false)
		b.direct = false
	}
	if b.n == 0 {
		return nil
	}
	return b.spill(b.n)
}
