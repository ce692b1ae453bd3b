package oplog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cairndb/cairn/internal/bson"
)

// ErrEntry marks a document that is no oplog entry, or none that this program
// understands.
var ErrEntry = errors.New("oplog: invalid entry")

// EntryVersion is the v of the entries that are written, and the only one read.
const EntryVersion = 2

// Op is the kind of an entry.
type Op byte

// The kinds of entries.
const (
	OpInsert  Op = 'i'
	OpUpdate  Op = 'u'
	OpDelete  Op = 'd'
	OpCommand Op = 'c'
	OpNoop    Op = 'n'
	// OpDatabase is "db", which very old servers wrote. It is read and does
	// nothing; it is never written.
	OpDatabase Op = 'b'
)

// String is the value of the op field.
func (o Op) String() string {
	if o == OpDatabase {
		return "db"
	}
	return string(rune(o))
}

// ParseOp reads the value of an op field.
func ParseOp(s string) (Op, bool) {
	if s == "db" {
		return OpDatabase, true
	}
	if len(s) == 1 {
		switch o := Op(s[0]); o {
		case OpInsert, OpUpdate, OpDelete, OpCommand, OpNoop:
			return o, true
		}
	}
	return 0, false
}

// Entry is one oplog entry in the form in which it is made and applied. Its
// documents and strings alias the bytes that it was decoded from.
type Entry struct {
	// OpTime and Wall are stamped at commit; a maker leaves them alone.
	OpTime OpTime
	Wall   bson.DateTime

	Op Op
	NS string
	// UUID is the collection's (ui); zero means that the entry has none.
	UUID bson.UUID
	O    bson.Raw
	O2   bson.Raw // nil: none
	// RID is the RecordId that an insert gave to its document; 0: none.
	RID int64

	// LSID is the session of a retryable write or transaction; nil: none. The
	// four fields behind it mean something only with it.
	LSID      bson.Raw
	TxnNumber int64
	StmtIDs   []int32
	// PrevOpTime is the entry before this one of the same session and
	// txnNumber, NullOpTime for the first; nil: no such field.
	PrevOpTime *OpTime
	// PrevInUnit makes prevOpTime the optime of the entry that was logged just
	// before in the same unit. It is for makers only and replaces PrevOpTime.
	PrevInUnit bool
	// NeedsRetryImage is "preImage" or "postImage" for a findAndModify.
	NeedsRetryImage string

	FromMigrate bool
	// MultiOpType 1 marks an applyOps that groups retryable inserts.
	MultiOpType int32
}

// HasUUID reports whether the entry names a collection by its UUID.
func (e *Entry) HasUUID() bool { return e.UUID != bson.UUID{} }

// CommandName is the name of a command entry's command: create, drop, applyOps
// and so on.
func (e *Entry) CommandName() string {
	if e.Op != OpCommand {
		return ""
	}
	name, _ := e.O.First()
	return name
}

// layout is where, in an encoded entry, the fields that are stamped at commit
// have their values: offsets from the entry's first byte, 0 for absent.
type layout struct {
	ts, term, wall, prev int
}

// appendTo encodes e behind what b's buffer holds, in the order of fields of
// MongoDB 8.0, and tells where the stamped values are.
func (e *Entry) appendTo(b *bson.Builder, dst []byte) layout {
	start := len(dst)
	b.Reset(dst)
	var l layout
	if e.LSID != nil {
		b.AppendDoc("lsid", e.LSID)
		b.Int64("txnNumber", e.TxnNumber)
	}
	b.Str("op", e.Op.String())
	b.Str("ns", e.NS)
	if e.HasUUID() {
		b.UUID("ui", e.UUID)
	}
	b.AppendDoc("o", e.O)
	if e.O2 != nil {
		b.AppendDoc("o2", e.O2)
	}
	e.appendStmtIDs(b)
	b.Timestamp("ts", e.OpTime.TS)
	l.ts = b.Len() - 8 - start
	b.Int64("t", e.OpTime.Term)
	l.term = b.Len() - 8 - start
	b.Int64("v", EntryVersion)
	b.Date("wall", e.Wall)
	l.wall = b.Len() - 8 - start
	if prev := e.prevOpTime(); prev != nil {
		prev.Append(b, "prevOpTime")
		// The value ends in: ts's 8 bytes, 0x12 't' 0, t's 8 bytes, 0.
		l.prev = b.Len() - 20 - start
	}
	if e.NeedsRetryImage != "" {
		b.Str("needsRetryImage", e.NeedsRetryImage)
	}
	if e.FromMigrate {
		b.Bool("fromMigrate", true)
	}
	if e.MultiOpType != 0 {
		b.Int32("multiOpType", e.MultiOpType)
	}
	if e.RID != 0 {
		b.Int64("rid", e.RID)
	}
	b.End()
	return l
}

func (e *Entry) prevOpTime() *OpTime {
	if e.PrevInUnit {
		return &NullOpTime
	}
	return e.PrevOpTime
}

func (e *Entry) appendStmtIDs(b *bson.Builder) {
	switch len(e.StmtIDs) {
	case 0:
	case 1:
		b.Int32("stmtId", e.StmtIDs[0])
	default:
		b.Array("stmtId")
		for _, id := range e.StmtIDs {
			b.Int32("", id)
		}
		b.End()
	}
}

// Append encodes e as it is, stamped fields included, behind dst.
func (e *Entry) Append(dst []byte) []byte {
	var b bson.Builder
	e.appendTo(&b, dst)
	return b.Buffer()
}

