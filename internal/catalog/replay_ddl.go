package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// command applies a c entry other than applyOps. What it names and says stays in the
// catalog, longer than the request that it came in.
func (r *Replay) command(ctx context.Context, e *oplog.Entry) error {
	own := *e
	own.NS, own.O, own.O2 = strings.Clone(e.NS), e.O.Clone(), e.O2.Clone()
	e = &own
	name, arg := e.O.First()
	db, _, ok := cutNS(e.NS)
	if !ok {
		return mongoerr.New(mongoerr.InvalidNamespace, "Invalid namespace specified '%s'", e.NS)
	}
	ns := Namespace{db, arg.Str()}
	switch name {
	case "create":
		return r.create(ctx, ns, e)
	case "drop":
		return r.ddl(ctx, func(d *ddl, ch *change) error {
			c := target(ch.e.v, ns, e)
			if c == nil {
				return errNothing
			}
			return d.drop(ch, c)
		})
	case "renameCollection":
		return r.rename(ctx, e)
	case "collMod":
		return r.collMod(ctx, ns, e)
	case "createIndexes":
		return r.createIndexes(ctx, ns, e, []bson.Raw{withoutFirst(e.O)})
	case "commitIndexBuild":
		var specs []bson.Raw
		for v := range e.O.Get("indexes").Doc().Values() {
			specs = append(specs, v.Doc())
		}
		return r.createIndexes(ctx, ns, e, specs)
	case "dropIndexes", "deleteIndexes", "dropIndex", "deleteIndex":
		return r.dropIndex(ctx, ns, e)
	case "dropDatabase":
		return r.dropDatabase(ctx, db, e)
	case "startIndexBuild", "abortIndexBuild":
		return nil // the commit of a build builds
	}
	return mongoerr.New(mongoerr.OplogOperationUnsupported, "the oplog command '%s' is not supported", name)
}

// dropDatabase drops what there is of a database, unless the entry is one of this server's own
// log: its collections were dropped by entries before it, and what is there now is newer.
func (r *Replay) dropDatabase(ctx context.Context, db string, e *oplog.Entry) error {
	own, err := r.cat.logged(e)
	if own || err != nil {
		return err
	}
	f, err := r.cat.DropDatabase(ctx, db)
	if f != nil {
		r.last = f
	}
	return err
}

// logged reports whether e stands in this server's log.
func (c *Catalog) logged(e *oplog.Entry) (bool, error) {
	if c.log == nil || e.OpTime.TS == 0 {
		return false, nil
	}
	have, err := c.log.Find(e.OpTime.TS)
	if errors.Is(err, storage.ErrNotFound) || IsPositionLost(err) {
		return false, nil
	}
	return err == nil && have.Get("ns").Str() == e.NS && bson.CompareDocs(have.Get("o").Doc(), e.O) == 0, err
}

// target is the collection of a c entry, nil if it is unknown or dropped.
func target(v *Version, ns Namespace, e *oplog.Entry) *Collection {
	if e.HasUUID() {
		return v.ByUUID(e.UUID)
	}
	return v.Lookup(ns)
}

func (r *Replay) create(ctx context.Context, ns Namespace, e *oplog.Entry) error {
	opts, err := ParseCollectionOptions(withoutFirst(e.O))
	if err != nil {
		return err
	}
	if opts.Timeseries != nil && !ns.IsBuckets() { // no entry of MongoDB's, but a command of its tools
		f, err := r.cat.createTimeseries(ctx, ns, opts, e.UUID)
		if err == nil && f != nil {
			r.last = f
		}
		if errors.Is(err, errNothing) {
			err = nil
		}
		return err
	}
	if err := checkBuckets(ns, opts); err != nil {
		return err
	}
	if err := opts.checkReplicated(ns); err != nil {
		return err
	}
	return r.ddl(ctx, func(d *ddl, ch *change) error {
		if v := ch.e.v; v.Exists(ns) || (e.HasUUID() && v.ByUUID(e.UUID) != nil) {
			return errNothing
		}
		if other, ok := ch.e.v.differsInCase(ns.DB); ok {
			return differentCase(ns.DB, other)
		}
		if opts.ViewOn != "" {
			return ch.createView(ctx, ns, opts)
		}
		_, err := ch.createLogged(ns, e.UUID, opts)
		return err
	})
}

