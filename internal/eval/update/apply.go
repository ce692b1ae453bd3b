package update

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// outcome is what a modifier does to the value it is shown.
type outcome int8

const (
	keep outcome = iota
	put          // in the returned value's place
	drop
)

// modifier is an operator with its argument.
type modifier interface {
	// apply looks at the present value (maybe missing) and returns what becomes of it.
	apply(r *run, v bson.Value) (bson.Value, outcome, error)
	// creates reports whether apply may put a value where there is none.
	creates(r *run) bool
}

// maxBackfill is how many nulls an update may put before a new array element.
const maxBackfill = 1500000

// run is the evaluation of operators on one document. A failed step sets err; all
// later ones do nothing.
type run struct {
	u       *Update
	in      *Input
	doc     bson.Raw // the old document
	dst     []byte
	path    []string // of the place being worked on
	pos     int      // index for `$`, -1 if there is none
	changed bool
	err     error
}

func (u *Update) operators(doc bson.Raw, in *Input) (bson.Raw, bool, error) {
	r := run{u: u, in: in, doc: doc, pos: -1}
	if own := in.Buf; own != nil && !in.Insert {
		r.dst = slices.Grow((*own)[:0], len(doc)+64)
		defer func() { *own = r.dst }()
	} else {
		r.dst = make([]byte, 0, len(doc)+64)
	}
	if in.Details != nil {
		if i, ok := in.Details.Index(); ok {
			r.pos = i
		}
	}
	for _, m := range u.renames {
		if err := m.check(&r); err != nil {
			return nil, false, err
		}
	}
	r.document(u.tree(), doc)
	if r.err != nil {
		return nil, false, r.err
	}
	return bson.Raw(r.dst), r.changed, nil
}

func (r *run) open() int {
	r.dst = append(r.dst, 0, 0, 0, 0)
	return len(r.dst) - 4
}

func (r *run) end(start int) {
	r.dst = closeDoc(r.dst, start)
}

func (r *run) head(t bson.Type, key string) {
	r.dst = appendHead(r.dst, t, key)
}

func (r *run) copy(key string, v bson.Value) {
	r.dst = appendElem(r.dst, key, v)
}

func (r *run) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *run) fullPath() string { return strings.Join(r.path, ".") }

// documentID shows the document's _id in error messages.
func (r *run) documentID() string {
	if id := r.doc.Get("_id"); !id.IsMissing() {
		return "{_id: " + id.String() + "}"
	}
	return "{no id}"
}

// document applies n to doc: existing fields in place, then the new ones.
func (r *run) document(n *node, doc bson.Raw) {
	start := r.open()
	left := len(n.kids)
	if n.pos != nil || len(n.arr) > 0 {
		n = r.resolve(n, doc)
		left = len(n.kids)
	}
	var seen uint64
	var more map[int]bool // of children from the 65th on
	it := doc.Iter()
	for r.err == nil && it.Next() {
		i := -1
		if left > 0 {
			i = indexOf(n.kids, it.Key())
		}
		if i < 0 {
			r.copy(it.Key(), it.Value())
			continue
		}
		left--
		if i < 64 {
			seen |= 1 << i
		} else {
			if more == nil {
				more = map[int]bool{}
			}
			more[i] = true
		}
		r.existing(n.kids[i], it.Key(), it.Value(), false)
	}
	for i, t := range n.kids {
		if left == 0 || r.err != nil {
			break
		}
		if (i < 64 && seen&(1<<i) != 0) || more[i] {
			continue
		}
		r.missing(t, t.name)
	}
	r.end(start)
}

func indexOf(kids []*target, key string) int {
	for i, t := range kids {
		if t.name == key {
			return i
		}
	}
	return -1
}

// resolve rewrites positional children for a place that is no array: `$` becomes the
// index as a name, `$[]` is an error.
func (r *run) resolve(n *node, doc bson.Raw) *node {
	if len(n.arr) > 0 {
		r.fail(badValue("Cannot apply array updates to non-array element %s: %s", r.lastName(), doc))
		return &node{}
	}
	if r.pos < 0 {
		r.fail(badValue("The positional operator did not find the match needed from the query."))
		return &node{}
	}
	t := *n.pos
	t.name, t.index = strconv.Itoa(r.pos), r.pos
	out, err := merge("", &target{sub: &node{kids: n.kids}}, &target{sub: &node{kids: []*target{&t}}})
	if err != nil {
		r.fail(err)
		return &node{}
	}
	return out.sub
}

func (r *run) lastName() string {
	if len(r.path) == 0 {
		return ""
	}
	return r.path[len(r.path)-1]
}

// existing applies t to a value that is there.
func (r *run) existing(t *target, key string, v bson.Value, inArray bool) {
	r.path = append(r.path, key)
	defer func() { r.path = r.path[:len(r.path)-1] }()
	if t.mod != nil {
		r.modify(t.mod, key, v, inArray)
		return
	}
	switch v.Type {
	case bson.TypeDocument:
		r.head(v.Type, key)
		r.document(t.sub, bson.Raw(v.Data))
	case bson.TypeArray:
		r.head(v.Type, key)
		r.array(t.sub, v)
	default:
		r.blocked(t.sub, key, v)
	}
}

// blocked handles a path that goes on below a scalar.
func (r *run) blocked(n *node, key string, v bson.Value) {
	if len(n.arr) > 0 {
		r.fail(badValue("Cannot apply array updates to non-array element %s: %s", key, v))
		return
	}
	if n.pos != nil && r.pos < 0 {
		r.fail(badValue("The positional operator did not find the match needed from the query."))
		return
	}
	if name, ok := n.firstCreated(r); ok {
		if name == "$" {
			name = strconv.Itoa(r.pos)
		}
		r.fail(mongoerr.New(mongoerr.PathNotViable, "Cannot create field '%s' in element {%s: %s}", name, key, v))
		return
	}
	r.copy(key, v)
}

