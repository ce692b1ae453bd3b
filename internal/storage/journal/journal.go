package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// writeCategory labels the journal's files in Pebble's disk statistics.
const writeCategory vfs.DiskWriteCategory = "journal"

const (
	defaultSegmentSize = 64 << 20
	// flushAt is the buffered size at which Append writes (not syncs) early,
	// so that a sync after a bulk load has little left to write.
	flushAt = 256 << 10
	// keepBuffer bounds the buffers that are kept for reuse, whatever is written; one that
	// a group of units has made larger, up to groupBuffer, is kept as long as writes fill
	// at least an eighth of it.
	keepBuffer  = 1 << 20
	groupBuffer = 6 << 20
)

// Options configure Open.
type Options struct {
	// FS holds the files. Required.
	FS vfs.FS
	// Dir is the journal's own directory; created if missing. Required.
	Dir string
	// SegmentSize is the size at which the next unit begins a new segment.
	// Default 64 MB.
	SegmentSize int64
	// Preallocate is how many bytes of zeros are written ahead of small synced
	// appends, so that most fsyncs need not change the file's size or extents.
	// Default 256 KB on a real disk, none in memory; negative means none.
	Preallocate int64
	// ReadOnly opens what is there without changing it: a torn tail is left out
	// but not cut, and nothing can be appended or truncated.
	ReadOnly bool
	// OnFail hears of the first failed write or sync and returns the error that
	// every later call gets. It is called with locks held and must not call back.
	// Default: the error itself.
	OnFail func(error) error
	// Logger takes what Open found. Default: discard.
	Logger *slog.Logger
}

