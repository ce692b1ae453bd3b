package restore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/cairndb/cairn/internal/backup/archive"
)

// form is how the bytes of an input are packed.
type form uint8

const (
	plain form = iota
	gzipped
	zstandard
	snappy
)

var suffixes = []struct {
	ext  string
	form form
}{{".gz", gzipped}, {".zst", zstandard}, {".sz", snappy}}

// splitForm takes the suffix of a packed file from its name.
func splitForm(name string) (string, form) {
	for _, s := range suffixes {
		if base, ok := strings.CutSuffix(name, s.ext); ok {
			return base, s.form
		}
	}
	return name, plain
}

var magics = []struct {
	bytes string
	form  form
}{
	{"\x1f\x8b\x08", gzipped},
	{"\x28\xb5\x2f\xfd", zstandard},
	{"\xff\x06\x00\x00sNaPpY", snappy},
	{"\xff\x06\x00\x00S2sTwO", snappy},
}

// sniff tells the form from the first bytes. The first bytes of a document are its
// length, and those of the gzip magic are the length of some: bson says that the bytes
// may be documents, in which case only a gzip header that could not be one counts.
func sniff(head []byte, bson bool) form {
	for _, m := range magics {
		if !bytes.HasPrefix(head, []byte(m.bytes)) {
			continue
		}
		// Behind the length comes the type of the first element; behind gzip's first four
		// bytes comes the low byte of a time, which the tools leave 0.
		if m.form == gzipped && bson && (len(head) < 5 || head[4] != 0) {
			return plain
		}
		return m.form
	}
	return plain
}

// input is a file or stream that is being read: what comes out is unpacked, Pos counts
// what went in.
type input struct {
	r     io.Reader
	raw   io.Reader // what is packed
	pos   atomic.Int64
	hash  io.Writer // gets what is packed as it is read; nil: nothing does
	close []func() error
}

func (in *input) Read(p []byte) (int, error) { return in.r.Read(p) }

// Pos returns how many bytes of the file were read, packed as they are.
func (in *input) Pos() int64 { return in.pos.Load() }

// Close ends the reading, in the reverse order of what was opened.
func (in *input) Close() error {
	var err error
	for i := len(in.close) - 1; i >= 0; i-- {
		err = errors.Join(err, in.close[i]())
	}
	in.close = nil
	return err
}

// counter reads the packed bytes of an input.
type counter struct {
	r  io.Reader
	in *input
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.in.pos.Add(int64(n))
	if c.in.hash != nil {
		_, _ = c.in.hash.Write(p[:n]) // a hash takes everything
	}
	return n, err
}

// openFile opens a file of a known form.
func openFile(path string, f form) (*input, error) { return openChecked(path, f, nil) }

// openChecked is openFile with something that gets the packed bytes as they are read.
func openChecked(path string, f form, h io.Writer) (*input, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	in := &input{close: []func() error{file.Close}, hash: h}
	if err := in.unpack(counter{file, in}, f); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

// openStream reads a stream whose form is told from its first bytes.
func openStream(r io.Reader, bson bool, h io.Writer) (*input, error) {
	in := &input{hash: h}
	head := make([]byte, 16)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	head = head[:n]
	whole := counter{io.MultiReader(bytes.NewReader(head), r), in}
	if err := in.unpack(whole, sniff(head, bson)); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

func (in *input) unpack(r io.Reader, f form) error {
	in.raw = r
	switch f {
	case gzipped:
		z, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		in.close = append(in.close, z.Close)
		in.ahead(z)
	case zstandard:
		// One that decodes ahead of the reader, with windows as large as the dump makes.
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxWindow(32<<20))
		if err != nil {
			return err
		}
		in.close = append(in.close, func() error { z.Close(); return nil })
		in.r = z
	case snappy:
		in.ahead(s2.NewReader(r))
	default:
		in.r = r
	}
	return nil
}

// aheadSize is the buffer between unpacking and reading.
const aheadSize = 256 << 10

// ahead unpacks on a goroutine of its own, so that it does not wait for the server.
func (in *input) ahead(src io.Reader) {
	a := &aheadReader{full: make(chan chunk, 2), free: make(chan []byte, 3), quit: make(chan struct{}), done: make(chan struct{})}
	for range 3 {
		a.free <- make([]byte, aheadSize)
	}
	go func() {
		defer close(a.done)
		for {
			var buf []byte
			select {
			case buf = <-a.free:
			case <-a.quit:
				return
			}
			n, err := 0, error(nil)
			for n < len(buf) && err == nil {
				var got int
				got, err = src.Read(buf[n:])
				n += got
			}
			select {
			case a.full <- chunk{buf[:n], err}:
			case <-a.quit:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	in.close = append(in.close, func() error {
		close(a.quit)
		<-a.done
		return nil
	})
	in.r = a
}

type chunk struct {
	data []byte
	err  error
}

type aheadReader struct {
	full chan chunk
	free chan []byte
	quit chan struct{}
	done chan struct{}
	cur  chunk
	left []byte
}

func (a *aheadReader) Read(p []byte) (int, error) {
	for len(a.left) == 0 {
		if a.cur.err != nil {
			return 0, a.cur.err
		}
		if a.cur.data != nil {
			a.free <- a.cur.data[:cap(a.cur.data)]
		}
		a.cur = <-a.full
		a.left = a.cur.data
	}
	n := copy(p, a.left)
	a.left = a.left[n:]
	return n, nil
}

// blockSize is how many bytes of a file are read and handed on at once.
const blockSize = 512 << 10

// readDocuments cuts a stream of documents into runs of whole ones. A run is valid until
// fn returns. The errors are the originals'.
func readDocuments(r io.Reader, maxSize int, fn func(block []byte) error) error {
	buf := make([]byte, 0, blockSize)
	var eof bool
	for {
		end, need, bad := 0, 0, error(nil)
		for bad == nil && len(buf)-end >= 4 {
			size := int64(binary.LittleEndian.Uint32(buf[end:]))
			switch {
			case size < 5:
				bad = fmt.Errorf("invalid BSONSize: %v bytes is less than 5 bytes", size)
			case size > int64(maxSize):
				bad = fmt.Errorf("invalid BSONSize: %v bytes is larger than maximum of %d bytes", size, maxSize)
			case int64(len(buf)-end) < size:
				need = int(size)
			case buf[end+int(size)-1] != 0:
				bad = errors.New("invalid bson: a document does not end with a null byte")
			}
			if need > 0 || bad != nil {
				break
			}
			end += int(size)
		}
		if end > 0 {
			if err := fn(buf[:end]); err != nil {
				return err
			}
		}
		buf = buf[:copy(buf, buf[end:])]
		switch {
		case bad != nil:
			return bad
		case eof && len(buf) == 0:
			return nil
		case eof && len(buf) == 4:
			return fmt.Errorf("invalid bson: %w", io.EOF)
		case eof:
			return io.ErrUnexpectedEOF
		}
		if len(buf) == cap(buf) { // by steps: a damaged length must not cost 16 MiB
			buf = slices.Grow(buf, min(need-len(buf), cap(buf)))
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		eof = err != nil
	}
}

// maxDocument is the longest document that is read: the server's own, and an oplog
// entry's that carries one.
const maxDocument = archive.MaxDocument
