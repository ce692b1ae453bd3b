package catalog

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// keySpan is one index key inside an arena: the KeyString, then the type bits.
type keySpan struct{ start, bits, end int }

// keyArena collects index keys; it is reused from one write to the next.
type keyArena struct {
	buf   []byte
	spans []keySpan
	tb    keystring.TypeBits
	// multikey, after appendKeys, has for each field of the index the components of its
	// path that led to an array, as bits.
	multikey [keystring.MaxFields]uint64
	states   []pathState
}

func (a *keyArena) reset() {
	a.buf, a.spans = a.buf[:0], a.spans[:0]
}

func (a *keyArena) key(s keySpan) []byte  { return a.buf[s.start:s.bits:s.bits] }
func (a *keyArena) bits(s keySpan) []byte { return a.buf[s.bits:s.end:s.end] }

// keyFields is how an index makes keys: the paths of its fields, and their order.
type keyFields struct {
	paths  [][]string
	ord    keystring.Ordering
	sparse bool
	coll   *collate.Collator // strings are their keys; nil: themselves
}

func newKeyFields(spec *IndexSpec) keyFields {
	pattern := spec.Key
	f := keyFields{ord: keystring.NewOrdering(pattern), sparse: spec.Sparse, coll: spec.Collation}
	for name := range pattern.Elems() {
		f.paths = append(f.paths, strings.Split(strings.Clone(name), "."))
	}
	return f
}

// pathState is how far one field of the index has got in a document.
type pathState struct {
	cur  bson.Value // to go on from; the field's value once done
	part int        // the next component of the path
	done bool
}

// appendKeys appends the keys of doc to a: distinct, in order. Equal keys that
// differ in type bits count as one (the first made).
func (f *keyFields) appendKeys(a *keyArena, doc bson.Raw) error {
	clear(a.multikey[:len(f.paths)])
	if len(f.paths) == 1 && len(f.paths[0]) == 1 {
		if v := doc.Get(f.paths[0][0]); v.Type != bson.TypeArray {
			return f.emitOne(a, v)
		}
	}
	first := len(a.spans)
	a.states = a.states[:0]
	for range f.paths {
		a.states = append(a.states, pathState{cur: doc.Value()})
	}
	if err := f.expand(a, 0); err != nil {
		return err
	}
	a.distinct(first)
	return nil
}

// emitOne is the fast way of an index on one field that holds no array.
func (f *keyFields) emitOne(a *keyArena, v bson.Value) (err error) {
	if v.IsMissing() {
		if f.sparse {
			return nil
		}
		v.Type = bson.TypeNull
	}
	if f.coll != nil {
		if v, err = f.collated(v); err != nil {
			return err
		}
	}
	a.begin()
	a.buf = keystring.Append(a.buf, v, f.ord.Desc(0), &a.tb)
	a.finish()
	return nil
}

// collated is the value that stands in the index for v. A string whose key cannot be made is
// refused: it would be neither found nor known as a duplicate.
func (f *keyFields) collated(v bson.Value) (bson.Value, error) {
	if !collate.HasString(v) {
		return v, nil
	}
	if err := f.coll.Err(); err != nil {
		return v, err
	}
	return f.coll.Value(v), nil
}

func (a *keyArena) begin() {
	a.tb.Reset()
	a.spans = append(a.spans, keySpan{start: len(a.buf)})
}

func (a *keyArena) finish() {
	s := &a.spans[len(a.spans)-1]
	s.bits = len(a.buf)
	a.buf = append(a.buf, a.tb.Bytes()...)
	s.end = len(a.buf)
}

// expand resolves the states from a.states[at:]: fields walk on through documents
// until they have their value or meet an array, which all that meet one must share. Each
// of its elements then gives keys of its own.
func (f *keyFields) expand(a *keyArena, at int) error {
	n := len(f.paths)
	st := a.states[at : at+n]
	var arr bson.Value
	arrField, missing := -1, 0
	for i := range st {
		if st[i].done {
			continue
		}
		f.walk(&st[i], i)
		switch {
		case !st[i].done && arrField < 0:
			arr, arrField = st[i].cur, i
		case !st[i].done && unsafe.SliceData(arr.Data) != unsafe.SliceData(st[i].cur.Data):
			return mongoerr.New(mongoerr.CannotIndexParallelArrays, "cannot index parallel arrays [%s] [%s]",
				f.paths[i][st[i].part-1], f.paths[arrField][st[arrField].part-1])
		case st[i].done && st[i].cur.IsMissing():
			missing++
		}
	}
	if f.sparse && missing == n {
		return nil
	}
	if arrField < 0 {
		if f.coll != nil {
			for i := range st {
				v, err := f.collated(st[i].cur)
				if err != nil {
					return err
				}
				st[i].cur = v
			}
		}
		a.begin()
		for i := range st {
			v := st[i].cur
			if v.IsMissing() {
				v.Type = bson.TypeNull
			}
			a.buf = keystring.Append(a.buf, v, f.ord.Desc(i), &a.tb)
		}
		a.finish()
		return nil
	}
	return f.expandArray(a, at, arr)
}

