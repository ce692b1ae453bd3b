// Package indexes keeps the indexes of a restore out of the way of its replay.
//
// It owns the set of indexes that each collection will have: those that the full backup names,
// changed by the oplog's entries about indexes, which are taken out of the replay. They are
// built on the documents of the end. So no unique index sees the states in between, which a
// copy that was made while writes went on may break, no TTL index deletes what the oplog is
// about to change, and documents are written with the _id index alone.
//
// It promises that what is dropped, renamed or changed by the oplog is not built as it was. It
// must not know a server.
package indexes

import (
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

// Set is the indexes of all collections but their _id indexes. The zero value is empty.
type Set struct {
	m map[string][]bson.Raw // by namespace, in the order of their making
}

// Add puts in an index of db.collection, in place of one of the same name.
func (s *Set) Add(ns string, spec bson.Raw) {
	if s.m == nil {
		s.m = map[string][]bson.Raw{}
	}
	spec = clean(spec)
	name := spec.Get("name").Str()
	if name == "" || name == "_id_" || isIDKey(spec) {
		return
	}
	ns = strings.Clone(ns)
	if i := s.find(ns, name); i >= 0 {
		s.m[ns][i] = spec
		return
	}
	s.m[ns] = append(s.m[ns], spec)
}

// isIDKey tells the _id index and the key of a clustered collection, which come with it.
func isIDKey(spec bson.Raw) bool {
	if spec.Get("clustered").Truthy() {
		return true
	}
	key := spec.Get("key").Doc()
	name, v := key.First()
	n, ok := v.AsInt64()
	return key.Len() == 1 && name == "_id" && ok && n == 1
}

// clean copies a spec without what belongs to its old place.
func clean(spec bson.Raw) bson.Raw {
	b := bson.NewBuilder(nil)
	for k, v := range spec.Elems() {
		if k != "ns" && k != "background" && k != "buildUUID" {
			b.Append(k, v)
		}
	}
	return b.Finish()
}

func (s *Set) find(ns, name string) int {
	return slices.IndexFunc(s.m[ns], func(r bson.Raw) bool { return r.Get("name").Str() == name })
}

// Namespaces are those that have indexes, sorted.
func (s *Set) Namespaces() []string {
	var all []string
	for ns, specs := range s.m {
		if len(specs) > 0 {
			all = append(all, ns)
		}
	}
	slices.Sort(all)
	return all
}

// Of are the indexes of a namespace.
func (s *Set) Of(ns string) []bson.Raw { return s.m[ns] }

// Taken is how much of an entry a Set has taken out of the replay.
type Taken uint8

// Nothing: the entry is replayed. Part: what Rest leaves of it is. Whole: it is not.
const (
	Nothing Taken = iota
	Part
	Whole
)

// Apply takes the next entry, as the restored server will have it (filtered and renamed).
func (s *Set) Apply(e *entry.Entry) (Taken, error) {
	ns := e.Namespace()
	switch e.Kind {
	case entry.CreateIndexes:
		s.create(ns, e.O)
		return Whole, nil
	case entry.CommitIndexBuild:
		for v := range e.O.Get("indexes").Doc().Values() {
			s.Add(ns, v.Doc())
		}
		return Whole, nil
	case entry.StartIndexBuild, entry.AbortIndexBuild:
		return Whole, nil
	case entry.DropIndexes:
		return s.drop(ns, e), nil
	case entry.CollMod:
		return s.collMod(ns, e), nil
	case entry.Drop:
		delete(s.m, ns)
	case entry.DropDatabase:
		if !e.Partial {
			for k := range s.m {
				if strings.HasPrefix(k, e.DB+".") {
					delete(s.m, k)
				}
			}
		}
	case entry.RenameCollection:
		to := strings.Clone(e.RenameTarget())
		moved := s.m[ns]
		delete(s.m, ns)
		delete(s.m, to)
		if len(moved) > 0 {
			s.m[to] = moved
		}
	case entry.ConvertToCapped:
		delete(s.m, ns) // it keeps the _id index only
	case entry.ApplyOps, entry.TxnWhole:
		// Their operations on collections take effect here; operations on indexes are made
		// by the replay, on collections that it made itself a moment before.
		ops, err := e.Ops()
		if err != nil {
			return Nothing, err
		}
		for i := range ops {
			if k := ops[i].Kind; k == entry.Drop || k == entry.RenameCollection || k == entry.DropDatabase {
				if _, err := s.Apply(&ops[i]); err != nil {
					return Nothing, err
				}
			}
		}
	}
	return Nothing, nil
}

// create reads {createIndexes: coll, v: 2, key: …, name: …}, the index's fields beside the name.
func (s *Set) create(ns string, o bson.Raw) {
	b := bson.NewBuilder(nil)
	first := true
	for k, v := range o.Elems() {
		if !first {
			b.Append(k, v)
		}
		first = false
	}
	s.Add(ns, b.Finish())
}

// drop takes away an index that this set has. One that it does not have was made by the
// replay.
func (s *Set) drop(ns string, e *entry.Entry) Taken {
	v := e.O.Get("index")
	switch {
	case v.Type == bson.TypeString && v.Str() == "*":
		delete(s.m, ns)
		return Nothing
	case v.Type == bson.TypeString:
		if i := s.find(ns, v.Str()); i >= 0 {
			s.m[ns] = slices.Delete(s.m[ns], i, i+1)
			return Whole
		}
	case v.Type == bson.TypeDocument: // by key
		for i, spec := range s.m[ns] {
			if slices.Equal(spec.Get("key").Doc(), v.Doc()) {
				s.m[ns] = slices.Delete(s.m[ns], i, i+1)
				return Whole
			}
		}
	}
	return Nothing
}

// collMod changes an index of this set (expireAfterSeconds, hidden, unique …).
func (s *Set) collMod(ns string, e *entry.Entry) Taken {
	change := e.O.Get("index").Doc()
	if change == nil {
		return Nothing
	}
	i := s.find(ns, change.Get("name").Str())
	if i < 0 {
		i = slices.IndexFunc(s.m[ns], func(spec bson.Raw) bool {
			return change.Has("keyPattern") && slices.Equal(spec.Get("key").Doc(), change.Get("keyPattern").Doc())
		})
	}
	if i < 0 {
		return Nothing
	}
	b := bson.NewBuilder(nil)
	for k, v := range s.m[ns][i].Elems() {
		if !change.Has(k) || k == "name" {
			b.Append(k, v)
		}
	}
	for k, v := range change.Elems() {
		switch k {
		case "name", "keyPattern":
		case "hidden", "prepareUnique":
			if v.Truthy() {
				b.Append(k, v)
			}
		default:
			b.Append(k, v)
		}
	}
	s.m[ns][i] = b.Finish()
	if e.O.Len() == 2 { // collMod and index
		return Whole
	}
	return Part
}

// Rest is what is left of an entry of which Apply took a Part.
func Rest(e *entry.Entry) bson.Raw {
	o := bson.NewBuilder(nil)
	for k, v := range e.O.Elems() {
		if k != "index" {
			o.Append(k, v)
		}
	}
	b := bson.NewBuilder(nil)
	for k, v := range e.Raw.Elems() {
		if k == "o" {
			b.AppendDoc("o", o.Finish())
		} else {
			b.Append(k, v)
		}
	}
	return b.Finish()
}

// IsTTL reports whether an index deletes documents by itself.
func IsTTL(spec bson.Raw) bool { return spec.Has("expireAfterSeconds") }
