package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
)

// A sealed segment's sparse table is kept in a side file, so that the first
// seek into it after a restart need not read all its headers. The file is a
// hint: it is never synced, one that is missing, damaged or of another version
// of the segment is made anew from the segment, and a failure to write it is no
// failure.
const (
	sparseMagic     = "CAIRNJI1"
	sparseVersion   = 1
	sparseHeaderLen = 52
	sparseEntryLen  = 24
	sparseSuffix    = ".index"
)

// sparsePath is the side file's path.
func (s *segment) sparsePath() string {
	return strings.TrimSuffix(s.path, segmentSuffix) + sparseSuffix
}

// encodeSparse makes the side file of a segment that ends at the mark.
func encodeSparse(base Pos, end Mark, entries []sparseEntry) []byte {
	b := make([]byte, 0, sparseHeaderLen+len(entries)*sparseEntryLen)
	b = append(b, sparseMagic...)
	b = binary.LittleEndian.AppendUint32(b, sparseVersion)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(base))
	b = binary.LittleEndian.AppendUint64(b, uint64(end.Pos))
	b = binary.LittleEndian.AppendUint64(b, end.Index)
	b = binary.LittleEndian.AppendUint64(b, end.TS)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(entries)))
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint64(b, uint64(e.off))
		b = binary.LittleEndian.AppendUint64(b, e.index)
		b = binary.LittleEndian.AppendUint64(b, e.ts)
	}
	binary.LittleEndian.PutUint32(b[12:], sparseChecksum(b))
	return b
}

func sparseChecksum(b []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, b[:12]), castagnoli, b[16:])
}

// decodeSparse returns false for anything but the whole table of exactly that
// segment. The end's ts tells it from an earlier segment of the same name whose
// tail was cut: no ts is used twice.
func decodeSparse(b []byte, base Pos, end Mark) ([]sparseEntry, bool) {
	if len(b) < sparseHeaderLen || string(b[:8]) != sparseMagic ||
		binary.LittleEndian.Uint32(b[8:]) != sparseVersion || binary.LittleEndian.Uint32(b[12:]) != sparseChecksum(b) {
		return nil, false
	}
	is := Mark{Pos(binary.LittleEndian.Uint64(b[24:])), binary.LittleEndian.Uint64(b[32:]), binary.LittleEndian.Uint64(b[40:])}
	n := int(binary.LittleEndian.Uint32(b[48:]))
	if Pos(binary.LittleEndian.Uint64(b[16:])) != base || is != end || len(b) != sparseHeaderLen+n*sparseEntryLen {
		return nil, false
	}
	entries := make([]sparseEntry, n)
	for i := range entries {
		p := b[sparseHeaderLen+i*sparseEntryLen:]
		entries[i] = sparseEntry{int64(binary.LittleEndian.Uint64(p)), binary.LittleEndian.Uint64(p[8:]), binary.LittleEndian.Uint64(p[16:])}
	}
	return entries, true
}

// sealedEnd is the end of a segment that has one behind it.
func (j *Journal) sealedEnd(seg *segment) (end Mark, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, s := range j.mu.segs[:len(j.mu.segs)-1] {
		if s == seg {
			next := j.mu.segs[i+1]
			return Mark{next.base, next.prevIndex, next.prevTS}, true
		}
	}
	return Mark{}, false
}

// loadSparse reads the segment's side file.
func (j *Journal) loadSparse(seg *segment) ([]sparseEntry, bool) {
	end, ok := j.sealedEnd(seg)
	if !ok {
		return nil, false
	}
	f, err := j.opt.FS.Open(seg.sparsePath())
	if err != nil {
		return nil, false
	}
	defer f.Close()
	st, err := f.Stat()
	// A table has an entry for each step of the segment at most.
	if most := sparseHeaderLen + (int64(end.Pos-seg.base)/sparseStep+1)*sparseEntryLen; err != nil || st.Size() > most {
		return nil, false
	}
	b := make([]byte, st.Size())
	if n, _ := f.ReadAt(b, 0); n < len(b) {
		return nil, false
	}
	return decodeSparse(b, seg.base, end)
}

// saveSparse writes the side file of a sealed segment whose table is complete.
func (j *Journal) saveSparse(seg *segment) {
	end, ok := j.sealedEnd(seg)
	if !ok || j.opt.ReadOnly {
		return
	}
	seg.table.Lock()
	complete, b := seg.table.complete, encodeSparse(seg.base, end, seg.table.entries)
	seg.table.Unlock()
	if !complete {
		return
	}
	f, err := j.opt.FS.Create(seg.sparsePath(), writeCategory)
	if err == nil {
		_, err = f.Write(b)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		j.opt.Logger.Debug("journal: side file not written", "file", seg.sparsePath(), "error", err)
	}
}

// removeSparse removes the side file, if there is one, before the segment goes
// or changes.
func (j *Journal) removeSparse(seg *segment) error {
	if err := j.opt.FS.Remove(seg.sparsePath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("journal: remove %s: %w", seg.sparsePath(), err)
	}
	return nil
}

// removeOrphans removes the side files that have no segment. names are those of
// the directory.
func (j *Journal) removeOrphans(names []string) error {
	have := map[string]bool{}
	for _, n := range names {
		have[n] = true
	}
	for _, n := range names {
		stem, ok := strings.CutSuffix(n, sparseSuffix)
		if !ok || have[stem+segmentSuffix] {
			continue
		}
		if _, ok := parseSegmentName(stem + segmentSuffix); !ok {
			continue
		}
		if err := j.opt.FS.Remove(j.opt.FS.PathJoin(j.opt.Dir, n)); err != nil {
			return fmt.Errorf("journal: remove %s: %w", n, err)
		}
	}
	return nil
}
