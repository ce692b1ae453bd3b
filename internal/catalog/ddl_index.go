package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// CreateIndexesResult is what createIndexes replies.
type CreateIndexesResult struct {
	CreatedCollection bool
	Before, After     int
	AllExist          bool // the note "all indexes already exist"
	// Kept are the names of new indexes of kinds that have no engine: listed, never used.
	Kept   []string
	Future *oplog.Future
}

// CreateIndexes builds indexes on a collection, which is made if it does not exist. It
// returns when they are ready. If ctx ends first the build is undone.
func (c *Catalog) CreateIndexes(ctx context.Context, ns Namespace, specs []bson.Raw) (*CreateIndexesResult, error) {
	if err := ValidateWritable(ns); err != nil {
		return nil, err
	}
	if coll := c.Pin().Timeseries(ns); coll != nil {
		ns = coll.NS
		buckets := make([]bson.Raw, len(specs))
		for i := range specs {
			var err error
			if buckets[i], err = coll.Options.Timeseries.BucketIndex(specs[i]); err != nil {
				return nil, err
			}
		}
		specs = buckets
	}
	return c.createIndexes(ctx, ns, specs, nil)
}

// createIndexes is CreateIndexes. With lenient, which gets the keys that break a unique index, specs
// are those of a log: what names no collation has none.
func (c *Catalog) createIndexes(ctx context.Context, ns Namespace, specs []bson.Raw, lenient func(*Index, []byte)) (*CreateIndexesResult, error) {
	if len(specs) == 0 {
		return nil, mongoerr.New(mongoerr.BadValue, "Must specify at least one index to create")
	}
	parsed := make([]*IndexSpec, len(specs))
	for i, s := range specs {
		var err error
		if parsed[i], err = ParseIndexSpec(s); err != nil {
			return nil, err
		}
		parsed[i].collated = parsed[i].collated || (lenient != nil && !parsed[i].IsID())
	}
	res := &CreateIndexesResult{}
	for {
		wait, err := c.tryCreateIndexes(ctx, ns, parsed, res, lenient)
		if err != nil || wait == nil {
			return res, err
		}
		// One of them is being built by someone else already: what comes of it is ours.
		if err := wait.wait(ctx); err != nil && ctx.Err() != nil {
			return res, err
		}
	}
}

// tryCreateIndexes does it, or returns a build of the same index to wait for.
func (c *Catalog) tryCreateIndexes(ctx context.Context, ns Namespace, specs []*IndexSpec, res *CreateIndexesResult, lenient func(*Index, []byte)) (*buildState, error) {
	d, err := c.beginDDL(ctx)
	if err != nil {
		return nil, err
	}
	build, wait, err := c.planIndexes(d, ns, specs, res, lenient != nil)
	d.end()
	if err != nil || wait != nil {
		return wait, err
	}
	if build != nil {
		build.lenient = lenient
		c.startBuild(build)
		err := build.wait(ctx)
		if err != nil && ctx.Err() != nil {
			build.cancel(err)
			err = build.wait(context.WithoutCancel(ctx))
		}
		if err != nil {
			return nil, err
		}
		res.Future = build.future
	}
	if coll := c.Pin().Lookup(ns); coll != nil {
		res.After = coll.shown(len(coll.Indexes()))
	}
	return nil, nil
}

// planIndexes finds out what is to be built. Indexes of an empty collection are made
// here, and those of a small one unless the build is to be lenient; otherwise the build is
// registered.
func (c *Catalog) planIndexes(d *ddl, ns Namespace, specs []*IndexSpec, res *CreateIndexesResult, lenient bool) (build, wait *buildState, err error) {
	v := c.Pin()
	if v.View(ns) != nil {
		return nil, nil, onView(ns)
	}
	coll := v.Lookup(ns)
	if coll == nil {
		if coll, err = d.createForIndexes(ns, res); err != nil {
			return nil, nil, err
		}
	}
	res.Before = coll.shown(len(coll.Indexes()))
	todo, wait, err := coll.newIndexes(specs)
	switch {
	case err != nil || wait != nil:
		return nil, wait, err
	case len(todo) == 0:
		res.AllExist = true
		return nil, nil, nil
	}
	for _, s := range todo {
		if s.Kept() {
			res.Kept = append(res.Kept, s.Name)
		}
	}
	if err := d.lock(coll); err != nil {
		return nil, nil, err
	}
	if coll.Count() == 0 || !ns.logged() {
		err := d.unit(func(ch *change) error { return ch.createIndexes(coll, todo) })
		res.Future = d.last
		return nil, nil, err
	}
	err = d.unit(func(ch *change) error {
		build, err = ch.startBuild(coll, c.opt.NewUUID(), todo)
		return err
	})
	if err != nil || lenient || coll.Count() > smallCount || coll.DataSize() > smallBytes {
		return build, nil, err
	}
	err = d.buildNow(build)
	res.Future = d.last
	return nil, nil, err
}

