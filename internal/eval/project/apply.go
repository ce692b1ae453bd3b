package project

import (
	"encoding/binary"
	"strconv"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/eval/match"
)

// run is the evaluation of a projection on one document.
type run struct {
	keep bool // inclusion
	dst  []byte
	env  *expr.Env
	d    *match.Details
	err  error
}

// Append adds the projected document to dst, behind what it holds, and returns it. An
// Extra.Env is reset to doc if p computes fields.
func (p *Projection) Append(dst []byte, doc bson.Raw, x *Extra) ([]byte, error) {
	if p.IsIdentity() {
		return append(dst, doc...), nil
	}
	r := run{keep: p.kind == Inclusion, dst: dst}
	if x != nil {
		r.env, r.d = x.Env, x.Details
	}
	if p.needsEnv {
		if r.env == nil {
			r.env = &expr.Env{}
		}
		r.env.Reset(doc)
	}
	r.document(p.root, doc, p.positional != "")
	return r.dst, r.err
}

// Apply returns the projected document in bytes of its own.
func (p *Projection) Apply(doc bson.Raw, x *Extra) (bson.Raw, error) {
	b, err := p.Append(nil, doc, x)
	if err != nil {
		return nil, err
	}
	return bson.Raw(b), nil
}

func (r *run) open() int {
	r.dst = append(r.dst, 0, 0, 0, 0)
	return len(r.dst) - 4
}

func (r *run) end(start int) {
	r.dst = append(r.dst, 0)
	binary.LittleEndian.PutUint32(r.dst[start:], uint32(len(r.dst)-start))
}

func (r *run) head(t bson.Type, key string) {
	r.dst = append(r.dst, byte(t))
	r.dst = append(r.dst, key...)
	r.dst = append(r.dst, 0)
}

func (r *run) copy(key string, v bson.Value) {
	if v.IsMissing() {
		return
	}
	r.head(v.Type, key)
	r.dst = append(r.dst, v.Data...)
}

// document projects doc with n; pos is set on the way to the positional array.
func (r *run) document(n *node, doc bson.Raw, pos bool) {
	start := r.open()
	var seen uint64 // which of the first 64 fields stand in the output already
	left := len(n.fields)
	it := doc.Iter()
	for it.Next() {
		if r.keep && left == 0 && !n.computed {
			break
		}
		i := n.indexOf(it.Key())
		if i < 0 {
			if !r.keep {
				r.copy(it.Key(), it.Value())
			}
			continue
		}
		left--
		if r.field(n.fields[i], it.Key(), it.Value(), pos) && i < 64 {
			seen |= 1 << i
		}
	}
	if n.computed {
		r.additions(n, seen, doc)
	}
	r.end(start)
}

func (n *node) indexOf(key string) int {
	for i, f := range n.fields {
		if f.name == key {
			return i
		}
	}
	return -1
}

// field writes what becomes of one existing field and reports whether it needs no
// addition at the end any more.
func (r *run) field(f *field, key string, v bson.Value, pos bool) bool {
	switch f.act {
	case actInclude:
		if f.positional && pos && v.Type == bson.TypeArray {
			r.positional(key, v, nil)
			return true
		}
		r.copy(key, v)
	case actExclude:
	case actSlice:
		r.slice(f, key, v)
	case actDescend:
		return r.descend(f, key, v, pos && f.positional)
	case actCompute:
		if r.keep {
			return false // computed fields follow at the end
		}
		r.compute(f, key)
	case actElemMatch:
		if r.keep {
			return false
		}
		r.elemMatch(f, key, v)
	}
	return true
}

func (r *run) compute(f *field, key string) {
	if r.err != nil {
		return
	}
	v, err := f.expr.Eval(r.env)
	if err != nil {
		r.err = err
		return
	}
	r.copy(key, v)
}

// descend applies a nested projection to a value.
func (r *run) descend(f *field, key string, v bson.Value, pos bool) bool {
	switch v.Type {
	case bson.TypeDocument:
		r.head(v.Type, key)
		r.document(f.sub, bson.Raw(v.Data), pos)
	case bson.TypeArray:
		if pos {
			r.positional(key, v, f.sub)
			return true
		}
		r.head(v.Type, key)
		r.array(f.sub, bson.Raw(v.Data))
	default:
		switch {
		case f.sub.computed && r.keep:
			return false
		case f.sub.computed:
			r.head(bson.TypeDocument, key)
			r.document(f.sub, bson.Empty, false)
		case !r.keep:
			r.copy(key, v)
		}
	}
	return true
}

