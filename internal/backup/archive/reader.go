package archive

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"slices"

	"github.com/cairndb/cairn/internal/bson"
)

// readSize is how much a Reader asks the stream for, and the longest run of documents it
// hands out unless a single one is longer.
const readSize = 1 << 20

// firstRead is the buffer of an archive that turns out to be small.
const firstRead = 16 << 10

// Sink takes the documents of one namespace. All calls come from the goroutine of Run,
// so a Sink that waits holds up the whole archive: it may wait for work that was handed
// to it before, never for another namespace's documents.
type Sink interface {
	// Documents takes whole documents, one after the other, in the order of the dump.
	// block is valid until it returns.
	Documents(block []byte) error
	// End is called once: true if the namespace came to its end and its checksum is right,
	// false if it did not, in which case Run returns a *FormatError or an error of a Sink.
	End(crcOK bool) error
}

// Reader reads an archive.
type Reader struct {
	in      io.Reader
	prelude Prelude

	buf    []byte // bytes read and not parsed
	start  int    // the first of them
	offset int64  // of buf[start] in the archive
	err    error  // what in said after them

	sum    uint64 // running checksum of the prelude
	states map[string]state
	parent map[string]string
	open   map[string]*flow
}

// flow is a namespace that has begun and not ended.
type flow struct {
	name string
	sink Sink // nil if the caller does not want it
	crc  uint64
	size int64
}

// ErrNotArchive is returned (wrapped in a *FormatError) for a stream that does not begin
// as an archive does.
var ErrNotArchive = errors.New("stream or file does not appear to be a mongodump archive")

// NewReader reads the prelude. Its errors are *FormatError.
func NewReader(r io.Reader) (*Reader, error) {
	a := &Reader{in: r, buf: make([]byte, 0, firstRead), open: map[string]*flow{}}
	if err := a.readPrelude(); err != nil {
		return nil, err
	}
	return a, nil
}

// Prelude returns what the archive says of itself.
func (a *Reader) Prelude() *Prelude { return &a.prelude }

// Offset returns how many bytes were parsed.
func (a *Reader) Offset() int64 { return a.offset }

// Open returns how many namespaces have begun and not ended.
func (a *Reader) Open() int { return len(a.open) }

func (a *Reader) fail(ns string, err error, why string, args ...any) error {
	return &FormatError{Namespace: ns, Offset: a.offset, Why: fmt.Sprintf(why, args...), Err: err}
}

// need makes at least n unparsed bytes available, or as many as there are.
func (a *Reader) need(n int) bool {
	if len(a.buf)-a.start >= n {
		return true
	}
	if a.start > 0 {
		a.buf = a.buf[:copy(a.buf, a.buf[a.start:])]
		a.start = 0
	}
	if a.offset > 8*firstRead && cap(a.buf) < readSize {
		a.buf = slices.Grow(a.buf, readSize-len(a.buf))
	}
	for len(a.buf) < n && a.err == nil {
		if len(a.buf) == cap(a.buf) { // by steps: a damaged length must not cost 16 MiB
			a.buf = slices.Grow(a.buf, min(n-len(a.buf), cap(a.buf)))
		}
		var got int
		got, a.err = a.in.Read(a.buf[len(a.buf):cap(a.buf)])
		a.buf = a.buf[:len(a.buf)+got]
	}
	return len(a.buf) >= n
}

func (a *Reader) skip(n int) {
	a.start += n
	a.offset += int64(n)
}

// broken is the reason of an end in the middle.
func (a *Reader) broken() error {
	if a.err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return a.err
}

// length returns the length of the next document, 0 for a terminator, and io.EOF at the
// end of the stream.
func (a *Reader) length(ns string) (int, error) {
	if !a.need(4) {
		if len(a.buf) == a.start && a.err == io.EOF {
			return 0, io.EOF
		}
		return 0, a.fail(ns, a.broken(), "I/O error reading length or terminator")
	}
	size := binary.LittleEndian.Uint32(a.buf[a.start:])
	if size == terminator {
		return 0, nil
	}
	if size < minDocument || size > MaxDocument {
		return 0, a.fail(ns, nil, "%d is neither a valid bson length nor a archive terminator", size)
	}
	return int(size), nil
}

