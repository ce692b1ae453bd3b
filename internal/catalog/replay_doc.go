package catalog

import (
	"bytes"
	"context"
	"errors"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/update"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// How much of a range goes into one unit: as much as of a batch of inserts.
const (
	replayUnitEntries = 500
	replayUnitBytes   = 256 << 10
)

// replayGroup is the unit that document writes are gathered in. It waits for nobody, neither
// for a latch nor for DDL, since it holds latches and grants of many documents and collections
// while more come: where it would have to wait it is committed first, and the entry gets a
// unit of its own, which locks in the common order.
type replayGroup struct {
	w     *oplog.WriteUnit // nil: none is open
	colls []*replayColl
	by    map[bson.UUID]*replayColl
	room  int // what the changes of the last unit took
	finds int // entries of this one that changed a document that was there
}

// keepOf: where one of so many entries of the last unit was an update or a delete, those of
// the next are expected to be of what the log inserts, which is cheaper to keep than to read.
const keepOf = 8

// replayColl is a collection that the open unit writes to.
type replayColl struct {
	c       *Collection
	grant   WriteGrant
	sum     delta
	relaxed func(*Index, []byte)
}

// replayWrite is one entry's write to one collection.
type replayWrite struct {
	c       *Collection
	relaxed func(*Index, []byte)
	sum     delta
	// newID is set when nothing has the _id of the document to insert, and its latch is held.
	newID bool
}

// relaxed notes keys of unique indexes that are there twice for now.
func (r *Replay) relaxed(c *Collection) func(*Index, []byte) {
	return func(ix *Index, key []byte) {
		r.suspects = append(r.suspects, replaySuspect{c.UUID, suspect{ident: ix.Store.Ident, key: bytes.Clone(key)}})
	}
}

// note has the counters changed with w, if that is to be done for the entry alone.
func (rw *replayWrite) note(w *oplog.WriteUnit) {
	if rw.sum != (delta{}) {
		rw.c.note(w, rw.sum)
	}
}

// noteFor is note; a replay sums up first.
func (c *Collection) noteFor(r *replayWrite, w *oplog.WriteUnit, d delta) {
	if r == nil {
		c.note(w, d)
		return
	}
	r.sum.count += d.count
	r.sum.size += d.size
}

// gather applies an i, u or d entry in the open unit, or in a new one. It is not done if it
// would have to wait, or if another writer got in between.
func (r *Replay) gather(ctx context.Context, ns Namespace, e *oplog.Entry) (done bool, err error) {
	gc, ok := r.join(ns, e)
	if !ok || gc == nil {
		return ok, nil
	}
	g := &r.group
	if g.w == nil {
		g.w = r.cat.NewUnit()
		g.w.RU.NoWait()
		if r.cat.replayFinds.Load() {
			g.w.RU.KeepRows()
		}
		g.w.RU.Reserve(g.room)
	}
	at := g.w.Savepoint()
	rw := replayWrite{c: gc.c, relaxed: gc.relaxed}
	changed, done, err := r.write(ctx, g.w, e, &rw)
	if err != nil || !done {
		if rerr := g.w.RollbackTo(at); rerr != nil {
			r.Close()
			return true, errors.Join(err, rerr)
		}
		if errors.Is(err, storage.ErrWouldWait) {
			return false, nil
		}
		return err != nil, err
	}
	if !changed {
		return true, nil
	}
	gc.sum.count += rw.sum.count
	gc.sum.size += rw.sum.size
	if e.Op != oplog.OpInsert {
		g.finds++
	}
	r.wrote(gc.c)
	if g.w.Entries() >= replayUnitEntries || g.w.Size() >= replayUnitBytes {
		return true, r.Flush()
	}
	return true, nil
}

// join finds the collection of an entry and takes the right to write to it for the open unit;
// nil if there is no such collection any more. It is not ok if the entry needs a unit of its own.
func (r *Replay) join(ns Namespace, e *oplog.Entry) (gc *replayColl, ok bool) {
	uuid := e.UUID
	if !e.HasUUID() {
		c := r.cat.Pin().Lookup(ns)
		if c == nil {
			return nil, false
		}
		uuid = c.UUID
	}
	g := &r.group
	if n := len(g.colls); n > 0 && g.colls[n-1].c.UUID == uuid {
		return g.colls[n-1], true
	}
	if gc := g.by[uuid]; gc != nil {
		return gc, true
	}
	c, grant, ok := r.cat.tryBeginWriteUUID(uuid)
	if !ok || c == nil {
		return nil, ok
	}
	if !c.NS.logged() { // a unit of private tables has no entries
		grant.Release()
		return nil, false
	}
	gc = &replayColl{c: c, grant: grant, relaxed: r.relaxed(c)}
	g.colls = append(g.colls, gc)
	if g.by == nil {
		g.by = map[bson.UUID]*replayColl{}
	}
	g.by[uuid] = gc
	return gc, true
}

// wrote remembers capped collections, which Finish cuts to their size.
func (r *Replay) wrote(c *Collection) {
	if c.Options.Capped {
		r.capped[c.UUID] = true
	}
}

// Flush commits what Apply has gathered.
func (r *Replay) Flush() error {
	g := &r.group
	w := g.w
	if w == nil {
		r.leave()
		return nil
	}
	g.w = nil
	defer r.leave()
	if w.Entries() == 0 {
		w.Rollback()
		return nil
	}
	for _, gc := range g.colls {
		if gc.sum != (delta{}) {
			gc.c.note(w, gc.sum)
		}
	}
	g.room = w.RU.WriteSet().Size()
	r.cat.replayFinds.Store(g.finds*keepOf >= w.Entries())
	g.finds = 0
	f, err := r.cat.committer.Commit(w)
	if err == nil {
		r.last = f
	}
	return err
}

// Close gives up what Apply has gathered since the last unit. After Finish there is nothing.
func (r *Replay) Close() {
	if w := r.group.w; w != nil {
		r.group.w = nil
		w.Rollback()
	}
	r.leave()
}

// leave gives the grants of the unit back.
func (r *Replay) leave() {
	for _, gc := range r.group.colls {
		gc.grant.Release()
	}
	clear(r.group.colls)
	r.group.colls = r.group.colls[:0]
	clear(r.group.by)
}

// document applies an i, u or d entry in a unit of its own. It is not done if another writer
// got in between.
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
	rw := replayWrite{c: c, relaxed: r.relaxed(c)}
	changed, done, err := r.write(ctx, w, e, &rw)
	if err != nil || !changed {
		w.Rollback()
		return done, err
	}
	rw.note(w)
	f, err := r.cat.committer.Commit(w)
	if err != nil {
		return true, err
	}
	r.last = f
	r.wrote(c)
	return true, nil
}