// A collection of at most so many documents and bytes has its indexes built at once, while
// its writers wait some milliseconds: a build beside them flushes the engine, which takes longer.
const (
	smallCount = 500
	smallBytes = 1 << 20
)

// buildNow does a build that was just registered inside the unit of its commit, as recovery
// does that meets the commit of one whose tables it has not. The collection is locked, so
// there are no side rows.
func (d *ddl) buildNow(b *buildState) error {
	err := d.unit(func(ch *change) error {
		c := ch.e.v.ByUUID(b.coll)
		o := buildEntry("commitIndexBuild", c, b).Finish()
		if err := ch.fill(c, c.buildIndexes(b), true); err != nil {
			return err
		}
		ch.complete(c, b)
		return ch.log(c, c.NS, c.UUID, o, nil)
	})
	if err == nil {
		b.finish(d.last, nil)
		return nil
	}
	aerr := d.unit(func(ch *change) error {
		_, err := d.abortBuild(ch, ch.e.v.ByUUID(b.coll), b, err)
		return err
	})
	b.finish(nil, err)
	if aerr != nil {
		err = errors.Join(err, aerr)
	}
	return err
}

func (d *ddl) createForIndexes(ns Namespace, res *CreateIndexesResult) (coll *Collection, err error) {
	if err := ValidateCreate(ns); err != nil {
		return nil, err
	}
	opts, err := ParseCollectionOptions(bson.Empty)
	if err == nil {
		err = checkBuckets(ns, opts)
	}
	if err != nil {
		return nil, err
	}
	res.CreatedCollection = true
	err = d.unit(func(ch *change) error {
		if err := ch.mayCreate(ns, opts); err != nil {
			return err
		}
		coll, err = ch.createLogged(ns, bson.UUID{}, opts)
		return err
	})
	return coll, err
}

// newIndexes returns those of specs that do not exist yet, or a build to wait for
// that makes one of them.
func (c *Collection) newIndexes(specs []*IndexSpec) (todo []*IndexSpec, wait *buildState, err error) {
	have := append([]*Index(nil), c.indexes...)
	for _, s := range specs {
		if s.clustered {
			if err := c.clusteredAsked(s); err != nil {
				return nil, nil, err
			}
		}
		s, err := s.inherit(c.Options.Collation)
		if err != nil {
			return nil, nil, err
		}
		if c.ClusteredName() != "" && s.Name == c.ClusteredName() && !s.IsID() {
			return nil, nil, mongoerr.New(mongoerr.IndexKeySpecsConflict, "The name '%s' is that of the clustered index of %s. Requested index: %s", s.Name, c.NS, s.Raw)
		}
		exists, err := c.conflict(have, s)
		if err != nil {
			return nil, nil, err
		}
		if exists != nil {
			if exists.build != nil {
				return nil, exists.build, nil
			}
			continue
		}
		switch {
		case len(have) >= MaxIndexes:
			return nil, nil, cannotCreate("add index fails, too many indexes for %s key:%s", c.NS, s.Key)
		case s.TTL && c.Options.Capped:
			return nil, nil, cannotCreate("Cannot create TTL index on a capped collection")
		case s.Unique && s.Kept():
			return nil, nil, cannotCreate("The unique index %s cannot be kept without its uniqueness: %v", s.Name, s.Collation.Err())
		}
		ix, err := c.cat.newIndex(s, storage.Table{})
		if err != nil {
			return nil, nil, err
		}
		have, todo = append(have, ix), append(todo, s)
	}
	return todo, nil, nil
}

