package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// blockSize is how much a namespace's buffer gathers before it goes into the stream: as
// much as makes the headers between the namespaces cheap.
const blockSize = 256 << 10

// Writer writes an archive. WritePrelude comes first, then any number of namespaces in
// any order and from any number of goroutines, each namespace once, then Close.
type Writer struct {
	buffers sync.Pool // *[]byte of blockSize: only namespaces that hold data keep one

	mu struct {
		sync.Mutex
		out     io.Writer
		size    int64
		err     error // the first failure, returned ever after
		current *NamespaceWriter
		states  map[string]state
		parent  map[string]string // from names of data to the prelude's name
	}
}

type state uint8

const (
	announced state = iota + 1
	opened
	closed
)

// NewWriter returns a Writer on out, which it does not close. Blocks are written whole,
// so out needs no buffer.
func NewWriter(out io.Writer) *Writer {
	w := &Writer{}
	w.mu.out = out
	w.buffers.New = func() any { b := make([]byte, 0, blockSize); return &b }
	return w
}

// WritePrelude writes the beginning of the archive. Every namespace that will be written
// must be announced in it, and no other.
func (w *Writer) WritePrelude(p *Prelude) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.states != nil {
		return errors.New("the archive has its prelude already")
	}
	var err error
	if w.mu.states, w.mu.parent, err = announce(p); err != nil {
		w.mu.err = err
		return err
	}
	return w.writeLocked(p.encode())
}

// announce makes the table of the namespaces that an archive must hold.
func announce(p *Prelude) (map[string]state, map[string]string, error) {
	states, parent := make(map[string]state, len(p.Collections)), map[string]string{}
	for i := range p.Collections {
		c := &p.Collections[i]
		ns := namespace(c.DB, c.Collection)
		if states[ns] != 0 {
			return nil, nil, fmt.Errorf("`%s` is announced twice", ns)
		}
		states[ns] = announced
		for _, name := range c.dataNames() {
			if parent[name] != "" {
				return nil, nil, fmt.Errorf("`%s` is announced twice", name)
			}
			parent[name] = ns
		}
	}
	return states, parent, nil
}

// Size returns how many bytes of the archive were handed to the stream.
func (w *Writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.size
}

// Close checks that every namespace of the prelude was written and closed. Without that
// the archive is not whole and no restore will take it.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.err != nil {
		return w.mu.err
	}
	if w.mu.states == nil {
		return errors.New("the archive has no prelude")
	}
	for ns, s := range w.mu.states {
		if s != closed {
			return fmt.Errorf("the archive is not whole: `%s` was announced and not written to its end", ns)
		}
	}
	w.mu.err = errors.New("the archive is closed")
	return nil
}

func (w *Writer) writeLocked(p []byte) error {
	if w.mu.err != nil {
		return w.mu.err
	}
	n, err := w.mu.out.Write(p)
	w.mu.size += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	w.mu.err = err
	return err
}

// NamespaceWriter is the part of a Writer for one namespace. Its Write is safe for
// concurrent use: what one call brings stays together.
type NamespaceWriter struct {
	w        *Writer
	db, coll string

	mu struct {
		sync.Mutex
		crc uint64
		buf *[]byte // nil while nothing is gathered
		err error
	}
}

// Namespace opens a namespace under the name its data have in the archive: the oplog is
// ("", "oplog"), buckets of a time-series collection are under system.buckets. A name
// that was not announced, or was opened before, fails the first Write or the Close.
// Views and empty collections are opened and closed without data, as the originals do.
func (w *Writer) Namespace(db, coll string) *NamespaceWriter {
	n := &NamespaceWriter{w: w, db: db, coll: coll}
	w.mu.Lock()
	defer w.mu.Unlock()
	ns := namespace(db, coll)
	switch name := w.mu.parent[ns]; {
	case name == "":
		n.mu.err = fmt.Errorf("`%s` is not in the prelude of the archive", ns)
	case w.mu.states[name] != announced:
		n.mu.err = fmt.Errorf("`%s` is in the archive already", ns)
	default:
		w.mu.states[name] = opened
	}
	return n
}

// Write adds whole documents, one or more. The bytes are not kept after the call.
func (n *NamespaceWriter) Write(docs []byte) (int, error) {
	if err := whole(docs); err != nil {
		return 0, fmt.Errorf("writing `%s` to the archive: %w", namespace(n.db, n.coll), err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.err != nil {
		return 0, n.mu.err
	}
	n.mu.crc = updateCRC(n.mu.crc, docs)
	gathered := 0
	if n.mu.buf != nil {
		gathered = len(*n.mu.buf)
	}
	if gathered+len(docs) <= blockSize {
		if n.mu.buf == nil {
			n.mu.buf = n.w.buffers.Get().(*[]byte)
		}
		*n.mu.buf = append(*n.mu.buf, docs...)
		return len(docs), nil
	}
	if err := n.flushLocked(docs); err != nil {
		return 0, err
	}
	return len(docs), nil
}

// flushLocked writes what is gathered and then more, in one go.
func (n *NamespaceWriter) flushLocked(more []byte) error {
	w := n.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.current != n {
		var head []byte
		if w.mu.current != nil {
			head = append(head, terminatorBytes...)
		}
		head = append(head, blockHeader{db: n.db, coll: n.coll}.encode()...)
		w.mu.current = n
		n.mu.err = w.writeLocked(head)
	}
	if n.mu.buf != nil {
		if n.mu.err == nil {
			n.mu.err = w.writeLocked(*n.mu.buf)
		}
		*n.mu.buf = (*n.mu.buf)[:0]
		w.buffers.Put(n.mu.buf)
		n.mu.buf = nil
	}
	if n.mu.err == nil && len(more) > 0 {
		n.mu.err = w.writeLocked(more)
	}
	return n.mu.err
}

// Close writes what is gathered and the end of the namespace with its checksum.
func (n *NamespaceWriter) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.err != nil {
		return n.mu.err
	}
	if err := n.flushLocked(nil); err != nil { // a header even without data, as the originals write it
		return err
	}
	n.mu.err = fmt.Errorf("`%s` is closed", namespace(n.db, n.coll))
	w := n.w
	w.mu.Lock()
	defer w.mu.Unlock()
	var end []byte
	if w.mu.current != nil {
		end = append(end, terminatorBytes...)
	}
	end = append(end, blockHeader{db: n.db, coll: n.coll, eof: true, crc: n.mu.crc}.encode()...)
	end = append(end, terminatorBytes...)
	w.mu.current = nil
	if err := w.writeLocked(end); err != nil {
		return err
	}
	w.mu.states[w.mu.parent[namespace(n.db, n.coll)]] = closed
	return nil
}

// whole checks that p is a sequence of documents by their lengths.
func whole(p []byte) error {
	for len(p) > 0 {
		if len(p) < minDocument {
			return fmt.Errorf("%d bytes are no document", len(p))
		}
		size := uint64(binary.LittleEndian.Uint32(p))
		if size < minDocument || size > MaxDocument {
			return fmt.Errorf("%d is not the length of a document", size)
		}
		if size > uint64(len(p)) || p[size-1] != 0 {
			return errors.New("a document is not whole")
		}
		p = p[size:]
	}
	return nil
}
