package exec

import (
	"bytes"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/query/plan"
)

// encInterval is an interval of one field as bytes, in the order of the keys: a field's
// bytes f are inside if lo <= f < hi, where an exclusive lower or inclusive upper end
// has keystring.Above behind it.
type encInterval struct{ lo, hi []byte }

// keyBounds are the bounds of an index scan, field by field, as bytes.
type keyBounds struct {
	ord    keystring.Ordering
	fields [][]encInterval
	single bool   // one range of keys: nothing must be checked key by key
	lower  []byte // of all keys in bounds
	upper  []byte
	empty  bool
}

// encodeBounds turns intervals of values into bytes.
func encodeBounds(ix *Index, bounds []plan.Intervals) *keyBounds {
	kb := &keyBounds{ord: ix.Ordering}
	for i, ivs := range bounds {
		if len(ivs) == 0 {
			kb.empty = true
			return kb
		}
		desc := ix.Ordering.Desc(i)
		enc := make([]encInterval, len(ivs))
		for j, iv := range ivs {
			lo, hi, loInc, hiInc := iv.Lo, iv.Hi, iv.LoInc, iv.HiInc
			if desc {
				lo, hi, loInc, hiInc = hi, lo, hiInc, loInc
			}
			e := encInterval{keystring.Append(nil, lo, desc, nil), keystring.Append(nil, hi, desc, nil)}
			if !loInc {
				e.lo = append(e.lo, keystring.Above)
			}
			if hiInc {
				e.hi = append(e.hi, keystring.Above)
			}
			if desc {
				enc[len(ivs)-1-j] = e
			} else {
				enc[j] = e
			}
		}
		kb.fields = append(kb.fields, enc)
	}
	kb.lower = kb.appendLow(nil, 0)
	kb.upper = kb.appendHigh(nil, 0)
	kb.single = isSingle(bounds)
	return kb
}

// isSingle reports whether bounds are points, then at most one interval, then anything.
func isSingle(bounds []plan.Intervals) bool {
	i := 0
	for i < len(bounds) && bounds[i].IsPoint() {
		i++
	}
	if i < len(bounds) {
		if len(bounds[i]) != 1 {
			return false
		}
		i++
	}
	for ; i < len(bounds); i++ {
		if !bounds[i].IsAll() {
			return false
		}
	}
	return true
}

// rangeBounds encodes the ends of min() and max(): lower inclusive, upper exclusive.
func rangeBounds(ix *Index, r *plan.KeyRange) *keyBounds {
	kb := &keyBounds{ord: ix.Ordering, single: true, upper: []byte{keystring.Above}}
	if r.Min != nil {
		kb.lower = keystring.AppendKey(nil, r.Min, ix.Ordering, nil)
	}
	if r.Max != nil {
		kb.upper = keystring.AppendKey(nil, r.Max, ix.Ordering, nil)
	}
	return kb
}

// appendLow appends the lowest bytes that fields from i on may have.
func (kb *keyBounds) appendLow(dst []byte, i int) []byte {
	for ; i < len(kb.fields); i++ {
		lo := kb.fields[i][0].lo
		dst = append(dst, lo...)
		if lo[len(lo)-1] == keystring.Above {
			break // behind all keys that begin so
		}
	}
	return dst
}

// appendHigh appends the end of what fields from i on may have: exclusive.
func (kb *keyBounds) appendHigh(dst []byte, i int) []byte {
	for ; i < len(kb.fields); i++ {
		last := kb.fields[i][len(kb.fields[i])-1]
		if point := bytes.TrimSuffix(last.hi, []byte{keystring.Above}); bytes.Equal(point, last.lo) && i+1 < len(kb.fields) {
			dst = append(dst, point...)
			continue
		}
		return append(dst, last.hi...)
	}
	return dst
}

// verdict is what to do about a key.
type verdict int8

const (
	inBounds verdict = iota
	seekTo           // the key is out of bounds; go to the returned one
	behindAll
)

// check decides about a key. For seekTo it appends to dst where to go on: forward, the
// first key >= dst; backward, the last key < dst.
func (kb *keyBounds) check(key, dst []byte, backward bool) (verdict, []byte, error) {
	pos := 0
	for i := range kb.fields {
		n, err := keystring.FieldLen(key[pos:], kb.ord.Desc(i))
		if err != nil {
			return behindAll, nil, err
		}
		f := key[pos : pos+n]
		v, j := locate(kb.fields[i], f)
		if v == 0 {
			pos += n
			continue
		}
		dst = append(dst[:0], key[:pos]...)
		if !backward {
			if j < len(kb.fields[i]) { // in front of interval j
				lo := kb.fields[i][j].lo
				dst = append(dst, lo...)
				if lo[len(lo)-1] != keystring.Above {
					dst = kb.appendLow(dst, i+1)
				}
				return seekTo, dst, nil
			}
			if pos == 0 {
				return behindAll, nil, nil
			}
			return seekTo, append(dst, keystring.Above), nil
		}
		if j > 0 { // behind interval j-1
			return seekTo, append(dst, kb.fields[i][j-1].hi...), nil
		}
		if pos == 0 {
			return behindAll, nil, nil
		}
		return seekTo, dst, nil
	}
	return inBounds, nil, nil
}

