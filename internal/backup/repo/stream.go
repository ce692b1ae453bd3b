package repo

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"slices"
)

// A list of chunks is entries of 40 bytes: 32 bytes id, u64 count of the stream's bytes below it.
// Lists end after an entry whose id has zeros in listMask, so that an inserted chunk changes one
// list on each level only.
const (
	listEntry = 40
	listMask  = 255
	listMin   = 64
	listMax   = 1024
	maxDepth  = 8 // 64 to the power of 8 chunks at the least
)

type listItem struct {
	id   ID
	size uint64
}

func appendItem(b []byte, it listItem) []byte {
	b = append(b, it.id[:]...)
	return binary.LittleEndian.AppendUint64(b, it.size)
}

// decodeList reads a list of chunks.
func decodeList(b []byte) ([]listItem, error) {
	if len(b) == 0 || len(b)%listEntry != 0 {
		return nil, errors.New("a list of chunks has no whole entries")
	}
	items := make([]listItem, len(b)/listEntry)
	for i := range items {
		copy(items[i].id[:], b[i*listEntry:])
		items[i].size = binary.LittleEndian.Uint64(b[i*listEntry+32:])
	}
	return items, nil
}

// level is the open list of one level of a stream's tree.
type level struct {
	list  []byte
	items int
	size  uint64 // bytes of the stream below the list
	done  int    // lists finished on this level
}

// Stream is a named run of bytes in a backup: an io.WriteCloser. Streams of one writer may be
// written at the same time, each by one goroutine. A stream that is not finished is not part of
// the backup.
type Stream struct {
	w      *Writer
	name   string
	buf    []byte // not cut yet
	sum    hash.Hash
	size   int64
	chunks int64
	data   *block
	lists  *block // apart from the data, so that a reader finds many lists in one block
	levels []level
	log    *logState // nil for all but logs
	ref    *StreamRef
	err    error
}

// Stream begins a stream.
func (w *Writer) Stream(name string) *Stream {
	return &Stream{w: w, name: name, sum: sha256.New(), data: &block{}, lists: &block{}}
}

// Write implements io.Writer. It keeps nothing of p.
func (s *Stream) Write(p []byte) (n int, err error) {
	if s.ref != nil {
		return 0, errors.New("the stream is closed")
	}
	if s.err != nil {
		return 0, s.err
	}
	if s.log != nil {
		return s.writeLog(p)
	}
	most := s.w.r.marker.Chunker.Max
	for len(p) > 0 {
		if s.buf == nil {
			s.buf = make([]byte, 0, min(len(p), 4*most))
		}
		k := min(len(p), 4*most-len(s.buf))
		s.buf = append(s.buf, p[:k]...)
		s.sum.Write(p[:k])
		s.size += int64(k)
		n += k
		p = p[k:]
		if len(s.buf) == 4*most {
			if s.err = s.cut(most); s.err != nil {
				return n, s.err
			}
		}
	}
	return n, nil
}

// cut takes chunks off the front of the buffer while at least n bytes are left in it.
func (s *Stream) cut(n int) error {
	rest := s.buf
	for len(rest) >= max(n, 1) {
		k := s.w.r.cutter.cut(rest)
		if err := s.chunk(rest[:k]); err != nil {
			return err
		}
		rest = rest[k:]
	}
	s.buf = s.buf[:copy(s.buf, rest)]
	return nil
}

func (s *Stream) chunk(data []byte) (err error) {
	id := s.w.r.keys.chunkID(data)
	if s.data, err = s.w.store(id, data, s.data); err != nil {
		return err
	}
	s.chunks++
	return s.push(0, listItem{id, uint64(len(data))})
}

// push adds an item to a level's list, and closes the list where it ends.
func (s *Stream) push(l int, it listItem) error {
	if l == len(s.levels) {
		s.levels = append(s.levels, level{})
	}
	v := &s.levels[l]
	v.list = appendItem(v.list, it)
	v.items++
	v.size += it.size
	if v.items >= listMax || (v.items >= listMin && binary.LittleEndian.Uint64(it.id[:])&listMask == 0) {
		return s.closeList(l)
	}
	return nil
}

