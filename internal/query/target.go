package query

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query/exec"
	"github.com/cairndb/cairn/internal/query/plan"
)

// target is what a namespace stands for in the version of the catalog that the
// operation sees. coll and view are both nil if it does not exist.
type target struct {
	ns      Namespace
	coll    *catalog.Collection
	view    *catalog.View
	x       *exec.Collection
	indexes []*plan.Index
	cache   *plan.Cache
	version uint64
	past    bool // of the catalog of a view
}

// resolve looks a namespace up in the present catalog.
func (l *Local) resolve(ns Namespace) *target { return l.resolveAt(nil, ns) }

// resolveAt looks a namespace up in the catalog of a view, nil for the present one.
func (l *Local) resolveAt(at *view, ns Namespace) *target {
	v := at.version(l)
	t := &target{ns: ns, coll: v.Lookup(ns), past: at != nil && at.past != nil}
	if ns.IsOplog() {
		t.coll = l.cat.Oplog()
	}
	if t.coll == nil {
		t.view = v.View(ns)
		return t
	}
	l.prepare(t)
	return t
}

// resolveFind is resolve for a request that may name a collection by UUID.
func (l *Local) resolveFind(at *view, ns *Namespace, id *bson.UUID) (*target, error) {
	if id == nil {
		return l.resolveAt(at, *ns), nil
	}
	coll := at.version(l).ByUUID(*id)
	if coll == nil || coll.NS.DB != ns.DB {
		return nil, mongoerr.New(mongoerr.NamespaceNotFound, "Unable to resolve UUID %s in database %s", *id, ns.DB)
	}
	ns.Coll = coll.NS.Coll
	t := &target{ns: *ns, coll: coll, past: at != nil && at.past != nil}
	l.prepare(t)
	return t, nil
}

// CheckUUID compares the collection of a namespace with the collectionUUID that a command
// came with; nil is none. coll is what the namespace was resolved to, nil without a
// collection.
func CheckUUID(v *catalog.Version, ns Namespace, coll *catalog.Collection, want *bson.UUID) error {
	if want == nil || coll != nil && coll.UUID == *want {
		return nil
	}
	extra := bson.NewBuilder(nil).Str("db", ns.DB).UUID("collectionUUID", *want).Str("expectedCollection", ns.Coll)
	if actual := v.ByUUID(*want); actual != nil && actual.NS.DB == ns.DB {
		extra.Str("actualCollection", actual.NS.Coll)
	} else {
		extra.Null("actualCollection")
	}
	return mongoerr.New(mongoerr.CollectionUUIDMismatch, "Collection UUID does not match that specified").WithExtra(extra.Finish())
}

// prepare fills in what plans need, made once for each version of a collection.
func (l *Local) prepare(t *target) {
	if t.past && l.cat.Pin().ByUUID(t.coll.UUID) != t.coll && !t.coll.IsOplog() {
		t.indexes, t.cache, t.version, t.x = l.planPast(t.coll)
		return
	}
	l.plans.RLock()
	p := l.plans.byUUID[t.coll.UUID]
	l.plans.RUnlock()
	if p == nil || p.coll != t.coll || p.staleMultikey() {
		p = l.plan(t.coll, p)
	}
	t.indexes, t.cache, t.version, t.x = p.indexes, p.cache, p.version, p.x
}

// plan describes a collection's indexes to the planner.
func (l *Local) plan(c *catalog.Collection, old *planned) *planned {
	p := &planned{coll: c, cache: &plan.Cache{}}
	p.x = &exec.Collection{NS: c.NS.String(), Records: c, Capped: c.IsCapped(), Check: l.checker(c)}
	if old != nil {
		p.cache, p.version = old.cache, old.version+1
	}
	for _, ix := range c.Indexes() {
		p.indexes = append(p.indexes, l.describe(c, ix))
	}
	l.plans.Lock()
	l.plans.byUUID[c.UUID] = p
	if len(l.plans.byUUID) > 2*maxPlanned {
		for u, q := range l.plans.byUUID {
			if q.coll.Dropped() {
				delete(l.plans.byUUID, u)
			}
		}
	}
	l.plans.Unlock()
	return p
}

