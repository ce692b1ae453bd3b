package journal

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// readAhead is how much a reader takes from a file at once.
const readAhead = 64 << 10

// ReadFrom is where a reader begins and how far it may see.
type ReadFrom struct {
	by        seekBy
	n         uint64
	undurable bool
}

type seekBy uint8

const (
	seekStart seekBy = iota
	seekEnd
	seekPos
	seekIndex
	seekTS
)

// FromStart begins at the oldest record.
func FromStart() ReadFrom { return ReadFrom{by: seekStart} }

// FromEnd begins behind the newest record that the reader may see.
func FromEnd() ReadFrom { return ReadFrom{by: seekEnd} }

// FromPos begins at a position that was once a record's Pos or End.
func FromPos(p Pos) ReadFrom { return ReadFrom{by: seekPos, n: uint64(p)} }

// FromIndex begins at the record of the given index, or at the end if there is
// none yet.
func FromIndex(index uint64) ReadFrom { return ReadFrom{by: seekIndex, n: index} }

// FromTS begins at the first entry whose ts is not below the given one, or at
// the end.
func FromTS(ts uint64) ReadFrom { return ReadFrom{by: seekTS, n: ts} }

// Undurable lets the reader see records that a crash may still take away. It is
// for recovery and for those who read their own tail.
func (f ReadFrom) Undurable() ReadFrom {
	f.undurable = true
	return f
}

// Reader walks records in both directions. It stands between two records: Next
// returns the one behind it, Prev the one before. It belongs to one goroutine.
type Reader struct {
	j         *Journal
	undurable bool
	pos       Pos
	gen       uint64
	seg       *segment
	file      vfs.File
	rec       Record
	err       error
	scratch   scratch

	// The block is a run of whole records of seg, [start, end), with the offset
	// in buf of each; at is the one at pos.
	block struct {
		start, end Pos
		*blockBuffer
		at int
	}
}

// blockBuffer is the memory of a reader's block; short-lived readers reuse it.
type blockBuffer struct {
	buf  []byte
	offs []int
}

var blockBuffers = sync.Pool{New: func() any { return new(blockBuffer) }}

// NewReader returns a reader at the given place. The error is ErrTruncated if
// the place was cut off the front.
func (j *Journal) NewReader(from ReadFrom) (*Reader, error) {
	r := &Reader{j: j, undurable: from.undurable}
	r.block.blockBuffer = blockBuffers.Get().(*blockBuffer)
	if err := r.Seek(from); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Seek moves the reader. Whether it may see undurable records does not change.
func (r *Reader) Seek(from ReadFrom) error {
	if r.block.blockBuffer == nil {
		return ErrClosed
	}
	r.err = nil
	r.dropBlock()
	r.err = r.seek(from)
	return r.err
}

func (r *Reader) seek(from ReadFrom) error {
	limit, err := r.limit()
	if err != nil {
		return err
	}
	first := r.j.First().Pos
	switch from.by {
	case seekStart:
		r.pos = first
	case seekEnd:
		r.pos = limit
	case seekPos:
		r.pos = Pos(from.n)
		if r.pos < first {
			return ErrTruncated
		}
		if r.pos > limit {
			return fmt.Errorf("journal: read from position %d, the end is %d", r.pos, limit)
		}
	case seekIndex:
		return r.seekRecord(
			func(s *segment) bool { return s.prevIndex < from.n },
			func(e sparseEntry) bool { return e.index < from.n },
			func(h header) bool { return h.kind.Indexed() && h.index >= from.n })
	case seekTS:
		return r.seekRecord(
			func(s *segment) bool { return s.prevTS < from.n },
			func(e sparseEntry) bool { return e.ts < from.n },
			func(h header) bool { return h.kind == KindEntry && h.ts >= from.n })
	}
	return nil
}

// seekRecord moves to the first record for which match holds: by binary search
// over the segments and then over the sparse table, then record by record.
// Both before functions hold for a prefix of what they are asked about.
func (r *Reader) seekRecord(segBefore func(*segment) bool, before func(sparseEntry) bool, match func(header) bool) error {
	segs := r.j.segments()
	i := sort.Search(len(segs), func(i int) bool { return !segBefore(segs[i]) })
	seg := segs[max(0, i-1)]
	if err := r.j.ensureTable(seg); err != nil {
		return err
	}
	limit, err := r.limit()
	if err != nil {
		return err
	}
	r.pos = min(limit, seg.base+Pos(seg.lastWhere(before)))
	for {
		ok, err := r.ensureBehind()
		if err != nil || !ok {
			return err
		}
		b := &r.block
		for ; b.at < len(b.offs); b.at++ {
			h := decodeHeader(b.buf[b.offs[b.at]:])
			if match(h) {
				return nil
			}
			r.pos += Pos(h.size())
		}
	}
}

// limit is the position that the reader may not pass.
func (r *Reader) limit() (Pos, error) {
	if gen := r.j.generation(); gen != r.gen {
		r.gen = gen
		r.dropBlock()
		r.closeFile()
	}
	if !r.undurable {
		return r.j.durable.Load().Pos, nil
	}
	r.j.wmu.Lock()
	mark, err := r.j.flushLocked()
	r.j.wmu.Unlock()
	return mark.Pos, err
}

func (j *Journal) generation() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mu.gen
}

