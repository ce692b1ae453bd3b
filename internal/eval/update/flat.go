package update

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
)

// Most updates set or count a few fields at the top of a document. Those are kept as a flat list
// instead of a tree of paths, and one walk over the document makes both the new one and the log's
// diff. Whatever is not as expected there, an error included, is left to the general way, which
// flat's tree leads to; TestFlat compares the two.

// maxFlat is how many fields a flat update names at most.
const maxFlat = 8

// flatField is one field of a flat update.
type flatField struct {
	name string
	val  bson.Value
	op   flatOp
}

type flatOp int8

const (
	flatSet flatOp = iota + 1
	flatSetOnInsert
	flatUnset
	flatInc
	flatMul
)

func flatOpOf(name string) flatOp {
	switch name {
	case "$set":
		return flatSet
	case "$setOnInsert":
		return flatSetOnInsert
	case "$unset":
		return flatUnset
	case "$inc":
		return flatInc
	case "$mul":
		return flatMul
	}
	return 0
}

// ParseFlat is Parse, without options and into u, for an update that does no more than set, unset,
// count or multiply a few fields at the top of the document. It returns false for any other, right
// or wrong, which Parse must see; u is then of no use. u must not be copied.
func (u *Update) ParseFlat(v bson.Value) bool {
	*u = Update{kind: Operators}
	u.flat = u.flatRoom[:0]
	if v.Type != bson.TypeDocument {
		return false
	}
	d := bson.Raw(v.Data)
	for it := d.Iter(); it.Next(); {
		op, arg := flatOpOf(it.Key()), it.Value()
		if op == 0 || arg.Type != bson.TypeDocument {
			return false
		}
		fields := bson.Raw(arg.Data).Iter()
		for fields.Next() {
			f := flatField{fields.Key(), fields.Value(), op}
			if len(u.flat) == maxFlat || !flatName(f.name) || indexOfFlat(u.flat, f.name) >= 0 || (op >= flatInc && !f.val.IsNumber()) {
				return false
			}
			u.flat = append(u.flat, f)
			u.deep = u.deep || 1+depth(f.val) > bson.MaxDepth/2
		}
	}
	switch len(u.flat) {
	case 0:
		return false
	case 1:
	default:
		slices.SortFunc(u.flat, func(a, b flatField) int {
			return compareNames(&target{name: a.name, index: arrayIndex(a.name)}, &target{name: b.name, index: arrayIndex(b.name)})
		})
	}
	return true
}

// flatName reports whether a path is the name of a field at the top, other than the _id, that any
// document may get.
func flatName(path string) bool {
	return path != "" && path[0] != '$' && path != "_id" && strings.IndexByte(path, '.') < 0
}

func indexOfFlat(fields []flatField, name string) int {
	for i := range fields {
		if fields[i].name == name {
			return i
		}
	}
	return -1
}

// tree is the update's tree of paths, made from the list if it is flat.
func (u *Update) tree() *node {
	if u.flat == nil {
		return u.root
	}
	n := &node{}
	for i := range u.flat {
		f := &u.flat[i]
		n.kids = append(n.kids, &target{name: f.name, index: arrayIndex(f.name), mod: f.modifier()})
	}
	return n
}

func (f *flatField) modifier() modifier {
	switch f.op {
	case flatUnset:
		return unset{}
	case flatInc, flatMul:
		return arithmetic{f.val, f.op == flatMul}
	}
	return set{f.val, f.op == flatSetOnInsert}
}

// apply is what f makes of a present value, which may be missing; ok is false if that is an error.
func (f *flatField) apply(v bson.Value) (next bson.Value, what outcome, ok bool) {
	switch f.op {
	case flatSet:
		next, what, _ = replaceWith(v, f.val)
		return next, what, true
	case flatSetOnInsert:
		return v, keep, true
	case flatUnset:
		return v, drop, true
	}
	return arithmetic{f.val, f.op == flatMul}.change(v)
}

// flatRun is the evaluation of a flat update on one document.
type flatRun struct {
	doc  bson.Raw
	dst  []byte // the new document, up to the change before from
	from int    // what of doc is not yet copied
	seen [maxFlat]bool
	// changes are first those of fields that are there, in their order, then, from changes[old] on, new fields.
	changes [maxFlat]flatChange
	n, old  int
}

