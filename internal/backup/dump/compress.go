package dump

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

type method uint8

const (
	methodNone method = iota
	methodGzip
	methodZstd
	methodSnappy
)

// suffix is what a file's name ends with.
func (m method) suffix() string { return [...]string{"", ".gz", ".zst", ".sz"}[m] }

func parseMethod(s string) (method, error) {
	switch s {
	case "", "none":
		return methodNone, nil
	case "gzip":
		return methodGzip, nil
	case "zstd":
		return methodZstd, nil
	case "snappy":
		return methodSnappy, nil
	}
	return methodNone, fmt.Errorf("unknown compression method %#q: --compress takes zstd, snappy, gzip or none", s)
}

// compressBlock is how much of a stream is compressed at a time: each block is a gzip
// member, a zstd frame or a framed snappy stream of its own, which the standard tools
// read one after the other.
const compressBlock = 1 << 20

// compressor compresses blocks on several cores. One is shared by all files of a dump, so
// that the number of blocks in memory does not grow with the number of files.
type compressor struct {
	encoders sync.Pool     // of encoder
	slots    chan struct{} // one for each block that is handed to the workers and not written yet
	jobs     chan *block
	wg       sync.WaitGroup
}

// encoder appends the compressed form of in to out. how is the stream's memory of what
// suits its data, first says that in is of the stream's beginning.
type encoder func(out, in []byte, how *atomic.Int32, first bool) ([]byte, error)

// trials are how the last streams' trials of two levels ended. A dump of many small files
// would do little else than try, and the collections of a database are often alike: after
// some that ended the same the others' beginnings are compressed in that way untried.
type trials struct {
	last, same atomic.Int32
}

const (
	enough  = 4 // trials in a row that must have ended the same
	untried = 4 // blocks of a stream that go by them
)

func (t *trials) add(choice int32) {
	if t.last.Swap(choice) == choice {
		t.same.Add(1)
	} else {
		t.same.Store(1)
	}
}

// expect returns what to take untried, undecided if there is nothing to go by.
func (t *trials) expect() int32 {
	if t.same.Load() < enough {
		return undecided
	}
	return t.last.Load()
}

// What a zstd stream's data are compressed with.
const (
	undecided int32 = iota
	usual
	thorough
)

// block is one piece of a stream on its way through the compressor.
type block struct {
	in, out []byte
	err     error
	how     *atomic.Int32 // of its stream
	first   bool          // of its stream's beginning
	done    chan struct{}
}

var blockPool = sync.Pool{New: func() any {
	return &block{in: make([]byte, 0, compressBlock), out: make([]byte, 0, compressBlock/2)}
}}

// newCompressor starts workers; close ends them.
func newCompressor(m method, workers int) *compressor {
	c := &compressor{slots: make(chan struct{}, 2*workers), jobs: make(chan *block)}
	var tried trials
	c.encoders.New = func() any { return newEncoder(m, &tried) }
	for range workers {
		c.wg.Add(1)
		go func() {
			defer c.wg.Done()
			for b := range c.jobs {
				c.encode(b)
				close(b.done)
			}
		}()
	}
	return c
}

func (c *compressor) encode(b *block) {
	enc := c.encoders.Get().(encoder)
	b.out, b.err = enc(b.out[:0], b.in, b.how, b.first)
	c.encoders.Put(enc)
}

func (c *compressor) close() {
	if c == nil {
		return
	}
	close(c.jobs)
	c.wg.Wait()
}

// newEncoder returns a function that appends the compressed form of in to out. It keeps
// its tables, so it serves one block at a time.
func newEncoder(m method, tried *trials) encoder {
	switch m {
	case methodZstd:
		return newZstd(tried)
	case methodGzip:
		w, err := gzip.NewWriterLevel(nil, gzip.DefaultCompression)
		return func(out, in []byte, _ *atomic.Int32, _ bool) ([]byte, error) { return through(w, err, out, in) }
	default:
		w := snappy.NewBufferedWriter(nil)
		return func(out, in []byte, _ *atomic.Int32, _ bool) ([]byte, error) { return through(w, nil, out, in) }
	}
}

