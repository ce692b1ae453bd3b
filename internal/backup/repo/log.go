package repo

import (
	"sync"
)

// A log is a stream whose bytes are not expected to come again, an oplog. Looking for a chunk's
// content elsewhere would cost more than all else and find nothing, so it is cut at a fixed size,
// each piece is a block by itself, and its id is of the block's stored bytes: they are fewer than
// its contents, and are hashed once.
//
// What identifies the pieces are their ids, and the lists of these: a log needs no SHA-256 of the
// whole, which would be a second pass over everything.
const (
	logChunk = 256 << 10
	// logFrame is how much of a piece is a zstd frame by itself: entries resemble those just before
	// them, so that a shorter distance finds as much, and costs a fifth less.
	logFrame = 64 << 10

	codecPlain = 0 // chunks as they are, each named by its bytes
	codecZstd  = 1
	codecLog   = 2 // a piece of a log, named by its stored bytes: bit 0 tells zstd as above
)

// Log begins a stream of bytes that will not be written again: they are not compared with what
// is there. Repositories of version 1 know no logs; there it is a Stream.
func (w *Writer) Log(name string) *Stream {
	s := w.Stream(name)
	if w.r.marker.Version >= 2 {
		s.log = &logState{}
		s.sum = nil
	}
	return s
}

// logState is what a log has beside other streams.
type logState struct {
	work sync.WaitGroup // pieces that are on their way to a pack

	mu  sync.Mutex
	ids []listItem // by piece; ids come when the pieces are packed
}

// logPiece is a piece's place in its log.
type logPiece struct {
	log *logState
	n   int
}

func (p *logPiece) set(id ID) {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	p.log.ids[p.n].id = id
}

// writeLog is Write of a log.
func (s *Stream) writeLog(p []byte) (n int, err error) {
	for len(p) > 0 {
		if s.buf == nil {
			s.buf = s.w.r.logBuffer()
		}
		k := min(len(p), logChunk-len(s.buf))
		s.buf = append(s.buf, p[:k]...)
		s.size += int64(k)
		n += k
		p = p[k:]
		if len(s.buf) == logChunk {
			if s.err = s.piece(); s.err != nil {
				return n, s.err
			}
		}
	}
	return n, nil
}

// piece hands what is in the buffer to the compressors.
func (s *Stream) piece() error {
	l := s.log
	l.mu.Lock()
	b := &block{raw: s.buf, chunks: []chunkEntry{{size: uint32(len(s.buf))}}, piece: &logPiece{l, len(l.ids)}}
	l.ids = append(l.ids, listItem{size: uint64(len(s.buf))})
	l.mu.Unlock()
	s.buf = nil
	s.chunks++
	l.work.Add(1)
	if err := s.w.submit(b); err != nil {
		l.work.Done()
		return err
	}
	return nil
}

// finishLog waits until all pieces have their ids, and makes the lists of them.
func (s *Stream) finishLog() error {
	if len(s.buf) > 0 {
		if err := s.piece(); err != nil {
			return err
		}
	}
	if err := s.w.await(&s.log.work); err != nil {
		return err
	}
	for _, it := range s.log.ids {
		if err := s.push(0, it); err != nil {
			return err
		}
	}
	s.log.ids = nil
	return nil
}

// addPiece packs a piece of a log, and frees its buffer.
func (w *Writer) addPiece(b *block, scratch []byte) ([]byte, error) {
	defer b.piece.log.work.Done()
	encoded := b.encode(w.r.codec, scratch)
	w.r.freeLogBuffer(b.raw)
	id := w.r.keys.logID(encoded)
	b.piece.set(id)
	b.chunks[0].id = id
	isNew, err := w.claim(id, int(b.chunks[0].size))
	if err == nil && isNew { // else an interrupted backup had come as far
		err = w.addBlock(encoded, b.chunks)
	}
	return encoded, err
}

// keepPiece packs a piece that was packed before.
func (w *Writer) keepPiece(encoded []byte, c chunkEntry) error {
	isNew, err := w.claim(c.id, int(c.size))
	if err != nil || !isNew {
		return err
	}
	return w.addBlock(encoded, []chunkEntry{c})
}

// logBuffer is an empty buffer for a piece of a log.
func (r *Repo) logBuffer() []byte {
	if b, ok := r.logBuffers.Get().(*[logChunk]byte); ok {
		return b[:0]
	}
	return make([]byte, 0, logChunk)
}

// packBuffer is an empty buffer for a pack, one that was used before if there is one: the system has to fill
// the pages of a new one with zeros.
func (r *Repo) packBuffer() []byte {
	select {
	case b := <-r.packBuffers:
		return b
	default:
		return make([]byte, 0, r.marker.PackSize+r.marker.PackSize/16)
	}
}

func (r *Repo) freePackBuffer(b []byte) {
	select {
	case r.packBuffers <- b[:0]:
	default:
	}
}

func (r *Repo) freeLogBuffer(b []byte) {
	if cap(b) == logChunk {
		r.logBuffers.Put((*[logChunk]byte)(b[:logChunk]))
	}
}

// logID names a piece of a log: the complement of the id that its stored bytes would have as a
// chunk, so that no content can be made that has the id of a piece.
func (k *keys) logID(encoded []byte) ID {
	id := k.chunkID(encoded)
	for i := range id {
		id[i] = ^id[i]
	}
	return id
}
