package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/update"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// Replay applies entries over data that may be newer than they are: for applyOps,
// restore and migration. What it changes goes through ordinary units with entries of
// their own. Any suffix of a log over the state that the log led to changes nothing:
//
//   - a collection is addressed by ui (by name only if there is none); an unknown or
//     dropped one is passed over, and so is DDL that newer DDL stands in the way of;
//   - an insert of an existing _id replaces the document; an update or delete of a missing
//     one is passed over, and so is a part of a diff that no longer fits;
//   - unique indexes may be broken on the way: Finish looks again;
//   - dropDatabase does nothing: the entries before it have dropped the collections, and what
//     is there now is newer.
type Replay struct {
	cat      *Catalog
	suspects []replaySuspect
	capped   map[bson.UUID]bool
	partial  map[string][]bson.Raw // operations of transactions whose last entry is to come
	last     *oplog.Future
}

type replaySuspect struct {
	coll bson.UUID
	suspect
}

// NewReplay begins a range of entries.
func (c *Catalog) NewReplay() *Replay {
	return &Replay{cat: c, capped: map[bson.UUID]bool{}, partial: map[string][]bson.Raw{}}
}

// Future is the newest unit that the replay made, nil if it changed nothing.
func (r *Replay) Future() *oplog.Future { return r.last }

// Apply applies one entry.
func (r *Replay) Apply(ctx context.Context, e *oplog.Entry) error {
	switch e.Op {
	case oplog.OpNoop, oplog.OpDatabase:
		return nil
	case oplog.OpCommand:
		if e.CommandName() == "applyOps" {
			return r.applyOps(ctx, e)
		}
		return r.command(ctx, e)
	}
	ns, ok := ParseNamespace(e.NS)
	if !ok {
		return mongoerr.New(mongoerr.InvalidNamespace, "Invalid namespace specified '%s'", e.NS)
	}
	if ns.Coll == SystemViews {
		return r.views(ctx, ns, e)
	}
	for {
		done, err := r.document(ctx, ns, e)
		if done || err != nil {
			return err
		}
	}
}

// document applies an i, u or d entry. It is not done if another writer got in between.
func (r *Replay) document(ctx context.Context, ns Namespace, e *oplog.Entry) (done bool, err error) {
	var c *Collection
	var grant WriteGrant
	if e.HasUUID() {
		c, grant, err = r.cat.beginWriteUUID(ctx, e.UUID)
	} else {
		c, grant, err = r.cat.BeginWrite(ctx, ns, false)
		if err == nil && c == nil {
			err = mongoerr.New(mongoerr.NamespaceNotFound, "Failed to apply operation due to missing collection %s", ns)
		}
	}
	if err != nil || c == nil {
		return true, err
	}
	defer grant.Release()
	w := r.cat.NewUnit()
	changed, done, err := r.write(ctx, w, c, e)
	if err != nil || !changed {
		w.Rollback()
		return done, err
	}
	f, err := r.cat.committer.Commit(w)
	if err != nil {
		return true, err
	}
	r.last = f
	if c.Options.Capped {
		r.capped[c.UUID] = true
	}
	return true, nil
}