// write does one entry to its collection in a unit.
func (r *Replay) write(ctx context.Context, w *oplog.WriteUnit, e *oplog.Entry, rw *replayWrite) (changed, done bool, err error) {
	c := rw.c
	id := e.O.Get("_id")
	if e.Op == oplog.OpUpdate {
		id = e.O2.Get("_id")
	}
	if id.IsMissing() {
		return false, true, mongoerr.New(mongoerr.NoSuchKey, "Failed to apply operation: no _id in %s of %s", e.Op, c.NS)
	}
	rid, old, done, err := rw.find(ctx, w, e.Op, id)
	if err != nil || !done {
		return false, done, err
	}
	info := &WriteInfo{FromMigrate: e.FromMigrate}
	switch {
	case old == nil && e.Op == oplog.OpInsert:
		if err := r.check(c, nil, e.O); err != nil {
			return false, true, err
		}
		err := c.insertAt(ctx, w, e.O, storage.RecordID(e.RID), info, rw)
		if mongoerr.Is(err, mongoerr.DuplicateKey) { // of its _id: somebody inserted it just now
			return false, false, nil
		}
		return err == nil, true, unwrapDoc(err)
	case old == nil:
		return false, true, nil
	case e.Op == oplog.OpDelete:
		return true, true, c.delete(ctx, w, rid, old, info, rw)
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
	if err := r.check(c, old, new); err != nil {
		return false, true, err
	}
	o := new
	if diff, ok := update.Diff(old, new); ok && e.Op == oplog.OpUpdate {
		o = bson.D("$v", 2, "diff", diff)
	}
	return true, true, c.update(ctx, w, rid, old, new, o, info, rw)
}

// check is CheckValidator if this replay asks for it.
func (r *Replay) check(c *Collection, old, new bson.Raw) error {
	if !r.validate {
		return nil
	}
	return c.CheckValidator(old, new)
}

// find latches and reads the document with that _id; old is nil if there is none.
func (rw *replayWrite) find(ctx context.Context, w *oplog.WriteUnit, op oplog.Op, id bson.Value) (rid storage.RecordID, old bson.Raw, done bool, err error) {
	c := rw.c
	ix := c.IDIndex()
	if ix == nil {
		return 0, nil, false, mongoerr.New(mongoerr.InvalidNamespace, "cannot write to '%s'", c.NS)
	}
	var buf [64]byte
	key := ix.AppendKey(buf[:0], id)
	if op == oplog.OpInsert {
		// Most inserts of a log have growing _ids: there is nothing to find.
		if beyond, err := ix.state.top.beyond(ix.Store, c.cat.eng, key); beyond || err != nil {
			return 0, nil, true, err
		}
		if !w.RU.Waits() { // may lock in any order: with the latch one look is enough
			if err := w.RU.Lock(ctx, ix.Store.LatchKey(key)); err != nil {
				return 0, nil, false, err
			}
		}
	}
	rid, _, err = ix.Store.Find(w.RU, key, nil)
	if errors.Is(err, storage.ErrNotFound) {
		rw.newID = op == oplog.OpInsert && !w.RU.Waits()
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

// insertAt inserts one document at the RecordId that it had when it was first
// inserted, if that is free; without the evictions of a capped collection, which the log
// has as deletes.
func (c *Collection) insertAt(ctx context.Context, w *oplog.WriteUnit, doc bson.Raw, id storage.RecordID, info *WriteInfo, r *replayWrite) error {
	s := getScratch()
	defer s.put()
	s.relaxed, s.newID = r.relaxed, r.newID
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
	c.noteFor(r, w, delta{1, size})
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
		if free, err := c.shared.rids.claim(c.store, c.cat.eng, id); free || err != nil {
			return id, err
		}
		// Asked first: who ends between the two questions is seen by the second.
		given := c.shared.rids.given(id)
		_, err := c.store.Get(w.RU, id, nil)
		if errors.Is(err, storage.ErrNotFound) && !given {
			return id, c.shared.rids.seen(c.store, c.cat.eng, id)
		}
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return 0, err
		}
	}
	return c.shared.rids.takeFor(w.RU, c.store, 1)
}