func (o *Options) ensureDefaults() {
	if o.SegmentSize <= 0 {
		o.SegmentSize = defaultSegmentSize
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Journal is an open journal. Append belongs to one goroutine at a time; all
// else may be called from anywhere.
//
// Lock order: truncating before wmu before mu; the table lock of a segment is a leaf.
type Journal struct {
	opt  Options
	dir  vfs.File
	torn TornTail

	truncating sync.Mutex // held by one truncation at a time

	// wmu serializes what reaches the files. It is never held during an fsync.
	wmu struct {
		sync.Mutex
		spare    []byte // the other append buffer, reused
		zeros    []byte // what is written ahead
		dirty    []*segment
		dirDirty bool
	}

	mu struct {
		sync.Mutex
		scratch  scratch
		buf      []byte // records not yet written; buf[0] is at bufPos
		bufPos   Pos
		appended Mark
		open     bool          // the last appended record has More set
		segs     []*segment    // ascending; the last one is appended to
		err      error         // poison
		notify   chan struct{} // closed on the next append; nil if nobody waits
		gen      uint64        // counts truncations of the tail
	}

	durable atomic.Pointer[Mark]
	sync    syncer
	stats   counters
}

type counters struct {
	records, bytes, syncs, syncNanos, syncWaits, earlyWrites, segments atomic.Uint64
}

// Stats are counters since Open.
type Stats struct {
	Records     uint64 // records appended
	Bytes       uint64 // bytes appended
	Syncs       uint64 // fsync rounds done
	SyncNanos   uint64 // time spent in them
	SyncWaits   uint64 // calls that needed one; SyncWaits - Syncs were saved by sharing
	EarlyWrites uint64 // buffers written before a sync asked for it
	Segments    uint64 // segments begun
}

// Stats returns the counters.
func (j *Journal) Stats() Stats {
	return Stats{
		Records: j.stats.records.Load(), Bytes: j.stats.bytes.Load(),
		Syncs: j.stats.syncs.Load(), SyncNanos: j.stats.syncNanos.Load(), SyncWaits: j.stats.syncWaits.Load(),
		EarlyWrites: j.stats.earlyWrites.Load(), Segments: j.stats.segments.Load(),
	}
}

// Append adds recs at the end, contiguous and in order, and returns the
// position behind the last. It copies what it needs before it returns. Nothing
// is durable before SyncTo.
//
// Indexes must be dense and the ts of entries must increase; a record that
// breaks this is refused before anything is appended.
func (j *Journal) Append(recs []Record) (end Pos, err error) {
	if j.opt.ReadOnly {
		return j.Appended().Pos, ErrReadOnly
	}
	j.mu.Lock()
	if j.mu.err != nil {
		defer j.mu.Unlock()
		return j.mu.appended.Pos, j.mu.err
	}
	if err := j.checkLocked(recs); err != nil {
		defer j.mu.Unlock()
		return j.mu.appended.Pos, err
	}
	synced := j.durable.Load().Pos
	before := j.mu.appended.Pos
	size := 0
	for i := range recs {
		size += recordHeaderLen + len(recs[i].Payload)
	}
	j.mu.buf = slices.Grow(j.mu.buf, size)
	for i := range recs {
		j.appendLocked(&recs[i], synced)
	}
	end = j.mu.appended.Pos
	full := len(j.mu.buf) >= flushAt
	if j.mu.notify != nil {
		close(j.mu.notify)
		j.mu.notify = nil
	}
	j.mu.Unlock()

	j.stats.records.Add(uint64(len(recs)))
	j.stats.bytes.Add(uint64(end - before))
	if full {
		j.stats.earlyWrites.Add(1)
		if err := j.flush(); err != nil {
			return end, err
		}
	}
	return end, nil
}

// checkLocked refuses records that would break the order of the journal.
func (j *Journal) checkLocked(recs []Record) error {
	index, ts := j.mu.appended.Index, j.mu.appended.TS
	for i := range recs {
		r := &recs[i]
		switch {
		case !r.Kind.valid():
			return fmt.Errorf("journal: append of unknown record kind %d", r.Kind)
		case len(r.Payload) > maxPayload:
			return fmt.Errorf("journal: append of a record of %d bytes, the limit is %d", len(r.Payload), maxPayload)
		case !r.Kind.Indexed():
			continue
		case r.Index != index+1:
			return fmt.Errorf("journal: append of index %d behind %d", r.Index, index)
		case r.TS <= ts && (r.Kind == KindEntry || r.TS != 0):
			return fmt.Errorf("journal: append of ts %d behind %d", r.TS, ts)
		}
		index = r.Index
		ts = max(ts, r.TS)
	}
	return nil
}

func (j *Journal) appendLocked(r *Record, synced Pos) {
	m := &j.mu.appended
	seg := j.mu.segs[len(j.mu.segs)-1]
	if !j.mu.open && int64(m.Pos-seg.base) >= j.opt.SegmentSize {
		seg = j.rollLocked(synced)
	}
	rec := *r
	switch {
	case !rec.Kind.Indexed():
		rec.Index, rec.TS = m.Index, m.TS
	case rec.TS == 0:
		rec.TS = m.TS
	}
	seg.note(m.Pos, rec.Index, rec.TS)
	n := len(j.mu.buf)
	j.mu.buf = appendRecord(j.mu.buf, &rec, m.Pos, synced, &j.mu.scratch)
	if rec.Kind.Indexed() && rec.Index == seg.prevIndex+1 {
		seg.firstTS = rec.TS
	}
	m.Pos += Pos(len(j.mu.buf) - n)
	m.Index, m.TS = rec.Index, rec.TS
	j.mu.open = rec.More
	seg.end = m.Pos
}

// rollLocked begins a new segment at the end. Its file is made when the first
// of its records is written.
func (j *Journal) rollLocked(synced Pos) *segment {
	m := j.mu.appended
	seg := j.newSegment(segmentHeader{base: m.Pos, prevIndex: m.Index, prevTS: m.TS, synced: synced})
	seg.table.complete = true
	j.mu.segs = append(j.mu.segs, seg)
	j.stats.segments.Add(1)
	return seg
}

func (j *Journal) newSegment(h segmentHeader) *segment {
	return &segment{
		segmentHeader: h,
		path:          j.opt.FS.PathJoin(j.opt.Dir, segmentName(h.base)),
		end:           h.base,
		written:       h.base,
	}
}

// flush writes what is buffered to the files without syncing it.
func (j *Journal) flush() error {
	j.wmu.Lock()
	defer j.wmu.Unlock()
	_, err := j.flushLocked()
	return err
}

// flushLocked needs wmu. It returns the mark up to which all is written.
func (j *Journal) flushLocked() (Mark, error) {
	j.mu.Lock()
	buf, pos, mark, err := j.mu.buf, j.mu.bufPos, j.mu.appended, j.mu.err
	var segs []*segment
	if err == nil && len(buf) > 0 {
		segs = segmentsBetween(j.mu.segs, pos, mark.Pos)
		j.mu.buf = j.wmu.spare[:0]
		j.wmu.spare = nil
		j.mu.bufPos = mark.Pos
	}
	j.mu.Unlock()
	if err != nil || segs == nil {
		return mark, err
	}

	rest := buf
	for i, seg := range segs {
		n := len(rest)
		if i+1 < len(segs) {
			n = int(segs[i+1].base - pos)
			j.sealLocked(seg)
		}
		if err := j.writeSegment(seg, rest[:n], pos); err != nil {
			return mark, j.poison(fmt.Errorf("journal: write %s: %w", seg.path, err))
		}
		rest, pos = rest[n:], pos+Pos(n)
	}
	if cap(buf) <= keepBuffer || (cap(buf) <= groupBuffer && len(buf) >= cap(buf)/8) {
		j.wmu.spare = buf[:0]
	}
	return mark, nil
}

// segmentsBetween returns the segments that hold positions of [from, to), with
// those that end exactly at from left out unless they are the last.
func segmentsBetween(segs []*segment, from, to Pos) []*segment {
	i := len(segs) - 1
	for i > 0 && segs[i].base > from {
		i--
	}
	k := i + 1
	for k < len(segs) && segs[k].base < to {
		k++
	}
	// A segment that was left behind exactly at its end is sealed by the next
	// write, so it stays in the list with nothing to write.
	if i > 0 && segs[i].base == from {
		i--
	}
	return segs[i:k:k]
}

// writeSegment needs wmu. The segment's file is made on its first write.
func (j *Journal) writeSegment(seg *segment, b []byte, pos Pos) error {
	if len(b) == 0 {
		return nil
	}
	if seg.file == nil {
		if err := j.createSegment(seg); err != nil {
			return err
		}
	}
	if !seg.dirty {
		seg.dirty = true
		j.wmu.dirty = append(j.wmu.dirty, seg)
	}
	n, err := seg.file.WriteAt(b, seg.offset(pos))
	if err == nil && n < len(b) {
		err = errors.New("short write")
	}
	if err != nil {
		return err
	}
	seg.written = pos + Pos(len(b))
	return nil
}

// sealLocked needs wmu. The last sync of a sealed segment closes its file, so
// there has to be one even if nothing is left to write.
func (j *Journal) sealLocked(seg *segment) {
	seg.sealed = true
	if seg.file != nil && !seg.dirty {
		seg.dirty = true
		j.wmu.dirty = append(j.wmu.dirty, seg)
	}
}

// createSegment makes the file and writes its header.
func (j *Journal) createSegment(seg *segment) error {
	f, err := j.opt.FS.OpenReadWrite(seg.path, writeCategory)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(seg.encode(), 0); err != nil {
		f.Close()
		return err
	}
	seg.file = f
	seg.zeroed = segmentHeaderLen
	j.wmu.dirDirty = true
	return nil
}

// poison makes err the answer to every later call and wakes all waiters.
func (j *Journal) poison(err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mu.err == nil {
		if !errors.Is(err, ErrClosed) {
			j.opt.Logger.Error("journal failed, no more writes are taken", "error", err)
			if j.opt.OnFail != nil {
				err = j.opt.OnFail(err)
			}
		}
		j.mu.err = err
		if j.mu.notify != nil {
			close(j.mu.notify)
			j.mu.notify = nil
		}
	}
	return j.mu.err
}

// Err returns why the journal takes no more writes, or nil.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mu.err
}

// Appended is the end of what was appended.
func (j *Journal) Appended() Mark {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mu.appended
}

// Durable is the end of what is known to survive a crash.
func (j *Journal) Durable() Mark { return *j.durable.Load() }

// First is the position of the oldest record and the index and ts of the
// oldest indexed one; index 0 means that there is none.
func (j *Journal) First() Mark {
	j.mu.Lock()
	defer j.mu.Unlock()
	seg := j.mu.segs[0]
	m := Mark{Pos: seg.base}
	if j.mu.appended.Index > seg.prevIndex {
		m.Index, m.TS = seg.prevIndex+1, seg.firstTS
	}
	return m
}

// loadFirstTS reads what First needs of the oldest segment if nobody has yet.
func (j *Journal) loadFirstTS() error {
	j.mu.Lock()
	seg := j.mu.segs[0]
	known := seg.firstTS != 0 || j.mu.appended.Index == seg.prevIndex
	j.mu.Unlock()
	if known {
		return nil
	}
	r, err := j.NewReader(FromStart().Undurable())
	if err != nil {
		return err
	}
	defer r.Close()
	for r.Next() {
		if rec := r.Record(); rec.Kind.Indexed() {
			j.mu.Lock()
			seg.firstTS = rec.TS
			j.mu.Unlock()
			break
		}
	}
	return r.Err()
}

// Size is the number of bytes that the journal's records and headers take.
func (j *Journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return int64(j.mu.appended.Pos-j.mu.segs[0].base) + int64(len(j.mu.segs))*segmentHeaderLen
}

// Torn says what Open cut off, or read-only left out.
func (j *Journal) Torn() TornTail { return j.torn }

// Close syncs what was appended and closes the files. Readers fail afterwards.
func (j *Journal) Close() error {
	err := j.SyncTo(j.Appended().Pos)
	if errors.Is(err, ErrClosed) {
		return err
	}
	j.poison(ErrClosed)
	j.sync.waitIdle()
	j.wmu.Lock()
	defer j.wmu.Unlock()
	j.mu.Lock()
	segs := j.mu.segs
	j.mu.Unlock()
	for _, seg := range segs {
		if seg.file != nil {
			err = errors.Join(err, seg.file.Close())
			seg.file = nil
		}
	}
	if j.dir != nil {
		err = errors.Join(err, j.dir.Close())
	}
	return err
}