// array projects the elements of an array; scalars are dropped by an inclusion, kept by
// an exclusion and replaced where something is computed below.
func (r *run) array(n *node, a bson.Raw) {
	start := r.open()
	var num [20]byte
	next := 0
	it := a.Iter()
	for it.Next() {
		v := it.Value()
		scalar := v.Type != bson.TypeDocument && v.Type != bson.TypeArray
		if scalar && r.keep {
			continue
		}
		t := v.Type
		if scalar && n.computed {
			t = bson.TypeDocument
		}
		r.dst = append(r.dst, byte(t))
		r.dst = append(r.dst, strconv.AppendInt(num[:0], int64(next), 10)...)
		r.dst = append(r.dst, 0)
		next++
		switch {
		case v.Type == bson.TypeDocument:
			r.document(n, bson.Raw(v.Data), false)
		case v.Type == bson.TypeArray:
			r.array(n, bson.Raw(v.Data))
		case n.computed:
			r.document(n, bson.Empty, false)
		default:
			r.dst = append(r.dst, v.Data...)
		}
	}
	r.end(start)
}

// additions appends computed fields that no existing field gave a place, in the order
// of the specification.
func (r *run) additions(n *node, seen uint64, doc bson.Raw) {
	for i, f := range n.fields {
		if i < 64 && seen&(1<<i) != 0 {
			continue
		}
		if i >= 64 && !r.keep && doc.Has(f.name) {
			continue
		}
		switch {
		case f.act == actCompute:
			r.compute(f, f.name)
		case f.act == actElemMatch:
			r.elemMatch(f, f.name, doc.Get(f.name))
		case f.act == actDescend && f.sub.computed:
			if i >= 64 {
				if v := doc.Get(f.name); v.Doc() != nil {
					continue
				}
			}
			r.head(bson.TypeDocument, f.name)
			r.document(f.sub, bson.Empty, false)
		}
	}
}

// slice writes a part of an array; other values are left alone.
func (r *run) slice(f *field, key string, v bson.Value) {
	if v.Type != bson.TypeArray {
		r.copy(key, v)
		return
	}
	a := bson.Raw(v.Data)
	from, to := f.bounds(int64(a.Len()))
	r.head(v.Type, key)
	start := r.open()
	it := a.Iter()
	for i := int64(0); it.Next() && i < to; i++ {
		if i >= from {
			r.copy(strconv.FormatInt(i-from, 10), it.Value())
		}
	}
	r.end(start)
}

// bounds returns which elements of n a slice keeps.
func (f *field) bounds(n int64) (from, to int64) {
	switch {
	case !f.hasSkip && f.limit < 0:
		return max(0, n+f.limit), n
	case !f.hasSkip:
		return 0, f.limit
	case f.skip < 0:
		from = max(0, n+f.skip)
	default:
		from = min(f.skip, n)
	}
	return from, min(n, from+f.limit)
}

// elemMatch writes the first array element that matches.
func (r *run) elemMatch(f *field, key string, v bson.Value) {
	if v.Type != bson.TypeArray || r.err != nil {
		return
	}
	var d match.Details
	var buf [64]byte
	one := bson.NewBuilder(buf[:0]).Append(f.name, v).Finish()
	ok, err := f.elem.MatchDetails(one, &d)
	if err != nil {
		r.err = err
		return
	}
	if i, found := d.Index(); ok && found {
		r.single(key, elementAt(v, i), nil)
	}
}

// positional writes the element of array v that the query matched.
func (r *run) positional(key string, v bson.Value, sub *node) {
	if r.err != nil {
		return
	}
	i, ok := 0, false
	if r.d != nil {
		i, ok = r.d.Index()
	}
	if !ok {
		r.err = errf(51246, "positional operator '.$' couldn't find a matching element in the array")
		return
	}
	e := elementAt(v, i)
	if e.IsMissing() {
		r.err = errf(51247, "positional operator '.$' element mismatch")
		return
	}
	r.single(key, e, sub)
}

func elementAt(a bson.Value, i int) bson.Value {
	it := bson.Raw(a.Data).Iter()
	for ; it.Next(); i-- {
		if i == 0 {
			return it.Value()
		}
	}
	return bson.Value{}
}

// single writes an array of one element, projected by sub if given.
func (r *run) single(key string, e bson.Value, sub *node) {
	r.head(bson.TypeArray, key)
	start := r.open()
	switch {
	case sub == nil:
		r.copy("0", e)
	case e.Type == bson.TypeDocument:
		r.head(e.Type, "0")
		r.document(sub, bson.Raw(e.Data), false)
	case e.Type == bson.TypeArray:
		r.head(e.Type, "0")
		r.array(sub, bson.Raw(e.Data))
	}
	r.end(start)
}