func (j *Journal) segments() []*segment {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mu.segs
}

func (r *Reader) dropBlock() {
	b := &r.block
	b.start, b.end, b.at = 0, 0, 0
	b.offs = b.offs[:0]
}

// Next moves behind the next record. It returns false at the end of what may
// be seen, where a later call may find more, and after an error.
func (r *Reader) Next() bool {
	if r.err != nil {
		return false
	}
	ok, err := r.ensureBehind()
	if err != nil || !ok {
		r.err = err
		return false
	}
	b := &r.block
	if !r.load(b.at) {
		return false
	}
	b.at++
	r.pos = r.rec.End
	return true
}

// Prev moves before the previous record, and returns false at the start.
func (r *Reader) Prev() bool {
	if r.err != nil {
		return false
	}
	ok, err := r.ensureBefore()
	if err != nil || !ok {
		r.err = err
		return false
	}
	b := &r.block
	if !r.load(b.at - 1) {
		return false
	}
	b.at--
	r.pos = r.rec.Pos
	return true
}

// load makes record i of the block the current one.
func (r *Reader) load(i int) bool {
	b := &r.block
	raw := b.buf[b.offs[i]:]
	h := decodeHeader(raw)
	pos := b.start + Pos(b.offs[i])
	if !r.scratch.verify(raw, &h, pos) {
		r.err = r.corrupt(pos, "checksum mismatch")
		return false
	}
	r.rec = h.record(raw, pos)
	return true
}

func (r *Reader) corrupt(pos Pos, reason string) error {
	return &CorruptionError{r.seg.path, r.seg.offset(pos), reason}
}

// Record is the record that the last move passed. Its payload is valid until
// the next move.
func (r *Reader) Record() *Record { return &r.rec }

// Pos is where the reader stands.
func (r *Reader) Pos() Pos { return r.pos }

// Err is why a move failed.
func (r *Reader) Err() error { return r.err }

// Close gives up the reader's file and memory; the last record's payload is no
// longer valid. A second call does nothing.
func (r *Reader) Close() {
	r.closeFile()
	if b := r.block.blockBuffer; b != nil {
		r.dropBlock()
		r.block.blockBuffer = nil
		r.err = ErrClosed
		if cap(b.buf) <= keepBuffer {
			blockBuffers.Put(b)
		}
	}
}

func (r *Reader) closeFile() {
	if r.file != nil {
		// Opened for reading: nothing can be lost here.
		_ = r.file.Close()
		r.file, r.seg = nil, nil
	}
}

// ensureBehind makes the block hold the record behind pos; false if there is
// none that may be seen.
func (r *Reader) ensureBehind() (bool, error) {
	if b := &r.block; b.at < len(b.offs) {
		return true, nil
	}
	limit, err := r.limit()
	if err != nil || r.pos >= limit {
		return false, err
	}
	seg, end, err := r.j.segmentAt(r.pos)
	if err != nil {
		return false, err
	}
	if err := r.open(seg); err != nil {
		return false, err
	}
	end = min(end, limit)
	if err := r.fill(r.pos, min(end, r.pos+readAhead), end); err != nil {
		return false, err
	}
	r.block.at = 0
	return true, nil
}

