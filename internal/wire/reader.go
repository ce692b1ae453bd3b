package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

const (
	// readBufferSize is what a connection holds while it is idle. A smaller message
	// is read with one call and parsed where it lies.
	readBufferSize = 4 << 10
	// firstRead is how much room a larger message gets before its bytes are there;
	// the room then grows with what arrives.
	firstRead  = 128 << 10
	growFactor = 4
)

// Reader cuts a byte stream into messages. It is not safe for concurrent use.
type Reader struct {
	src  io.Reader
	buf  []byte
	r, w int // unread bytes of buf
	big  *Buffer
	max  int
}

// NewReader returns a Reader of src that refuses messages longer than max bytes.
func NewReader(src io.Reader, max int) *Reader {
	return &Reader{src: src, buf: make([]byte, readBufferSize), max: max}
}

// Buffered returns how many bytes of later messages have been read already.
func (r *Reader) Buffered() int { return r.w - r.r }

// Next returns the next whole message, header included, valid until the next call
// of Next or Release. The error is io.EOF at the end of a stream between messages,
// io.ErrUnexpectedEOF within one, a *FrameError for an impossible length.
func (r *Reader) Next() ([]byte, error) {
	r.Release()
	if err := r.fill(headerSize); err != nil {
		return nil, err
	}
	h := parseHeader(r.buf[r.r:])
	n := int(h.Length)
	if reason := r.checkHeader(h); reason != "" {
		return nil, &FrameError{Reason: reason, Head: bytes.Clone(r.buf[r.r : r.r+headerSize])}
	}
	if n > len(r.buf) {
		return r.readBig(n)
	}
	if err := r.fill(n); err != nil {
		return nil, err
	}
	msg := r.buf[r.r : r.r+n : r.r+n]
	r.r += n
	return msg, nil
}

// checkHeader returns why h cannot begin a message, before anything waits for the
// rest of it: who speaks another protocol is told at once.
func (r *Reader) checkHeader(h Header) string {
	if int(h.Length) < headerSize || int(h.Length) > r.max {
		return fmt.Sprintf("length %d is not between %d and %d", h.Length, headerSize, r.max)
	}
	switch h.OpCode {
	case OpMsg, OpCompressed, OpQuery, OpReply, OpGetMore, OpInsert, OpUpdate, OpDelete, OpKillCursors:
		return ""
	}
	return fmt.Sprintf("unknown %s", h.OpCode)
}

// Release gives back the memory of the last message if it was a large one.
func (r *Reader) Release() {
	if r.big != nil {
		r.big.Free()
		r.big = nil
	}
}

// fill reads until n bytes are unread in buf; n is at most len(buf).
func (r *Reader) fill(n int) error {
	if r.r == r.w {
		r.r, r.w = 0, 0
	} else if r.r+n > len(r.buf) {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	for r.w-r.r < n {
		m, err := r.src.Read(r.buf[r.w:])
		r.w += m
		if err != nil && r.w-r.r < n {
			return midMessage(err, r.w > r.r)
		}
	}
	return nil
}

func midMessage(err error, begun bool) error {
	if begun && errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readBig reads a message that is longer than buf and never a byte behind it. Its
// memory grows with what has arrived: a client that claims 48 MB and stalls holds
// little more than it sent.
func (r *Reader) readBig(n int) ([]byte, error) {
	r.big = GetBuffer(min(n, firstRead))
	b := append(r.big.B, r.buf[r.r:r.w]...) // all of it belongs to this message
	r.r, r.w = 0, 0
	for len(b) < n {
		if len(b) == cap(b) {
			b = r.grow(b, n)
		}
		m, err := r.src.Read(b[len(b):min(cap(b), n)])
		b = b[:len(b)+m]
		if err != nil && len(b) < n {
			r.big.B = b
			return nil, midMessage(err, true)
		}
	}
	r.big.B = b
	return b[:n:n], nil
}

func (r *Reader) grow(b []byte, n int) []byte {
	next := GetBuffer(min(n, growFactor*cap(b)))
	b2 := append(next.B, b...)
	r.big.B = b
	r.big.Free()
	r.big = next
	return b2
}
