package match

import (
	"strconv"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
)

// Path is a compiled dotted path.
type Path struct {
	str   string
	parts []string
	index []int // value of a numeric part, -1 for others
}

// NewPath compiles a dotted path. The empty string is the path of one empty name.
func NewPath(s string) *Path {
	p := &Path{str: s, parts: strings.Split(s, ".")}
	for _, part := range p.parts {
		p.index = append(p.index, arrayIndex(part))
	}
	return p
}

// selfPath has no parts: the predicate is on the value itself.
var selfPath = &Path{}

// String returns the dotted form.
func (p *Path) String() string { return p.str }

// Parts returns the components; do not change them.
func (p *Path) Parts() []string { return p.parts }

// Index returns the array index that part i may stand for, or -1.
func (p *Path) Index(i int) int { return p.index[i] }

// arrayIndex returns the array position that a path part may name, or -1: digits
// without leading zeros.
func arrayIndex(s string) int {
	if s == "" || len(s) > 9 || (len(s) > 1 && s[0] == '0') {
		return -1
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return -1
		}
	}
	n, _ := strconv.Atoi(s)
	return n
}

// arrayMode says what a walk does with an array at the end of its path.
type arrayMode int8

const (
	elemsAndArray arrayMode = iota // its elements, then the array itself
	arrayOnly                      // the array itself
)

// valueTest is the part of a leaf that looks at one value.
type valueTest interface {
	matchElem(v bson.Value) (bool, error)
}

// walk shows t the values at the path, in MongoDB's order, until one matches. A path
// that leads nowhere shows a missing value once, except through an array: there only
// elements that are documents are followed. d takes the index of the outermost array
// that was implicitly entered on the way to the match.
func (p *Path) walk(doc bson.Raw, mode arrayMode, t valueTest, d *Details) (bool, error) {
	return p.walkDoc(doc, 0, mode, t, d)
}

func (p *Path) walkDoc(doc bson.Raw, i int, mode arrayMode, t valueTest, d *Details) (bool, error) {
	for {
		v := doc.Get(p.parts[i])
		i++
		switch {
		case v.Type == bson.TypeArray:
			if i == len(p.parts) && mode == arrayOnly {
				return t.matchElem(v)
			}
			return p.walkArray(v, i, mode, t, d)
		case i == len(p.parts):
			return t.matchElem(v)
		case v.Type == bson.TypeDocument:
			doc = bson.Raw(v.Data)
		default:
			return t.matchElem(bson.Value{})
		}
	}
}

// walkArray goes through array a with the parts from i on still to go.
func (p *Path) walkArray(a bson.Value, i int, mode arrayMode, t valueTest, d *Details) (bool, error) {
	it := bson.Raw(a.Data).Iter()
	if i == len(p.parts) {
		for n := 0; it.Next(); n++ {
			if ok, err := t.matchElem(it.Value()); ok || err != nil {
				d.set(n)
				return ok, err
			}
		}
		return t.matchElem(a)
	}
	last := i+1 == len(p.parts)
	for n := 0; it.Next(); n++ {
		v := it.Value()
		if v.Type == bson.TypeDocument {
			if ok, err := p.walkDoc(bson.Raw(v.Data), i, mode, t, nil); ok || err != nil {
				d.set(n)
				return ok, err
			}
		}
		if n != p.index[i] {
			continue
		}
		var ok bool
		var err error
		switch {
		case last:
			if ok, err = t.matchElem(v); ok {
				d.set(n)
			}
		case v.Type == bson.TypeDocument:
			ok, err = p.walkDoc(bson.Raw(v.Data), i+1, mode, t, d)
		case v.Type == bson.TypeArray:
			ok, err = p.walkArray(v, i+1, mode, t, d)
		}
		if ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// EachLeaf calls f with every value that the path leads to, arrays on the way and at
// its end entered once: what the distinct command lists. Missing values are not shown.
func (p *Path) EachLeaf(doc bson.Raw, f func(v bson.Value)) { p.leaves(doc.Value(), 0, f) }

func (p *Path) leaves(v bson.Value, i int, f func(v bson.Value)) {
	switch {
	case i == len(p.parts):
		if v.Type != bson.TypeArray {
			f(v)
			return
		}
		for e := range bson.Raw(v.Data).Values() {
			f(e)
		}
	case v.Type == bson.TypeDocument:
		if next := bson.Raw(v.Data).Get(p.parts[i]); !next.IsMissing() {
			p.leaves(next, i+1, f)
		}
	case v.Type == bson.TypeArray:
		for n, it := 0, bson.Raw(v.Data).Iter(); it.Next(); n++ {
			e := it.Value()
			if e.Type == bson.TypeDocument {
				p.leaves(e, i, f)
			}
			if n == p.index[i] {
				p.leaves(e, i+1, f)
			}
		}
	}
}

// Details receives how a document matched.
type Details struct {
	index int // one more than the array index, 0 for none
}

// Index returns the index in the outermost array that was implicitly entered by the
// predicate that matched: what the positional operator `$` stands for.
func (d *Details) Index() (int, bool) { return d.index - 1, d.index > 0 }

// Reset forgets what was recorded.
func (d *Details) Reset() { d.index = 0 }

func (d *Details) set(i int) {
	if d != nil {
		d.index = i + 1
	}
}

func (d *Details) clear() {
	if d != nil {
		d.index = 0
	}
}
