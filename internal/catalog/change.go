package catalog

import (
	"errors"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// change is DDL in the making: what it does to tables in a recovery unit, and the
// version of the catalog that will be current once the unit has committed. DDL of
// clients and Apply both go through it, so that they leave the same bytes.
type change struct {
	cat *Catalog
	u   *storage.RecoveryUnit
	e   *edition
	w   *oplog.WriteUnit // nil when an entry is applied: nothing is logged then
}

func (c *Catalog) newChange(u *storage.RecoveryUnit, w *oplog.WriteUnit) *change {
	return &change{cat: c, u: u, w: w, e: c.Pin().edit()}
}

// publish makes the new version current when the unit commits.
func (ch *change) publish() {
	next := ch.e.v
	ch.u.RegisterChange(func() { ch.cat.current.Store(next) }, nil)
}

func spaceOf(ns Namespace) storage.Space {
	if ns.logged() {
		return storage.SpaceReplicated
	}
	return storage.SpacePrivate
}

func (ch *change) newTable(s storage.Space) (storage.Table, error) {
	id, err := ch.u.NextIdent(s)
	return storage.Table{Space: s, Ident: id}, err
}

// create makes an empty collection with its index on _id. The profiler's collection has
// none: its documents have no _id. A collection of local may be made without.
func (ch *change) create(ns Namespace, uuid bson.UUID, o *CollectionOptions) (*Collection, error) {
	t, err := ch.newTable(spaceOf(ns))
	if err != nil {
		return nil, err
	}
	c, err := ch.cat.newCollection(ns, uuid, o, t)
	if err != nil {
		return nil, err
	}
	if ns.Coll == SystemProfile || o.NoIDIndex {
		ch.put(c)
		return c, nil
	}
	return ch.addIndex(c, idIndexSpec(o.Collation), nil)
}

// put makes c the current state of its collection.
func (ch *change) put(c *Collection) {
	ch.u.Set(collectionKey(c.store.Space, c.UUID), encodeCollection(c))
	ch.e.put(c)
}

// drop removes a collection and all its tables.
func (ch *change) drop(c *Collection) error {
	ch.u.Delete(collectionKey(c.store.Space, c.UUID))
	ch.u.Delete(appendCounterKey(nil, c.store.Table))
	sides := map[*buildState]bool{}
	for _, ix := range c.indexes {
		if ix.build != nil && !sides[ix.build] {
			sides[ix.build] = true
			ch.u.DropIdent(ix.build.side.Table)
		}
		if err := ch.dropIndexTable(ix); err != nil {
			return err
		}
	}
	ch.u.DropIdent(c.store.Table)
	ch.e.remove(c)
	ch.u.RegisterChange(func() { c.shared.dropped.Store(true) }, nil)
	return nil
}

// dropIndexTable removes what belongs to an index alone.
func (ch *change) dropIndexTable(ix *Index) error {
	p := multikeyPrefix(ix.Store.Table)
	cur := ch.u.NewCursor(p, append(append([]byte(nil), p...), 0xFF, 0xFF))
	var rows [][]byte
	for ok := cur.First(); ok; ok = cur.Next() {
		rows = append(rows, append([]byte(nil), cur.Key()...))
	}
	if err := errors.Join(cur.Err(), cur.Close()); err != nil {
		return err
	}
	for _, k := range rows {
		ch.u.Delete(k)
	}
	ch.u.DropIdent(ix.Store.Table)
	return nil
}

// rename gives a collection another name; keepTemp leaves its option temp.
func (ch *change) rename(c *Collection, to Namespace, keepTemp bool) (*Collection, error) {
	opts := c.Options
	if opts.Temp && !keepTemp {
		o, err := opts.with(bson.Empty, "temp")
		if err != nil {
			return nil, err
		}
		opts = o
	}
	n := c.with(func(n *Collection) { n.NS, n.Options = to, opts })
	ch.e.remove(c)
	ch.put(n)
	return n, nil
}

// setOptions gives a collection other options.
func (ch *change) setOptions(c *Collection, o *CollectionOptions) (*Collection, error) {
	n := c.with(func(n *Collection) { n.Options = o })
	if err := n.compileValidator(); err != nil {
		return nil, err
	}
	ch.put(n)
	return n, nil
}

// addIndex adds an empty index; build is nil for one that is ready.
func (ch *change) addIndex(c *Collection, spec *IndexSpec, build *buildState) (*Collection, error) {
	t, err := ch.newTable(c.store.Space)
	if err != nil {
		return nil, err
	}
	ix, err := ch.cat.newIndex(spec, t)
	if err != nil {
		return nil, err
	}
	ix.build = build
	n := c.withIndexes(append(append([]*Index(nil), c.indexes...), ix))
	if spec.IsID() { // has its place in front, though it came later
		copy(n.indexes[1:], c.indexes)
		n.indexes[0] = ix
	}
	ch.put(n)
	return n, nil
}

// removeIndex removes an index and its table.
func (ch *change) removeIndex(c *Collection, ix *Index) (*Collection, error) {
	if err := ch.dropIndexTable(ix); err != nil {
		return nil, err
	}
	var rest []*Index
	for _, o := range c.indexes {
		if o != ix {
			rest = append(rest, o)
		}
	}
	n := c.withIndexes(rest)
	ch.put(n)
	return n, nil
}

// setIndexSpec changes an index's options (hidden, expireAfterSeconds).
func (ch *change) setIndexSpec(c *Collection, ix *Index, spec *IndexSpec) *Collection {
	n := *ix
	n.Spec = spec
	nc := c.replaceIndex(&n)
	ch.put(nc)
	return nc
}

// refreshViews reads the views of a database again behind a change of system.views.
func (ch *change) refreshViews(c *Collection) error {
	views, err := readViews(ch.u, c)
	if err != nil {
		return err
	}
	ch.e.setViews(c.NS.DB, views)
	return nil
}

// readViews reads the documents of system.views. One that makes no sense is an
// error: views must not vanish silently.
func readViews(r storage.Reader, c *Collection) (map[string]*View, error) {
	views := map[string]*View{}
	cur := c.store.Cursor(r, storage.Forward)
	for cur.Next() {
		d := bson.Raw(cur.Value()).Clone()
		ns, ok := ParseNamespace(strings.Clone(d.Get("_id").Str()))
		on, pipeline := d.Get("viewOn"), d.Get("pipeline")
		if !ok || ns.DB != c.NS.DB || on.Type != bson.TypeString || pipeline.Type != bson.TypeArray {
			return nil, errors.Join(mongoerr.New(mongoerr.InvalidViewDefinition, "Invalid view definition in %s: %s", c.NS, d), cur.Close())
		}
		v := &View{NS: ns, On: on.Str(), Pipeline: bson.Array(pipeline.Data)}
		var err error
		if v.Collation, err = collate.Parse(d.Get("collation").Doc()); err != nil {
			return nil, errors.Join(err, cur.Close())
		}
		views[ns.Coll] = v
	}
	return views, errors.Join(cur.Err(), cur.Close())
}

// log adds the entry of a DDL command to the unit; c is the collection before it.
func (ch *change) log(c *Collection, ns Namespace, uuid bson.UUID, o, o2 bson.Raw) error {
	if ch.w == nil {
		return nil
	}
	if !ns.logged() {
		ch.w.LogLocal()
		return nil
	}
	e := oplog.Entry{Op: oplog.OpCommand, NS: ns.DB + ".$cmd", UUID: uuid, O: o, O2: o2}
	for _, ob := range ch.cat.observers {
		if err := ob.OnCommand(ch.w, c, &e); err != nil {
			return err
		}
	}
	ch.w.Log(&e)
	return nil
}
