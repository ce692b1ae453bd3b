package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	segmentMagic     = "CAIRNJ01"
	segmentVersion   = 1
	segmentHeaderLen = 48
	segmentSuffix    = ".journal"
	tempSuffix       = ".tmp"

	// sparseStep is the distance between entries of a segment's sparse table:
	// a seek reads about this much behind the entry that it starts from.
	sparseStep = 64 << 10
)

// segmentHeader opens a segment file.
type segmentHeader struct {
	base      Pos    // position of the first record
	prevIndex uint64 // index of the newest indexed record before base
	prevTS    uint64 // and its ts
	synced    Pos    // how far the journal was synced when this was written
}

func (h *segmentHeader) encode() []byte {
	b := make([]byte, 0, segmentHeaderLen)
	b = append(b, segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, segmentVersion)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.base))
	b = binary.LittleEndian.AppendUint64(b, h.prevIndex)
	b = binary.LittleEndian.AppendUint64(b, h.prevTS)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.synced))
	binary.LittleEndian.PutUint32(b[12:], segmentChecksum(b))
	return b
}

func segmentChecksum(b []byte) uint32 {
	c := crc32.Update(0, castagnoli, b[:12])
	return crc32.Update(c, castagnoli, b[16:segmentHeaderLen])
}

// decodeSegmentHeader returns ok false for bytes that are no whole header, and
// an error for a whole one that this program must not read.
func decodeSegmentHeader(b []byte) (h segmentHeader, ok bool, err error) {
	if len(b) < segmentHeaderLen || string(b[:8]) != segmentMagic ||
		binary.LittleEndian.Uint32(b[12:]) != segmentChecksum(b) {
		return h, false, nil
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != segmentVersion {
		return h, false, fmt.Errorf("journal: segment format version %d, this program reads version %d", v, segmentVersion)
	}
	h.base = Pos(binary.LittleEndian.Uint64(b[16:]))
	h.prevIndex = binary.LittleEndian.Uint64(b[24:])
	h.prevTS = binary.LittleEndian.Uint64(b[32:])
	h.synced = Pos(binary.LittleEndian.Uint64(b[40:]))
	return h, true, nil
}

func segmentName(base Pos) string { return fmt.Sprintf("%016x%s", uint64(base), segmentSuffix) }

func parseSegmentName(name string) (Pos, bool) {
	hex, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 64)
	if err != nil || segmentName(Pos(n)) != name {
		return 0, false
	}
	return Pos(n), true
}

// sparseEntry is a known record start inside a segment.
type sparseEntry struct {
	off   int64 // from the segment's base
	index uint64
	ts    uint64
}

// segment is one file. The header is fixed; the rest is guarded as noted.
type segment struct {
	segmentHeader
	path string

	// Guarded by Journal.mu.
	end     Pos    // position behind the last appended record
	firstTS uint64 // ts of the first indexed record; 0 if there is none or it was not read

	// Guarded by Journal.wmu: the writing side.
	file    vfs.File // nil until first written and again after the last sync
	written Pos      // file holds the records before this
	zeroed  int64    // file offset up to which the file is known to be allocated
	sealed  bool     // nothing more will be written
	dirty   bool     // on the journal's dirty list

	table struct {
		sync.Mutex
		complete bool // covers the segment from its base on
		entries  []sparseEntry
	}
}

// offset is the place of pos in the segment's file.
func (s *segment) offset(pos Pos) int64 { return segmentHeaderLen + int64(pos-s.base) }

// note adds the record at pos to the sparse table if it is far enough from the
// last entry.
func (s *segment) note(pos Pos, index, ts uint64) {
	off := int64(pos - s.base)
	s.table.Lock()
	defer s.table.Unlock()
	if !s.table.complete {
		return
	}
	n := len(s.table.entries)
	if n > 0 && off-s.table.entries[n-1].off < sparseStep {
		return
	}
	s.table.entries = append(s.table.entries, sparseEntry{off, index, ts})
}

// forget drops the sparse entries at and behind pos.
func (s *segment) forget(pos Pos) {
	s.table.Lock()
	defer s.table.Unlock()
	e := s.table.entries
	off := int64(pos - s.base)
	s.table.entries = e[:sort.Search(len(e), func(i int) bool { return e[i].off >= off })]
}

// lastWhere returns the offset of the last sparse entry for which before holds,
// or 0. before must hold for a prefix of the entries.
func (s *segment) lastWhere(before func(sparseEntry) bool) int64 {
	s.table.Lock()
	defer s.table.Unlock()
	e := s.table.entries
	i := sort.Search(len(e), func(i int) bool { return !before(e[i]) })
	if i == 0 {
		return 0
	}
	return e[i-1].off
}
