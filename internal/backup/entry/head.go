package entry

import (
	"bytes"
	"encoding/binary"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/oplog"
)

// Head is what must be known of an entry to keep it: its place, and, if it is a plain one,
// what it is. Nearly all entries of an oplog are plain: inserts, updates and deletes of a
// document, and no-ops.
type Head struct {
	OpTime OpTime
	Kind   Kind // Insert, Update, Delete, Noop; Unknown of an entry that Parse must look at
	NS     []byte
}

// ReadHead reads an entry's head in one pass over the names of its fields. What Parse would
// accept as a plain entry has the same OpTime, kind and namespace here; of all else, damaged
// bytes too, the kind is Unknown, and the OpTime is what could be read.
func ReadHead(raw bson.Raw) Head {
	var r HeadReader
	return r.Read(raw)
}

// HeadReader reads the heads of entries that follow each other. Those of one collection begin with the
// same bytes up to their o, which are read once. The zero value is ready.
type HeadReader struct {
	begin  []byte // of an entry that was read, behind its length, up to o
	op     byte   // what begin has
	ns, to int    // where its ns is
}

// Read is ReadHead.
func (r *HeadReader) Read(raw bson.Raw) Head {
	h := Head{OpTime: OpTime{Term: oplog.UninitializedTerm}}
	var op byte
	var o, o2 []byte
	if len(raw) < 5 || int(binary.LittleEndian.Uint32(raw)) != len(raw) || raw[len(raw)-1] != 0 {
		return h
	}
	plain := true
	b := raw[4 : len(raw)-1]
	first := len(b) // where o begins, counted from the end
	if n := len(r.begin); n > 0 && len(b) > n && bytes.Equal(b[:n], r.begin) && bytes.HasPrefix(b[n:], oField) {
		op, h.NS = r.op, b[r.ns:r.to]
		b = b[n:]
		first = -1
	}
	for len(b) > 0 {
		here := len(b)
		t := bson.Type(b[0])
		name := 1
		for name < len(b) && b[name] != 0 {
			name++
		}
		if name >= len(b) {
			return h
		}
		key, v := b[1:name], b[name+1:]
		n := fixedSize(t)
		if n < 0 {
			if n = variableSize(t, v); n < 0 {
				return h
			}
		}
		if n > len(v) {
			return h
		}
		b, v = v[n:], v[:n]
		switch string(key) {
		case "ts":
			if plain = plain && t == bson.TypeTimestamp; t == bson.TypeTimestamp {
				h.OpTime.TS = bson.Timestamp(binary.LittleEndian.Uint64(v))
			}
		case "t":
			if plain = plain && t == bson.TypeInt64; t == bson.TypeInt64 {
				h.OpTime.Term = int64(binary.LittleEndian.Uint64(v))
			}
		case "op":
			if plain = plain && t == bson.TypeString && n == 6; plain {
				op = v[4]
			}
		case "ns":
			if plain = plain && t == bson.TypeString; plain {
				h.NS = v[4 : n-1]
			}
		case "o":
			plain = plain && t == bson.TypeDocument
			if o = v; plain && first > 0 && h.OpTime == (OpTime{Term: oplog.UninitializedTerm}) && o2 == nil && op != 0 && h.NS != nil {
				r.keep(raw[4:len(raw)-1-here], op, h.NS)
			}
			first = -1
		case "o2":
			plain = plain && t == bson.TypeDocument
			o2 = v
		case "ui":
			plain = plain && t == bson.TypeBinary && n == 5+16 && v[4] == 4
		case "lsid":
			plain = plain && t == bson.TypeDocument
		case "txnNumber":
			plain = plain && t == bson.TypeInt64
		case "prevOpTime":
			_, err := oplog.ParseOpTime(bson.Value{Type: t, Data: v})
			plain = plain && err == nil
		case "multiOpType":
			plain = false
		} // Parse bears whatever other fields hold
	}
	if !plain || h.OpTime.TS == 0 || o == nil {
		return h
	}
	named := o
	switch op {
	case 'n':
		h.Kind = Noop
		return h
	case 'i':
		h.Kind = Insert
	case 'u':
		h.Kind = Update
		named = o2
	case 'd':
		h.Kind = Delete
	default:
		return h
	}
	if !beginsWithID(named) || !namespace(h.NS) {
		h.Kind = Unknown
	}
	return h
}

// oField is how an o begins.
var oField = []byte("\x03o\x00")

// keep remembers the beginning of an entry. Nothing that differs from entry to entry is in it.
func (r *HeadReader) keep(begin []byte, op byte, ns []byte) {
	r.begin = append(r.begin[:0], begin...)
	r.op, r.ns = op, bytes.Index(begin, ns)
	r.to = r.ns + len(ns)
}

// fixedSize is the size of a value of a type that has one, else -1.
func fixedSize(t bson.Type) int {
	switch t {
	case bson.TypeTimestamp, bson.TypeInt64, bson.TypeDate, bson.TypeDouble:
		return 8
	case bson.TypeInt32:
		return 4
	case bson.TypeBool:
		return 1
	case bson.TypeNull:
		return 0
	case bson.TypeObjectID:
		return 12
	}
	return -1
}

// variableSize is the size of a string, document or binary at the start of v, -1 for others and for
// what is none.
func variableSize(t bson.Type, v []byte) int {
	if len(v) < 5 {
		return -1
	}
	n := int(int32(binary.LittleEndian.Uint32(v)))
	switch t {
	case bson.TypeString:
		if n < 1 || n > len(v)-4 || v[4+n-1] != 0 {
			return -1
		}
		return 4 + n
	case bson.TypeDocument, bson.TypeArray:
		if n < 5 {
			return -1
		}
		return n
	case bson.TypeBinary:
		if n < 0 {
			return -1
		}
		return 5 + n
	}
	return -1
}

// beginsWithID reports whether a document's first field is an _id of a type of fixed size, or a
// string, and whole.
func beginsWithID(doc []byte) bool {
	const head = 4 + 1 + len("_id\x00")
	if len(doc) < head || string(doc[5:head]) != "_id\x00" {
		return false
	}
	t, v := bson.Type(doc[4]), doc[head:]
	n := fixedSize(t)
	if n < 0 {
		n = variableSize(t, v)
	}
	return n >= 0 && n < len(v)
}

// namespace reports whether ns has a database and a collection, and that not system.indexes.
func namespace(ns []byte) bool {
	for i, c := range ns {
		if c == '.' {
			return i > 0 && i+1 < len(ns) && string(ns[i+1:]) != "system.indexes"
		}
	}
	return false
}
