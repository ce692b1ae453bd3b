package update

import (
	"bytes"
	"strconv"

	"github.com/cairndb/cairn/internal/bson"
)

// The oplog's diff of a document: d holds removed fields, u fields with new values, i
// new fields (appended in this order), and s followed by a field's name the diff of a
// subdocument or array. The diff of an array is marked by a: true; l is its new length
// if it shrank, u and s are followed by an index.

// Diff returns the `diff` of a $v:2 entry that turns old into new. ok is false if they
// are the same or if no diff can tell the change, because a changed field's name stands
// twice in a document; then the entry must be the whole new document.
func Diff(old, new bson.Raw) (diff bson.Raw, ok bool) {
	if bytes.Equal(old, new) {
		return nil, false
	}
	b := bson.NewBuilder(make([]byte, 0, 128))
	if !diffDoc(b, old, new, guide{}) {
		return nil, false
	}
	return b.Finish(), true
}

// guide makes a diff take the shape that the server's operators log: what they set is
// logged whole, what they went through is gone into. The zero guide goes into values
// wherever that is shorter.
type guide struct {
	n      *node // the operators' tree at this level
	inside bool  // below positional parts: go into everything
}

// field returns how to tell the change of one field: whole, or in any case inside.
func (g guide) field(key string) (next guide, whole, inside bool) {
	if g.n == nil {
		return guide{inside: g.inside}, false, g.inside
	}
	i := indexOf(g.n.kids, key)
	if i < 0 {
		return guide{inside: true}, false, true // by a positional part
	}
	t := g.n.kids[i]
	if t.mod == nil {
		return guide{n: t.sub}, false, true
	}
	if p, ok := t.mod.(*push); ok && p.plain() {
		return guide{}, false, true
	}
	return guide{}, true, false
}

type elem struct {
	key string
	val bson.Value
}

// change is one field whose value differs; sub is set if a nested diff tells it shorter.
type change struct {
	key string
	val bson.Value
	sub bson.Raw
}

// diffDoc adds the sections of a document's diff to b; ok as in Diff.
func diffDoc(b *bson.Builder, old, new bson.Raw, g guide) (ok bool) {
	var updates, subs []change
	var inserts []elem
	var deletes []string
	io, in := old.Iter(), new.Iter()
	mo, mn := io.Next(), in.Next()
	po, pn := 4, 4 // where the current elements start
	for mo && mn {
		lo, ln := elemLen(&io), elemLen(&in)
		if io.Key() == in.Key() {
			if c, differs := compareField(in.Key(), io.Value(), in.Value(), g); differs {
				if c.sub != nil {
					subs = append(subs, c)
				} else {
					updates = append(updates, c)
				}
				if bytes.Equal(old[po+lo:], new[pn+ln:]) {
					mo, mn = false, false
					break
				}
			}
			po, pn = po+lo, pn+ln
			mo, mn = io.Next(), in.Next()
			continue
		}
		if indexString(deletes, in.Key()) >= 0 {
			// Moved behind others. What an entry inserts goes to the end, so all that
			// follows in new must be inserted as well.
			break
		}
		deletes = append(deletes, io.Key())
		po += lo
		mo = io.Next()
	}
	for ; mo; mo = io.Next() {
		deletes = append(deletes, io.Key())
	}
	for ; mn; mn = in.Next() {
		if i := indexString(deletes, in.Key()); i >= 0 {
			deletes = append(deletes[:i], deletes[i+1:]...)
		}
		inserts = append(inserts, elem{in.Key(), in.Value()})
	}
	writeSections(b, deletes, updates, inserts, subs)
	for _, k := range deletes {
		if !single(old, k) || new.Has(k) {
			return false
		}
	}
	for _, cs := range [][]change{updates, subs} {
		for _, c := range cs {
			if !single(old, c.key) { // doubled in new only, it is an insert as well
				return false
			}
		}
	}
	for _, e := range inserts {
		if !single(old, e.key) || !single(new, e.key) {
			return false
		}
	}
	return true
}

// elemLen is the size of an iterator's element.
func elemLen(it *bson.Iter) int { return 2 + len(it.Key()) + len(it.Value().Data) }

// single reports whether at most one element of d is named key.
func single(d bson.Raw, key string) bool {
	n := 0
	it := d.Iter()
	for it.Next() {
		if it.Key() == key {
			n++
		}
	}
	return n <= 1
}

func writeSections(b *bson.Builder, deletes []string, updates []change, inserts []elem, subs []change) {
	if len(deletes) > 0 {
		b.Doc("d")
		for _, k := range deletes {
			b.Bool(k, false)
		}
		b.End()
	}
	if len(updates) > 0 {
		b.Doc("u")
		for _, c := range updates {
			b.Append(c.key, c.val)
		}
		b.End()
	}
	if len(inserts) > 0 {
		b.Doc("i")
		for _, e := range inserts {
			b.Append(e.key, e.val)
		}
		b.End()
	}
	for _, c := range subs {
		b.AppendDoc("s"+c.key, c.sub)
	}
}

func indexString(ss []string, s string) int {
	for i, x := range ss {
		if x == s {
			return i
		}
	}
	return -1
}

// compareField tells how a value changed: not at all, as a whole or inside.
func compareField(key string, old, new bson.Value, g guide) (c change, differs bool) {
	if old.Type == new.Type && bytes.Equal(old.Data, new.Data) {
		return c, false
	}
	c = change{key: key, val: new}
	if old.Type != new.Type || (new.Type != bson.TypeDocument && new.Type != bson.TypeArray) {
		return c, true
	}
	below, whole, inside := g.field(key)
	if whole {
		return c, true
	}
	b := bson.NewBuilder(make([]byte, 0, 64))
	if new.Type == bson.TypeDocument {
		if !diffDoc(b, bson.Raw(old.Data), bson.Raw(new.Data), below) {
			return c, true
		}
	} else if !diffArray(b, bson.Raw(old.Data), bson.Raw(new.Data), below) {
		return c, true
	}
	if sub := b.Finish(); inside || len(sub) < len(new.Data) {
		c.sub = sub
	}
	return c, true
}

// diffArray adds the sections of an array's diff; ok is false if the keys of an array
// are not its indexes, which only a whole value can carry.
func diffArray(b *bson.Builder, old, new bson.Raw, g guide) (ok bool) {
	b.Bool("a", true)
	io, in := old.Iter(), new.Iter()
	n, longer := 0, false
	if o, w := old.Len(), new.Len(); w < o {
		b.Int32("l", int32(w))
	}
	for in.Next() {
		if in.Key() != strconv.Itoa(n) {
			return false
		}
		if longer = longer || !io.Next(); longer {
			b.Append("u"+in.Key(), in.Value())
		} else {
			if io.Key() != in.Key() {
				return false
			}
			if c, differs := compareField(in.Key(), io.Value(), in.Value(), g); differs {
				if c.sub != nil {
					b.AppendDoc("s"+in.Key(), c.sub)
				} else {
					b.Append("u"+in.Key(), c.val)
				}
			}
		}
		n++
	}
	return true
}
