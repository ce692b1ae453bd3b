package storage

import (
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Sorter sorts any number of pairs within bounded memory: what does not fit is
// spilled in sorted runs to temporary files under the data directory, which
// the next start removes if a crash left them. Equal keys come out in the
// order in which they were added. One goroutine at a time.
type Sorter struct {
	fs   vfs.FS
	dir  string
	name string
	max  int

	arena   []byte
	entries []sortEntry
	runs    []string
	spilled int64
	n       int64
	bytes   int64
}

// sortEntry is one pair in the arena; head is the first 8 bytes of its key,
// which decide most comparisons without touching the arena.
type sortEntry struct {
	head       uint64
	off        int
	klen, vlen uint32
}

const (
	sortEntryBytes  = 24
	minSorterMemory = 1 << 20
	runBlockBytes   = 64 << 10
	maxMergeRuns    = 128
)

var sorterSeq atomic.Uint64

// NewSorter returns a sorter that keeps up to about maxMemory bytes in memory.
func (e *Engine) NewSorter(maxMemory int64) *Sorter {
	return &Sorter{
		fs:   e.fs,
		dir:  e.fs.PathJoin(e.opts.Dir, tmpDir),
		name: fmt.Sprintf("sort-%d", sorterSeq.Add(1)),
		max:  int(max(maxMemory, minSorterMemory)),
	}
}

// Add adds a pair; it copies both.
func (s *Sorter) Add(key, value []byte) error {
	need := len(key) + len(value)
	if len(s.entries) > 0 && len(s.arena)+need+(len(s.entries)+1)*sortEntryBytes > s.max {
		if err := s.spill(); err != nil {
			return err
		}
	}
	if len(s.arena)+need > cap(s.arena) {
		s.growArena(need)
	}
	s.entries = append(s.entries, sortEntry{
		head: sortHead(key), off: len(s.arena), klen: uint32(len(key)), vlen: uint32(len(value)),
	})
	s.arena = append(append(s.arena, key...), value...)
	s.n++
	s.bytes += int64(need)
	return nil
}

// growArena doubles, but never past the limit: append's own growth would.
func (s *Sorter) growArena(need int) {
	c := max(2*cap(s.arena), len(s.arena)+need, 64<<10)
	c = max(min(c, s.max), len(s.arena)+need)
	s.arena = append(make([]byte, 0, c), s.arena...)
}

// Len is the number of pairs added.
func (s *Sorter) Len() int64 { return s.n }

// Bytes is the size of the pairs added.
func (s *Sorter) Bytes() int64 { return s.bytes }

// Spilled is the number of bytes written to temporary files.
func (s *Sorter) Spilled() int64 { return s.spilled }

func sortHead(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}

func (s *Sorter) key(e *sortEntry) []byte { return s.arena[e.off : e.off+int(e.klen)] }

func (s *Sorter) pair(e *sortEntry) (k, v []byte) {
	end := e.off + int(e.klen)
	return s.arena[e.off:end:end], s.arena[end : end+int(e.vlen) : end+int(e.vlen)]
}

func (s *Sorter) sort() {
	slices.SortFunc(s.entries, func(a, b sortEntry) int {
		if a.head != b.head {
			return cmp.Compare(a.head, b.head)
		}
		if c := bytes.Compare(s.key(&a), s.key(&b)); c != 0 {
			return c
		}
		return cmp.Compare(a.off, b.off)
	})
}

// spill writes what is in memory as one sorted run.
func (s *Sorter) spill() error {
	if len(s.runs) >= maxMergeRuns {
		if err := s.mergeRuns(); err != nil {
			return err
		}
	}
	s.sort()
	w, err := s.newRun()
	if err != nil {
		return err
	}
	for i := range s.entries {
		k, v := s.pair(&s.entries[i])
		if err := w.add(k, v); err != nil {
			return errors.Join(err, w.close())
		}
	}
	s.entries, s.arena = s.entries[:0], s.arena[:0]
	return s.endRun(w)
}

// mergeRuns makes one run of all, so that a merge never needs more than
// maxMergeRuns open files.
func (s *Sorter) mergeRuns() error {
	old := s.runs
	m, err := s.openMerge(nil)
	if err != nil {
		return err
	}
	w, err := s.newRun()
	if err != nil {
		return errors.Join(err, m.Close())
	}
	for m.Next() {
		if err := w.add(m.Key(), m.Value()); err != nil {
			return errors.Join(err, w.close(), m.Close())
		}
	}
	if err := errors.Join(m.Err(), m.Close()); err != nil {
		return errors.Join(err, w.close())
	}
	s.runs = nil
	if err := s.endRun(w); err != nil {
		return err
	}
	for _, name := range old {
		if err := s.fs.Remove(name); err != nil {
			return fmt.Errorf("storage: remove a sorted run: %w", err)
		}
	}
	return nil
}

// tempName is the name of a new temporary file.
func (s *Sorter) tempName() string {
	return s.fs.PathJoin(s.dir, fmt.Sprintf("%s-%d", s.name, sorterSeq.Add(1)))
}

func (s *Sorter) newRun() (*runWriter, error) {
	name := s.tempName()
	f, err := s.fs.Create(name, "spill")
	if err != nil {
		return nil, fmt.Errorf("storage: create a sorted run: %w", err)
	}
	return &runWriter{f: f, name: name, buf: make([]byte, runHeaderLen, runBlockBytes+4096)}, nil
}

func (s *Sorter) endRun(w *runWriter) error {
	err := w.flush()
	if err = errors.Join(err, w.close()); err != nil {
		return fmt.Errorf("storage: write a sorted run: %w", err)
	}
	s.runs = append(s.runs, w.name)
	s.spilled += w.written
	return nil
}

// Sorted ends the adding and returns the pairs in order. Close the result
// before the sorter.
func (s *Sorter) Sorted() (*SortedPairs, error) {
	s.sort()
	return s.openMerge(s)
}

// openMerge merges the runs and, if mem is not nil, what it has in memory.
func (s *Sorter) openMerge(mem *Sorter) (*SortedPairs, error) {
	m := &SortedPairs{}
	for i, name := range s.runs {
		f, err := s.fs.Open(name, vfs.SequentialReadsOption)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("storage: open a sorted run: %w", err), m.Close())
		}
		r := &runReader{f: f, name: s.fs.PathBase(name), order: i}
		m.readers = append(m.readers, r)
		if r.next() {
			m.heap = append(m.heap, r)
		} else if r.err != nil {
			return nil, errors.Join(r.err, m.Close())
		}
	}
	if mem != nil {
		r := &runReader{mem: mem, order: len(s.runs)}
		if r.next() {
			m.heap = append(m.heap, r)
		}
	}
	heap.Init(&m.heap)
	return m, nil
}

