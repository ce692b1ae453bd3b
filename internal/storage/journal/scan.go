package journal

import "fmt"

// scan walks the records behind the synced part when the journal is opened.
type scan struct {
	j    *Journal
	mark Mark // end of the last whole unit
	bad  Pos  // where the walk ended
	why  string
}

// parseAt checks the record at pos behind prev. The reason is empty if it is
// intact; the error is one of reading.
func parseAt(w *window, seg *segment, pos Pos, prev Mark) (h header, reason string, err error) {
	off := seg.offset(pos)
	b, err := w.at(off, recordHeaderLen)
	if err != nil {
		return h, "", fmt.Errorf("journal: read %s: %w", seg.path, err)
	}
	switch {
	case len(b) == 0:
		return h, "the file ends here", nil
	case len(b) < recordHeaderLen:
		return h, "record header is cut short", nil
	}
	h = decodeHeader(b)
	if !h.plausible() {
		return h, "no record header", nil
	}
	b, err = w.at(off, h.size())
	if err != nil {
		return h, "", fmt.Errorf("journal: read %s: %w", seg.path, err)
	}
	switch {
	case int64(len(b)) < h.size():
		return h, "record is cut short", nil
	case !w.scratch.verify(b, &h, pos):
		return h, "checksum mismatch", nil
	case h.kind.Indexed() && h.index != prev.Index+1, !h.kind.Indexed() && h.index != prev.Index:
		return h, fmt.Sprintf("index %d behind %d", h.index, prev.Index), nil
	case h.ts < prev.TS, h.kind == KindEntry && h.ts == prev.TS:
		return h, fmt.Sprintf("ts %d behind %d", h.ts, prev.TS), nil
	}
	return h, "", nil
}

// segment walks seg from its base, where the mark stands, to its end. It
// returns false where the walk is over: at a record that is not whole, or at
// the end of the last segment.
func (sc *scan) segment(seg *segment, last bool) (bool, error) {
	w, err := openWindow(sc.j.opt.FS, seg.path)
	if err != nil {
		return false, fmt.Errorf("journal: open %s: %w", seg.path, err)
	}
	defer w.close()
	seg.table.complete = true
	cur := sc.mark
	for last || cur.Pos < seg.end {
		h, reason, err := parseAt(w, seg, cur.Pos, cur)
		if err != nil {
			return false, err
		}
		if reason == "" && !last && cur.Pos+Pos(h.size()) > seg.end {
			reason = "record passes the segment's end"
		}
		if reason != "" {
			sc.bad, sc.why = cur.Pos, reason
			return false, nil
		}
		seg.note(cur.Pos, h.index, h.ts)
		if seg.firstTS == 0 && h.kind.Indexed() {
			seg.firstTS = h.ts
		}
		cur = Mark{cur.Pos + Pos(h.size()), h.index, h.ts}
		if !h.more() {
			sc.mark = cur
		}
	}
	sc.bad = cur.Pos
	// A unit never spans segments.
	if sc.mark.Pos != cur.Pos {
		sc.why = "unit is cut short"
		return false, nil
	}
	return true, nil
}

// checkTorn looks for proof that the record at sc.bad had been synced: an
// intact record or header behind it that was written after that sync.
func (sc *scan) checkTorn(found []foundSegment) error {
	at := 0
	for i, s := range found {
		if s.base <= sc.bad {
			at = i
		}
	}
	corrupt := &CorruptionError{found[at].path, found[at].offset(sc.bad), sc.why}
	for _, s := range found[at:] {
		if s.valid && s.synced > sc.bad {
			return corrupt
		}
		proof, err := sc.syncedBehind(s.segment)
		if err != nil {
			return err
		}
		if proof {
			return corrupt
		}
	}
	return nil
}

// syncedBehind searches the segment, at every byte behind sc.bad, for an intact
// record that tells of a sync behind sc.bad.
func (sc *scan) syncedBehind(seg *segment) (bool, error) {
	w, err := openWindow(sc.j.opt.FS, seg.path)
	if err != nil {
		return false, fmt.Errorf("journal: open %s: %w", seg.path, err)
	}
	defer w.close()
	for off := seg.offset(max(seg.base, sc.bad)); ; {
		b, err := w.at(off, windowSize/2)
		if err != nil {
			return false, fmt.Errorf("journal: read %s: %w", seg.path, err)
		}
		if len(b) < recordHeaderLen {
			return false, nil
		}
		i := nextCandidate(b)
		off += int64(i)
		if i > len(b)-recordHeaderLen {
			continue
		}
		pos := seg.base + Pos(off-segmentHeaderLen)
		h := decodeHeader(b[i:])
		if h.index < sc.mark.Index || h.ts < sc.mark.TS || h.syncedBefore(pos) <= sc.bad {
			off++
			continue
		}
		if b, err = w.at(off, h.size()); err != nil {
			return false, fmt.Errorf("journal: read %s: %w", seg.path, err)
		}
		if int64(len(b)) == h.size() && w.scratch.verify(b, &h, pos) {
			return true, nil
		}
		off++
	}
}

// nextCandidate returns the first offset in b at which a record header could
// begin, or the first at which too few bytes are left to tell.
func nextCandidate(b []byte) int {
	i := 0
	for ; i <= len(b)-recordHeaderLen; i++ {
		if k := b[i+8]; k == 0 || k > byte(KindLocal) || b[i+9]&^flagMore != 0 {
			continue
		}
		if h := decodeHeader(b[i:]); h.plausible() {
			break
		}
	}
	return i
}
