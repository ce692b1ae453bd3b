package journal

import "fmt"

// SeekTS returns the index of the first durable entry whose ts is not below ts.
func (j *Journal) SeekTS(ts uint64) (index uint64, ok bool, err error) {
	r, err := j.NewReader(FromTS(ts))
	if err != nil {
		return 0, false, err
	}
	defer r.Close()
	if !r.Next() {
		return 0, false, r.Err()
	}
	return r.Record().Index, true, nil
}

// ensureTable has the sparse table of a segment that was not scanned when the
// journal was opened: from its side file or, once, from the segment's headers.
// The checksums are verified when the records are read.
func (j *Journal) ensureTable(seg *segment) error {
	seg.table.Lock()
	complete := seg.table.complete
	seg.table.Unlock()
	if complete {
		return nil
	}
	j.mu.Lock()
	end := seg.end
	j.mu.Unlock()
	entries, saved := j.loadSparse(seg)
	if !saved {
		var err error
		if entries, err = j.buildTable(seg, end); err != nil {
			return err
		}
	}
	seg.table.Lock()
	if !seg.table.complete {
		seg.table.entries, seg.table.complete = entries, true
	}
	seg.table.Unlock()
	if !saved {
		j.saveSparse(seg)
	}
	return nil
}

func (j *Journal) buildTable(seg *segment, end Pos) ([]sparseEntry, error) {
	w, err := openWindow(j.opt.FS, seg.path)
	if err != nil {
		return nil, fmt.Errorf("journal: open %s: %w", seg.path, err)
	}
	defer w.close()
	var entries []sparseEntry
	next := int64(0)
	for pos := seg.base; pos < end; {
		b, err := w.at(seg.offset(pos), recordHeaderLen)
		if err != nil {
			return nil, fmt.Errorf("journal: read %s: %w", seg.path, err)
		}
		if len(b) < recordHeaderLen {
			return nil, j.locate(seg, pos, "the file ends inside a record")
		}
		h := decodeHeader(b)
		if !h.plausible() || h.size() > int64(end-pos) {
			return nil, j.locate(seg, pos, "no record header")
		}
		if off := int64(pos - seg.base); off >= next {
			entries = append(entries, sparseEntry{off, h.index, h.ts})
			next = off + sparseStep
		}
		pos += Pos(h.size())
	}
	return entries, nil
}

// locate turns a place where no record was found into the error that names the
// damage: it may be a length some way before it that led there.
func (j *Journal) locate(seg *segment, pos Pos, reason string) error {
	w, err := openWindow(j.opt.FS, seg.path)
	if err != nil {
		return &CorruptionError{seg.path, seg.offset(pos), reason}
	}
	defer w.close()
	cur := Mark{seg.base, seg.prevIndex, seg.prevTS}
	for cur.Pos < pos {
		h, why, err := parseAt(w, seg, cur.Pos, cur)
		if err != nil {
			return err
		}
		if why != "" {
			return &CorruptionError{seg.path, seg.offset(cur.Pos), why}
		}
		cur = Mark{cur.Pos + Pos(h.size()), h.index, h.ts}
	}
	return &CorruptionError{seg.path, seg.offset(pos), reason}
}
