package find

import (
	"strings"
	"time"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

// Change is one entry's effect on a document or a collection.
type Change struct {
	OpTime entry.OpTime
	Wall   time.Time // zero if the entry does not say
	NS     string
	Op     string // insert, update, replace, delete, or the command
	ID     string // the document's _id in extended JSON, "" of commands
	Txn    bool   // in a transaction: the OpTime is its commit's
	Effect string
}

// Finder looks through entries for those that changed documents of one namespace that a
// filter matches.
//
// An insert or a replacement matches by its document. An update or delete shows only the _id and
// the fields that it sets: it matches by those, or because an earlier entry, or a document that
// was handed to Know, matched with that _id. Once a document matched, all its later changes
// are reported, so that the change that made it match no longer is seen too.
type Finder struct {
	NS     string
	Filter *Filter
	// Known are the documents that matched so far, by the bytes of their _id.
	known map[string]bool
}

// Know marks the document if it matches, without a change.
func (f *Finder) Know(doc bson.Raw) {
	if !f.Filter.OnlyID && f.Filter.Match(doc) {
		f.mark(doc.Get("_id"))
	}
}

func (f *Finder) mark(id bson.Value) {
	if f.known == nil {
		f.known = map[string]bool{}
	}
	f.known[idKey(id)] = true
}

func idKey(id bson.Value) string { return string(byte(id.Type)) + string(id.Data) }

// Unit returns the changes of what takes effect at once.
func (f *Finder) Unit(u *entry.Unit) ([]Change, error) {
	var all []Change
	for i := range u.Entries {
		cs, err := f.entry(&u.Entries[i], u.Txn)
		if err != nil {
			return nil, err
		}
		for _, c := range cs {
			c.OpTime = u.OpTime
			if u.Wall != 0 {
				c.Wall = u.Wall.Time()
			}
			all = append(all, c)
		}
	}
	return all, nil
}

func (f *Finder) entry(e *entry.Entry, txn bool) ([]Change, error) {
	if e.Kind.HasOps() {
		ops, err := e.Ops()
		if err != nil {
			return nil, err
		}
		var all []Change
		for i := range ops {
			cs, err := f.entry(&ops[i], txn)
			if err != nil {
				return nil, err
			}
			all = append(all, cs...)
		}
		return all, nil
	}
	if e.Kind.IsCRUD() {
		if e.Namespace() != f.NS || !f.matches(e) {
			return nil, nil
		}
		op, effect := Effect(e)
		return []Change{{NS: f.NS, Op: op, ID: text(e.ID()), Txn: txn, Effect: effect}}, nil
	}
	// What happens to the whole collection happens to each document.
	db, _, _ := strings.Cut(f.NS, ".")
	switch e.Kind {
	case entry.Drop, entry.RenameCollection, entry.ConvertToCapped, entry.EmptyCapped, entry.TruncateRange:
		if e.Namespace() != f.NS && e.RenameTarget() != f.NS {
			return nil, nil
		}
	case entry.DropDatabase:
		if e.DB != db {
			return nil, nil
		}
	default:
		return nil, nil
	}
	return []Change{{NS: f.NS, Op: e.Kind.String(), Txn: txn, Effect: extjson.String(e.O)}}, nil
}

func (f *Finder) matches(e *entry.Entry) bool {
	id := e.ID()
	if f.known[idKey(id)] {
		return true
	}
	ok := false
	switch e.Kind {
	case entry.Insert, entry.Delete:
		ok = f.Filter.Match(e.O)
	case entry.Update:
		// The document as far as the entry shows it: the _id and shard key, and what is set.
		ok = f.Filter.Match(e.O2) || f.Filter.Match(shown(e))
	}
	if ok {
		f.mark(id)
	}
	return ok
}

// shown is the _id and the top fields that an update sets.
func shown(e *entry.Entry) bson.Raw {
	b := bson.NewBuilder(nil)
	b.AppendElems(e.O2)
	switch {
	case e.O.Has("diff"):
		for _, part := range []string{"i", "u"} {
			b.AppendElems(orEmpty(e.O.Path("diff." + part).Doc()))
		}
	case e.O.Has("$set") || e.O.Has("$unset"):
		b.AppendElems(orEmpty(e.O.Get("$set").Doc()))
	default:
		return e.O // a replacement
	}
	return b.Finish()
}

func orEmpty(r bson.Raw) bson.Raw {
	if r == nil {
		return bson.Empty
	}
	return r
}

// Effect says what an entry did to its document.
func Effect(e *entry.Entry) (op, effect string) {
	switch e.Kind {
	case entry.Insert:
		return "insert", extjson.String(e.O)
	case entry.Delete:
		return "delete", ""
	}
	var parts []string
	set := func(word, path string, doc bson.Raw) {
		for k, v := range doc.Elems() {
			parts = append(parts, word+" "+path+k+" = "+text(v))
		}
	}
	unset := func(path string, doc bson.Raw) {
		for k := range doc.Elems() {
			parts = append(parts, "unset "+path+k)
		}
	}
	switch {
	case e.O.Has("diff"):
		diff(e.O.Get("diff").Doc(), "", set, unset, func(s string) { parts = append(parts, s) })
	case e.O.Has("$set") || e.O.Has("$unset"):
		set("set", "", orEmpty(e.O.Get("$set").Doc()))
		unset("", orEmpty(e.O.Get("$unset").Doc()))
	default:
		return "replace", extjson.String(e.O)
	}
	return "update", strings.Join(parts, ", ")
}

// diff walks a $v:2 diff: i inserted, u updated, d deleted fields, s<name> the diff of a
// subdocument, or of an array (a: true) with u<index>, s<index> and the new length l.
func diff(d bson.Raw, path string, set func(word, path string, doc bson.Raw), unset func(string, bson.Raw), say func(string)) {
	array := d.Get("a").Type == bson.TypeBool
	for k, v := range d.Elems() {
		switch {
		case k == "a" && array:
		case k == "l" && array:
			say("cut " + strings.TrimSuffix(path, ".") + " to length " + text(v))
		case array && strings.HasPrefix(k, "u"):
			say("set " + path + k[1:] + " = " + text(v))
		case !array && k == "i":
			set("add", path, v.Doc())
		case !array && k == "u":
			set("set", path, v.Doc())
		case !array && k == "d":
			unset(path, v.Doc())
		case strings.HasPrefix(k, "s") && v.Type == bson.TypeDocument:
			diff(v.Doc(), path+k[1:]+".", set, unset, say)
		}
	}
}

// text is a value in extended JSON.
func text(v bson.Value) string {
	if v.IsMissing() {
		return ""
	}
	t, err := extjson.MarshalValue(v, extjson.Relaxed)
	if err != nil {
		return v.String()
	}
	return string(t)
}