// newZstd returns an encoder that tries two levels on a full block of a stream, and
// takes the slower one for the rest of it where that is worth its time: with some data it
// makes files a few percent smaller, with other data larger.
func newZstd(tried *trials) encoder {
	make := func(level zstd.EncoderLevel) (*zstd.Encoder, error) {
		// A window of one block: larger ones cost memory and find nothing.
		return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(compressBlock),
			zstd.WithEncoderLevel(level), zstd.WithLowerEncoderMem(true))
	}
	fast, err := make(zstd.SpeedDefault)
	var slow *zstd.Encoder
	var quick []byte
	return func(out, in []byte, how *atomic.Int32, first bool) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		choice := how.Load()
		if choice == undecided && first {
			choice = tried.expect() // a larger stream is tried further on
		}
		try := choice == undecided && len(in) == compressBlock
		if choice != thorough && !try {
			return fast.EncodeAll(in, out), nil
		}
		if slow == nil {
			if slow, err = make(zstd.SpeedBetterCompression); err != nil {
				return nil, err
			}
		}
		at := len(out)
		out = slow.EncodeAll(in, out)
		if !try {
			return out, nil
		}
		quick = fast.EncodeAll(in, quick[:0])
		if len(out)-at < len(quick)-len(quick)/64 {
			choice = thorough
		} else {
			choice = usual
			out = append(out[:at], quick...)
		}
		how.Store(choice)
		tried.add(choice)
		return out, nil
	}
}

func through(w interface {
	io.WriteCloser
	Reset(io.Writer)
}, err error, out, in []byte) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	buf := bytes.NewBuffer(out)
	w.Reset(buf)
	if _, err := w.Write(in); err != nil {
		return nil, err
	}
	err = w.Close()
	return buf.Bytes(), err
}

// stream is one compressed file. It is not safe for concurrent use.
type stream struct {
	c       *compressor
	w       io.Writer
	cur     *block
	pending []*block // handed to the workers, oldest first
	how     atomic.Int32
	blocks  int // handed on
	wrote   bool
	err     error
}

// stream returns a writer whose compressed form goes to w, in order. Close does not close w.
func (c *compressor) stream(w io.Writer) *stream { return &stream{c: c, w: w} }

// Write implements io.Writer.
func (s *stream) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && s.err == nil {
		if s.cur == nil {
			s.cur = s.newBlock()
		}
		room := min(compressBlock-len(s.cur.in), len(p))
		s.cur.in = append(s.cur.in, p[:room]...)
		p = p[room:]
		if len(s.cur.in) >= compressBlock {
			s.hand()
		}
	}
	return n, s.err
}

func (s *stream) newBlock() *block {
	b := blockPool.Get().(*block)
	b.in, b.done, b.how, b.first = b.in[:0], make(chan struct{}), &s.how, s.blocks < untried
	s.blocks++
	return b
}

// hand gives the current block to the workers, after it has written those of this stream
// that are ready. If other streams hold all slots it is compressed here: a stream never
// waits for another one, which may be waiting for its server.
func (s *stream) hand() {
	for len(s.pending) > 0 {
		select {
		case <-s.pending[0].done:
			s.drain(len(s.pending) - 1)
			continue
		default:
		}
		break
	}
	b := s.cur
	s.cur = nil
	for {
		select {
		case s.c.slots <- struct{}{}:
			s.pending = append(s.pending, b)
			s.c.jobs <- b
			return
		default:
		}
		if len(s.pending) == 0 {
			s.c.encode(b)
			s.put(b)
			return
		}
		s.drain(len(s.pending) - 1)
	}
}

// put writes one compressed block.
func (s *stream) put(b *block) {
	if s.err == nil {
		s.err = b.err
	}
	if s.err == nil {
		_, s.err = s.w.Write(b.out)
	}
	s.wrote = true
	blockPool.Put(b)
}

// drain writes the oldest blocks until only keep are left.
func (s *stream) drain(keep int) {
	for len(s.pending) > keep {
		b := s.pending[0]
		s.pending = s.pending[1:]
		<-b.done
		s.put(b)
		<-s.c.slots
	}
}

// Close writes what is left. An empty stream is an empty member, as gzip has it.
func (s *stream) Close() error {
	if s.cur == nil && !s.wrote && len(s.pending) == 0 && s.err == nil {
		s.cur = s.newBlock()
	}
	if s.cur != nil {
		s.hand()
	}
	s.drain(0)
	err := s.err
	if s.err == nil {
		s.err = errors.New("the stream is closed")
	}
	return err
}

// abort gives the blocks back without writing them.
func (s *stream) abort() {
	if s.err == nil {
		s.err = errors.New("the stream was given up")
	}
	s.drain(0)
}