// walk goes on from s until it is done or stands at an array.
func (f *keyFields) walk(s *pathState, field int) {
	path := f.paths[field]
	for {
		switch {
		case s.cur.Type == bson.TypeArray:
			return
		case s.part == len(path):
			s.done = true
			return
		case s.cur.Type == bson.TypeDocument:
			s.cur = s.cur.Doc().Get(path[s.part])
			s.part++
		default:
			s.cur, s.done = bson.Value{}, true
			return
		}
	}
}

func (f *keyFields) expandArray(a *keyArena, at int, arr bson.Value) error {
	n := len(f.paths)
	var positional [keystring.MaxFields]bool
	for i, s := range a.states[at : at+n] {
		if s.done {
			continue
		}
		pos, err := f.isPositional(arr, s, i)
		if err != nil {
			return err
		}
		if positional[i] = pos; !pos {
			a.multikey[i] |= 1 << min(s.part-1, 63)
		}
	}
	one := func(elem bson.Value, empty bool) error {
		a.states = append(a.states[:at+n], a.states[at:at+n]...)
		for i := range n {
			s := &a.states[at+n+i]
			switch path := f.paths[i]; {
			case s.done:
			case positional[i]:
				s.cur = arr.Doc().Get(path[s.part])
				s.part++
			case s.part == len(path) && empty:
				s.cur, s.done = bson.Value{Type: bson.TypeUndefined}, true
			case s.part == len(path):
				s.cur, s.done = elem, true
			case elem.Type == bson.TypeDocument:
				s.cur = elem
			default: // a scalar, or an array directly inside the array, has no such field
				s.cur = bson.Value{}
			}
		}
		return f.expand(a, at+n)
	}
	if arr.Doc().IsEmpty() {
		return one(bson.Value{}, true)
	}
	for e := range arr.Doc().Values() {
		if err := one(e, false); err != nil {
			return err
		}
	}
	return nil
}

// isPositional reports whether the next component names an element of arr by its
// place, as in "a.0"; it is ambiguous if an element also has a field of that name.
func (f *keyFields) isPositional(arr bson.Value, s pathState, field int) (bool, error) {
	path := f.paths[field]
	if s.part == len(path) || !isArrayIndex(path[s.part]) {
		return false, nil
	}
	for e := range arr.Doc().Values() {
		if e.Type == bson.TypeDocument && e.Doc().Has(path[s.part]) {
			text, _ := extjson.MarshalValue(arr, extjson.Relaxed)
			return false, mongoerr.New(16746, "Ambiguous field name found in array (do not use numeric field names in embedded elements in an array), field: '%s' for array: %s",
				path[s.part], text)
		}
	}
	return true, nil
}

func isArrayIndex(s string) bool {
	if s == "" || (s[0] == '0' && len(s) > 1) {
		return false
	}
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}

// distinct sorts the spans from first on and drops equal keys.
func (a *keyArena) distinct(first int) {
	s := a.spans[first:]
	if len(s) < 2 {
		return
	}
	slices.SortStableFunc(s, func(x, y keySpan) int { return bytes.Compare(a.key(x), a.key(y)) })
	s = slices.CompactFunc(s, func(x, y keySpan) bool { return bytes.Equal(a.key(x), a.key(y)) })
	a.spans = a.spans[:first+len(s)]
}

// unchanged reports whether old and new surely give the same keys: each field's
// first component has the same bytes in both.
func (f *keyFields) unchanged(old, new bson.Raw) bool {
	for _, p := range f.paths {
		a, b := old.Get(p[0]), new.Get(p[0])
		if a.Type != b.Type || !bytes.Equal(a.Data, b.Data) {
			return false
		}
	}
	return true
}