// write does one entry to a collection in a unit.
func (r *Replay) write(ctx context.Context, w *oplog.WriteUnit, c *Collection, e *oplog.Entry) (changed, done bool, err error) {
	id := e.O.Get("_id")
	if e.Op == oplog.OpUpdate {
		id = e.O2.Get("_id")
	}
	if id.IsMissing() {
		return false, true, mongoerr.New(mongoerr.NoSuchKey, "Failed to apply operation: no _id in %s of %s", e.Op, c.NS)
	}
	rid, old, done, err := r.find(ctx, w, c, id)
	if err != nil || !done {
		return false, done, err
	}
	info := &WriteInfo{FromMigrate: e.FromMigrate}
	relaxed := r.relaxed(c)
	switch {
	case old == nil && e.Op == oplog.OpInsert:
		err := c.insertAt(ctx, w, e.O, storage.RecordID(e.RID), info, relaxed)
		if mongoerr.Is(err, mongoerr.DuplicateKey) { // of its _id: somebody inserted it just now
			return false, false, nil
		}
		return err == nil, true, unwrapDoc(err)
	case old == nil:
		return false, true, nil
	case e.Op == oplog.OpDelete:
		return true, true, c.Delete(ctx, w, rid, old, info)
	}
	new := e.O
	if e.Op == oplog.OpUpdate {
		if new, err = update.ApplyEntry(old, e.O); err != nil {
			return false, true, err
		}
	}
	if bytes.Equal(old, new) {
		return false, true, nil
	}
	o := new
	if diff, ok := update.Diff(old, new); ok && e.Op == oplog.OpUpdate {
		o = bson.D("$v", 2, "diff", diff)
	}
	return true, true, c.update(ctx, w, rid, old, new, o, info, relaxed)
}

// find latches and reads the document with that _id; old is nil if there is none.
func (r *Replay) find(ctx context.Context, w *oplog.WriteUnit, c *Collection, id bson.Value) (rid storage.RecordID, old bson.Raw, done bool, err error) {
	rid, err = c.FindID(w.RU, id)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil, true, nil
	}
	if err != nil {
		return 0, nil, false, err
	}
	if err := c.LockRecord(ctx, w, rid); err != nil {
		return 0, nil, false, err
	}
	old, err = c.Get(w.RU, rid, nil)
	if errors.Is(err, storage.ErrNotFound) || (err == nil && c.Options.Collation.Compare(old.Get("_id"), id) != 0) {
		return 0, nil, false, nil
	}
	return rid, old, true, err
}

// relaxed notes keys of unique indexes that are there twice for now.
func (r *Replay) relaxed(c *Collection) func(*Index, []byte) {
	return func(ix *Index, key []byte) {
		r.suspects = append(r.suspects, replaySuspect{c.UUID, suspect{ix.Store.Ident, bytes.Clone(key)}})
	}
}

// insertAt inserts one document at the RecordId that it had when it was first
// inserted, if that is free; without the evictions of a capped collection, which the log
// has as deletes.
func (c *Collection) insertAt(ctx context.Context, w *oplog.WriteUnit, doc bson.Raw, id storage.RecordID, info *WriteInfo, relaxed func(*Index, []byte)) error {
	s := getScratch()
	defer s.put()
	s.relaxed = relaxed
	if c.Options.Capped {
		if err := w.RU.Lock(ctx, c.store.AppendPrefix(nil)); err != nil {
			return err
		}
	}
	id, err := c.freeRecordID(ctx, w, id)
	if err != nil {
		return err
	}
	docs := []bson.Raw{doc}
	if err := s.addDocs(c, docs); err != nil {
		return err
	}
	if err := s.lockUnique(ctx, w.RU); err != nil {
		return err
	}
	if err := s.checkUnique(c, w.RU, 0, false); err != nil {
		return err
	}
	size := s.putAll(c, w.RU, docs, id)
	c.note(w, delta{1, size})
	if c.Options.Capped {
		first := &c.shared.capped
		w.RU.RegisterChange(func() { first.oldest = min(first.oldest, id) }, nil)
	}
	return c.logInserts(w, docs, id, info)
}

// freeRecordID returns id if no record has it, or else a new one.
func (c *Collection) freeRecordID(ctx context.Context, w *oplog.WriteUnit, id storage.RecordID) (storage.RecordID, error) {
	if id > 0 {
		if err := w.RU.Lock(ctx, c.store.LatchKey(id)); err != nil {
			return 0, err
		}
		_, err := c.store.Get(w.RU, id, nil)
		if errors.Is(err, storage.ErrNotFound) {
			return id, c.shared.rids.seen(c.store, c.cat.eng, id)
		}
		if err != nil {
			return 0, err
		}
	}
	return c.shared.rids.take(c.store, c.cat.eng, 1)
}

