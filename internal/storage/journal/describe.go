package journal

import "fmt"

// SegmentInfo is a segment as a tool shows it.
type SegmentInfo struct {
	Segment
	// FileBytes is the size of the file, with what was written ahead.
	FileBytes int64
	// FirstIndex to LastIndex are the indexed records in it and FirstTS to
	// LastTS their ts; all 0 if there is none.
	FirstIndex, LastIndex uint64
	FirstTS, LastTS       uint64
}

// Describe lists the segments, oldest first, with what is in them. It reads one
// record of each.
func (j *Journal) Describe() ([]SegmentInfo, error) {
	segs, end := j.Segments(), j.Appended()
	out := make([]SegmentInfo, 0, len(segs))
	for i, s := range segs {
		last := end
		if i+1 < len(segs) {
			last = Mark{segs[i+1].Base, segs[i+1].PrevIndex, segs[i+1].PrevTS}
		}
		d := SegmentInfo{Segment: s}
		if st, err := j.opt.FS.Stat(s.Path); err == nil {
			d.FileBytes = st.Size()
		} else if s.Base < last.Pos {
			return nil, fmt.Errorf("journal: stat %s: %w", s.Path, err)
		}
		if last.Index > s.PrevIndex {
			ts, err := j.tsOf(s.PrevIndex + 1)
			if err != nil {
				return nil, err
			}
			d.FirstIndex, d.LastIndex, d.FirstTS, d.LastTS = s.PrevIndex+1, last.Index, ts, last.TS
		}
		out = append(out, d)
	}
	return out, nil
}

// tsOf is the ts of the record of an index.
func (j *Journal) tsOf(index uint64) (uint64, error) {
	r, err := j.NewReader(FromIndex(index).Undurable())
	if err != nil {
		return 0, err
	}
	defer r.Close()
	if !r.Next() {
		return 0, r.Err()
	}
	return r.Record().TS, nil
}
