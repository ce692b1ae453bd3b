package journal

import (
	"errors"
	"fmt"
)

// cut makes mark the end: later files are removed, newest first, the bytes
// behind it are zeroed, and the last segment is open for writing. Only Open
// calls it, for bytes that no record proves to have been synced: if it is
// interrupted, what is left is again such a tail.
func (j *Journal) cut(mark Mark, found []foundSegment) error {
	seg := j.endAt(mark)
	for i := len(found) - 1; i >= 0 && found[i].base > seg.base; i-- {
		j.torn.Bytes += max(0, found[i].size-segmentHeaderLen)
		j.torn.File = seg.path
		if err := j.removeSegment(found[i].segment); err != nil {
			return err
		}
	}
	// The segment is appended to again.
	if err := j.removeSparse(seg); err != nil {
		return err
	}
	f, err := j.opt.FS.OpenReadWrite(seg.path, writeCategory)
	if err != nil {
		return fmt.Errorf("journal: open %s: %w", seg.path, err)
	}
	seg.file = f
	zeroed, err := j.zeroBehind(seg, seg.offset(mark.Pos))
	if err != nil {
		return fmt.Errorf("journal: cut %s at %d: %w", seg.path, seg.offset(mark.Pos), err)
	}
	if zeroed > 0 {
		j.torn.Bytes += zeroed
		j.torn.File = seg.path
	}
	if j.torn.File != "" {
		j.torn.Offset = seg.offset(mark.Pos)
		j.opt.Logger.Warn("journal: torn tail cut", "file", j.torn.File, "offset", j.torn.Offset, "bytes", j.torn.Bytes)
	}
	seg.forget(mark.Pos)
	return j.syncRun(found)
}

// endAt makes mark the end of the list of segments and returns the last one.
func (j *Journal) endAt(mark Mark) *segment {
	last := 0
	for i, s := range j.mu.segs {
		if s.base <= mark.Pos {
			last = i
		}
	}
	seg := j.mu.segs[last]
	j.mu.segs = j.mu.segs[:last+1]
	seg.end, seg.written = mark.Pos, mark.Pos
	return seg
}

// leaveOut is cut for a journal that is opened read-only: it only notes what
// would be cut.
func (j *Journal) leaveOut(mark Mark, found []foundSegment) error {
	seg := j.endAt(mark)
	for _, s := range found {
		if s.base > seg.base {
			j.torn.Bytes += max(0, s.size-segmentHeaderLen)
			j.torn.File = seg.path
		}
	}
	w, err := openWindow(j.opt.FS, seg.path)
	if err != nil {
		return fmt.Errorf("journal: open %s: %w", seg.path, err)
	}
	defer w.close()
	off := seg.offset(mark.Pos)
	end, err := w.lastNonZero(off)
	if err != nil {
		return fmt.Errorf("journal: read %s: %w", seg.path, err)
	}
	if end > off {
		j.torn.Bytes += end - off
		j.torn.File = seg.path
	}
	if j.torn.File != "" {
		j.torn.Offset = off
	}
	seg.forget(mark.Pos)
	return nil
}

// syncRun syncs every file that may hold records not yet synced: after kill -9
// they are only in the page cache.
func (j *Journal) syncRun(found []foundSegment) error {
	bound := syncedBound(found)
	for _, s := range j.mu.segs {
		if s.end < bound {
			continue
		}
		f := s.file
		if f == nil {
			var err error
			if f, err = j.opt.FS.OpenReadWrite(s.path, writeCategory); err != nil {
				return fmt.Errorf("journal: open %s: %w", s.path, err)
			}
			s.sealed = true
		}
		err := f.Sync()
		if s.file == nil {
			err = errors.Join(err, f.Close())
		} else if info, serr := f.Stat(); serr == nil {
			s.zeroed = info.Size()
		}
		if err != nil {
			return fmt.Errorf("journal: sync %s: %w", s.path, err)
		}
	}
	return nil
}

// zeroBehind zeroes the file behind off as far as it is not, and returns how
// many bytes there were up to the last that was not zero.
func (j *Journal) zeroBehind(seg *segment, off int64) (int64, error) {
	w, err := openWindow(j.opt.FS, seg.path)
	if err != nil {
		return 0, err
	}
	defer w.close()
	end, err := w.lastNonZero(off)
	if err != nil {
		return 0, err
	}
	zeros := make([]byte, min(windowSize, end-off))
	for at := off; at < end; at += int64(len(zeros)) {
		if _, err := seg.file.WriteAt(zeros[:min(int64(len(zeros)), end-at)], at); err != nil {
			return 0, err
		}
	}
	return end - off, nil
}

// removeSegment removes one file for good. Each removal is synced on its own,
// so that a crash can never bring back a file without its neighbours.
func (j *Journal) removeSegment(seg *segment) error {
	if err := j.removeSparse(seg); err != nil {
		return err
	}
	if err := j.opt.FS.Remove(seg.path); err != nil {
		return fmt.Errorf("journal: remove %s: %w", seg.path, err)
	}
	if err := j.dir.Sync(); err != nil {
		return fmt.Errorf("journal: sync %s: %w", j.opt.Dir, err)
	}
	return nil
}