// views applies a write to system.views, which changes the catalog.
func (r *Replay) views(ctx context.Context, ns Namespace, e *oplog.Entry) error {
	return r.ddl(ctx, func(d *ddl, ch *change) error {
		c := ch.e.v.ByUUID(e.UUID)
		if !e.HasUUID() {
			var err error
			if c, err = ch.systemViews(ns.DB); err != nil {
				return err
			}
		}
		if c == nil {
			return errNothing
		}
		if err := d.lock(c); err != nil {
			return err
		}
		changed, done, err := r.write(ctx, ch.w, c, e)
		switch {
		case err != nil:
			return err
		case !done:
			return fmt.Errorf("%w: %s is written although it is locked", storage.ErrCorruption, c.NS)
		case !changed:
			return errNothing
		}
		return ch.refreshViews(c)
	})
}

// ddl runs one unit of DDL; errNothing makes none.
func (r *Replay) ddl(ctx context.Context, fn func(d *ddl, ch *change) error) error {
	f, err := r.cat.runDDL(ctx, fn)
	if errors.Is(err, errNothing) {
		return nil
	}
	if err == nil {
		r.last = f
	}
	return err
}

// applyOps applies the operations of a transaction, of grouped inserts, or of a
// nested applyOps. A large transaction comes in several entries, the last of which
// completes it.
func (r *Replay) applyOps(ctx context.Context, e *oplog.Entry) error {
	if e.O.Get("prepare").Truthy() {
		return mongoerr.New(mongoerr.OplogOperationUnsupported, "prepared transactions are not supported")
	}
	key := string(e.LSID) + fmt.Sprint(e.TxnNumber)
	ops := r.partial[key]
	for v := range e.O.Get("applyOps").Doc().Values() {
		ops = append(ops, v.Doc())
	}
	if e.O.Get("partialTxn").Truthy() {
		for i := range ops {
			ops[i] = ops[i].Clone()
		}
		r.partial[key] = ops
		return nil
	}
	delete(r.partial, key)
	for _, op := range ops {
		inner, err := oplog.Decode(op)
		if err != nil {
			return mongoerr.New(mongoerr.FailedToParse, "%v", err)
		}
		if err := r.Apply(ctx, &inner); err != nil {
			return err
		}
	}
	return nil
}

// Finish ends the range: a key that is twice in a unique index now is an error, and
// so is a transaction without its end; capped collections are cut to their size.
func (r *Replay) Finish(ctx context.Context) error {
	for _, s := range r.suspects {
		c := r.cat.Pin().ByUUID(s.coll)
		if c == nil {
			continue
		}
		ix := c.byIdent(s.ident)
		if ix == nil {
			continue
		}
		n, bits, err := ix.countKey(r.cat.eng, s.key)
		if err != nil {
			return err
		}
		if n > 1 {
			return duplicateKey(c, ix, s.key, bits)
		}
	}
	r.suspects = nil
	for uuid := range r.capped {
		if err := r.trim(ctx, uuid); err != nil {
			return err
		}
	}
	if n := len(r.partial); n > 0 {
		return mongoerr.New(mongoerr.OplogOperationUnsupported, "the entries end inside %d transactions", n)
	}
	return nil
}

// trim evicts what a capped collection has too much.
func (r *Replay) trim(ctx context.Context, uuid bson.UUID) error {
	c, grant, err := r.cat.beginWriteUUID(ctx, uuid)
	if err != nil || c == nil {
		return err
	}
	defer grant.Release()
	w := r.cat.NewUnit()
	n, err := c.evictAll(ctx, w)
	if err != nil || n == 0 {
		w.Rollback()
		return err
	}
	r.last, err = r.cat.committer.Commit(w)
	return err
}
