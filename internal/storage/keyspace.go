package storage

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The whole keyspace of the engine, in order. Every key starts with one byte,
// its space; docs/FORMATS.md has the same table for people who write readers.
//
//	0x01 meta, owned by this package
//	  0x01 0x01                        applied mark: the journal prefix that the engine holds
//	  0x01 0x02 | space | ident u32    a dropped table whose range is still to be deleted
//	0x02 replicated tables (the same bytes on every member)
//	  0x02 | ident u32 BE | rest
//	    ident 0                        counters of the space: rest 0x01 = next ident
//	    ident 1                        the catalog
//	    ident 2 .. 63                  reserved for fixed tables
//	    ident 64 ..                    record stores and indexes
//	0x03 private tables (of this member alone; a copy for another member drops them)
//	  0x03 | ident u32 BE | rest       idents as above, counted on their own
//
// The rest of a key in a
//
//	record store   RecordId: u64 BE with the sign bit flipped             value: the record's bytes
//	index          KeyString ‖ RecordId (same 8 bytes)                    value: type bits, may be empty
//	_id index      KeyString                                              value: RecordId (same 8 bytes) ‖ type bits
//	keyed table    any bytes (catalog, counters)                          value: any bytes
const (
	metaApplied  = 0x01
	metaDropped  = 0x02
	markVersion  = 0x01
	markLen      = 1 + 3*8
	prefixLen    = 1 + 4
	recordIDLen  = 8
	counterIdent = 0x01
)

// Space is the first byte of every key.
type Space uint8

// The spaces that tables live in.
const (
	spaceMeta       Space = 0x01
	SpaceReplicated Space = 0x02
	SpacePrivate    Space = 0x03
)

// Ident numbers one table inside its space; never reused.
type Ident uint32

// Fixed idents.
const (
	identCounters Ident = 0
	// IdentCatalog is the catalog's table in either space.
	IdentCatalog Ident = 1
	// FirstIdent is the first one that NextIdent gives out.
	FirstIdent Ident = 64
)

// RecordID is the place of a record in its record store. Valid ids are
// positive; 0 is "none".
type RecordID int64

// The ends of the id order, for seeks.
const (
	MinRecordID RecordID = 1
	MaxRecordID RecordID = math.MaxInt64
)

// Table names one record store, index or keyed table.
type Table struct {
	Space Space
	Ident Ident
}

func (t Table) String() string { return fmt.Sprintf("%d/%d", t.Space, t.Ident) }

// AppendPrefix appends the bytes that all keys of t start with.
func (t Table) AppendPrefix(dst []byte) []byte {
	return append(dst, byte(t.Space), byte(t.Ident>>24), byte(t.Ident>>16), byte(t.Ident>>8), byte(t.Ident))
}

// AppendKey appends the engine key of rest in t.
func (t Table) AppendKey(dst, rest []byte) []byte {
	return append(t.AppendPrefix(dst), rest...)
}

// AppendRecordKey appends the engine key of a record of the record store t.
func (t Table) AppendRecordKey(dst []byte, id RecordID) []byte {
	return AppendRecordID(t.AppendPrefix(dst), id)
}

// Bounds gives the range [lower, upper) that holds exactly the keys of t.
func (t Table) Bounds() (lower, upper []byte) {
	lower = t.AppendPrefix(make([]byte, 0, prefixLen))
	if t.Ident == math.MaxUint32 {
		return lower, []byte{byte(t.Space) + 1}
	}
	return lower, Table{t.Space, t.Ident + 1}.AppendPrefix(make([]byte, 0, prefixLen))
}

// SplitKey takes an engine key of a table apart.
func SplitKey(key []byte) (t Table, rest []byte, ok bool) {
	if len(key) < prefixLen || (Space(key[0]) != SpaceReplicated && Space(key[0]) != SpacePrivate) {
		return Table{}, nil, false
	}
	return Table{Space(key[0]), Ident(binary.BigEndian.Uint32(key[1:]))}, key[prefixLen:], true
}

// AppendRecordID appends the 8 ordered bytes of id.
func AppendRecordID(dst []byte, id RecordID) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(id)^(1<<63))
}

// DecodeRecordID reads what AppendRecordID wrote; b has at least 8 bytes.
func DecodeRecordID(b []byte) RecordID {
	return RecordID(binary.BigEndian.Uint64(b) ^ (1 << 63))
}

// appliedKeyBytes is read only.
var appliedKeyBytes = []byte{byte(spaceMeta), metaApplied}

func droppedKey(t Table) []byte {
	return t.AppendPrefix([]byte{byte(spaceMeta), metaDropped})
}

func droppedBounds() (lower, upper []byte) {
	return []byte{byte(spaceMeta), metaDropped}, []byte{byte(spaceMeta), metaDropped + 1}
}

func nextIdentKey(s Space) []byte {
	return append(Table{s, identCounters}.AppendPrefix(nil), counterIdent)
}

// appendMark encodes the value of the applied mark: version u8 | position u64 |
// index u64 | ts u64, big endian.
func appendMark(dst []byte, m Mark) []byte {
	dst = append(dst, markVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Pos))
	dst = binary.BigEndian.AppendUint64(dst, m.Index)
	return binary.BigEndian.AppendUint64(dst, m.TS)
}

func decodeMark(b []byte) (Mark, error) {
	if len(b) == 0 || b[0] != markVersion {
		return Mark{}, fmt.Errorf("%w: unknown version of the applied mark", ErrVersion)
	}
	if len(b) != markLen {
		return Mark{}, corruptf("applied mark has %d bytes", len(b))
	}
	return Mark{
		Pos:   Pos(binary.BigEndian.Uint64(b[1:])),
		Index: binary.BigEndian.Uint64(b[9:]),
		TS:    binary.BigEndian.Uint64(b[17:]),
	}, nil
}
