package catalog

import (
	"context"
	"errors"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// RenameOptions of Rename.
type RenameOptions struct {
	DropTarget bool
	StayTemp   bool
}

// Rename gives a collection another name. Into another database it is a copy and a drop.
func (c *Catalog) Rename(ctx context.Context, from, to Namespace, o RenameOptions) (*oplog.Future, error) {
	if err := checkRename(from, to); err != nil {
		return nil, err
	}
	if from.DB != to.DB {
		return c.renameAcross(ctx, from, to, o)
	}
	return c.runDDL(ctx, func(d *ddl, ch *change) error {
		src, target, err := ch.renamePair(from, to, o)
		if err != nil {
			return err
		}
		return d.rename(ch, src, to, target, o.StayTemp)
	})
}

func checkRename(from, to Namespace) error {
	if err := ValidateNamespace(from); err != nil {
		return err
	}
	if err := ValidateCreate(to); err != nil {
		return err
	}
	switch {
	case from == to:
		return mongoerr.New(mongoerr.IllegalOperation, "Can't rename a collection to itself")
	case from.IsOplog() || to.IsOplog():
		return mongoerr.New(mongoerr.IllegalOperation, "can't rename live oplog while replicating")
	case from.logged() != to.logged():
		return mongoerr.New(mongoerr.IllegalOperation, "Cannot rename collections between a replicated and an unreplicated database")
	case from.IsBuckets() || to.IsBuckets():
		return mongoerr.New(mongoerr.IllegalOperation, "Cannot rename the buckets of a time-series collection: %s to %s", from, to)
	case from.IsSystem() != to.IsSystem() || from.Coll == SystemViews:
		return mongoerr.New(mongoerr.IllegalOperation, "Cannot rename the system collection %s to %s", from, to)
	}
	return nil
}

// renamePair finds the source and, if the rename is to drop one, the target.
func (ch *change) renamePair(from, to Namespace, o RenameOptions) (src, target *Collection, err error) {
	v := ch.e.v
	if other, ok := v.differsInCase(to.DB); ok {
		return nil, nil, differentCase(to.DB, other)
	}
	switch {
	case v.Timeseries(from) != nil:
		return nil, nil, mongoerr.New(mongoerr.IllegalOperation, "Cannot rename time-series collection %s", from)
	case v.View(from) != nil:
		return nil, nil, mongoerr.New(mongoerr.CommandNotSupportedOnView, "cannot rename view: %s", from)
	case v.Lookup(from) == nil:
		return nil, nil, mongoerr.New(mongoerr.NamespaceNotFound, "Source collection %s does not exist", from)
	case v.View(to) != nil:
		return nil, nil, mongoerr.New(mongoerr.NamespaceExists, "a view already exists with that name: %s", to)
	case v.Lookup(to) != nil && !o.DropTarget:
		return nil, nil, mongoerr.New(mongoerr.NamespaceExists, "target namespace exists")
	}
	return v.Lookup(from), v.Lookup(to), nil
}

// rename renames within a database, with its entry.
func (d *ddl) rename(ch *change, src *Collection, to Namespace, target *Collection, stayTemp bool) error {
	if err := d.lock(src); err != nil {
		return err
	}
	o := bson.NewBuilder(nil).Str("renameCollection", src.NS.String()).Str("to", to.String()).Bool("stayTemp", stayTemp)
	var o2 bson.Raw
	if target != nil {
		t, err := d.abortBuilds(ch, target, mongoerr.New(mongoerr.IndexBuildAborted, "collection dropped: %s", target.NS))
		if err != nil {
			return err
		}
		if err := d.lock(t); err != nil {
			return err
		}
		o.UUID("dropTarget", t.UUID)
		o2 = numRecords(t)
		if err := ch.drop(t); err != nil {
			return err
		}
	}
	if err := ch.log(src, src.NS, src.UUID, o.Finish(), o2); err != nil {
		return err
	}
	_, err := ch.rename(src, to, stayTemp)
	return err
}

// renameAcross copies a collection into a temporary one of the other database,
// renames that, and drops the source.
func (c *Catalog) renameAcross(ctx context.Context, from, to Namespace, o RenameOptions) (*oplog.Future, error) {
	d, err := c.beginDDL(ctx)
	if err != nil {
		return nil, err
	}
	defer d.end()
	src, _, err := c.newChange(nil, nil).renamePair(from, to, o)
	if err != nil {
		return nil, err
	}
	if err := d.lock(src); err != nil {
		return nil, err
	}
	var specs []*IndexSpec
	for _, ix := range src.readyIndexes()[1:] {
		specs = append(specs, ix.Spec)
	}
	tmp, err := d.copyTo(src, Namespace{to.DB, c.tempName("renameCollection", "")}, src.Options, 0, specs)
	if err != nil {
		return nil, err
	}
	err = d.unit(func(ch *change) error {
		return d.rename(ch, ch.e.v.ByUUID(tmp.UUID), to, ch.e.v.Lookup(to), src.Options.Temp && o.StayTemp)
	})
	if err == nil {
		err = d.unit(func(ch *change) error { return d.drop(ch, ch.e.v.ByUUID(src.UUID)) })
	}
	if err != nil {
		return nil, errors.Join(err, d.dropTemp(tmp))
	}
	return d.last, nil
}

// dropTemp removes what an operation that failed left behind.
func (d *ddl) dropTemp(tmp *Collection) error {
	if d.cat.Pin().ByUUID(tmp.UUID) == nil {
		return nil
	}
	d.ctx = context.WithoutCancel(d.ctx)
	return d.unit(func(ch *change) error { return d.drop(ch, ch.e.v.ByUUID(tmp.UUID)) })
}

// tempName makes names as MongoDB does: tmpXXXXX.renameCollection, tmpXXXXX.convertToCapped.c.
func (c *Catalog) tempName(what, coll string) string {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	u := c.opt.NewUUID()
	name := []byte("tmp")
	for _, b := range u[:5] {
		name = append(name, letters[int(b)%len(letters)])
	}
	if coll != "" {
		coll = "." + coll
	}
	return string(name) + "." + what + coll
}

// copyUnit bounds one unit of a copy.
const (
	copyUnitDocs  = 500
	copyUnitBytes = 256 << 10
)

// copyTo makes a temporary collection with the documents of src, which the operation
// has locked; those before the first skip bytes are left out. specs are the indexes
// that it is to have beside the one on _id.
func (d *ddl) copyTo(src *Collection, ns Namespace, opts *CollectionOptions, skip int64, specs []*IndexSpec) (*Collection, error) {
	topts, err := opts.with(bson.D("temp", true))
	if err != nil {
		return nil, err
	}
	var tmp *Collection
	err = d.unit(func(ch *change) (err error) {
		if tmp, err = ch.createLogged(ns, bson.UUID{}, topts); err != nil {
			return err
		}
		return ch.createIndexes(tmp, specs)
	})
	if err != nil {
		return nil, err
	}
	if err := d.copyDocs(src, d.cat.Pin().ByUUID(tmp.UUID), skip); err != nil {
		return nil, errors.Join(err, d.dropTemp(tmp))
	}
	return d.cat.Pin().ByUUID(tmp.UUID), nil
}

func (d *ddl) copyDocs(src, dst *Collection, skip int64) (err error) {
	cur := src.store.Cursor(d.cat.eng, storage.Forward)
	defer func() { err = errors.Join(err, cur.Close()) }()
	info := &WriteInfo{FromMigrate: true}
	var docs []bson.Raw
	size := 0
	flush := func() error {
		if err := d.ctx.Err(); err != nil {
			return context.Cause(d.ctx)
		}
		w := d.cat.NewUnit()
		if err := dst.Insert(d.ctx, w, docs, info); err != nil {
			w.Rollback()
			return unwrapDoc(err)
		}
		docs, size = docs[:0], 0
		_, err := d.cat.committer.Commit(w)
		return err
	}
	for cur.Next() {
		if n := int64(len(cur.Value())); skip > 0 {
			skip -= n
			continue
		}
		docs = append(docs, bson.Raw(cur.Value()).Clone())
		if size += len(cur.Value()); len(docs) >= copyUnitDocs || size >= copyUnitBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := cur.Err(); err != nil {
		return err
	}
	if len(docs) > 0 {
		return flush()
	}
	return nil
}

// ConvertToCapped replaces a collection by a capped one with the newest documents
// that fit. Its indexes but the one on _id are gone, as in MongoDB.
func (c *Catalog) ConvertToCapped(ctx context.Context, ns Namespace, size int64) (*oplog.Future, error) {
	if err := ValidateNamespace(ns); err != nil {
		return nil, err
	}
	d, err := c.beginDDL(ctx)
	if err != nil {
		return nil, err
	}
	defer d.end()
	v := c.Pin()
	src := v.Lookup(ns)
	switch {
	case v.View(ns) != nil:
		return nil, mongoerr.New(mongoerr.CommandNotSupportedOnView, "cannot convert a view to a capped collection")
	case src == nil:
		return nil, mongoerr.New(mongoerr.NamespaceNotFound, "source collection %s does not exist", ns)
	case src.Options.Clustered:
		return nil, mongoerr.New(mongoerr.InvalidOptions, "cannot convert the clustered collection %s to a capped one", ns)
	case ns.IsSystem() || ns.IsOplog():
		return nil, mongoerr.New(mongoerr.InvalidNamespace, "cannot convert the system collection %s", ns)
	}
	opts, err := src.Options.with(bson.D("capped", true, "size", size), "max")
	if err != nil {
		return nil, err
	}
	if err := d.lock(src); err != nil {
		return nil, err
	}
	tmp, err := d.copyTo(src, Namespace{ns.DB, c.tempName("convertToCapped", ns.Coll)}, opts, src.DataSize()-opts.Size, nil)
	if err != nil {
		return nil, err
	}
	err = d.unit(func(ch *change) error {
		return d.rename(ch, ch.e.v.ByUUID(tmp.UUID), ns, ch.e.v.ByUUID(src.UUID), false)
	})
	if err != nil {
		return nil, errors.Join(err, d.dropTemp(tmp))
	}
	return d.last, nil
}
