package entry

import (
	"fmt"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/oplog"
)

// OpTime is the place of an entry: ts and term. Entries of servers that wrote no term
// have oplog.UninitializedTerm.
type OpTime = oplog.OpTime

// Entry is one parsed entry, or one operation of an applyOps (which has no OpTime of its
// own). Everything aliases Raw.
type Entry struct {
	Raw    bson.Raw
	OpTime OpTime
	Wall   bson.DateTime
	Kind   Kind
	// NS is the field ns: db.collection, or db.$cmd of commands.
	NS string
	// DB and Coll are the collection that is written: for a command the one that it
	// names, "" if it names none (dropDatabase, applyOps). For renameCollection it is the
	// source.
	DB, Coll string
	// UUID is the collection's (ui), zero for none.
	UUID bson.UUID
	O    bson.Raw
	O2   bson.Raw // nil: none
	// RID is the record id that a server with replicated record ids gave an insert; 0: none.
	RID         int64
	FromMigrate bool
	MultiOpType int32

	// LSID and TxnNumber are the session of a retryable write or transaction; nil: none.
	LSID      bson.Raw
	TxnNumber int64
	// PrevOpTime is the entry before this one of the same session and number; HasPrev
	// tells that there is such a field, which is null in the first.
	PrevOpTime OpTime
	HasPrev    bool

	// Partial marks what Rules.Map left of a dropDatabase or of a drop of system.views
	// of which only some collections are kept: nothing but those is to be dropped.
	Partial bool

	hasTxnNumber bool
}

// HasUUID reports whether the entry names its collection by UUID.
func (e *Entry) HasUUID() bool { return e.UUID != bson.UUID{} }

// Namespace is DB.Coll, or DB alone.
func (e *Entry) Namespace() string {
	if e.Coll == "" {
		return e.DB
	}
	return e.DB + "." + e.Coll
}

// ID is the _id of the document that a CRUD entry writes, a missing value if it has none.
func (e *Entry) ID() bson.Value {
	if e.Kind == Update {
		return e.O2.Get("_id")
	}
	return e.O.Get("_id")
}

// StringID is the _id of a document whose _id is a string, else "".
func (e *Entry) StringID() string { return text(e.ID()) }

// Place names the entry in messages: its ts:inc, kind and namespace.
func (e *Entry) Place() string { return place(e.OpTime, e.Kind.String(), e.NS) }

func place(t OpTime, op, ns string) string {
	return fmt.Sprintf("oplog entry %d:%d (%s of %q)", t.TS.Seconds(), t.TS.Increment(), op, ns)
}

// Ops are the operations of an entry for which Kind.HasOps. Each has the entry's OpTime.
func (e *Entry) Ops() ([]Entry, error) {
	_, list := e.O.First()
	var ops []Entry
	it := list.Doc().Iter()
	for it.Next() {
		v := it.Value()
		if v.Type != bson.TypeDocument {
			return nil, &FormatError{e.OpTime, e.NS, "an operation of applyOps is no document"}
		}
		op, err := parse(v.Doc(), e.OpTime)
		if err != nil {
			return nil, err
		}
		op.Wall = e.Wall
		ops = append(ops, op)
	}
	if it.Err() != nil {
		return nil, &FormatError{e.OpTime, e.NS, "applyOps is cut short or damaged"}
	}
	return ops, nil
}

// Parse reads an entry. Bytes that are no entry are a *FormatError, an op or command
// that is not known an *UnknownError. Documents inside o and o2 are not looked at.
func Parse(raw bson.Raw) (Entry, error) {
	e, err := parse(raw, OpTime{Term: oplog.UninitializedTerm})
	if err == nil && e.OpTime.TS == 0 {
		return Entry{}, &FormatError{e.OpTime, e.NS, "it has no ts"}
	}
	return e, err
}

