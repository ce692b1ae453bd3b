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
	// UUID is the collection's, of an entry that has one.
	UUID bson.UUID
}

// ReadHead reads an entry's head in one pass over the names of its fields. What Parse would
// accept as a plain entry has the same OpTime, kind and namespace here; of all else, damaged
// bytes too, the kind is Unknown, and the OpTime is what could be read.
func ReadHead(raw bson.Raw) Head {
	var r HeadReader
	return r.Read(raw)
}

// HeadReader reads the heads of entries that follow each other. Those of one collection begin with the
// same bytes up to their o, and have the same fields behind it, so that both are looked through once.
// The zero value is ready.
type HeadReader struct {
	begin  []byte // of an entry that was read, behind its length, up to o
	op     byte   // what begin has
	ns, to int    // where its ns is
	uuid   bson.UUID

	end     []byte // of a plain entry that was read whole, behind o
	mask    []byte // zeros where entries with the same fields may differ from end: values of a fixed size
	ts, t   int    // where these are in end
	learned bool
}

// Read is ReadHead.
func (r *HeadReader) Read(raw bson.Raw) Head {
	h := Head{OpTime: OpTime{Term: oplog.UninitializedTerm}}
	var op byte
	var o, o2 []byte
	if len(raw) < 5 || int(binary.LittleEndian.Uint32(raw)) != len(raw) || raw[len(raw)-1] != 0 {
		return h
	}
	plain, fixed := true, true
	behind := 0 // where what follows o begins, counted from the end
	b := raw[4 : len(raw)-1]
	first := len(b) // where o begins, counted from the end
	known := false  // begin was recognised
	if n := len(r.begin); n > 0 && len(b) > n && bytes.Equal(b[:n], r.begin) && bytes.HasPrefix(b[n:], oField) {
		op, h.NS, h.UUID = r.op, b[r.ns:r.to], r.uuid
		b = b[n:]
		if r.rest(b, &h) {
			return h
		}
		first, known = -1, true
	}
	for len(b) > 0 {
		here := len(b)
		t, key, v, ok := field(b)
		if !ok {
			return h
		}
		n := len(v)
		b = b[1+len(key)+1+n:]
		switch string(key) {
		case "op", "ns", "ui", "o", "o2":
			fixed = fixed && behind == 0
		}
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
				r.keep(raw[4:len(raw)-1-here], op, h.NS, h.UUID)
			}
			first, behind = -1, len(b)
		case "o2":
			plain, o2 = plain && t == bson.TypeDocument, v
		case "ui":
			if plain = plain && t == bson.TypeBinary && n == 5+16 && v[4] == 4; plain {
				h.UUID = bson.UUID(v[5:])
			}
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
		return h
	}
	if known && fixed && o2 == nil && (h.Kind == Insert || h.Kind == Delete) {
		r.learn(raw[len(raw)-1-behind : len(raw)-1])
	}
	return h
}

// field is the first field of what is left of a document, ok false if it is of a type that is not known
// here, or not whole.
func field(b []byte) (t bson.Type, key, v []byte, ok bool) {
	name := 1
	for name < len(b) && b[name] != 0 {
		name++
	}
	if name >= len(b) {
		return 0, nil, nil, false
	}
	t, v = bson.Type(b[0]), b[name+1:]
	n := fixedSize(t)
	if n < 0 {
		n = variableSize(t, v)
	}
	if n < 0 || n > len(v) {
		return 0, nil, nil, false
	}
	return t, b[1:name], v[:n], true
}

// learn remembers what is behind the o of a plain entry, to recognise others with the same fields.
func (r *HeadReader) learn(end []byte) {
	r.learned = false
	r.end = append(r.end[:0], end...)
	r.mask = append(r.mask[:0], end...)
	for i := range r.mask {
		r.mask[i] = 0xff
	}
	r.ts, r.t = -1, -1
	r.learned = r.varies(end, 0, true) && r.ts >= 0 && r.t >= 0
}

// varies clears the mask where the values of fields are that have a fixed size, and finds ts and t. The
// bytes are those of a document without its length and end, at a place in r.end; top tells the entry's own.
func (r *HeadReader) varies(b []byte, at int, top bool) bool {
	for len(b) > 0 {
		t, key, v, ok := field(b)
		if !ok {
			return false
		}
		n := len(v)
		at += 1 + len(key) + 1
		switch {
		case !top:
			if t == bson.TypeTimestamp || t == bson.TypeInt64 { // whatever it is, it is the place of an entry
				clear(r.mask[at : at+n])
			}
		case string(key) == "prevOpTime":
			if t != bson.TypeDocument || !r.varies(v[4:n-1], at+4, false) {
				return false
			}
		case fixedSize(t) >= 0:
			clear(r.mask[at : at+n])
			var place *int
			switch string(key) {
			case "ts":
				place = &r.ts
			case "t":
				place = &r.t
			}
			if place != nil {
				if *place >= 0 || n != 8 {
					return false // two of them
				}
				*place = at
			}
		}
		b, at = b[1+len(key)+1+n:], at+n
	}
	return true
}

// rest reads what an entry that begins as others did has from its o on, if that has the known fields too.
func (r *HeadReader) rest(b []byte, h *Head) bool {
	b = b[len(oField):]
	if !r.learned || len(b) < 4 || (r.op != 'i' && r.op != 'd') {
		return false
	}
	n := len(b) - len(r.end)
	if n < 5 || int(binary.LittleEndian.Uint32(b)) != n || !r.sameFields(b[n:]) || !beginsWithID(b[:n]) {
		return false
	}
	ts := bson.Timestamp(binary.LittleEndian.Uint64(b[n+r.ts:]))
	if ts == 0 {
		return false
	}
	h.OpTime = OpTime{TS: ts, Term: int64(binary.LittleEndian.Uint64(b[n+r.t:]))}
	if h.Kind = Insert; r.op == 'd' {
		h.Kind = Delete
	}
	return true
}

// sameFields compares with end where the mask says so. b is as long as that.
func (r *HeadReader) sameFields(b []byte) bool {
	end, mask := r.end[:len(b)], r.mask[:len(b)]
	i := 0
	for ; i+8 <= len(b); i += 8 {
		if (binary.LittleEndian.Uint64(b[i:])^binary.LittleEndian.Uint64(end[i:]))&binary.LittleEndian.Uint64(mask[i:]) != 0 {
			return false
		}
	}
	for ; i < len(b); i++ {
		if (b[i]^end[i])&mask[i] != 0 {
			return false
		}
	}
	return true
}

// oField is how an o begins.
var oField = []byte("\x03o\x00")

// keep remembers the beginning of an entry. Nothing that differs from entry to entry is in it.
func (r *HeadReader) keep(begin []byte, op byte, ns []byte, uuid bson.UUID) {
	r.begin = append(r.begin[:0], begin...)
	r.op, r.ns, r.uuid = op, bytes.Index(begin, ns), uuid
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