// Close removes the temporary files.
func (s *Sorter) Close() error {
	var errs []error
	for _, name := range s.runs {
		errs = append(errs, s.fs.Remove(name))
	}
	s.runs, s.arena, s.entries = nil, nil, nil
	return errors.Join(errs...)
}

// SortedPairs walks the result of a Sorter. Key and Value are valid until the
// next move.
type SortedPairs struct {
	heap    runHeap
	readers []*runReader
	started bool
	err     error
}

// Next moves to the next pair.
func (m *SortedPairs) Next() bool {
	if m.err != nil || len(m.heap) == 0 {
		return false
	}
	if !m.started {
		m.started = true
		return true
	}
	top := m.heap[0]
	if top.next() {
		if len(m.heap) > 1 {
			heap.Fix(&m.heap, 0)
		}
		return true
	}
	if m.err = top.err; m.err != nil {
		return false
	}
	heap.Pop(&m.heap)
	return len(m.heap) > 0
}

// Key is that of the current pair.
func (m *SortedPairs) Key() []byte { return m.heap[0].key }

// Value is that of the current pair.
func (m *SortedPairs) Value() []byte { return m.heap[0].value }

// Err is why Next returned false, or nil at the end.
func (m *SortedPairs) Err() error { return m.err }

// Close closes the files.
func (m *SortedPairs) Close() error {
	var errs []error
	for _, r := range m.readers {
		errs = append(errs, r.f.Close())
	}
	m.readers = nil
	return errors.Join(errs...)
}

