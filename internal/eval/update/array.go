package update

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/eval/sortkey"
)

func join(parts []string) string { return strings.Join(parts, ".") }

// arrayOf builds an array value.
func arrayOf(vs []bson.Value) bson.Value {
	n := 16
	for _, v := range vs {
		n += len(v.Data) + 8
	}
	b := bson.NewArrayBuilder(make([]byte, 0, n))
	for _, v := range vs {
		b.Append("", v)
	}
	return bson.Value{Type: bson.TypeArray, Data: b.Finish()}
}

// appendTo adds elements to an array without looking at those that it has.
func appendTo(arr bson.Value, vs []bson.Value) bson.Value {
	n := bson.Raw(arr.Data).Len()
	size := len(arr.Data)
	for _, v := range vs {
		size += len(v.Data) + 12
	}
	out := append(make([]byte, 0, size), arr.Data[:len(arr.Data)-1]...)
	for i, v := range vs {
		out = append(out, byte(v.Type))
		out = strconv.AppendInt(out, int64(n+i), 10)
		out = append(out, 0)
		out = append(out, v.Data...)
	}
	out = append(out, 0)
	binary.LittleEndian.PutUint32(out, uint32(len(out)))
	return bson.Value{Type: bson.TypeArray, Data: out}
}

func elements(v bson.Value) []bson.Value { return slices.Collect(bson.Raw(v.Data).Values()) }

// push is $push with its modifiers.
type push struct {
	each     []bson.Value
	position int64 // math.MaxInt64: at the end
	slice    int64
	hasSlice bool
	sort     *sortkey.Pattern // by fields of the elements
	sortDir  int              // by the elements themselves
	coll     *collate.Collator
}