func (s *Stream) closeList(l int) (err error) {
	v := &s.levels[l]
	id := s.w.r.keys.chunkID(v.list)
	if s.lists, err = s.w.store(id, v.list, s.lists); err != nil {
		return err
	}
	size := v.size
	*v = level{list: v.list[:0], done: v.done + 1}
	return s.push(l+1, listItem{id, size})
}

// root closes the open lists from the lowest level up until one item is left.
func (s *Stream) root() (id ID, depth int, err error) {
	for l := 0; l < len(s.levels); l++ {
		v := &s.levels[l]
		if v.done == 0 && v.items == 1 {
			copy(id[:], v.list)
			return id, l, nil
		}
		if v.items > 0 {
			if err := s.closeList(l); err != nil {
				return id, 0, err
			}
		}
	}
	return id, 0, nil // an empty stream
}

// Finish ends the stream and returns what it takes to read it again.
func (s *Stream) Finish() (StreamRef, error) {
	if s.ref != nil {
		return *s.ref, nil
	}
	if s.err != nil {
		return StreamRef{}, s.err
	}
	ref := StreamRef{Name: s.name, Size: s.size, Log: s.log != nil}
	if s.sum != nil {
		s.sum.Sum(ref.SHA256[:0])
	}
	if s.chunks == 0 && s.inline() {
		ref.Inline = slices.Clone(s.buf)
		if s.log != nil {
			s.w.r.freeLogBuffer(s.buf)
		}
		s.buf = nil
	} else if s.err = s.finish(&ref); s.err != nil {
		return StreamRef{}, s.err
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.closed {
		s.err = errors.New("the writer is closed")
		return StreamRef{}, s.err
	}
	s.w.stats.Bytes += s.size
	s.w.refs = append(s.w.refs, ref)
	s.ref = &ref
	return ref, context.Cause(s.w.ctx)
}

// inline says whether the whole stream goes into the manifest.
func (s *Stream) inline() bool {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.size > inlineStream || int(s.size) > s.w.inlineLeft {
		return false
	}
	s.w.inlineLeft -= int(s.size)
	return true
}

func (s *Stream) finish(ref *StreamRef) error {
	end := func() error { return s.cut(0) }
	if s.log != nil {
		end = s.finishLog
	}
	if err := end(); err != nil {
		return err
	}
	root, depth, err := s.root()
	if err != nil {
		return err
	}
	ref.Root, ref.Depth, ref.Chunks = root, depth, s.chunks
	for _, b := range []*block{s.data, s.lists} {
		if err := s.w.leave(b); err != nil {
			return err
		}
	}
	s.buf, s.data, s.lists = nil, nil, nil
	return nil
}

// leave adds what a stream has left in a block that is not full to the writer's own, so that many
// small streams share blocks.
func (w *Writer) leave(b *block) error {
	if len(b.chunks) == 0 {
		return nil
	}
	w.mu.Lock()
	var full *block
	if len(w.tail.chunks)+len(b.chunks) > maxBlockChunks {
		full, w.tail = w.tail, &block{}
	}
	w.tail.raw = append(w.tail.raw, b.raw...)
	w.tail.chunks = append(w.tail.chunks, b.chunks...)
	if w.tail.full() && full == nil {
		full, w.tail = w.tail, &block{}
	}
	w.mu.Unlock()
	if full == nil {
		return nil
	}
	return w.submit(full)
}

// Close is Finish without its result; Ref has that.
func (s *Stream) Close() error {
	_, err := s.Finish()
	return err
}

// Ref is what Finish returned; the zero value before.
func (s *Stream) Ref() StreamRef {
	if s.ref == nil {
		return StreamRef{}
	}
	return *s.ref
}
