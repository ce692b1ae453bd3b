package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Pos is a logical byte offset in the journal. Segment headers take no part in
// it, so the record behind the last one of a segment follows it without a gap.
type Pos uint64

// Kind says what a record's payload is.
type Kind uint8

// The kinds of records. The first three are indexed: each takes the next index.
const (
	// KindEntry is an oplog entry; the payload is its BSON document.
	KindEntry Kind = 1
	// KindRaftEmpty is a Raft entry without data, as a new leader writes one.
	KindRaftEmpty Kind = 2
	// KindRaftConf is a Raft membership change.
	KindRaftConf Kind = 3
	// KindHardState is Raft's term, vote and commit index.
	KindHardState Kind = 4
	// KindLocal is a physical batch of the member-private keyspace.
	KindLocal Kind = 5
)

// Indexed reports whether records of this kind take an index of their own.
func (k Kind) Indexed() bool { return k >= KindEntry && k <= KindRaftConf }

func (k Kind) valid() bool { return k >= KindEntry && k <= KindLocal }

// String names the kind for logs and tools.
func (k Kind) String() string {
	switch k {
	case KindEntry:
		return "entry"
	case KindRaftEmpty:
		return "raft-empty"
	case KindRaftConf:
		return "raft-conf"
	case KindHardState:
		return "hard-state"
	case KindLocal:
		return "local"
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// Record is one record. Append takes Kind, More, Index, Term, TS and Payload;
// a Reader fills in all fields, and its Payload is valid until the next move.
//
// Append gives records that are not indexed the index and ts of the newest
// indexed record before them, whatever the fields say, and gives indexed
// records without a ts of their own (ts 0) the newest ts before them.
type Record struct {
	Kind Kind
	// More says that the unit goes on in the next record.
	More    bool
	Index   uint64
	Term    uint64
	TS      uint64
	Payload []byte

	// Pos and End are where the record begins and where the next one does.
	Pos, End Pos
}

// Mark names a place between two records: the position, and the index and ts
// of the newest indexed record before it (First: of the first one behind it).
type Mark struct {
	Pos   Pos
	Index uint64
	TS    uint64
}

const (
	recordHeaderLen = 36
	flagMore        = 1

	// maxPayload bounds a record: an oplog entry is at most 16 MB plus its
	// envelope, a local unit is bounded by its writer to far less than this.
	maxPayload = 512 << 20

	// lagUnit is the grain in which a record tells how far behind it the
	// synced part of the journal ended when it was appended.
	lagUnit    = 4096
	lagUnknown = 0xffff
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the decoded fixed part of a record.
type header struct {
	length uint32
	crc    uint32
	kind   Kind
	flags  uint8
	lag    uint16
	index  uint64
	term   uint64
	ts     uint64
}

func (h *header) more() bool { return h.flags&flagMore != 0 }

// size is the record's whole length in the journal.
func (h *header) size() int64 { return recordHeaderLen + int64(h.length) }

// plausible reports whether the fields can be those of a record at all. It
// says nothing about the checksum.
func (h *header) plausible() bool {
	return h.kind.valid() && h.flags&^flagMore == 0 && h.length <= maxPayload
}

// syncedBefore is a lower bound of the position up to which the journal was
// synced when the record at pos was appended: a record that is damaged below
// it was once safe on disk, so it is corrupt and not torn.
func (h *header) syncedBefore(pos Pos) Pos {
	back := Pos(h.lag) * lagUnit
	if h.lag == lagUnknown || back > pos {
		return 0
	}
	return pos - back
}

func decodeHeader(b []byte) header {
	_ = b[recordHeaderLen-1]
	return header{
		length: binary.LittleEndian.Uint32(b),
		crc:    binary.LittleEndian.Uint32(b[4:]),
		kind:   Kind(b[8]),
		flags:  b[9],
		lag:    binary.LittleEndian.Uint16(b[10:]),
		index:  binary.LittleEndian.Uint64(b[12:]),
		term:   binary.LittleEndian.Uint64(b[20:]),
		ts:     binary.LittleEndian.Uint64(b[28:]),
	}
}

// lagOf encodes the distance from the synced end to pos, rounded up.
func lagOf(pos, synced Pos) uint16 {
	if synced > pos {
		return 0
	}
	n := (uint64(pos-synced) + lagUnit - 1) / lagUnit
	if n >= lagUnknown {
		return lagUnknown
	}
	return uint16(n)
}

// scratch is where a checksum's seed is put together. Its owner lives on the
// heap, so that computing a checksum allocates nothing.
type scratch [12]byte

// checksum covers the record's position and length and everything behind the
// checksum itself. The position keeps a stale record, or a record copied into
// a payload, from ever passing for a real one.
func (s *scratch) checksum(rest []byte, length uint32, pos Pos) uint32 {
	binary.LittleEndian.PutUint64(s[:], uint64(pos))
	binary.LittleEndian.PutUint32(s[8:], length)
	c := crc32.Update(0, castagnoli, s[:])
	return crc32.Update(c, castagnoli, rest)
}

// verify reports whether b, the whole record at pos, is intact.
func (s *scratch) verify(b []byte, h *header, pos Pos) bool {
	return s.checksum(b[8:h.size()], h.length, pos) == h.crc
}

// appendRecord encodes r as the record at pos.
func appendRecord(dst []byte, r *Record, pos, synced Pos, s *scratch) []byte {
	start := len(dst)
	var flags byte
	if r.More {
		flags = flagMore
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(r.Payload)))
	dst = append(dst, 0, 0, 0, 0, byte(r.Kind), flags)
	dst = binary.LittleEndian.AppendUint16(dst, lagOf(pos, synced))
	dst = binary.LittleEndian.AppendUint64(dst, r.Index)
	dst = binary.LittleEndian.AppendUint64(dst, r.Term)
	dst = binary.LittleEndian.AppendUint64(dst, r.TS)
	dst = append(dst, r.Payload...)
	b := dst[start:]
	binary.LittleEndian.PutUint32(b[4:], s.checksum(b[8:], uint32(len(r.Payload)), pos))
	return dst
}

// record builds the public form of the record at b; the payload aliases b.
func (h *header) record(b []byte, pos Pos) Record {
	return Record{
		Kind: h.kind, More: h.more(), Index: h.index, Term: h.term, TS: h.ts,
		Payload: b[recordHeaderLen:h.size():h.size()],
		Pos:     pos, End: pos + Pos(h.size()),
	}
}
