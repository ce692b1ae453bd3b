package catalog

import (
	"encoding/binary"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// OpObserver is called inside the unit of every logged change, before its entries are
// logged: it may fill in their session fields and may change other tables through the
// unit. An error refuses the change; the caller then rolls the unit back. The catalog's
// own entries are made by itself; sessions, images and migrations observe. node passes
// the list, which is called in order.
type OpObserver interface {
	// OnInserts: entries[i] inserts docs[i].
	OnInserts(w *oplog.WriteUnit, c *Collection, docs []bson.Raw, entries []oplog.Entry) error
	OnUpdate(w *oplog.WriteUnit, c *Collection, old, new bson.Raw, e *oplog.Entry) error
	OnDelete(w *oplog.WriteUnit, c *Collection, old bson.Raw, e *oplog.Entry) error
	// OnCommand is told of DDL; c is the collection before it, nil if there is none.
	OnCommand(w *oplog.WriteUnit, c *Collection, e *oplog.Entry) error
	// OnApply is told of every i, u and d entry that recovery applies, after it was applied:
	// it derives again what its other methods wrote into the unit. old is the document before
	// (nil for an insert), new the one after (nil for a delete).
	OnApply(u *storage.RecoveryUnit, c *Collection, old, new bson.Raw, e *oplog.Entry) error
}

// WriteInfo is what the entries of a write carry beside the change. Nil is nothing.
type WriteInfo struct {
	// LSID is the session of a retryable write, nil for none; TxnNumber and StmtIDs (one for
	// each document) belong to it.
	LSID      bson.Raw
	TxnNumber int64
	StmtIDs   []int32
	// Grouped says that all StmtIDs are of the one document that is written: a bucket.
	Grouped bool
	// RetryImage is "preImage" or "postImage" for a retryable findAndModify.
	RetryImage  string
	FromMigrate bool
}

// fill sets e's fields for statement i.
func (i *WriteInfo) fill(e *oplog.Entry, stmt int) {
	if i == nil {
		return
	}
	e.LSID, e.TxnNumber, e.FromMigrate, e.NeedsRetryImage = i.LSID, i.TxnNumber, i.FromMigrate, i.RetryImage
	if i.Grouped {
		e.StmtIDs = i.StmtIDs
	} else if stmt < len(i.StmtIDs) {
		e.StmtIDs = i.StmtIDs[stmt : stmt+1]
	}
}

// logInserts makes and logs the entries of documents with consecutive RecordIds.
func (c *Collection) logInserts(w *oplog.WriteUnit, docs []bson.Raw, first storage.RecordID, info *WriteInfo) error {
	if !c.NS.logged() {
		w.LogLocal()
		return nil
	}
	ns := c.name
	if len(c.cat.observers) == 0 {
		e := oplog.Entry{Op: oplog.OpInsert, NS: ns, UUID: c.UUID}
		for i, d := range docs {
			info.fill(&e, i)
			e.O, e.RID = d, int64(first)+int64(i)
			w.Log(&e)
		}
		return nil
	}
	entries := make([]oplog.Entry, len(docs))
	for i, d := range docs {
		entries[i] = oplog.Entry{Op: oplog.OpInsert, NS: ns, UUID: c.UUID, O: d, RID: int64(first) + int64(i)}
		info.fill(&entries[i], i)
	}
	for _, o := range c.cat.observers {
		if err := o.OnInserts(w, c, docs, entries); err != nil {
			return err
		}
	}
	for i := range entries {
		w.Log(&entries[i])
	}
	return nil
}

// idDoc is {_id: …} of d.
func idDoc(d bson.Raw) bson.Raw {
	id := d.Get("_id")
	if id.IsMissing() {
		return bson.Empty
	}
	size := 4 + 1 + len("_id\x00") + len(id.Data) + 1
	b := append(binary.LittleEndian.AppendUint32(make([]byte, 0, size), uint32(size)), byte(id.Type))
	return append(append(append(b, "_id\x00"...), id.Data...), 0)
}

func (c *Collection) logUpdate(w *oplog.WriteUnit, old, new, o bson.Raw, info *WriteInfo) error {
	if !c.NS.logged() {
		w.LogLocal()
		return nil
	}
	e := oplog.Entry{Op: oplog.OpUpdate, NS: c.name, UUID: c.UUID, O: o, O2: idDoc(old)}
	info.fill(&e, 0)
	for _, ob := range c.cat.observers {
		if err := ob.OnUpdate(w, c, old, new, &e); err != nil {
			return err
		}
	}
	w.Log(&e)
	return nil
}

func (c *Collection) logDelete(w *oplog.WriteUnit, old bson.Raw, info *WriteInfo) error {
	if !c.NS.logged() {
		w.LogLocal()
		return nil
	}
	e := oplog.Entry{Op: oplog.OpDelete, NS: c.name, UUID: c.UUID, O: idDoc(old)}
	info.fill(&e, 0)
	for _, ob := range c.cat.observers {
		if err := ob.OnDelete(w, c, old, &e); err != nil {
			return err
		}
	}
	w.Log(&e)
	return nil
}
