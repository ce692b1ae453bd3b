package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/update"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
	"github.com/cairndb/cairn/internal/storage/journal"
)

// Recover brings the store up to the end of its journal: the units that the engine
// does not hold yet are applied in exact mode.
func (c *Catalog) Recover(ctx context.Context) (storage.RecoveryStats, error) {
	st, err := c.eng.Recover(ctx, c.replayUnit)
	if err != nil {
		return st, err
	}
	// Private tables are replayed as bytes, behind the catalog's back.
	if st.LocalUnits > 0 {
		err = c.load()
	}
	return st, err
}

// replayUnit applies the entries of one unit.
func (c *Catalog) replayUnit(u *storage.RecoveryUnit, unit []journal.Record) error {
	a := &Applier{ch: c.newChange(u, nil)}
	for _, rec := range unit {
		if rec.Kind != journal.KindEntry {
			continue
		}
		e, err := oplog.Decode(bson.Raw(rec.Payload).Clone())
		if err != nil {
			return err
		}
		if err := a.Apply(&e); err != nil {
			return fmt.Errorf("entry %s of %s: %w", e.OpTime, e.NS, err)
		}
	}
	a.Done()
	return nil
}

// Applier applies the entries of one unit to a recovery unit in exact mode: each to
// exactly the state that the entry before it left. RecordIds and idents come out as
// first written. Anything that does not fit is an error: the store is damaged.
type Applier struct {
	ch  *change
	ddl bool
}

// NewApplier applies to u, which must see all entries before.
func (c *Catalog) NewApplier(u *storage.RecoveryUnit) *Applier {
	return &Applier{ch: c.newChange(u, nil)}
}

// Done ends the unit: what its DDL changed becomes current when u commits.
func (a *Applier) Done() {
	if a.ddl {
		a.ch.publish()
	}
}

// Apply applies one entry.
func (a *Applier) Apply(e *oplog.Entry) error {
	switch e.Op {
	case oplog.OpNoop, oplog.OpDatabase:
		return nil
	case oplog.OpCommand:
		if e.CommandName() == "applyOps" {
			return a.applyOps(e)
		}
		a.ddl = true
		return a.command(e)
	}
	c, err := a.collection(e)
	if err != nil {
		return err
	}
	if c.NS.Coll == SystemViews {
		defer func() { a.ddl = true }()
	}
	var old, new bson.Raw
	switch e.Op {
	case oplog.OpInsert:
		new, err = e.O, a.insert(c, e)
	case oplog.OpUpdate:
		old, new, err = a.update(c, e)
	case oplog.OpDelete:
		old, err = a.delete(c, e)
	}
	if err != nil {
		return err
	}
	if c.NS.Coll == SystemViews {
		if err := a.ch.refreshViews(c); err != nil {
			return err
		}
	}
	for _, o := range a.ch.cat.observers {
		if err := o.OnApply(a.ch.u, c, old, new, e); err != nil {
			return err
		}
	}
	return nil
}

func misfit(format string, args ...any) error {
	return fmt.Errorf("%w: the log does not fit the data: %s", storage.ErrCorruption, fmt.Sprintf(format, args...))
}

// collection finds the collection of an entry.
func (a *Applier) collection(e *oplog.Entry) (*Collection, error) {
	if e.HasUUID() {
		if c := a.ch.e.v.ByUUID(e.UUID); c != nil {
			return c, nil
		}
		return nil, misfit("no collection has the UUID %s", e.UUID)
	}
	ns, _ := ParseNamespace(e.NS)
	if c := a.ch.e.v.Lookup(ns); c != nil {
		return c, nil
	}
	return nil, misfit("no collection %s", e.NS)
}

func (a *Applier) insert(c *Collection, e *oplog.Entry) error {
	u := a.ch.u
	id := storage.RecordID(e.RID)
	var err error
	if id == 0 {
		id, err = c.shared.rids.take(c.store, u, 1)
	} else {
		err = c.shared.rids.seen(c.store, u, id)
	}
	if err != nil {
		return err
	}
	s := getScratch()
	defer s.put()
	if err := s.addDoc(c, e.O, 0, false); err != nil {
		return err
	}
	if err := s.noteIDs(c); err != nil {
		return err
	}
	size := s.putAll(c, u, []bson.Raw{e.O}, id)
	c.count(u, delta{1, size})
	return nil
}

// find returns the record of an entry's _id.
func (a *Applier) find(c *Collection, id bson.Value) (storage.RecordID, bson.Raw, error) {
	rid, err := c.FindID(a.ch.u, id)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil, misfit("%s has no document with _id %s", c.NS, id)
	}
	if err != nil {
		return 0, nil, err
	}
	doc, err := c.Get(a.ch.u, rid, nil)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil, misfit("%s has no record %d, which its _id index names", c.NS, rid)
	}
	return rid, doc, err
}

func (a *Applier) update(c *Collection, e *oplog.Entry) (old, new bson.Raw, err error) {
	rid, old, err := a.find(c, e.O2.Get("_id"))
	if err != nil {
		return nil, nil, err
	}
	if new, err = update.ApplyEntry(old, e.O); err != nil {
		return nil, nil, err
	}
	s := getScratch()
	defer s.put()
	if err := s.addChange(c, old, new); err != nil {
		return nil, nil, err
	}
	s.replace(c, a.ch.u, rid, new)
	if len(old) != len(new) {
		c.count(a.ch.u, delta{0, int64(len(new) - len(old))})
	}
	return old, new, nil
}

