package tool

import (
	"errors"
	"io"
	"syscall"
	"unsafe"
)

// Sizes of a BulkWriter's writes.
const (
	bulkSize  = 1 << 20
	bulkAlign = 4096
)

// BulkWriter writes large files around the page cache where the system can: a dump is not
// read again soon, filling the cache costs most of the time of writing, and what it would
// push out are the pages of the server beside it. Small files go through the cache.
// It is not safe for concurrent use.
type BulkWriter struct {
	w      *WholeFile
	buf    []byte // aligned, bulkSize long; nil before the first write and after Flush
	n      int
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
	m, err := b.w.Write(b.buf[:n])
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
	if b.buf != nil {
		select {
		case bulkBuffers <- b.buf:
		default:
		}
		b.buf, b.n = nil, 0
	}
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