type flatChange struct {
	name string
	val  bson.Value
	what outcome
}

// applyFlat evaluates a flat update; ok is false if the general way has to say what comes of it:
// a name stands twice in doc, or there is an error.
func (u *Update) applyFlat(doc bson.Raw, in *Input) (_ Result, ok bool) {
	r := flatRun{doc: doc}
	if own := in.Buf; own != nil {
		r.dst = slices.Grow((*own)[:0], len(doc)+64)
		defer func() { *own = r.dst }()
	} else {
		r.dst = make([]byte, 0, len(doc)+64)
	}
	if !r.existing(u.flat) || !r.missing(u.flat) {
		return Result{}, false
	}
	if r.n == 0 {
		return Result{Doc: doc}, true
	}
	r.dst = append(r.dst, doc[r.from:]...)
	binary.LittleEndian.PutUint32(r.dst, uint32(len(r.dst)))
	res := Result{Doc: r.dst, Modified: true}
	if !in.NoEntry {
		res.Entry = r.entry()
	}
	return res, true
}

// existing changes the fields that are there.
func (r *flatRun) existing(fields []flatField) (ok bool) {
	it, pos := r.doc.Iter(), 4 // where an element starts
	for it.Next() {
		start := pos
		pos += elemLen(&it)
		i := indexOfFlat(fields, it.Key())
		if i < 0 {
			continue
		}
		if r.seen[i] {
			return false
		}
		r.seen[i] = true
		next, what, ok := fields[i].apply(it.Value())
		if !ok {
			return false
		}
		if what == keep {
			continue
		}
		r.change(fields[i].name, next, what, start)
		r.from = pos
	}
	r.old = r.n
	return it.Err() == nil && pos == len(r.doc)-1
}

// missing adds the fields that are not there.
func (r *flatRun) missing(fields []flatField) (ok bool) {
	for i := range fields {
		f := &fields[i]
		if r.seen[i] || f.op == flatSetOnInsert || f.op == flatUnset {
			continue
		}
		next, what, ok := f.apply(bson.Value{})
		if !ok {
			return false
		}
		r.change(f.name, next, what, len(r.doc)-1)
	}
	return true
}

// change notes a change of what stands in the old document at start, and makes it.
func (r *flatRun) change(name string, next bson.Value, what outcome, start int) {
	r.dst = append(r.dst, r.doc[r.from:start]...)
	r.from = start
	r.changes[r.n] = flatChange{name, next, what}
	r.n++
	if what == put {
		r.dst = appendElem(r.dst, name, next)
	}
}

// entry is the log's {$v: 2, diff: …}.
func (r *flatRun) entry() bson.Raw {
	e := append(make([]byte, 0, 96), "\x00\x00\x00\x00\x10$v\x00\x02\x00\x00\x00"...)
	e, diff := openDoc(e, "diff")
	e = flatSection(e, "d", r.changes[:r.old], drop)
	e = flatSection(e, "u", r.changes[:r.old], put)
	e = flatSection(e, "i", r.changes[r.old:r.n], put)
	return closeDoc(closeDoc(e, diff), 0)
}

// flatSection adds the section of a diff that tells the changes of one kind, if there are any.
func flatSection(e []byte, key string, changes []flatChange, what outcome) []byte {
	start := 0
	for i := range changes {
		c := &changes[i]
		if c.what != what {
			continue
		}
		if start == 0 {
			e, start = openDoc(e, key)
		}
		if what == drop {
			e = append(appendHead(e, bson.TypeBool, c.name), 0)
		} else {
			e = appendElem(e, c.name, c.val)
		}
	}
	if start == 0 {
		return e
	}
	return closeDoc(e, start)
}

func openDoc(dst []byte, key string) (_ []byte, start int) {
	dst = append(appendHead(dst, bson.TypeDocument, key), 0, 0, 0, 0)
	return dst, len(dst) - 4
}

func closeDoc(dst []byte, start int) []byte {
	dst = append(dst, 0)
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}

func appendHead(dst []byte, t bson.Type, key string) []byte {
	dst = append(dst, byte(t))
	dst = append(dst, key...)
	return append(dst, 0)
}

func appendElem(dst []byte, key string, v bson.Value) []byte {
	return append(appendHead(dst, v.Type, key), v.Data...)
}