func (a *Applier) delete(c *Collection, e *oplog.Entry) (old bson.Raw, err error) {
	rid, old, err := a.find(c, e.O.Get("_id"))
	if err != nil {
		return nil, err
	}
	s := getScratch()
	defer s.put()
	if err := s.addDoc(c, old, 0, true); err != nil {
		return nil, err
	}
	s.remove(c, a.ch.u, rid)
	c.count(a.ch.u, delta{-1, -int64(len(old))})
	return old, nil
}

// applyOps applies the operations of a transaction or of grouped inserts.
func (a *Applier) applyOps(e *oplog.Entry) error {
	for v := range e.O.Get("applyOps").Doc().Values() {
		inner, err := oplog.Decode(v.Doc())
		if err != nil {
			return err
		}
		inner.OpTime, inner.LSID, inner.TxnNumber = e.OpTime, e.LSID, e.TxnNumber
		if err := a.Apply(&inner); err != nil {
			return err
		}
	}
	return nil
}

// command applies DDL.
func (a *Applier) command(e *oplog.Entry) error {
	ch, v := a.ch, a.ch.e.v
	db, _, _ := cutNS(e.NS)
	name, arg := e.O.First()
	switch name {
	case "create":
		opts, uuid, err := createArgs(e)
		if err != nil {
			return err
		}
		_, err = ch.create(Namespace{db, arg.Str()}, uuid, opts)
		return err
	case "dropDatabase":
		for _, c := range v.Collections(db) { // none is left in logs that Cairn wrote
			if c.NS.logged() {
				if err := ch.drop(c); err != nil {
					return err
				}
			}
		}
		return nil
	case "renameCollection":
		return a.renameEntry(e)
	}
	c, err := a.collection(e)
	if err != nil {
		return err
	}
	switch name {
	case "drop":
		return ch.drop(c)
	case "collMod":
		m, err := parseCollMod(withoutFirst(e.O))
		if err == nil {
			m.logged = true
			_, _, err = ch.collMod(context.Background(), c, m)
		}
		return err
	case "createIndexes":
		spec, err := ParseIndexSpec(withoutFirst(e.O))
		if err == nil {
			_, err = ch.addFilledIndex(c, spec)
		}
		return err
	case "dropIndexes":
		ix := c.Index(e.O.Get("index").Str())
		if ix == nil {
			return misfit("%s has no index %s", c.NS, e.O.Get("index"))
		}
		_, err := ch.removeIndex(c, ix)
		return err
	case "startIndexBuild", "commitIndexBuild", "abortIndexBuild":
		return a.buildCommand(name, c, e)
	}
	return mongoerr.New(mongoerr.OplogOperationUnsupported, "the oplog command '%s' is not supported", name)
}

// createArgs reads options and UUID of a create entry.
func createArgs(e *oplog.Entry) (*CollectionOptions, bson.UUID, error) {
	opts, err := ParseCollectionOptions(withoutFirst(e.O))
	if err != nil {
		return nil, e.UUID, err
	}
	if !e.HasUUID() {
		return nil, e.UUID, fmt.Errorf("%w: create without a UUID", oplog.ErrEntry)
	}
	return opts, e.UUID, nil
}

// withoutFirst is d but for its first element, the command's name.
func withoutFirst(d bson.Raw) bson.Raw {
	b := bson.NewBuilder(nil)
	first := true
	for k, v := range d.Elems() {
		if !first {
			b.Append(k, v)
		}
		first = false
	}
	return b.Finish()
}

func cutNS(ns string) (db, coll string, ok bool) {
	n, ok := ParseNamespace(ns)
	return n.DB, n.Coll, ok
}

func (a *Applier) renameEntry(e *oplog.Entry) error {
	c, err := a.collection(e)
	if err != nil {
		return err
	}
	to, ok := ParseNamespace(e.O.Get("to").Str())
	if !ok {
		return fmt.Errorf("%w: rename to %s", oplog.ErrEntry, e.O.Get("to"))
	}
	if u, ok := e.O.Get("dropTarget").UUID(); ok {
		t := a.ch.e.v.ByUUID(u)
		if t == nil {
			return misfit("no collection has the UUID %s of the rename's target", u)
		}
		if err := a.ch.drop(t); err != nil {
			return err
		}
	}
	_, err = a.ch.rename(c, to, e.O.Get("stayTemp").Truthy())
	return err
}

// buildCommand applies one of the three entries of an index build.
func (a *Applier) buildCommand(name string, c *Collection, e *oplog.Entry) error {
	uuid, ok := e.O.Get("indexBuildUUID").UUID()
	if !ok {
		return fmt.Errorf("%w: %s without indexBuildUUID", oplog.ErrEntry, name)
	}
	if name == "startIndexBuild" {
		var specs []*IndexSpec
		for v := range e.O.Get("indexes").Doc().Values() {
			s, err := ParseIndexSpec(v.Doc())
			if err != nil {
				return err
			}
			specs = append(specs, s)
		}
		_, err := a.ch.startBuild(c, uuid, specs)
		return err
	}
	var b *buildState
	for _, ix := range c.indexes {
		if ix.build != nil && ix.build.uuid == uuid {
			b = ix.build
		}
	}
	if b == nil {
		return misfit("%s has no index build %s", c.NS, uuid)
	}
	if name == "abortIndexBuild" {
		_, err := a.ch.removeBuild(c, b)
		return err
	}
	_, err := a.ch.finishBuild(c, b)
	return err
}