// planPast describes a collection as it was. What became of it since, and of its indexes, is
// nothing to those who read it at that time.
func (l *Local) planPast(c *catalog.Collection) ([]*plan.Index, *plan.Cache, uint64, *exec.Collection) {
	var indexes []*plan.Index
	for _, ix := range c.Indexes() {
		d := l.describe(c, ix)
		d.Ref.(*exec.Index).Dropped = func() bool { return false }
		indexes = append(indexes, d)
	}
	x := &exec.Collection{NS: c.NS.String(), Records: c, Capped: c.IsCapped(), Check: func() error { return nil }}
	return indexes, &plan.Cache{}, 0, x
}

// maxPlanned is how many collections are described before dropped ones are looked for.
const maxPlanned = 1000

// staleMultikey reports whether an index became multikey since it was described.
func (p *planned) staleMultikey() bool {
	for _, ix := range p.indexes {
		if !ix.Multikey && ix.Ref.(*exec.Index).Multikey() {
			return true
		}
	}
	return false
}

func (l *Local) describe(c *catalog.Collection, ix *catalog.Index) *plan.Index {
	name, uuid := ix.Spec.Name, c.UUID
	out := &plan.Index{
		Name: name, KeyPattern: ix.Spec.Key, Parts: plan.ParseKeyPattern(ix.Spec.Key),
		Unique: ix.Spec.Unique, Sparse: ix.Spec.Sparse, Hidden: ix.Spec.Hidden, IsID: ix == c.IDIndex(),
		Collation: ix.Spec.Collation,
		Multikey:  ix.Multikey(),
		Ref: &exec.Index{Store: ix.Store, Ordering: ix.Ordering(), Multikey: ix.Multikey, Dropped: func() bool {
			now := l.cat.Pin().ByUUID(uuid)
			return now == nil || now.Index(name) == nil
		}},
	}
	if ix.Spec.Kept() {
		if out.Special = ix.Spec.Kind; out.Special == "" {
			out.Special = "collated"
		}
	}
	if f := ix.PartialFilter(); f != nil {
		out.Partial = f.Root()
	}
	if out.Multikey {
		out.MultikeyPaths = ix.MultikeyPaths()
	}
	return out
}

// checker tells an execution whether its collection is still there.
func (l *Local) checker(c *catalog.Collection) func() error {
	return func() error { return l.gone(c) }
}

// gone is the end of plans over a collection that was dropped or has another name by
// now, nil while it is where it was.
func (l *Local) gone(c *catalog.Collection) error {
	now := l.cat.Pin().ByUUID(c.UUID)
	switch {
	case c.Dropped():
		return mongoerr.New(mongoerr.QueryPlanKilled, "collection dropped. UUID %s", c.UUID)
	case now != nil && now.NS != c.NS: // the log's collection has no place in the catalog
		return mongoerr.New(mongoerr.QueryPlanKilled, "collection renamed from '%s' to '%s'. UUID %s", c.NS, now.NS, c.UUID)
	}
	return nil
}

// idIndex is the description of the index on _id, nil if there is none.
func (t *target) idIndex() *plan.Index {
	if len(t.indexes) == 0 || !t.indexes[0].IsID {
		return nil
	}
	return t.indexes[0]
}

// hint resolves a hint: an index, or $natural as 1 or -1.
func (t *target) hint(v bson.Value) (*plan.Index, int, error) {
	switch v.Type {
	case bson.TypeMissing:
		return nil, 0, nil
	case bson.TypeString:
		name := v.Str()
		if t.coll != nil && name == t.coll.ClusteredName() {
			name = t.coll.IDIndex().Spec.Name
		}
		for _, ix := range t.indexes {
			if ix.Name == name && !ix.Hidden && ix.Special == "" {
				return ix, 0, nil
			}
		}
	case bson.TypeDocument:
		d := v.Doc()
		if d.IsEmpty() {
			return nil, 0, nil
		}
		if n := d.Get("$natural"); !n.IsMissing() {
			f, ok := n.AsFloat64()
			if !ok || d.Len() != 1 || (f != 1 && f != -1) {
				return nil, 0, mongoerr.New(mongoerr.BadValue, "$natural hint must be 1 or -1")
			}
			return nil, int(f), nil
		}
		for _, ix := range t.indexes {
			if bson.CompareDocs(ix.KeyPattern, d) == 0 && !ix.Hidden && ix.Special == "" {
				return ix, 0, nil
			}
		}
	default:
		return nil, 0, mongoerr.New(mongoerr.FailedToParse, "Hint must be a string or an object")
	}
	return nil, 0, mongoerr.New(mongoerr.BadValue, "error processing query: ns=%s planner returned error :: caused by :: hint provided does not correspond to an existing index", t.ns)
}