// stamp fills in the fields of the encoded entry doc that only the sequencer
// knows.
func (l layout) stamp(doc []byte, t OpTime, wall bson.DateTime) {
	binary.LittleEndian.PutUint64(doc[l.ts:], uint64(t.TS))
	binary.LittleEndian.PutUint64(doc[l.term:], uint64(t.Term))
	binary.LittleEndian.PutUint64(doc[l.wall:], uint64(wall))
}

func (l layout) stampPrev(doc []byte, prev OpTime) {
	binary.LittleEndian.PutUint64(doc[l.prev:], uint64(prev.TS))
	binary.LittleEndian.PutUint64(doc[l.prev+11:], uint64(prev.Term))
}

// Decode reads an entry: one written here, by a MongoDB server since 3.6, or an
// operation inside an applyOps, which has no ts. The result aliases doc. Bytes
// that come from outside must have passed bson.Validate. A field that no
// MongoDB server writes is an error, as it may mean something.
func Decode(doc bson.Raw) (Entry, error) {
	var e Entry
	it := doc.Iter()
	for it.Next() {
		if err := e.field(it.Key(), it.Value()); err != nil {
			return Entry{}, err
		}
	}
	if it.Err() != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrEntry, it.Err())
	}
	switch {
	case e.Op == 0:
		return Entry{}, fmt.Errorf("%w: field 'op' is missing", ErrEntry)
	case e.O == nil:
		return Entry{}, fmt.Errorf("%w: field 'o' is missing", ErrEntry)
	case e.NS == "" && e.Op != OpNoop && e.Op != OpDatabase:
		return Entry{}, fmt.Errorf("%w: field 'ns' is missing", ErrEntry)
	}
	return e, nil
}

// field takes one field of an encoded entry.
func (e *Entry) field(key string, v bson.Value) error {
	switch key {
	case "ts":
		e.OpTime.TS = v.Timestamp()
		return want(key, v, bson.TypeTimestamp)
	case "t":
		if v.Type == bson.TypeNull { // as restore tools write operations that they make themselves
			return nil
		}
		return number(key, v, &e.OpTime.Term)
	case "v":
		n, ok := v.AsInt64()
		if !ok || (n != EntryVersion && n != 0) { // 0: as t
			return fmt.Errorf("%w: version %s is not supported", ErrEntry, v)
		}
	case "wall":
		e.Wall = v.Date()
		return want(key, v, bson.TypeDate)
	case "op":
		op, ok := ParseOp(v.Str())
		if !ok {
			return fmt.Errorf("%w: unknown op %s", ErrEntry, v)
		}
		e.Op = op
	case "ns":
		e.NS = v.Str()
		return want(key, v, bson.TypeString)
	case "ui":
		u, ok := v.UUID()
		if !ok {
			return fmt.Errorf("%w: field 'ui' is no UUID", ErrEntry)
		}
		e.UUID = u
	case "o":
		e.O = v.Doc()
		return want(key, v, bson.TypeDocument)
	case "o2":
		e.O2 = v.Doc()
		return want(key, v, bson.TypeDocument)
	case "rid":
		return number(key, v, &e.RID)
	case "lsid":
		e.LSID = v.Doc()
		return want(key, v, bson.TypeDocument)
	case "txnNumber":
		return number(key, v, &e.TxnNumber)
	case "stmtId":
		return e.stmtIDs(v)
	case "prevOpTime":
		t, err := ParseOpTime(v)
		e.PrevOpTime = &t
		return err
	case "needsRetryImage":
		e.NeedsRetryImage = v.Str()
		return want(key, v, bson.TypeString)
	case "fromMigrate":
		e.FromMigrate = v.Bool()
		return want(key, v, bson.TypeBool)
	case "multiOpType":
		var n int64
		err := number(key, v, &n)
		e.MultiOpType = int32(n)
		return err
	case "h", "b", "tid", "preImageOpTime", "postImageOpTime", "destinedRecipient", "checkExistenceForDiffInsert", "versionContext":
		// Written by some server version; says nothing that applying needs.
	default:
		return fmt.Errorf("%w: unknown field '%s'", ErrEntry, key)
	}
	return nil
}

func want(key string, v bson.Value, t bson.Type) error {
	if v.Type != t {
		return fmt.Errorf("%w: field '%s' is of type %s, expected %s", ErrEntry, key, v.Type, t)
	}
	return nil
}

func number(key string, v bson.Value, dst *int64) error {
	n, ok := v.AsInt64()
	if !ok {
		return fmt.Errorf("%w: field '%s' is no integer", ErrEntry, key)
	}
	*dst = n
	return nil
}

func (e *Entry) stmtIDs(v bson.Value) error {
	e.StmtIDs = nil
	add := func(v bson.Value) error {
		var n int64
		if err := number("stmtId", v, &n); err != nil {
			return err
		}
		e.StmtIDs = append(e.StmtIDs, int32(n))
		return nil
	}
	if v.Type != bson.TypeArray {
		return add(v)
	}
	for id := range v.Doc().Values() {
		if err := add(id); err != nil {
			return err
		}
	}
	return nil
}

// DecodeTS reads only the ts of an encoded entry, 0 if it has none.
func DecodeTS(doc bson.Raw) Timestamp { return doc.Get("ts").Timestamp() }

// NoopEntry is an entry that only says something.
func NoopEntry(o bson.Raw) Entry { return Entry{Op: OpNoop, O: o} }

// InitiatingSet is the first entry of a replica set's log.
func InitiatingSet() Entry { return NoopEntry(bson.D("msg", "initiating set")) }

// PeriodicNoop is what keeps ts moving while nobody writes.
func PeriodicNoop() Entry { return NoopEntry(bson.D("msg", "periodic noop")) }
