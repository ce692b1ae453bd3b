package catalog

import (
	"context"
	"errors"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
)

// ddl is one DDL operation: it excludes every other, drains the writers of the
// collections that it locks, and may take several units.
//
// Lock order: the DDL token, then collections, then the latches of a unit.
type ddl struct {
	cat    *Catalog
	ctx    context.Context
	locked []*collShared
	last   *oplog.Future
}

func (c *Catalog) beginDDL(ctx context.Context) (*ddl, error) {
	if c.committer == nil {
		return nil, errors.New("catalog: not started")
	}
	select {
	case c.ddl <- struct{}{}:
		return &ddl{cat: c, ctx: ctx}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (d *ddl) end() {
	for _, s := range d.locked {
		s.lock.unlockExclusive()
	}
	<-d.cat.ddl
}

// lock waits for the writers of a collection and keeps new ones out until end.
func (d *ddl) lock(c *Collection) error {
	for _, s := range d.locked {
		if s == c.shared {
			return nil
		}
	}
	if err := c.shared.lock.lockExclusive(d.ctx); err != nil {
		return err
	}
	d.locked = append(d.locked, c.shared)
	return nil
}

// unit makes one unit of the operation. Nothing of it exists if fn or the commit fails.
func (d *ddl) unit(fn func(ch *change) error) error {
	w := d.cat.NewUnit()
	ch := d.cat.newChange(w.RU, w)
	if err := fn(ch); err != nil {
		w.Rollback()
		return unwrapDoc(err)
	}
	ch.publish()
	f, err := d.cat.committer.Commit(w)
	if err != nil {
		return err
	}
	d.last = f
	return nil
}

// runDDL is an operation of one unit.
func (c *Catalog) runDDL(ctx context.Context, fn func(d *ddl, ch *change) error) (*oplog.Future, error) {
	d, err := c.beginDDL(ctx)
	if err != nil {
		return nil, err
	}
	defer d.end()
	err = d.unit(func(ch *change) error { return fn(d, ch) })
	return d.last, err
}

// errNothing ends a unit of DDL that turned out to change nothing.
var errNothing = errors.New("catalog: nothing to do")

// Create makes a collection, or a view if the options have viewOn. It succeeds if one
// with the same options exists already; the future is nil then.
func (c *Catalog) Create(ctx context.Context, ns Namespace, options bson.Raw) (*oplog.Future, error) {
	return c.create(ctx, ns, options, bson.UUID{})
}

// CreateWithUUID is Create for restore and applyOps, which bring the UUID.
func (c *Catalog) CreateWithUUID(ctx context.Context, ns Namespace, options bson.Raw, uuid bson.UUID) (*oplog.Future, error) {
	return c.create(ctx, ns, options, uuid)
}

func (c *Catalog) create(ctx context.Context, ns Namespace, options bson.Raw, uuid bson.UUID) (*oplog.Future, error) {
	if err := ValidateCreate(ns); err != nil {
		return nil, err
	}
	opts, err := ParseCollectionOptions(options.Clone())
	if err == nil {
		err = opts.checkIDIndex()
	}
	if err != nil {
		return nil, err
	}
	if opts.Timeseries != nil && !ns.IsBuckets() {
		f, err := c.createTimeseries(ctx, ns, opts, uuid)
		if errors.Is(err, errNothing) {
			return nil, nil
		}
		return f, err
	}
	if err := checkBuckets(ns, opts); err != nil {
		return nil, err
	}
	if err := opts.checkReplicated(ns); err != nil {
		return nil, err
	}
	f, err := c.runDDL(ctx, func(_ *ddl, ch *change) error {
		if err := ch.mayCreate(ns, opts); err != nil {
			return err
		}
		if opts.ViewOn != "" {
			return ch.createView(ctx, ns, opts)
		}
		_, err := ch.createLogged(ns, uuid, opts)
		return err
	})
	if errors.Is(err, errNothing) {
		return nil, nil
	}
	return f, err
}

// checkBuckets refuses buckets without the options of their collection, and those options
// elsewhere.
func checkBuckets(ns Namespace, opts *CollectionOptions) error {
	switch {
	case ns.IsBuckets() && (opts.Timeseries == nil || !opts.Clustered || opts.Validator == nil):
		return mongoerr.New(mongoerr.InvalidOptions, "%s cannot be made without the time-series collection that it belongs to", ns)
	case !ns.IsBuckets() && opts.Clustered:
		return opts.checkClustered()
	}
	return nil
}

// createImplicitly makes the collection of a first write.
func (c *Catalog) createImplicitly(ctx context.Context, ns Namespace) error {
	_, err := c.Create(ctx, ns, bson.Empty)
	return err
}

// mayCreate looks for what is in the way of a new collection or view.
func (ch *change) mayCreate(ns Namespace, opts *CollectionOptions) error {
	v := ch.e.v
	if other, ok := v.differsInCase(ns.DB); ok {
		return differentCase(ns.DB, other)
	}
	var have bson.Raw
	switch {
	case v.Lookup(ns) != nil:
		if have = v.Lookup(ns).Options.Raw; opts.ViewOn != "" {
			return mongoerr.New(mongoerr.NamespaceExists, "Collection %s already exists.", ns)
		}
	case v.View(ns) != nil:
		if have = v.View(ns).Options(); opts.ViewOn == "" {
			return mongoerr.New(mongoerr.NamespaceExists, "A view already exists. NS: %s", ns)
		}
	default:
		return nil
	}
	if bson.CompareDocs(have, opts.Raw) == 0 {
		return errNothing
	}
	return mongoerr.New(mongoerr.NamespaceExists, "namespace %s already exists, but with different options: %s", ns, have)
}

func differentCase(db, other string) error {
	return mongoerr.New(mongoerr.DatabaseDifferCase, "db already exists with different case already have: [%s] trying to create [%s]", other, db)
}

// createLogged makes a collection and its entry. A zero uuid is chosen here.
func (ch *change) createLogged(ns Namespace, uuid bson.UUID, opts *CollectionOptions) (*Collection, error) {
	if uuid == (bson.UUID{}) {
		uuid = ch.cat.opt.NewUUID()
	}
	coll, err := ch.create(ns, uuid, opts)
	if err != nil {
		return nil, err
	}
	o := bson.NewBuilder(nil).Str("create", ns.Coll).AppendElems(opts.Raw)
	if !opts.Clustered && !opts.NoIDIndex {
		o.AppendDoc("idIndex", idIndexSpec(opts.Collation).Raw)
	}
	return coll, ch.log(nil, ns, uuid, o.Finish(), nil)
}

// maxViewDepth is how many views may stand on each other.
const maxViewDepth = 20

// checkViewGraph refuses a view that would stand on itself, or too high.
func (v *Version) checkViewGraph(ns Namespace, on string) error {
	for depth := 1; ; depth++ {
		if on == ns.Coll {
			return mongoerr.New(mongoerr.GraphContainsCycle, "View cycle detected: %s => %s", ns, ns)
		}
		next := v.View(Namespace{ns.DB, on})
		if next == nil {
			return nil
		}
		if depth >= maxViewDepth {
			return mongoerr.New(mongoerr.ViewDepthLimitExceeded, "View depth limit exceeded; maximum depth is %d", maxViewDepth)
		}
		on = next.On
	}
}

// createView adds a document to system.views, made if it is not there.
func (ch *change) createView(ctx context.Context, ns Namespace, opts *CollectionOptions) error {
	if ns.IsSystem() {
		return mongoerr.New(mongoerr.InvalidNamespace, "Invalid system namespace: %s", ns)
	}
	if err := ValidateNamespace(Namespace{ns.DB, opts.ViewOn}); err != nil {
		return mongoerr.New(mongoerr.BadValue, "Invalid name for 'viewOn' collection: %s.%s", ns.DB, opts.ViewOn)
	}
	if err := ch.e.v.checkViewGraph(ns, opts.ViewOn); err != nil {
		return err
	}
	if on := ch.e.v.View(Namespace{ns.DB, opts.ViewOn}); on != nil && !collate.Same(on.Collation, opts.Collation) {
		return mongoerr.New(mongoerr.OptionNotSupportedOnView, "View %s has conflicting collation with view %s", ns, on.NS)
	}
	views, err := ch.systemViews(ns.DB)
	if err != nil {
		return err
	}
	b := bson.NewBuilder(nil).Str("_id", ns.String()).Str("viewOn", opts.ViewOn)
	if opts.Pipeline == nil {
		b.Array("pipeline").End()
	} else {
		b.AppendArray("pipeline", opts.Pipeline)
	}
	if opts.Collation != nil {
		b.AppendDoc("collation", opts.Collation.Spec())
	}
	if err := views.Insert(ctx, ch.w, []bson.Raw{b.Finish()}, nil); err != nil {
		return err
	}
	return ch.refreshViews(views)
}

// systemViews returns the collection of the views of db, made if need be.
func (ch *change) systemViews(db string) (*Collection, error) {
	ns := Namespace{db, SystemViews}
	if c := ch.e.v.Lookup(ns); c != nil {
		return c, nil
	}
	opts, err := ParseCollectionOptions(bson.Empty)
	if err != nil {
		return nil, err
	}
	return ch.createLogged(ns, bson.UUID{}, opts)
}

// changeView replaces (or, if doc is nil, deletes) the document of a view.
func (ch *change) changeView(ctx context.Context, ns Namespace, doc bson.Raw) error {
	views := ch.e.v.Lookup(Namespace{ns.DB, SystemViews})
	if views == nil {
		return mongoerr.New(mongoerr.NamespaceNotFound, "ns not found")
	}
	id, err := views.FindID(ch.u, bson.V(ns.String()))
	if err != nil {
		return err
	}
	if err := views.LockRecord(ctx, ch.w, id); err != nil {
		return err
	}
	old, err := views.Get(ch.u, id, nil)
	if err != nil {
		return err
	}
	if doc == nil {
		err = views.Delete(ctx, ch.w, id, old, nil)
	} else {
		err = views.Update(ctx, ch.w, id, old, doc, doc, nil)
	}
	if err != nil {
		return err
	}
	return ch.refreshViews(views)
}

// DropResult is what drop replies.
type DropResult struct {
	Indexes int // before the drop; 0 for a view
	View    bool
	Future  *oplog.Future
}

// Drop removes a collection or a view. NamespaceNotFound if there is neither.
func (c *Catalog) Drop(ctx context.Context, ns Namespace) (*DropResult, error) {
	if ns.IsOplog() {
		return nil, mongoerr.New(mongoerr.IllegalOperation, "can't drop live oplog while replicating")
	}
	res := &DropResult{}
	f, err := c.runDDL(ctx, func(d *ddl, ch *change) error {
		coll := ch.e.v.Timeseries(ns)
		if ch.e.v.View(ns) != nil {
			if err := ch.changeView(ctx, ns, nil); err != nil {
				return err
			}
			if res.View = coll == nil; res.View {
				return nil
			}
			coll = ch.e.v.ByUUID(coll.UUID)
		} else if coll = ch.e.v.Lookup(ns); coll == nil {
			return mongoerr.New(mongoerr.NamespaceNotFound, "ns not found")
		}
		res.Indexes = coll.shown(len(coll.indexes))
		return d.drop(ch, coll)
	})
	res.Future = f
	return res, err
}

// drop drops a collection with its entry; builds on it are aborted.
func (d *ddl) drop(ch *change, coll *Collection) error {
	coll, err := d.abortBuilds(ch, coll, mongoerr.New(mongoerr.IndexBuildAborted, "collection dropped: %s", coll.NS))
	if err != nil {
		return err
	}
	if err := d.lock(coll); err != nil {
		return err
	}
	o := bson.D("drop", coll.NS.Coll)
	if err := ch.log(coll, coll.NS, coll.UUID, o, numRecords(coll)); err != nil {
		return err
	}
	return ch.drop(coll)
}

// numRecords is the o2 of an entry that drops a collection.
func numRecords(c *Collection) bson.Raw {
	return bson.NewBuilder(nil).IntOrLong("numRecords", c.Count()).Finish()
}

// DropDatabase drops all collections of a database, one unit each, then logs
// dropDatabase. A database that does not exist is no error and gives no future.
func (c *Catalog) DropDatabase(ctx context.Context, db string) (*oplog.Future, error) {
	if err := ValidateDBName(db); err != nil {
		return nil, err
	}
	switch db {
	case AdminDB:
		return nil, mongoerr.New(mongoerr.IllegalOperation, "Dropping the 'admin' database is prohibited.")
	case LocalDB:
		return nil, mongoerr.New(mongoerr.IllegalOperation, "Cannot drop 'local' database while replication is active")
	}
	d, err := c.beginDDL(ctx)
	if err != nil {
		return nil, err
	}
	defer d.end()
	if !c.Pin().HasDatabase(db) {
		return nil, nil
	}
	for _, coll := range c.Pin().Collections(db) {
		if err := d.unit(func(ch *change) error { return d.drop(ch, ch.e.v.ByUUID(coll.UUID)) }); err != nil {
			return nil, err
		}
	}
	err = d.unit(func(ch *change) error {
		return ch.log(nil, Namespace{db, "$cmd"}, bson.UUID{}, bson.D("dropDatabase", 1), nil)
	})
	return d.last, err
}