func (r *Replay) rename(ctx context.Context, e *oplog.Entry) error {
	from, ok1 := ParseNamespace(e.O.Get("renameCollection").Str())
	to, ok2 := ParseNamespace(e.O.Get("to").Str())
	if !ok1 || !ok2 || from.DB != to.DB {
		return fmt.Errorf("%w: %s", oplog.ErrEntry, e.O)
	}
	return r.ddl(ctx, func(d *ddl, ch *change) error {
		// The collection that this rename dropped is gone from here on, whatever its name.
		dropped := false
		u, byUUID := e.O.Get("dropTarget").UUID()
		if t := ch.e.v.ByUUID(u); byUUID && t != nil && t.NS != to {
			if err := d.drop(ch, t); err != nil {
				return err
			}
			dropped = true
		}
		src, t := target(ch.e.v, from, e), ch.e.v.Lookup(to)
		mayDrop := t != nil && (byUUID && u == t.UUID || !byUUID && e.O.Get("dropTarget").Truthy())
		switch {
		case src != nil && src.NS != to && src.NS.DB == to.DB && ch.e.v.View(to) == nil && (t == nil || mayDrop):
			return d.rename(ch, src, to, t, e.O.Get("stayTemp").Truthy())
		case byUUID && mayDrop && t != src:
			return d.drop(ch, t)
		case !dropped:
			return errNothing // done already, or something newer has that name
		}
		return nil
	})
}

func (r *Replay) collMod(ctx context.Context, ns Namespace, e *oplog.Entry) error {
	mods := withoutFirst(e.O)
	m, err := parseCollMod(mods)
	if err != nil {
		return err
	}
	return r.ddl(ctx, func(d *ddl, ch *change) error {
		if v := ch.e.v.View(ns); v != nil && !e.HasUUID() {
			return ch.modView(ctx, v, m)
		}
		c := target(ch.e.v, ns, e)
		if c == nil {
			return errNothing
		}
		if err := d.lock(c); err != nil {
			return err
		}
		_, old, err := ch.collMod(context.Background(), c, m)
		if mongoerr.Is(err, mongoerr.IndexNotFound) {
			return errNothing
		}
		if err != nil {
			return err
		}
		o := bson.NewBuilder(nil).Str("collMod", c.NS.Coll).AppendElems(mods).Finish()
		return ch.log(c, c.NS, c.UUID, o, old)
	})
}

// createIndexes builds what is not there. An index of the same name or keys that
// stands in the way is newer.
func (r *Replay) createIndexes(ctx context.Context, ns Namespace, e *oplog.Entry, specs []bson.Raw) error {
	for _, s := range specs {
		c := target(r.cat.Pin(), ns, e)
		if c == nil {
			return nil
		}
		res, err := r.cat.createIndexes(ctx, c.NS, []bson.Raw{s}, r.relaxed(c))
		switch {
		case mongoerr.Is(err, mongoerr.IndexKeySpecsConflict), mongoerr.Is(err, mongoerr.IndexOptionsConflict):
			continue
		case err != nil:
			return err
		}
		if res.Future != nil {
			r.last = res.Future
		}
	}
	return nil
}

func (r *Replay) dropIndex(ctx context.Context, ns Namespace, e *oplog.Entry) error {
	name := e.O.Get("index").Str()
	return r.ddl(ctx, func(d *ddl, ch *change) error {
		c := target(ch.e.v, ns, e)
		if c == nil {
			return errNothing
		}
		ix := c.Index(name)
		if ix == nil || ix.Spec.IsID() || ix.build != nil {
			return errNothing
		}
		if e.O2 != nil {
			was, err := ParseIndexSpec(e.O2)
			if err != nil {
				return err
			}
			if !was.sameSignature(ix.Spec) {
				return errNothing // dropped long ago, this one is newer
			}
		}
		if err := d.lock(c); err != nil {
			return err
		}
		_, err := ch.dropIndexLogged(c, ix)
		return err
	})
}

// evictAll evicts until a capped collection is within its limits.
func (c *Collection) evictAll(ctx context.Context, w *oplog.WriteUnit) (n int, err error) {
	if err := w.RU.Lock(ctx, c.store.AppendPrefix(nil)); err != nil {
		return 0, err
	}
	if st := &c.shared.capped; st.unit != w.RU {
		st.unit, st.pending = w.RU, delta{}
	}
	victims, err := c.lockVictims(ctx, w, delta{})
	if err != nil {
		return 0, err
	}
	s := getScratch()
	defer s.put()
	for i, v := range victims {
		if err := s.addDoc(c, v.doc, -1-i, true); err != nil {
			return 0, err
		}
	}
	if err := s.lockUnique(ctx, w.RU); err != nil {
		return 0, err
	}
	for i := range s.ops {
		s.perform(w.RU, &s.ops[i], victims[-1-s.ops[i].doc].id)
	}
	for _, v := range victims {
		if err := c.evicted(w, v, nil); err != nil {
			return 0, err
		}
	}
	return len(victims), nil
}