// document returns the next document, nil for a terminator. It is valid until the next read.
func (a *Reader) document(ns string) (bson.Raw, error) {
	size, err := a.length(ns)
	if err != nil || size == 0 {
		if err == nil {
			a.skip(4)
		}
		return nil, err
	}
	if !a.need(size) {
		return nil, a.fail(ns, a.broken(), "read bson")
	}
	doc := a.buf[a.start : a.start+size]
	if doc[size-1] != 0 {
		return nil, a.fail(ns, nil, "bson (size: %d, byte: %d) doesn't end with a null byte", size, doc[size-1])
	}
	a.skip(size)
	return bson.Raw(doc), nil
}

func (a *Reader) readPrelude() error {
	if !a.need(4) {
		if len(a.buf) == a.start && a.err == io.EOF {
			return a.fail("", errEmpty, "I/O failure reading beginning of archive")
		}
		return a.fail("", a.broken(), "I/O failure reading beginning of archive")
	}
	if binary.LittleEndian.Uint32(a.buf[a.start:]) != Magic {
		return a.fail("", ErrNotArchive, "no magic number")
	}
	a.sum = crc64.Update(0, crcTable, a.buf[a.start:a.start+4])
	a.skip(4)
	head, err := a.preludeDocument()
	if err != nil {
		return err
	}
	if head == nil {
		return a.fail("", nil, "consecutive terminators / headerless blocks are not allowed")
	}
	header, want, sealed, err := decodeHeader(head)
	if err != nil {
		return a.fail("", err, "the archive's header is not one")
	}
	a.prelude.Header, a.prelude.Seal = header, sealed
	a.sum = crc64.Update(a.sum, crcTable, unsealed(head, sealed))
	for {
		doc, err := a.preludeDocument()
		if err != nil {
			return err
		}
		if doc == nil {
			break
		}
		a.sum = crc64.Update(a.sum, crcTable, doc)
		c, err := decodeMetadata(doc)
		if err != nil {
			return a.fail(namespace(c.DB, c.Collection), err, "the prelude's collection is not one")
		}
		a.prelude.Collections = append(a.prelude.Collections, c)
	}
	a.sum = crc64.Update(a.sum, crcTable, terminatorBytes)
	if sealed && a.sum != want {
		return a.fail("", nil, "CRC mismatch for the prelude, %d!=%d", a.sum, want)
	}
	if a.states, a.parent, err = announce(&a.prelude); err != nil {
		return a.fail("", err, "the prelude contradicts itself")
	}
	return nil
}

func (a *Reader) preludeDocument() (bson.Raw, error) {
	doc, err := a.document("")
	if err == io.EOF {
		err = a.fail("", io.ErrUnexpectedEOF, "the prelude is not whole")
	}
	return doc, err
}

// unsealed returns the header as it was when its checksum was computed.
func unsealed(head bson.Raw, sealed bool) bson.Raw {
	if !sealed {
		return head
	}
	head = head.Clone()
	for i := len(head) - 2 - sealDigits; i < len(head)-2; i++ {
		head[i] = '0'
	}
	return head
}

// Run reads the archive to its end. It calls open where a namespace begins, with the name
// its data have in the archive; a nil Sink skips the namespace, which is checked all the
// same. Damage is a *FormatError; an error of open, of a Sink or of ctx is returned as it
// is. Each Sink that was opened has seen its End when Run returns.
func (a *Reader) Run(ctx context.Context, open func(db, coll string) (Sink, error)) error {
	err := a.run(ctx, open)
	for _, f := range a.open {
		if f.sink != nil {
			err = errors.Join(err, f.sink.End(false))
		}
	}
	clear(a.open)
	return err
}

