package replay

import (
	"context"
	"sort"
	"strings"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

// catalogWrite reports whether a document write changes the catalog: views are documents.
func catalogWrite(e *entry.Entry) bool { return e.Kind.IsCRUD() && e.Coll == "system.views" }

// ownDocument says why a document of a system collection is the server's own affair.
func ownDocument(e *entry.Entry) string {
	if e.DB != "admin" || e.Coll != "system.version" {
		return ""
	}
	switch e.StringID() {
	case "featureCompatibilityVersion":
		return "featureCompatibilityVersion: the target keeps its own"
	case "shardIdentity", "minOpTimeRecovery":
		return "sharding metadata of the source cluster"
	}
	return ""
}

// apply applies an entry that must be alone, and returns how many operations that were,
// or why it was passed over.
func (r *Replayer) apply(e *entry.Entry) (n int, why string, err error) {
	cs := r.colls
	if err := cs.load(r.ctx, e.DB); err != nil {
		return 0, "", err
	}
	switch {
	case catalogWrite(e):
		return 1, "", r.view(e)
	case e.Kind == entry.Create:
		return r.create(e)
	case e.Kind == entry.DropDatabase:
		return r.dropDatabase(e)
	case e.Kind == entry.RenameCollection:
		return r.rename(e)
	case e.Coll == "system.views":
		if e.Kind == entry.Drop {
			return r.dropViews(e)
		}
		return 0, "system.views: the target keeps its own", nil
	}
	c, err := cs.lookup(r.ctx, e.DB, e.Namespace(), e.UUID)
	if err != nil {
		return 0, "", err
	}
	if c == nil {
		return 0, whyGone, nil
	}
	db, coll, _ := strings.Cut(c.ns, ".")
	switch e.Kind {
	case entry.Drop:
		err = ignore(r.either(db, bson.D("drop", coll), e, c), codeNamespaceNotFound)
		r.dropped(c)
	case entry.CreateIndexes:
		err = r.createIndexes(db, coll, c, e, []bson.Raw{withoutFirst(e.O)})
	case entry.CommitIndexBuild:
		var specs []bson.Raw
		for s := range e.O.Get("indexes").Doc().Values() {
			specs = append(specs, s.Doc())
		}
		err = r.createIndexes(db, coll, c, e, specs)
	case entry.DropIndexes:
		err = ignore(r.either(db, bson.D("dropIndexes", coll, "index", e.O.Get("index")), e, c), codeIndexNotFound, codeNamespaceNotFound)
	case entry.CollMod:
		err = r.collMod(db, coll, c, e)
	case entry.ConvertToCapped:
		if err = ignore(r.run(db, bson.D("convertToCapped", coll, "size", e.O.Get("size"))), codeNamespaceNotFound); err == nil {
			err = r.reload(db, c)
		}
	case entry.EmptyCapped:
		err = r.run(db, bson.D("delete", coll, "deletes", bson.A(bson.D("q", bson.Empty, "limit", 0))))
	default:
		err = &RefusedError{"there is no way to replay the command " + e.Kind.String()}
	}
	return 1, "", err
}

func ignore(err error, codes ...int) error {
	for _, c := range codes {
		if isCode(err, c) {
			return nil
		}
	}
	return err
}

// run runs a command of the target's.
func (r *Replayer) run(db string, cmd bson.Raw) error {
	_, err := r.target.write(r.ctx, db, cmd)
	return err
}

// either does a command: into a Cairn as the entry, which it replays over newer data by
// the rules of its log; into a MongoDB as the command cmd.
func (r *Replayer) either(db string, cmd bson.Raw, e *entry.Entry, c *collection) error {
	if r.target.cairn {
		return r.entryOf(db, e, c, e.O)
	}
	return r.run(db, cmd)
}

// entryOf sends a command entry with the target's names.
func (r *Replayer) entryOf(db string, e *entry.Entry, c *collection, o bson.Raw) error {
	b := bson.NewBuilder(nil)
	b.Str("op", "c").Str("ns", db+".$cmd")
	if c != nil && c.sendUUID {
		b.UUID("ui", c.uuid)
	}
	if c != nil {
		_, coll, _ := strings.Cut(c.ns, ".")
		o = withFirst(o, coll)
	}
	b.AppendDoc("o", o)
	if e.O2 != nil && e.Kind == entry.DropIndexes {
		b.AppendDoc("o2", e.O2)
	}
	_, err := r.target.applyOps(r.ctx, b.Finish())
	return err
}

// withFirst is d with another text in its first field.
func withFirst(d bson.Raw, text string) bson.Raw {
	name, v := d.First()
	if v.Str() == text {
		return d
	}
	return bson.NewBuilder(nil).Str(name, text).AppendElems(withoutFirst(d)).Finish()
}

// withoutFirst is d but for its first field.
func withoutFirst(d bson.Raw) bson.Raw { return without(d, 1) }

// without is d but for its first skip fields and those of names.
func without(d bson.Raw, skip int, names ...string) bson.Raw {
	b := bson.NewBuilder(nil)
	i := 0
next:
	for k, v := range d.Elems() {
		i++
		if i <= skip {
			continue
		}
		for _, n := range names {
			if n == k {
				continue next
			}
		}
		b.Append(k, v)
	}
	return b.Finish()
}

// create creates a collection or view, unless it is there.
func (r *Replayer) create(e *entry.Entry) (int, string, error) {
	cs := r.colls
	ns := e.Namespace()
	if c, err := cs.lookup(r.ctx, e.DB, ns, e.UUID); err != nil || c != nil {
		return 0, "created before", err
	}
	if c := cs.byName[ns]; c != nil {
		if cs.o.PreserveUUID || c.view || derived(c.uuid) || (c.source != bson.UUID{} && e.HasUUID()) {
			return 0, whyNewer, nil
		}
		// Somebody else's, of the same name: the entries go there, as by the original.
		cs.adopt(c, e.UUID)
		return 0, "created before", nil
	}
	delete(cs.o.dropped, e.UUID)
	uuid := e.UUID
	if e.HasUUID() && (!cs.o.PreserveUUID || cs.o.Foreign[e.UUID]) {
		uuid = cs.derive(e.UUID, e.DB)
	}
	o := without(e.O, 0, "recordIdsReplicated")
	if id := o.Get("idIndex"); !r.target.cairn && id.Type == bson.TypeDocument && id.Doc().Has("ns") {
		b := bson.NewBuilder(nil)
		for k, v := range o.Elems() {
			if k == "idIndex" {
				b.AppendDoc(k, without(v.Doc(), 0, "ns"))
			} else {
				b.Append(k, v)
			}
		}
		o = b.Finish()
	}
	send := uuid
	if !r.target.cairn && !cs.o.PreserveUUID && cs.o.Copy == "" {
		send = bson.UUID{}
	}
	if r.target.cairn && (uuid == bson.UUID{}) && !o.Has("viewOn") {
		uuid = bson.NewUUID()
		send = uuid
	}
	if err := r.target.create(r.ctx, e.DB, o, send); err != nil {
		return 0, "", err
	}
	c := cs.put(strings.Clone(ns), uuid)
	c.view = o.Has("viewOn")
	loc := o.Get("collation").Doc().Get("locale").Str()
	c.capped = o.Get("capped").Truthy()
	c.oneBucket = c.oneBucket || c.capped || (loc != "" && loc != "simple")
	if c.view {
		c.uuid, c.sendUUID = bson.UUID{}, false
	}
	cs.adopt(c, e.UUID)
	return 1, "", nil
}

// create applies a create entry.
func (t *target) create(ctx context.Context, db string, o bson.Raw, uuid bson.UUID) error {
	b := bson.NewBuilder(nil)
	b.Str("op", "c").Str("ns", db+".$cmd")
	if uuid != (bson.UUID{}) && !o.Has("viewOn") {
		b.UUID("ui", uuid)
	}
	b.AppendDoc("o", o)
	_, err := t.applyOps(ctx, b.Finish())
	return err
}

// dropped notes that a collection is gone.
func (r *Replayer) dropped(c *collection) {
	if c.source != (bson.UUID{}) {
		if r.o.dropped == nil {
			r.o.dropped = map[bson.UUID]struct{}{}
		}
		r.o.dropped[c.source] = struct{}{}
	}
	r.colls.remove(c)
}

// reload takes a collection's new UUID.
func (r *Replayer) reload(db string, c *collection) error {
	src := c.source
	r.colls.remove(c)
	infos, err := r.target.list(r.ctx, db)
	for _, i := range infos {
		if db+"."+i.name == c.ns {
			n := r.colls.put(c.ns, i.uuid)
			n.oneBucket, n.capped = n.oneBucket || i.ordered, i.capped
			r.colls.adopt(n, src)
		}
	}
	return err
}

// dropDatabase drops what is left of a database: what of it the rules keep.
func (r *Replayer) dropDatabase(e *entry.Entry) (int, string, error) {
	cs := r.colls
	if !e.Partial {
		if r.target.cairn {
			return r.dropAll(e, nil)
		}
		for _, c := range cs.byName {
			if db, _, _ := strings.Cut(c.ns, "."); db == e.DB {
				r.dropped(c)
			}
		}
		return 1, "", r.run(e.DB, bson.D("dropDatabase", 1))
	}
	// What came from that database may be called anything now.
	names, err := r.target.databases(r.ctx)
	if err != nil {
		return 0, "", err
	}
	for _, db := range names {
		if err := cs.load(r.ctx, db); err != nil {
			return 0, "", err
		}
	}
	return r.dropAll(e, func(ns string) bool { return r.cameFrom(ns, e.DB) })
}

// cameFrom reports whether the rules make ns of a collection of db.
func (r *Replayer) cameFrom(ns, db string) bool {
	from, _ := r.o.Rules.Sources(ns) // what cannot be told was dropped by its own entry
	for _, s := range from {
		if sdb, _, _ := strings.Cut(s, "."); sdb == db {
			return true
		}
	}
	return false
}

// dropAll drops collections and views, of e's database if there is no filter.
func (r *Replayer) dropAll(e *entry.Entry, filter func(ns string) bool) (n int, why string, err error) {
	var victims []*collection
	for ns, c := range r.colls.byName {
		db, coll, _ := strings.Cut(ns, ".")
		if filter == nil && db != e.DB || filter != nil && !filter(ns) || coll == "system.views" {
			continue
		}
		victims = append(victims, c)
	}
	for _, c := range victims {
		db, coll, _ := strings.Cut(c.ns, ".")
		if err := ignore(r.run(db, bson.D("drop", coll)), codeNamespaceNotFound); err != nil {
			return n, "", err
		}
		r.dropped(c)
		n++
	}
	if filter == nil {
		v, _, err := r.dropViews(e)
		if err != nil {
			return n, "", err
		}
		n += v
	}
	if n == 0 {
		return 0, "dropDatabase: its collections are dropped already", nil
	}
	return n, "", nil
}

// dropViews drops the views of a database.
func (r *Replayer) dropViews(e *entry.Entry) (n int, why string, err error) {
	cs := r.colls
	keep := func(ns string) bool { db, _, _ := strings.Cut(ns, "."); return db == e.DB }
	if e.Partial {
		names, err := r.target.databases(r.ctx)
		if err != nil {
			return 0, "", err
		}
		for _, db := range names {
			if err := cs.load(r.ctx, db); err != nil {
				return 0, "", err
			}
		}
		keep = func(ns string) bool { return r.cameFrom(ns, e.DB) }
	}
	var views []*collection
	for ns, c := range cs.byName {
		_, coll, _ := strings.Cut(ns, ".")
		if (c.view || coll == "system.views" && !e.Partial) && keep(ns) {
			views = append(views, c)
		}
	}
	// The views before their collection.
	sort.Slice(views, func(i, j int) bool { return views[i].view && !views[j].view })
	for _, c := range views {
		db, coll, _ := strings.Cut(c.ns, ".")
		if !c.view && r.target.cairn {
			if err := r.entryOf(db, &entry.Entry{Kind: entry.Drop}, c, bson.D("drop", coll)); err != nil {
				return n, "", err
			}
			cs.remove(c)
			continue
		}
		if err := ignore(r.run(db, bson.D("drop", coll)), codeNamespaceNotFound); err != nil {
			return n, "", err
		}
		cs.remove(c)
		n++
	}
	if n == 0 {
		return 0, "no view is left to drop", nil
	}
	return n, "", nil
}

func (t *target) databases(ctx context.Context) ([]string, error) {
	return t.client.ListDatabaseNames(ctx, raw(bson.Empty))
}

// view applies a write to system.views.
func (r *Replayer) view(e *entry.Entry) error {
	cs := r.colls
	ns := e.StringID()
	if cs.byName[e.DB+".system.views"] == nil && e.Kind == entry.Insert {
		if err := r.target.create(r.ctx, e.DB, bson.D("create", "system.views"), bson.UUID{}); err != nil && !isCode(err, codeNamespaceExists) {
			return err
		}
		cs.put(e.DB+".system.views", bson.UUID{})
	}
	b := bson.NewBuilder(nil)
	b.Str("op", e.Kind.String()).Str("ns", e.NS).AppendDoc("o", e.O)
	if e.O2 != nil {
		b.AppendDoc("o2", e.O2)
	}
	if _, err := r.target.applyOps(r.ctx, b.Finish()); err != nil {
		return err
	}
	switch c := cs.byName[ns]; {
	case e.Kind == entry.Delete && c != nil && c.view:
		cs.remove(c)
	case e.Kind == entry.Insert && c == nil:
		cs.put(strings.Clone(ns), bson.UUID{}).view = true
	}
	return nil
}

// rename renames a collection, unless something newer has the name.
func (r *Replayer) rename(e *entry.Entry) (int, string, error) {
	cs := r.colls
	to := e.RenameTarget()
	tdb, _, _ := strings.Cut(to, ".")
	if err := cs.load(r.ctx, tdb); err != nil {
		return 0, "", err
	}
	src, err := cs.lookup(r.ctx, e.DB, e.Namespace(), e.UUID)
	if err != nil {
		return 0, "", err
	}
	there := cs.byName[to]
	victim, byUUID, err := r.renameVictim(e, to)
	if err != nil {
		return 0, "", err
	}
	if victim != nil && victim != src && (src == nil || src.ns == to || victim.ns != to) {
		// What this rename dropped is gone from here on, whatever its name.
		db, coll, _ := strings.Cut(victim.ns, ".")
		if err := ignore(r.run(db, bson.D("drop", coll)), codeNamespaceNotFound); err != nil {
			return 0, "", err
		}
		r.dropped(victim)
		if there == victim {
			there = nil
		}
		victim = nil
	}
	switch {
	case src == nil:
		return 0, whyGone, nil
	case src.ns == to:
		return 0, "renamed before", nil
	case there != nil && there != victim && (byUUID || there.view || !e.O.Get("dropTarget").Truthy()):
		return 0, whyNewer, nil
	}
	if err := r.doRename(e, src, there, to); err != nil {
		return 0, "", err
	}
	if there != nil {
		r.dropped(there)
	}
	cs.rename(src, to)
	return 1, "", nil
}

// renameVictim is the collection that the rename dropped.
func (r *Replayer) renameVictim(e *entry.Entry, to string) (c *collection, byUUID bool, err error) {
	u, byUUID := e.O.Get("dropTarget").UUID()
	if !byUUID {
		return nil, false, nil
	}
	tdb, _, _ := strings.Cut(to, ".")
	c, err = r.colls.lookup(r.ctx, tdb, to, u)
	return c, true, err
}

// doRename renames src to to, where there is what is dropped for it, or nothing.
func (r *Replayer) doRename(e *entry.Entry, src, there *collection, to string) error {
	if !r.target.cairn {
		return r.run("admin", bson.D("renameCollection", src.ns, "to", to, "dropTarget", there != nil))
	}
	db, _, _ := strings.Cut(src.ns, ".")
	o := bson.NewBuilder(nil)
	o.Str("renameCollection", src.ns).Str("to", to)
	if v := e.O.Get("stayTemp"); !v.IsMissing() {
		o.Bool("stayTemp", v.Truthy())
	}
	if there != nil {
		if there.sendUUID {
			o.UUID("dropTarget", there.uuid)
		} else {
			o.Bool("dropTarget", true)
		}
	}
	b := bson.NewBuilder(nil)
	b.Str("op", "c").Str("ns", db+".$cmd")
	if src.sendUUID {
		b.UUID("ui", src.uuid)
	}
	b.AppendDoc("o", o.Finish())
	_, err := r.target.applyOps(r.ctx, b.Finish())
	return err
}

// createIndexes builds indexes, unless others of their names or keys are there.
func (r *Replayer) createIndexes(db, coll string, c *collection, e *entry.Entry, specs []bson.Raw) error {
	if r.target.cairn {
		err := r.entryOf(db, e, c, e.O)
		if doubled(err) {
			// Built, over data in which a key is there twice for now.
			r.unique[c.ns] = true
			return nil
		}
		return err
	}
	for _, s := range specs {
		cmd := bson.D("createIndexes", coll, "indexes", bson.A(without(s, 0, "ns", "background")))
		if err := ignore(r.run(db, cmd), codeIndexOptions, codeIndexSpecs); err != nil {
			return err
		}
	}
	return nil
}

// collMod changes a collection's options.
func (r *Replayer) collMod(db, coll string, c *collection, e *entry.Entry) error {
	mods := without(e.O, 1, "noPadding", "usePowerOf2Sizes", "recordIdsReplicated")
	if mods.IsEmpty() {
		return nil
	}
	cmd := bson.NewBuilder(nil).Str("collMod", coll).AppendElems(mods).Finish()
	if r.target.cairn {
		return r.entryOf(db, e, c, cmd)
	}
	return ignore(r.run(db, cmd), codeIndexNotFound)
}
