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
// or wrong, which Parse must see; u is then of no use.
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
		return arithmetic{f.val, f.op == flatMul, map[flatOp]string{flatInc: "$inc", flatMul: "$mul"}[f.op]}
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
	if !v.IsMissing() && !v.IsNumber() {
		return v, keep, false
	}
	switch {
	case !v.IsMissing():
		if next, ok = calculate(v, f.val, f.op == flatMul); !ok {
			return v, keep, false
		}
		next, what, _ = replaceWith(v, next)
		return next, what, true
	case f.op == flatMul:
		return zeroOf(f.val.Type), put, true
	}
	return f.val, put, true
}

// applyFlat evaluates a flat update; ok is false if the general way has to say what comes of it:
// a name stands twice in doc, or there is an error.
func (u *Update) applyFlat(doc bson.Raw, in *Input) (r Result, ok bool) {
	var (
		dst     []byte
		seen    [maxFlat]bool
		vals    [maxFlat]bson.Value
		changes [maxFlat]struct {
			field int8
			what  outcome
		}
		n                 int // of changes: first those of fields that are there, in their order, then new ones
		updated, inserted bool
		removed           bool
	)
	own := in.Buf
	if own != nil {
		dst = slices.Grow((*own)[:0], len(doc)+64)
		defer func() { *own = dst }()
	} else {
		dst = make([]byte, 0, len(doc)+64)
	}
	it, pos, from := doc.Iter(), 4, 0 // where the element starts; what is not yet copied
	for it.Next() {
		start := pos
		pos += elemLen(&it)
		i := indexOfFlat(u.flat, it.Key())
		if i < 0 {
			continue
		}
		if seen[i] {
			return r, false
		}
		seen[i] = true
		next, what, ok := u.flat[i].apply(it.Value())
		if !ok {
			return r, false
		}
		if what == keep {
			continue
		}
		dst = append(dst, doc[from:start]...)
		from = pos
		vals[i], changes[n].field, changes[n].what = next, int8(i), what
		n++
		if what == drop {
			removed = true
			continue
		}
		updated = true
		dst = appendElem(dst, u.flat[i].name, next)
	}
	if it.Err() != nil || pos != len(doc)-1 {
		return r, false
	}
	old := n
	for i := range u.flat {
		if f := &u.flat[i]; !seen[i] && f.op != flatSetOnInsert && f.op != flatUnset {
			next, _, ok := f.apply(bson.Value{})
			if !ok {
				return r, false
			}
			if !inserted {
				dst = append(dst, doc[from:pos]...)
				from = pos
			}
			inserted = true
			vals[i], changes[n].field = next, int8(i)
			n++
			dst = appendElem(dst, f.name, next)
		}
	}
	if n == 0 {
		return Result{Doc: doc}, true
	}
	dst = append(dst, doc[from:]...)
	binary.LittleEndian.PutUint32(dst, uint32(len(dst)))
	r = Result{Doc: dst, Modified: true}
	if in.NoEntry {
		return r, true
	}
	e := append(make([]byte, 0, 96), "\x00\x00\x00\x00\x10$v\x00\x02\x00\x00\x00"...)
	e, diff := openDoc(e, "diff")
	var section int
	if removed {
		e, section = openDoc(e, "d")
		for _, c := range changes[:old] {
			if c.what == drop {
				e = append(appendHead(e, bson.TypeBool, u.flat[c.field].name), 0)
			}
		}
		e = closeDoc(e, section)
	}
	if updated {
		e, section = openDoc(e, "u")
		for _, c := range changes[:old] {
			if c.what == put {
				e = appendElem(e, u.flat[c.field].name, vals[c.field])
			}
		}
		e = closeDoc(e, section)
	}
	if inserted {
		e, section = openDoc(e, "i")
		for _, c := range changes[old:n] {
			e = appendElem(e, u.flat[c.field].name, vals[c.field])
		}
		e = closeDoc(e, section)
	}
	r.Entry = closeDoc(closeDoc(e, diff), 0)
	return r, true
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