func (a *Reader) run(ctx context.Context, open func(db, coll string) (Sink, error)) error {
	for {
		start := a.offset
		head, err := a.document("")
		if err == io.EOF {
			return a.finish()
		}
		if err != nil {
			return err
		}
		if head == nil {
			return a.fail("", nil, "consecutive terminators / headerless blocks are not allowed")
		}
		h, err := decodeBlockHeader(head)
		if err != nil {
			a.offset = start
			return a.fail(namespace(h.db, h.coll), err, "header bson doesn't unmarshal as a collection header")
		}
		f, err := a.flow(h, start, open)
		if err != nil {
			return err
		}
		if h.eof {
			if err := a.end(f, h, start); err != nil {
				return err
			}
			continue
		}
		if err := a.documents(ctx, f); err != nil {
			return err
		}
	}
}

// flow finds the namespace of a header, and opens it if it is new.
func (a *Reader) flow(h blockHeader, start int64, open func(db, coll string) (Sink, error)) (*flow, error) {
	ns := namespace(h.db, h.coll)
	if f := a.open[ns]; f != nil {
		return f, nil
	}
	name := a.parent[ns]
	switch {
	case name == "":
		return nil, &FormatError{ns, start, "no collection of the prelude has this namespace", nil}
	case a.states[name] != announced:
		return nil, &FormatError{ns, start, "namespace header for already opened namespace", nil}
	}
	sink, err := open(h.db, h.coll)
	if err != nil {
		return nil, err
	}
	a.states[name] = opened
	f := &flow{name: ns, sink: sink}
	a.open[ns] = f
	return f, nil
}

// documents hands out a block to its terminator, in runs as long as the buffer holds.
func (a *Reader) documents(ctx context.Context, f *flow) error {
	for {
		run, size := 0, 0
		var err error
		for {
			if len(a.buf)-a.start < run+4 {
				break
			}
			n := binary.LittleEndian.Uint32(a.buf[a.start+run:])
			if n < minDocument || n > MaxDocument || len(a.buf)-a.start < run+int(n) || a.buf[a.start+run+int(n)-1] != 0 {
				break // a terminator, damage, or the end of the buffer: found out below
			}
			run += int(n)
		}
		if run > 0 {
			block := a.buf[a.start : a.start+run : a.start+run]
			f.crc = updateCRC(f.crc, block)
			f.size += int64(run)
			if f.sink != nil {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := f.sink.Documents(block); err != nil {
					return err
				}
			}
			a.skip(run)
		}
		if size, err = a.length(f.name); err != nil {
			if err == io.EOF {
				err = a.fail(f.name, io.ErrUnexpectedEOF, "the archive ends inside a block")
			}
			return err
		}
		if size == 0 {
			a.skip(4)
			return ctx.Err()
		}
		if !a.need(size) {
			return a.fail(f.name, a.broken(), "read bson")
		}
		if last := a.buf[a.start+size-1]; last != 0 {
			return a.fail(f.name, nil, "bson (size: %d, byte: %d) doesn't end with a null byte", size, last)
		}
	}
}

// end closes a namespace: its block holds nothing, its checksum must be right.
func (a *Reader) end(f *flow, h blockHeader, start int64) error {
	size, err := a.length(f.name)
	switch {
	case err == io.EOF:
		return a.fail(f.name, io.ErrUnexpectedEOF, "the archive ends inside a block")
	case err != nil:
		return err
	case size != 0:
		return a.fail(f.name, nil, "collection data without a collection header")
	}
	a.skip(4)
	delete(a.open, f.name)
	a.states[a.parent[f.name]] = closed
	ok := f.crc == h.crc
	if f.sink != nil {
		err = f.sink.End(ok)
	}
	if !ok {
		return errors.Join(&FormatError{f.name, start,
			fmt.Sprintf("CRC mismatch for namespace `%s`, %d!=%d", f.name, f.crc, h.crc), nil}, err)
	}
	return err
}

// finish checks at the end of the stream that nothing is missing.
func (a *Reader) finish() error {
	for i := range a.prelude.Collections {
		c := &a.prelude.Collections[i]
		ns := namespace(c.DB, c.Collection)
		switch a.states[ns] {
		case opened:
			return a.fail(ns, nil, "archive finished but contained files were unfinished (`%s`)", ns)
		case announced:
			return a.fail(ns, nil, "archive finished before all collections were seen (`%s`)", ns)
		}
	}
	return nil
}