// locate finds f among ascending intervals: 0 if it is in one; otherwise 1 and the
// number of the first interval behind it.
func locate(ivs []encInterval, f []byte) (int, int) {
	lo, hi := 0, len(ivs)
	for lo < hi { // the first interval that does not end in front of f
		m := (lo + hi) / 2
		if compareField(f, ivs[m].hi) < 0 {
			hi = m
		} else {
			lo = m + 1
		}
	}
	if lo < len(ivs) && compareField(f, ivs[lo].lo) >= 0 {
		return 0, lo
	}
	return 1, lo
}

// compareField compares a field's bytes with the end of an interval.
func compareField(f, end []byte) int { return bytes.Compare(f, end) }

// keyDoc gives index keys back as documents.
type keyDoc struct {
	ix    *plan.Index
	ord   keystring.Ordering
	dec   keystring.Decoder
	flat  bson.Builder
	out   bson.Builder
	buf   []byte
	plain bool // no dotted path: fields stand as they come
	vals  []bson.Value
	tmp   []byte
}

func newKeyDoc(ix *plan.Index) *keyDoc {
	k := &keyDoc{ix: ix, ord: ix.Ref.(*Index).Ordering, plain: true}
	for _, p := range ix.Parts {
		if bytes.IndexByte([]byte(p.Path), '.') >= 0 {
			k.plain = false
		}
	}
	return k
}

// values decodes a key; the values live until the next call.
func (k *keyDoc) values(key, typeBits []byte) ([]bson.Value, error) {
	k.dec.Reset(key, k.ord, typeBits)
	k.flat.Reset(k.tmp[:0])
	k.vals = k.vals[:0]
	for range k.ix.Parts {
		n := k.flat.Len()
		if err := k.dec.Next(&k.flat, ""); err != nil {
			return nil, err
		}
		v := bson.Value{} // a field that the document did not have appends nothing
		if k.flat.Len() > n {
			v.Type = bson.TypeNull // filled in below
		}
		k.vals = append(k.vals, v)
	}
	d := k.flat.Finish()
	k.tmp = k.flat.Buffer()
	it := d.Iter()
	for i := range k.vals {
		if !k.vals[i].IsMissing() && it.Next() {
			k.vals[i] = it.Value()
		}
	}
	return k.vals, nil
}

// doc decodes a key into a document with the paths of the index; it lives until the
// next call.
func (k *keyDoc) doc(key, typeBits []byte) (bson.Raw, error) {
	d, err := k.decode(key, typeBits)
	if err == nil && k.ix.Collation != nil { // strings cannot be had back
		d = collate.Shown(d.Value()).Doc()
	}
	return d, err
}

func (k *keyDoc) decode(key, typeBits []byte) (bson.Raw, error) {
	if k.plain {
		k.dec.Reset(key, k.ord, typeBits)
		k.out.Reset(k.buf[:0])
		for i := range k.ix.Parts {
			if err := k.dec.Next(&k.out, k.ix.Parts[i].Path); err != nil {
				return nil, err
			}
		}
		d := k.out.Finish()
		k.buf = k.out.Buffer()
		return d, nil
	}
	vals, err := k.values(key, typeBits)
	if err != nil {
		return nil, err
	}
	k.out.Reset(k.buf[:0])
	done := make([]bool, len(vals))
	k.nest(vals, done, "")
	d := k.out.Finish()
	k.buf = k.out.Buffer()
	return d, nil
}

// nest appends the values whose paths begin with prefix, subdocument by subdocument.
func (k *keyDoc) nest(vals []bson.Value, done []bool, prefix string) {
	for i, p := range k.ix.Parts {
		if done[i] || i >= len(vals) || len(p.Path) < len(prefix) || p.Path[:len(prefix)] != prefix {
			continue
		}
		rest := p.Path[len(prefix):]
		if dot := bytes.IndexByte([]byte(rest), '.'); dot >= 0 {
			k.out.Doc(rest[:dot])
			k.nest(vals, done, prefix+rest[:dot+1])
			k.out.End()
			continue
		}
		k.out.Append(rest, vals[i])
		done[i] = true
	}
}
