package catalog

import (
	"maps"
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
)

// Version is the catalog at one moment. It does not change.
type Version struct {
	dbs    map[string]*database
	byUUID map[bson.UUID]*Collection
}

// database is the part of a version that one DDL copies.
type database struct {
	colls map[string]*Collection
	views map[string]*View
}

// View is a view: a pipeline over another namespace of its database.
type View struct {
	NS       Namespace
	On       string
	Pipeline bson.Array
	// Collation is nil for the simple one.
	Collation *collate.Collator
}

// Options are the options as listCollections shows them.
func (v *View) Options() bson.Raw {
	b := bson.NewBuilder(nil).Str("viewOn", v.On).AppendArray("pipeline", v.Pipeline)
	if v.Collation != nil {
		b.AppendDoc("collation", v.Collation.Spec())
	}
	return b.Finish()
}

// Lookup returns the collection, or nil; a view is no collection.
func (v *Version) Lookup(ns Namespace) *Collection {
	if db := v.dbs[ns.DB]; db != nil {
		return db.colls[ns.Coll]
	}
	return nil
}

// View returns the view, or nil.
func (v *Version) View(ns Namespace) *View {
	if db := v.dbs[ns.DB]; db != nil {
		return db.views[ns.Coll]
	}
	return nil
}

// Exists reports whether a collection or view has that name.
func (v *Version) Exists(ns Namespace) bool { return v.Lookup(ns) != nil || v.View(ns) != nil }

// ByUUID returns the collection, or nil.
func (v *Version) ByUUID(u bson.UUID) *Collection { return v.byUUID[u] }

// Databases returns the names of all databases that hold a collection, sorted.
func (v *Version) Databases() []string { return slices.Sorted(maps.Keys(v.dbs)) }

// HasDatabase reports whether db holds a collection.
func (v *Version) HasDatabase(db string) bool { return v.dbs[db] != nil }

// Collections returns the collections of db, sorted by name.
func (v *Version) Collections(db string) []*Collection {
	d := v.dbs[db]
	if d == nil {
		return nil
	}
	return slices.SortedFunc(maps.Values(d.colls), func(a, b *Collection) int { return strings.Compare(a.NS.Coll, b.NS.Coll) })
}

// Views returns the views of db, sorted by name.
func (v *Version) Views(db string) []*View {
	d := v.dbs[db]
	if d == nil {
		return nil
	}
	return slices.SortedFunc(maps.Values(d.views), func(a, b *View) int { return strings.Compare(a.NS.Coll, b.NS.Coll) })
}

// differsInCase returns a database whose name differs from db in case only.
func (v *Version) differsInCase(db string) (string, bool) {
	for name := range v.dbs {
		if name != db && strings.EqualFold(name, db) {
			return name, true
		}
	}
	return "", false
}

// edition is a version in the making: a copy whose changed parts are its own. Nothing is
// copied before the first change.
type edition struct {
	v     *Version
	own   bool
	owned map[string]bool // databases copied already
}

func (v *Version) edit() *edition { return &edition{v: v} }

// begin makes the copy.
func (e *edition) begin() {
	if !e.own {
		e.v = &Version{maps.Clone(e.v.dbs), maps.Clone(e.v.byUUID)}
		e.own, e.owned = true, map[string]bool{}
	}
}

// db returns a database that may be changed, made if it is not there.
func (e *edition) db(name string) *database {
	e.begin()
	d := e.v.dbs[name]
	switch {
	case d == nil:
		d = &database{colls: map[string]*Collection{}}
	case !e.owned[name]:
		d = &database{maps.Clone(d.colls), d.views}
	default:
		return d
	}
	e.v.dbs[name], e.owned[name] = d, true
	return d
}

// put adds c, or a new state of it.
func (e *edition) put(c *Collection) {
	e.db(c.NS.DB).colls[c.NS.Coll] = c
	e.v.byUUID[c.UUID] = c
}

// remove takes c out; a database without collections is gone.
func (e *edition) remove(c *Collection) {
	d := e.db(c.NS.DB)
	delete(d.colls, c.NS.Coll)
	delete(e.v.byUUID, c.UUID)
	if c.NS.Coll == SystemViews {
		d.views = nil
	}
	if len(d.colls) == 0 {
		delete(e.v.dbs, c.NS.DB)
	}
}

// setViews replaces the views of a database.
func (e *edition) setViews(name string, views map[string]*View) {
	if e.v.dbs[name] != nil {
		e.db(name).views = views
	}
}