// parse reads an entry, or an operation that has no place of its own.
func parse(raw bson.Raw, at OpTime) (Entry, error) {
	e := Entry{Raw: raw, OpTime: at}
	op := ""
	it := raw.Iter()
	for it.Next() {
		v := it.Value()
		var bad bool
		switch it.Key() {
		case "ts":
			bad = v.Type != bson.TypeTimestamp
			e.OpTime.TS = v.Timestamp()
		case "t":
			e.OpTime.Term, bad = number(v)
		case "wall":
			e.Wall = v.Date()
		case "op":
			bad = v.Type != bson.TypeString
			op = text(v)
		case "ns":
			bad = v.Type != bson.TypeString
			e.NS = text(v)
		case "ui":
			u, ok := v.UUID()
			bad = !ok
			e.UUID = u
		case "o":
			bad = v.Type != bson.TypeDocument
			e.O = v.Doc()
		case "o2":
			bad = v.Type != bson.TypeDocument
			e.O2 = v.Doc()
		case "rid":
			// A server may write other forms (a binary one for clustered collections),
			// which mean nothing elsewhere.
			e.RID, _ = number(v)
		case "fromMigrate":
			e.FromMigrate = v.Truthy()
		case "multiOpType":
			var n int64
			n, bad = number(v)
			e.MultiOpType = int32(n)
		case "lsid":
			bad = v.Type != bson.TypeDocument
			e.LSID = v.Doc()
		case "txnNumber":
			e.TxnNumber, bad = number(v)
			e.hasTxnNumber = true
		case "prevOpTime":
			t, err := oplog.ParseOpTime(v)
			bad = err != nil
			e.PrevOpTime, e.HasPrev = t, true
		}
		if bad {
			return Entry{}, &FormatError{e.OpTime, e.NS, fmt.Sprintf("field '%s' is of type %s", it.Key(), v.Type)}
		}
	}
	if it.Err() != nil {
		return Entry{}, &FormatError{e.OpTime, e.NS, "it is cut short or damaged"}
	}
	if e.O == nil {
		return Entry{}, &FormatError{e.OpTime, e.NS, "it has no o"}
	}
	k, name := kindOf(&e, op)
	if k == Unknown {
		return Entry{}, &UnknownError{OpTime: e.OpTime, NS: e.NS, Op: op, Name: name}
	}
	e.Kind = k
	return e, e.split()
}

// text is a string's. Bytes that were not validated must not be taken for one of another
// type, whose parts are only known to be there after that.
func text(v bson.Value) string {
	if v.Type != bson.TypeString {
		return ""
	}
	return v.Str()
}

func number(v bson.Value) (n int64, bad bool) {
	n, ok := v.AsInt64()
	return n, !ok
}

// split fills in DB and Coll and checks what every entry of the kind has.
func (e *Entry) split() error {
	e.DB, e.Coll, _ = strings.Cut(e.NS, ".")
	switch {
	case e.Kind == Noop || e.Kind == Database:
		return nil
	case e.DB == "" || e.Coll == "":
		return &FormatError{e.OpTime, e.NS, "its ns is no namespace"}
	case e.Kind == Update && e.O2 == nil:
		return &FormatError{e.OpTime, e.NS, "an update without o2"}
	case e.Kind.IsCRUD() && e.ID().IsMissing() && e.Coll != "system.indexes":
		return &FormatError{e.OpTime, e.NS, "it names no _id"}
	case !e.Kind.IsCommand():
		return nil
	}
	for _, d := range []bson.Raw{e.O, e.O2} {
		if d != nil && bson.Validate(d, bson.MaxDepth+8) != nil {
			return &FormatError{e.OpTime, e.NS, "its document is damaged"}
		}
	}
	_, v := e.O.First()
	switch e.Kind {
	case DropDatabase, ApplyOps, GroupedInserts, TxnWhole, TxnPartial, TxnPrepare, TxnCommit, TxnAbort:
		e.Coll = ""
		return nil
	case RenameCollection:
		from, ok1 := cutNS(v.Str())
		_, ok2 := cutNS(e.O.Get("to").Str())
		if !ok1 || !ok2 {
			return &FormatError{e.OpTime, e.NS, "renameCollection without two namespaces"}
		}
		e.DB, e.Coll = from[0], from[1]
		return nil
	case DBCheck, ModifyShardingIndexes, CreateGlobalIndex, DropGlobalIndex, ImportCollection, TruncateRange:
		// Some name db.collection, some the collection, some a document.
		e.Coll = strings.TrimPrefix(v.Str(), e.DB+".")
		return nil
	}
	if v.Type != bson.TypeString || v.Str() == "" {
		return &FormatError{e.OpTime, e.NS, e.Kind.String() + " names no collection"}
	}
	e.Coll = v.Str()
	return nil
}

func cutNS(ns string) ([2]string, bool) {
	db, coll, ok := strings.Cut(ns, ".")
	return [2]string{db, coll}, ok && db != "" && coll != ""
}

// RenameTarget is the namespace that a renameCollection renames to, "" for other kinds.
func (e *Entry) RenameTarget() string {
	if e.Kind != RenameCollection {
		return ""
	}
	return e.O.Get("to").Str()
}

// Touches are the namespaces that e writes, each once: those of the operations of an
// applyOps, both of a rename, the database alone of a dropDatabase. What writes nothing
// touches nothing.
func (e *Entry) Touches() ([]string, error) {
	switch e.Kind {
	case Noop, Database, DBCheck, TxnCommit, TxnAbort:
		return nil, nil
	case RenameCollection:
		return []string{e.Namespace(), e.RenameTarget()}, nil
	}
	if !e.Kind.HasOps() {
		return []string{e.Namespace()}, nil
	}
	ops, err := e.Ops()
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var all []string
	for i := range ops {
		ns, err := ops[i].Touches()
		if err != nil {
			return nil, err
		}
		for _, n := range ns {
			if !seen[n] {
				seen[n] = true
				all = append(all, n)
			}
		}
	}
	return all, nil
}