// conflict returns the index of have that is the same as s, or an error if one is in its way.
func (c *Collection) conflict(have []*Index, s *IndexSpec) (*Index, error) {
	for _, ix := range have {
		o := ix.Spec
		if o.Name != s.Name {
			continue
		}
		switch {
		case !o.sameSignature(s):
			return nil, mongoerr.New(mongoerr.IndexKeySpecsConflict, "An existing index has the same name as the requested index. When index names are not specified, they are auto generated and can cause conflicts. Please refer to our documentation. Requested index: %s, existing index: %s",
				s.Raw, o.Raw)
		case !o.equivalent(s):
			return nil, mongoerr.New(mongoerr.IndexOptionsConflict, "An equivalent index already exists with the same name but different options. Requested index: %s, existing index: %s", s.Raw, o.Raw)
		}
		return ix, nil
	}
	for _, ix := range have {
		o := ix.Spec
		if !o.sameSignature(s) {
			continue
		}
		if o.equivalent(s) {
			return nil, mongoerr.New(mongoerr.IndexOptionsConflict, "Index already exists with a different name: %s", o.Name)
		}
		return nil, mongoerr.New(mongoerr.IndexOptionsConflict, "An equivalent index already exists with a different name and options. Requested index: %s, existing index: %s", s.Raw, o.Raw)
	}
	if s.Kind == "text" {
		for _, ix := range have {
			if ix.Spec.Kind == "text" {
				return nil, cannotCreate("only one text index per collection allowed, found existing text index \"%s\"", ix.Spec.Name)
			}
		}
	}
	return nil, nil
}

// createIndexes adds indexes in one unit, filled: for collections that are empty or
// make no entries.
func (ch *change) createIndexes(c *Collection, specs []*IndexSpec) error {
	for _, s := range specs {
		o := bson.NewBuilder(nil).Str("createIndexes", c.NS.Coll).AppendElems(s.Raw).Finish()
		if err := ch.log(c, c.NS, c.UUID, o, nil); err != nil {
			return err
		}
		n, err := ch.addFilledIndex(c, s)
		if err != nil {
			return err
		}
		c = n
	}
	return nil
}

// addFilledIndex adds an index with the entries of all documents.
func (ch *change) addFilledIndex(c *Collection, spec *IndexSpec) (*Collection, error) {
	n, err := ch.addIndex(c, spec, nil)
	if err != nil {
		return nil, err
	}
	return n, ch.fill(n, []*Index{n.Index(spec.Name)}, true)
}

// fill adds the entries of all documents, as the unit sees them, to empty indexes.
func (ch *change) fill(c *Collection, list []*Index, unique bool) (err error) {
	cur := c.store.Cursor(ch.u, storage.Forward)
	defer func() { err = errors.Join(err, cur.Close()) }()
	for cur.Next() {
		doc := bson.Raw(cur.Value())
		for _, ix := range list {
			if err := ch.fillOne(c, ix, cur.RecordID(), doc, unique); err != nil {
				return err
			}
		}
	}
	return cur.Err()
}

func (ch *change) fillOne(c *Collection, ix *Index, id storage.RecordID, doc bson.Raw, unique bool) error {
	s := getScratch()
	defer s.put()
	plain := *ix
	plain.build = nil
	if err := s.addKeys(&plain, doc, 0, false); err != nil {
		return err
	}
	if unique && ix.Spec.Unique { // one that prepares for it may have keys twice
		if err := s.checkUnique(c, ch.u, id, false); err != nil {
			return unwrapDoc(err)
		}
	}
	for i := range s.ops {
		s.perform(ch.u, &s.ops[i], id)
	}
	s.performMultikey(ch.u)
	return nil
}

// DropIndexesResult is what dropIndexes replies.
type DropIndexesResult struct {
	Was    int
	All    bool // everything but the one on _id was asked for
	Future *oplog.Future
}