// firstCreated returns the first child that would be created.
func (n *node) firstCreated(r *run) (string, bool) {
	for _, t := range n.kids {
		if t.creates(r) {
			return t.name, true
		}
	}
	if n.pos != nil && n.pos.creates(r) {
		return "$", true
	}
	return "", false
}

func (r *run) modify(m modifier, key string, v bson.Value, inArray bool) {
	next, what, err := m.apply(r, v)
	if err != nil {
		r.fail(err)
		return
	}
	switch what {
	case keep:
		if !v.IsMissing() {
			r.copy(key, v)
		}
	case put:
		// Only an insert may make such a field at the top; below it all may.
		if top := r.path[0]; top[0] == '$' && !r.in.Insert {
			r.fail(mongoerr.New(mongoerr.DollarPrefixedFieldName, "The dollar ($) prefixed field '%s' in '%s' is not valid for storage.", top, r.fullPath()))
			return
		}
		r.changed = true
		r.copy(key, next)
	case drop:
		switch {
		case v.IsMissing():
		case inArray && v.Type == bson.TypeNull:
			r.copy(key, v)
		case inArray: // an array keeps its length
			r.changed = true
			r.head(bson.TypeNull, key)
		default:
			r.changed = true
		}
	}
}

// missing applies t where nothing is, creating documents on the way if need be.
func (r *run) missing(t *target, key string) {
	r.path = append(r.path, key)
	defer func() { r.path = r.path[:len(r.path)-1] }()
	if t.mod != nil {
		r.modify(t.mod, key, bson.Value{}, false)
		return
	}
	if len(t.sub.arr) > 0 {
		r.fail(badValue("The path '%s' must exist in the document in order to apply array updates.", r.fullPath()))
		return
	}
	if t.sub.pos != nil && r.pos < 0 {
		r.fail(badValue("The positional operator did not find the match needed from the query."))
		return
	}
	if !t.creates(r) {
		return
	}
	// What is below may turn out to create nothing (a $rename without a source).
	mark, was := len(r.dst), r.changed
	r.changed = false
	r.head(bson.TypeDocument, key)
	r.document(t.sub, bson.Empty)
	if !r.changed {
		r.dst = r.dst[:mark]
	}
	r.changed = r.changed || was
}

// array applies n to the elements of an array.
func (r *run) array(n *node, arr bson.Value) {
	if n.pos != nil && r.pos < 0 {
		r.fail(badValue("The positional operator did not find the match needed from the query."))
		return
	}
	start := r.open()
	it := bson.Raw(arr.Data).Iter()
	count := 0
	for ; r.err == nil && it.Next(); count++ {
		t := r.elementTarget(n, count, it.Value())
		if t == nil {
			r.copy(it.Key(), it.Value())
			continue
		}
		r.existing(t, it.Key(), it.Value(), true)
	}
	if n.pos != nil && r.pos >= count {
		t := *n.pos
		t.name, t.index = strconv.Itoa(r.pos), r.pos
		count = r.newElement(&t, arr, count)
	}
	for _, t := range n.kids {
		if r.err == nil && (t.index < 0 || t.index >= count) {
			count = r.newElement(t, arr, count)
		}
	}
	r.end(start)
}

// newElement creates an array element past the end and returns the new length.
func (r *run) newElement(t *target, arr bson.Value, count int) int {
	if !t.creates(r) {
		return count
	}
	if t.index < 0 {
		r.fail(mongoerr.New(mongoerr.PathNotViable, "Cannot create field '%s' in element {%s: %s}", t.name, r.lastName(), arr))
		return count
	}
	if t.index < count {
		return count
	}
	if t.index-count > maxBackfill {
		r.fail(mongoerr.New(mongoerr.CannotBackfillArray, "can't backfill more than %d elements", maxBackfill))
		return count
	}
	mark := len(r.dst)
	for i := count; i < t.index; i++ {
		r.head(bson.TypeNull, strconv.Itoa(i))
	}
	filled := len(r.dst)
	r.missing(t, t.name)
	if len(r.dst) == filled { // nothing came of it
		r.dst = r.dst[:mark]
		return count
	}
	return t.index + 1
}

// elementTarget joins all that applies to element i of an array.
func (r *run) elementTarget(n *node, i int, v bson.Value) *target {
	var t *target
	join := func(o *target) {
		if t == nil {
			t = o
			return
		}
		m, err := merge(r.fullPath()+"."+strconv.Itoa(i), t, o)
		if err != nil {
			r.fail(err)
			return
		}
		t = m
	}
	for _, k := range n.kids {
		if k.index == i {
			join(k)
		}
	}
	if n.pos != nil && r.pos == i {
		join(n.pos)
	}
	for _, k := range n.arr {
		if k.name != "" {
			ok, err := r.filterElement(k.name, v)
			if err != nil {
				r.fail(err)
				return nil
			}
			if !ok {
				continue
			}
		}
		join(k)
	}
	return t
}

func (r *run) filterElement(id string, v bson.Value) (bool, error) {
	return matchWrapped(r.u.filters[id], id, v)
}

// matchWrapped shows m the document {name: v}.
func matchWrapped(m *match.Matcher, name string, v bson.Value) (bool, error) {
	var buf [128]byte
	return m.Match(bson.NewBuilder(buf[:0]).Append(name, v).Finish())
}
