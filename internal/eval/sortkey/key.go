package sortkey

import (
	"strconv"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Key holds one value for each part of a pattern. It aliases the document.
type Key []bson.Value

var (
	null      = bson.Value{Type: bson.TypeNull}
	undefined = bson.Value{Type: bson.TypeUndefined}
)

// Key extracts the sort key of doc into dst[:0], which it returns, grown if needed.
// Metadata counts as null.
func (p *Pattern) Key(dst Key, doc bson.Raw) (Key, error) { return p.KeyMeta(dst, doc, nil) }

// KeyMeta is Key with a source of metadata.
func (p *Pattern) KeyMeta(dst Key, doc bson.Raw, meta func(name string) bson.Value) (Key, error) {
	dst = dst[:0]
	for i := range p.Parts {
		part := &p.Parts[i]
		if part.Meta != "" {
			dst = append(dst, metaValue(part.Meta, meta))
			continue
		}
		v, ok := scalar(doc, part.parts)
		if !ok {
			return p.keyOfArrays(dst, doc, meta)
		}
		dst = append(dst, v)
	}
	return dst, nil
}

func metaValue(name string, meta func(string) bson.Value) bson.Value {
	if meta == nil {
		return null
	}
	if v := meta(name); !v.IsMissing() {
		return v
	}
	return null
}

// scalar follows a path that meets no array; ok is false if it does.
func scalar(doc bson.Raw, parts []string) (v bson.Value, ok bool) {
	for i, name := range parts {
		v = doc.Get(name)
		switch {
		case v.Type == bson.TypeArray:
			return v, false
		case v.IsMissing():
			return null, true
		case i == len(parts)-1:
			return v, true
		case v.Type != bson.TypeDocument:
			return null, true
		}
		doc = bson.Raw(v.Data)
	}
	return v, true
}

// expansion enumerates the keys of a document with arrays and keeps the first in order.
type expansion struct {
	p    *Pattern
	best Key
}

// cursor is how far one part has come.
type cursor struct {
	rest []string // path still to go
	val  bson.Value
	done bool // val is the part's value
}

func (p *Pattern) keyOfArrays(dst Key, doc bson.Raw, meta func(string) bson.Value) (Key, error) {
	e := &expansion{p: p}
	cs := make([]cursor, len(p.Parts))
	for i := range cs {
		if m := p.Parts[i].Meta; m != "" {
			cs[i] = cursor{val: metaValue(m, meta), done: true}
		} else {
			cs[i] = cursor{rest: p.Parts[i].parts, val: doc.Value()}
		}
	}
	if err := e.expand(cs); err != nil {
		return nil, err
	}
	return append(dst[:0], e.best...), nil
}

// expand walks every part to its end or to the next array; all that stop must stop at
// the same array, whose elements are then taken in turn.
func (e *expansion) expand(cs []cursor) error {
	var arr bson.Value
	var at []int
	for i := range cs {
		c := &cs[i]
		if c.done || !c.advance() {
			continue
		}
		if arr.Type == bson.TypeArray && &arr.Data[0] != &c.val.Data[0] {
			return mongoerr.New(mongoerr.BadValue, "cannot sort with keys that are parallel arrays")
		}
		arr = c.val
		at = append(at, i)
	}
	if at == nil {
		e.offer(cs)
		return nil
	}
	if bson.Raw(arr.Data).IsEmpty() {
		return e.element(cs, at, undefined)
	}
	for v := range bson.Raw(arr.Data).Values() {
		if err := e.element(cs, at, v); err != nil {
			return err
		}
	}
	return nil
}

// element goes on with v in place of the array at the cursors that stopped there.
func (e *expansion) element(cs []cursor, at []int, v bson.Value) error {
	next := append([]cursor(nil), cs...)
	for _, i := range at {
		c := &next[i]
		switch {
		case len(c.rest) == 0:
			c.val, c.done = v, true
		case v.Type == bson.TypeDocument:
			c.val = v
		default:
			c.val, c.done = null, true
		}
	}
	return e.expand(next)
}

// advance goes along the path and reports whether it stopped at an array.
func (c *cursor) advance() bool {
	for {
		switch {
		case c.val.Type == bson.TypeArray:
			if len(c.rest) == 0 || !c.position() {
				return true
			}
		case len(c.rest) == 0:
			c.done = true
			return false
		case c.val.Type == bson.TypeDocument:
			c.val, c.rest = bson.Raw(c.val.Data).Get(c.rest[0]), c.rest[1:]
			if c.val.IsMissing() {
				c.val, c.done = null, true
				return false
			}
		default:
			c.val, c.done = null, true
			return false
		}
	}
}

// position takes the element that a numeric part names, if there is one.
func (c *cursor) position() bool {
	if _, err := strconv.ParseUint(c.rest[0], 10, 32); err != nil {
		return false
	}
	v := bson.Raw(c.val.Data).Get(c.rest[0])
	if v.IsMissing() {
		return false
	}
	c.val, c.rest = v, c.rest[1:]
	return true
}

// offer keeps the key of cs if it is the first so far.
func (e *expansion) offer(cs []cursor) {
	if e.best != nil {
		for i := range cs {
			c := e.p.compareAt(i, cs[i].val, e.best[i])
			if c > 0 {
				return
			}
			if c < 0 {
				break
			}
		}
	}
	e.best = e.best[:0]
	for i := range cs {
		e.best = append(e.best, cs[i].val)
	}
}

func (p *Pattern) compareAt(i int, a, b bson.Value) int {
	c := p.Collation.Compare(a, b)
	if p.Parts[i].Descending {
		return -c
	}
	return c
}

// CompareKeys orders two keys of p.
func (p *Pattern) CompareKeys(a, b Key) int {
	for i := range a {
		if c := p.compareAt(i, a[i], b[i]); c != 0 {
			return c
		}
	}
	return 0
}

// Compare orders two documents by p.
func (p *Pattern) Compare(a, b bson.Raw) (int, error) {
	var bufA, bufB [4]bson.Value
	ka, err := p.Key(bufA[:0], a)
	if err != nil {
		return 0, err
	}
	kb, err := p.Key(bufB[:0], b)
	if err != nil {
		return 0, err
	}
	return p.CompareKeys(ka, kb), nil
}

// AppendKey encodes k behind dst as a BSON array; CompareEncoded orders encodings
// without decoding them.
func (p *Pattern) AppendKey(dst []byte, k Key) []byte {
	start := len(dst)
	b := bson.NewArrayBuilder(dst)
	for _, v := range k {
		b.Append("", v)
	}
	return append(dst[:start], b.Finish()...)
}

// DecodeKey reads what AppendKey wrote.
func (p *Pattern) DecodeKey(dst Key, enc []byte) Key {
	dst = dst[:0]
	it := bson.Raw(enc).Iter()
	for it.Next() {
		dst = append(dst, it.Value())
	}
	return dst
}

// CompareEncoded orders two keys that AppendKey encoded.
func (p *Pattern) CompareEncoded(a, b []byte) int {
	ia, ib := bson.Raw(a).Iter(), bson.Raw(b).Iter()
	for i := 0; ia.Next() && ib.Next(); i++ {
		if c := p.compareAt(i, ia.Value(), ib.Value()); c != 0 {
			return c
		}
	}
	return 0
}