func parsePush(p *parser, _ string, v bson.Value) (modifier, error) {
	m := &push{position: math.MaxInt64, coll: p.opts.Match.Collation}
	d := bson.Raw(v.Data)
	if v.Type != bson.TypeDocument || !d.Has("$each") {
		m.each = []bson.Value{v}
		return m, nil
	}
	for k, arg := range d.Elems() {
		if err := m.clause(k, arg); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *push) clause(name string, arg bson.Value) (err error) {
	switch name {
	case "$each":
		if arg.Type != bson.TypeArray {
			return badValue("The argument to $each in $push must be an array but it was of type: %s", arg.Type)
		}
		m.each = elements(arg)
	case "$position":
		var ok bool
		if m.position, ok = arg.AsInt64(); !ok {
			return badValue("The value for $position must be an integer value, not of type: %s", arg.Type)
		}
	case "$slice":
		var ok bool
		if m.slice, ok = arg.AsInt64(); !ok {
			return badValue("The value for $slice must be an integer value but was given type: %s", arg.Type)
		}
		m.hasSlice = true
	case "$sort":
		return m.parseSort(arg)
	default:
		return badValue("Unrecognized clause in $push: %s", name)
	}
	return nil
}

const badSort = "The $sort is invalid: use 1/-1 to sort the whole element, or {field:1/-1} to sort embedded fields"

func (m *push) parseSort(arg bson.Value) error {
	if n, ok := arg.AsInt64(); ok {
		if n != 1 && n != -1 {
			return badValue("The $sort element value must be either 1 or -1")
		}
		m.sortDir = int(n)
		return nil
	}
	if arg.Type != bson.TypeDocument {
		return badValue(badSort)
	}
	d := bson.Raw(arg.Data)
	if d.IsEmpty() {
		return badValue("The $sort pattern is empty when it should be a set of fields.")
	}
	for k, v := range d.Elems() {
		if n, ok := v.AsInt64(); !ok || (n != 1 && n != -1) {
			return badValue("The $sort element value must be either 1 or -1")
		}
		if k == "" || strings.HasPrefix(k, ".") || strings.HasSuffix(k, ".") || strings.Contains(k, "..") {
			return badValue("The $sort field is a dotted field but has an empty part: %s", k)
		}
	}
	p, err := sortkey.Parse(d)
	if err == nil {
		p.Collation = m.coll
	}
	m.sort = p
	return err
}

// plain reports whether m only appends.
func (m *push) plain() bool {
	return m.position == math.MaxInt64 && !m.hasSlice && m.sort == nil && m.sortDir == 0
}

func (*push) creates(*run) bool { return true }

func (m *push) apply(r *run, v bson.Value) (bson.Value, outcome, error) {
	if !v.IsMissing() && v.Type != bson.TypeArray {
		return v, keep, badValue("The field '%s' must be an array but is of type %s in document %s", r.fullPath(), v.Type, r.documentID())
	}
	if m.plain() && !v.IsMissing() {
		if len(m.each) == 0 {
			return v, keep, nil
		}
		return appendTo(v, m.each), put, nil
	}
	var vs []bson.Value
	if !v.IsMissing() {
		vs = elements(v)
	}
	at := m.position
	if at < 0 {
		at = max(0, int64(len(vs))+at)
	}
	vs = slices.Insert(vs, int(min(at, int64(len(vs)))), m.each...)
	if err := m.order(vs); err != nil {
		return v, keep, err
	}
	if m.hasSlice {
		n := int64(len(vs))
		if m.slice >= 0 {
			vs = vs[:min(n, m.slice)]
		} else {
			vs = vs[max(0, n+m.slice):]
		}
	}
	next, what, err := replaceWith(v, arrayOf(vs))
	return next, what, err
}

func (m *push) order(vs []bson.Value) error {
	switch {
	case m.sortDir != 0:
		slices.SortStableFunc(vs, func(a, b bson.Value) int { return m.sortDir * m.coll.Compare(a, b) })
	case m.sort != nil:
		keys := make([]struct {
			k sortkey.Key
			v bson.Value
		}, len(vs))
		for i, v := range vs {
			doc := bson.Empty
			if v.Type == bson.TypeDocument {
				doc = bson.Raw(v.Data)
			}
			k, err := m.sort.Key(nil, doc)
			if err != nil {
				return err
			}
			keys[i].k, keys[i].v = k, v
		}
		slices.SortStableFunc(keys, func(a, b struct {
			k sortkey.Key
			v bson.Value
		}) int {
			return m.sort.CompareKeys(a.k, b.k)
		})
		for i := range keys {
			vs[i] = keys[i].v
		}
	}
	return nil
}

// addToSet is $addToSet.
type addToSet struct {
	each []bson.Value
	coll *collate.Collator
}

func parseAddToSet(p *parser, _ string, v bson.Value) (modifier, error) {
	m := addToSet{[]bson.Value{v}, p.opts.Match.Collation}
	if v.Type == bson.TypeDocument {
		d := bson.Raw(v.Data)
		if first, arg := d.First(); first == "$each" {
			if arg.Type != bson.TypeArray {
				return nil, typeMismatch("The argument to $each in $addToSet must be an array but it was of type %s", arg.Type)
			}
			if d.Len() > 1 {
				return nil, badValue("Found unexpected fields after $each in $addToSet: %s", d)
			}
			m.each = m.each[:0]
			for _, e := range elements(arg) {
				m.each = m.appendNew(m.each, e)
			}
		}
	}
	return m, nil
}

func (m addToSet) appendNew(vs []bson.Value, v bson.Value) []bson.Value {
	for _, o := range vs {
		if m.coll.Equal(o, v) {
			return vs
		}
	}
	return append(vs, v)
}

func (addToSet) creates(*run) bool { return true }

func (m addToSet) apply(r *run, v bson.Value) (bson.Value, outcome, error) {
	if v.IsMissing() {
		return arrayOf(m.each), put, nil
	}
	if v.Type != bson.TypeArray {
		return v, keep, badValue("Cannot apply $addToSet to non-array field. Field named '%s' has non-array type %s", r.lastName(), v.Type)
	}
	vs := elements(v)
	n := len(vs)
	for _, e := range m.each {
		vs = m.appendNew(vs, e)
	}
	if len(vs) == n {
		return v, keep, nil
	}
	return arrayOf(vs), put, nil
}

// pop is $pop.
type pop struct{ first bool }

func parsePop(_ *parser, path string, v bson.Value) (modifier, error) {
	if !v.IsNumber() {
		return nil, failedToParse("Expected a number in: %s: %s", path, v)
	}
	n, ok := v.AsInt64()
	if !ok {
		return nil, failedToParse("Expected an integer: %s: %s", path, v)
	}
	if n != 1 && n != -1 {
		return nil, failedToParse("$pop expects 1 or -1, found: %d", n)
	}
	return pop{n == -1}, nil
}

func (pop) creates(*run) bool { return false }

func (m pop) apply(r *run, v bson.Value) (bson.Value, outcome, error) {
	if v.IsMissing() {
		return v, keep, nil
	}
	if v.Type != bson.TypeArray {
		return v, keep, typeMismatch("Path '%s' contains an element of non-array type '%s'", r.fullPath(), v.Type)
	}
	vs := elements(v)
	switch {
	case len(vs) == 0:
		return v, keep, nil
	case m.first:
		vs = vs[1:]
	default:
		vs = vs[:len(vs)-1]
	}
	return arrayOf(vs), put, nil
}

// pull is $pull and $pullAll: it removes the elements that test accepts.
type pull struct {
	name string
	test func(v bson.Value) (bool, error)
}

func parsePullAll(p *parser, _ string, v bson.Value) (modifier, error) {
	if v.Type != bson.TypeArray {
		return nil, badValue("$pullAll requires an array argument but was given a %s", v.Type)
	}
	vs := elements(v)
	return pull{"$pullAll", func(e bson.Value) (bool, error) {
		return slices.ContainsFunc(vs, func(o bson.Value) bool { return p.opts.Match.Collation.Equal(o, e) }), nil
	}}, nil
}

func parsePull(p *parser, _ string, v bson.Value) (modifier, error) {
	operators := false
	if v.Type == bson.TypeDocument {
		first, _ := bson.Raw(v.Data).First()
		operators = strings.HasPrefix(first, "$") && first != "$or" && first != "$and" && first != "$nor" &&
			first != "$ref" && first != "$id" && first != "$db"
	}
	switch {
	case operators || v.Type == bson.TypeRegex:
		m, err := match.Compile(bson.D("", v), p.opts.Match)
		if err != nil {
			return nil, err
		}
		return pull{"$pull", func(e bson.Value) (bool, error) { return matchWrapped(m, "", e) }}, nil
	case v.Type == bson.TypeDocument:
		m, err := match.Compile(bson.Raw(v.Data), p.opts.Match)
		if err != nil {
			return nil, err
		}
		return pull{"$pull", func(e bson.Value) (bool, error) {
			if e.Type != bson.TypeDocument {
				return false, nil
			}
			return m.Match(bson.Raw(e.Data))
		}}, nil
	}
	return pull{"$pull", func(e bson.Value) (bool, error) { return p.opts.Match.Collation.Equal(e, v), nil }}, nil
}

func (pull) creates(*run) bool { return false }

func (m pull) apply(_ *run, v bson.Value) (bson.Value, outcome, error) {
	if v.IsMissing() {
		return v, keep, nil
	}
	if v.Type != bson.TypeArray {
		return v, keep, badValue("Cannot apply %s to a non-array value", m.name)
	}
	var left []bson.Value
	n := 0
	for e := range bson.Raw(v.Data).Values() {
		n++
		gone, err := m.test(e)
		if err != nil {
			return v, keep, err
		}
		if !gone {
			left = append(left, e)
		}
	}
	if len(left) == n {
		return v, keep, nil
	}
	return arrayOf(left), put, nil
}