// DropIndexes removes indexes: which is a name, "*", an array of names, or a key pattern.
// Builds that it names are aborted.
func (c *Catalog) DropIndexes(ctx context.Context, ns Namespace, which bson.Value) (*DropIndexesResult, error) {
	if err := ValidateNamespace(ns); err != nil {
		return nil, err
	}
	if coll := c.Pin().Timeseries(ns); coll != nil {
		ns = coll.NS
		if which.Type == bson.TypeDocument {
			key, _, err := coll.Options.Timeseries.BucketKey(which.Doc())
			if err != nil {
				return nil, err
			}
			which = key.Value()
		}
	}
	res := &DropIndexesResult{}
	f, err := c.runDDL(ctx, func(d *ddl, ch *change) error {
		if ch.e.v.View(ns) != nil {
			return onView(ns)
		}
		coll := ch.e.v.Lookup(ns)
		if coll == nil {
			return mongoerr.New(mongoerr.NamespaceNotFound, "ns not found %s", ns)
		}
		res.Was = coll.shown(len(coll.indexes))
		list, err := coll.chooseIndexes(which)
		if err != nil {
			return err
		}
		res.All = which.Type == bson.TypeString && which.Str() == "*"
		for _, ix := range list {
			if ix.build == nil {
				continue
			}
			cause := mongoerr.New(mongoerr.IndexBuildAborted, "Index build aborted: dropIndexes command")
			if coll, err = d.abortBuild(ch, coll, ix.build, cause); err != nil {
				return err
			}
		}
		if err := d.lock(coll); err != nil {
			return err
		}
		for _, ix := range list {
			if ix.build != nil {
				continue
			}
			if coll, err = ch.dropIndexLogged(coll, ix); err != nil {
				return err
			}
		}
		if len(list) == 0 {
			return errNothing
		}
		return nil
	})
	if errors.Is(err, errNothing) {
		err = nil
	}
	res.Future = f
	return res, err
}

func (ch *change) dropIndexLogged(c *Collection, ix *Index) (*Collection, error) {
	o := bson.D("dropIndexes", c.NS.Coll, "index", ix.Spec.Name)
	if err := ch.log(c, c.NS, c.UUID, o, ix.Spec.Raw); err != nil {
		return nil, err
	}
	return ch.removeIndex(c, ix)
}

// chooseIndexes finds the indexes that dropIndexes names.
func (c *Collection) chooseIndexes(which bson.Value) ([]*Index, error) {
	switch which.Type {
	case bson.TypeString:
		if which.Str() == "*" {
			if c.IDIndex() == nil {
				return c.indexes, nil
			}
			return c.indexes[1:], nil
		}
		ix, err := c.droppable(which.Str())
		return []*Index{ix}, err
	case bson.TypeArray:
		var list []*Index
		for v := range which.Doc().Values() {
			if v.Type != bson.TypeString {
				return nil, mongoerr.New(mongoerr.TypeMismatch, "dropIndexes %s.index must be an array of strings, found an element of type %s", c.NS, v.Type)
			}
			ix, err := c.droppable(v.Str())
			if err != nil {
				return nil, err
			}
			list = append(list, ix)
		}
		return list, nil
	case bson.TypeDocument:
		return c.chooseByKey(which.Doc())
	}
	return nil, mongoerr.New(mongoerr.TypeMismatch, "BSON field 'dropIndexes.index' is the wrong type '%s', expected types '[string, array, object]'", which.Type)
}

func (c *Collection) droppable(name string) (*Index, error) {
	ix := c.Index(name)
	switch {
	case c.ClusteredName() != "" && (name == c.ClusteredName() || name == "_id_"):
		return nil, mongoerr.New(5979800, "It is illegal to drop the clusteredIndex")
	case ix == nil:
		return nil, mongoerr.New(mongoerr.IndexNotFound, "index not found with name [%s]", name)
	case ix.Spec.IsID():
		return nil, mongoerr.New(mongoerr.InvalidOptions, "cannot drop _id index")
	}
	return ix, nil
}

func (c *Collection) chooseByKey(key bson.Raw) ([]*Index, error) {
	var found []*Index
	for _, ix := range c.indexes {
		if keyEqual(ix.Spec.Key, key) {
			found = append(found, ix)
		}
	}
	switch {
	case len(found) == 0:
		return nil, mongoerr.New(mongoerr.IndexNotFound, "can't find index with key: %s", key)
	case len(found) > 1:
		return nil, mongoerr.New(mongoerr.AmbiguousIndexKeyPattern, "%d indexes found for key: %s, identify by name instead. Conflicting indexes: %s", len(found), key, joinSpecs(found))
	case found[0].Spec.IsID() && c.ClusteredName() != "":
		return nil, mongoerr.New(5979800, "It is illegal to drop the clusteredIndex")
	case found[0].Spec.IsID():
		return nil, mongoerr.New(mongoerr.InvalidOptions, "cannot drop _id index")
	}
	return found, nil
}

func joinSpecs(list []*Index) (s string) {
	for i, ix := range list {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprint(ix.Spec.Raw)
	}
	return s
}