type runHeap []*runReader

func (h runHeap) Len() int { return len(h) }
func (h runHeap) Less(i, j int) bool {
	if c := bytes.Compare(h[i].key, h[j].key); c != 0 {
		return c < 0
	}
	return h[i].order < h[j].order
}
func (h runHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)   { *h = append(*h, x.(*runReader)) }
func (h *runHeap) Pop() any {
	old := *h
	r := old[len(old)-1]
	*h = old[:len(old)-1]
	return r
}

// A run is a sequence of blocks: length u32 | crc32c u32 | pairs, each pair
// key length uvarint | value length uvarint | key | value. Little endian.
const runHeaderLen = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type runWriter struct {
	f       vfs.File
	name    string
	buf     []byte
	written int64
}

func (w *runWriter) add(k, v []byte) error {
	w.buf = binary.AppendUvarint(w.buf, uint64(len(k)))
	w.buf = binary.AppendUvarint(w.buf, uint64(len(v)))
	w.buf = append(append(w.buf, k...), v...)
	if len(w.buf) < runBlockBytes {
		return nil
	}
	return w.flush()
}

func (w *runWriter) flush() error {
	if len(w.buf) == runHeaderLen {
		return nil
	}
	body := w.buf[runHeaderLen:]
	binary.LittleEndian.PutUint32(w.buf, uint32(len(body)))
	binary.LittleEndian.PutUint32(w.buf[4:], crc32.Checksum(body, castagnoli))
	_, err := w.f.Write(w.buf)
	w.written += int64(len(w.buf))
	w.buf = w.buf[:runHeaderLen]
	return err
}

func (w *runWriter) close() error { return w.f.Close() }

// runReader reads a run, or the sorted memory of a sorter.
type runReader struct {
	f          vfs.File
	name       string
	mem        *Sorter
	i          int
	order      int
	block, p   []byte
	key, value []byte
	err        error
}

func (r *runReader) next() bool {
	if r.mem != nil {
		if r.i == len(r.mem.entries) {
			return false
		}
		r.key, r.value = r.mem.pair(&r.mem.entries[r.i])
		r.i++
		return true
	}
	if len(r.p) == 0 && !r.readBlock() {
		return false
	}
	klen, a := binary.Uvarint(r.p)
	vlen, b := binary.Uvarint(r.p[max(a, 0):])
	if a <= 0 || b <= 0 || bits.Len64(klen|vlen) > 32 || uint64(len(r.p)-a-b) < klen+vlen {
		r.err = corruptf("sorted run %s", r.name)
		return false
	}
	r.p = r.p[a+b:]
	r.key, r.value, r.p = r.p[:klen], r.p[klen:klen+vlen], r.p[klen+vlen:]
	return true
}

func (r *runReader) readBlock() bool {
	var h [runHeaderLen]byte
	if _, err := io.ReadFull(r.f, h[:]); err != nil {
		if err != io.EOF {
			r.err = fmt.Errorf("storage: read sorted run %s: %w", r.name, err)
		}
		return false
	}
	n := int(binary.LittleEndian.Uint32(h[:]))
	if n > cap(r.block) {
		r.block = make([]byte, n)
	}
	r.block = r.block[:n]
	if _, err := io.ReadFull(r.f, r.block); err != nil {
		r.err = fmt.Errorf("storage: read sorted run %s: %w", r.name, err)
		return false
	}
	if crc32.Checksum(r.block, castagnoli) != binary.LittleEndian.Uint32(h[4:]) {
		r.err = corruptf("sorted run %s: checksum", r.name)
		return false
	}
	r.p = r.block
	return true
}