// ensureBefore makes the block hold the record before pos; false if pos is the
// start of the journal.
func (r *Reader) ensureBefore() (bool, error) {
	if r.block.at > 0 {
		return true, nil
	}
	if _, err := r.limit(); err != nil {
		return false, err
	}
	first := r.j.First().Pos
	if r.pos == first {
		return false, nil
	}
	if r.pos < first {
		return false, ErrTruncated
	}
	seg, _, err := r.j.segmentAt(r.pos - 1)
	if err != nil {
		return false, err
	}
	if err := r.j.ensureTable(seg); err != nil {
		return false, err
	}
	off := int64(r.pos - seg.base)
	from := seg.base + Pos(seg.lastWhere(func(e sparseEntry) bool { return e.off < off }))
	if err := r.open(seg); err != nil {
		return false, err
	}
	if err := r.fill(from, r.pos, r.pos); err != nil {
		return false, err
	}
	if r.block.end != r.pos {
		return false, r.corrupt(r.block.end, "records do not meet a known boundary")
	}
	r.block.at = len(r.block.offs)
	return true, nil
}

// segmentAt returns the segment that holds pos and where its records end.
func (j *Journal) segmentAt(pos Pos) (*segment, Pos, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	segs := j.mu.segs
	i := sort.Search(len(segs), func(i int) bool { return segs[i].base > pos })
	if i == 0 {
		return nil, 0, ErrTruncated
	}
	return segs[i-1], segs[i-1].end, nil
}

func (r *Reader) open(seg *segment) error {
	if r.seg == seg && r.file != nil {
		return nil
	}
	r.closeFile()
	f, err := r.j.opt.FS.Open(seg.path)
	if err != nil {
		if r.j.First().Pos > seg.base {
			return ErrTruncated
		}
		return fmt.Errorf("journal: open %s: %w", seg.path, err)
	}
	r.seg, r.file = seg, f
	return nil
}

// fill loads the whole records of [from, to) into the block; at least one, even
// if it goes on up to end.
func (r *Reader) fill(from, to, end Pos) error {
	r.dropBlock()
	for {
		if err := r.read(from, to); err != nil {
			return err
		}
		need, err := r.split(from, end)
		if err != nil {
			return err
		}
		if len(r.block.offs) > 0 {
			return nil
		}
		to = from + Pos(need)
	}
}

// read fills the block's buffer with [from, to).
func (r *Reader) read(from, to Pos) error {
	b := &r.block
	n := int(to - from)
	if cap(b.buf) < n || cap(b.buf) > keepBuffer && n <= readAhead*2 {
		b.buf = make([]byte, n)
	}
	b.buf = b.buf[:n]
	if got, err := r.file.ReadAt(b.buf, r.seg.offset(from)); got < n {
		if err == nil || errors.Is(err, io.EOF) {
			return r.corrupt(from+Pos(got), "the file ends inside a record")
		}
		return fmt.Errorf("journal: read %s: %w", r.seg.path, err)
	}
	return nil
}

// split finds the whole records in the buffer that begins at from. need is the
// length of the first one that did not fit.
func (r *Reader) split(from, end Pos) (need int64, err error) {
	b := &r.block
	b.start, b.end = from, from
	for off := 0; off < len(b.buf); {
		pos := from + Pos(off)
		rest := b.buf[off:]
		if int64(end-pos) < recordHeaderLen {
			return 0, r.j.locate(r.seg, pos, "record header is cut short")
		}
		if len(rest) < recordHeaderLen {
			return recordHeaderLen, nil
		}
		h := decodeHeader(rest)
		if !h.plausible() || h.size() > int64(end-pos) {
			return 0, r.j.locate(r.seg, pos, "no record header")
		}
		if h.size() > int64(len(rest)) {
			return h.size(), nil
		}
		b.offs = append(b.offs, off)
		off += int(h.size())
		b.end = from + Pos(off)
	}
	return 0, nil
}