// TruncateFront removes whole segments whose records all have an index below
// keepFrom. The segment that is appended to stays, and so does what is not yet
// durable. A reader that stands on what is gone fails with ErrTruncated.
func (j *Journal) TruncateFront(keepFrom uint64) error {
	if j.opt.ReadOnly {
		return ErrReadOnly
	}
	j.truncating.Lock()
	defer j.truncating.Unlock()
	for {
		seg, err := j.dropFirst(keepFrom)
		if err != nil {
			return err
		}
		if seg == nil {
			return j.loadFirstTS()
		}
		if err := j.removeSegment(seg); err != nil {
			return j.poison(err)
		}
	}
}

// dropFirst takes the first segment off the list if it may go.
func (j *Journal) dropFirst(keepFrom uint64) (*segment, error) {
	j.wmu.Lock()
	defer j.wmu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	segs := j.mu.segs
	if j.mu.err != nil || len(segs) < 2 || segs[1].prevIndex >= keepFrom {
		return nil, j.mu.err
	}
	if segs[1].base > j.durable.Load().Pos || segs[0].file != nil {
		return nil, nil
	}
	// Others may be reading the old slice.
	j.mu.segs = append([]*segment(nil), segs[1:]...)
	return segs[0], nil
}

// Reclaimable returns how many bytes TruncateFront(keepFrom) would free.
func (j *Journal) Reclaimable(keepFrom uint64) int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	var n int64
	for i := 0; i+1 < len(j.mu.segs) && j.mu.segs[i+1].prevIndex < keepFrom; i++ {
		n += segmentHeaderLen + int64(j.mu.segs[i+1].base-j.mu.segs[i].base)
	}
	return n
}

// Segment describes one file, for retention and tools.
type Segment struct {
	Path      string
	Base, End Pos
	// PrevIndex and PrevTS are those of the newest indexed record before it.
	PrevIndex, PrevTS uint64
}

// Segments lists the files, oldest first.
func (j *Journal) Segments() []Segment {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]Segment, len(j.mu.segs))
	for i, s := range j.mu.segs {
		out[i] = Segment{s.path, s.base, s.end, s.prevIndex, s.prevTS}
	}
	return out
}

// TruncateAfter removes every record behind the one of the given index, and the
// records without an index that follow it. It must not run beside Append or
// SyncTo. The rest of the last segment is copied to a new file that takes its
// place, so a crash leaves either the old tail or the new one.
func (j *Journal) TruncateAfter(index uint64) error {
	if j.opt.ReadOnly {
		return ErrReadOnly
	}
	j.truncating.Lock()
	defer j.truncating.Unlock()
	if err := j.SyncTo(j.Appended().Pos); err != nil {
		return err
	}
	r, err := j.NewReader(FromIndex(index))
	if err != nil {
		return err
	}
	defer r.Close()
	if !r.Next() || r.Record().Index != index || !r.Record().Kind.Indexed() {
		return errors.Join(fmt.Errorf("journal: truncate after index %d: no such record", index), r.Err())
	}
	rec := r.Record()
	if rec.More {
		return fmt.Errorf("journal: truncate after index %d would cut a unit", index)
	}
	mark := Mark{rec.End, rec.Index, rec.TS}
	if mark.Pos == j.Appended().Pos {
		return nil
	}
	j.wmu.Lock()
	defer j.wmu.Unlock()
	if err := j.cutSynced(mark); err != nil {
		return j.poison(fmt.Errorf("journal: truncate after index %d: %w", index, err))
	}
	return nil
}

// cutSynced needs wmu.
func (j *Journal) cutSynced(mark Mark) error {
	j.mu.Lock()
	segs := append([]*segment(nil), j.mu.segs...)
	j.mu.Unlock()
	for last := len(segs) - 1; last > 0 && segs[last].base >= mark.Pos; last-- {
		seg := segs[last]
		if seg.file != nil {
			if err := seg.file.Close(); err != nil {
				return err
			}
			seg.file = nil
		}
		if err := j.removeSegment(seg); err != nil {
			return err
		}
		segs = segs[:last]
	}
	seg := segs[len(segs)-1]
	if err := j.removeSparse(seg); err != nil {
		return err
	}
	if err := j.replaceWithPrefix(seg, mark.Pos); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	seg.end, seg.written, seg.sealed = mark.Pos, mark.Pos, false
	seg.forget(mark.Pos)
	j.mu.segs = segs
	j.mu.appended, j.mu.bufPos = mark, mark.Pos
	j.mu.gen++
	j.durable.Store(&mark)
	return nil
}

// replaceWithPrefix copies the records of seg before end into a new file and
// renames it over the old one.
func (j *Journal) replaceWithPrefix(seg *segment, end Pos) error {
	n := seg.offset(end)
	w, err := openWindow(j.opt.FS, seg.path)
	if err != nil {
		return err
	}
	defer w.close()
	b, err := w.at(0, n)
	if err != nil {
		return err
	}
	if int64(len(b)) < n {
		return &CorruptionError{seg.path, int64(len(b)), "the file ends inside a record"}
	}
	if seg.file != nil {
		if err := seg.file.Close(); err != nil {
			return err
		}
		seg.file = nil
	}
	tmp := seg.path + tempSuffix
	f, err := j.opt.FS.Create(tmp, writeCategory)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := j.opt.FS.Rename(tmp, seg.path); err != nil {
		return err
	}
	if err := j.dir.Sync(); err != nil {
		return err
	}
	seg.file, err = j.opt.FS.OpenReadWrite(seg.path, writeCategory)
	seg.zeroed = n
	return err
}
