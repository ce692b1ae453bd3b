package update

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/cairndb/cairn/internal/mongoerr"
)

// node is one level of the tree of update paths.
type node struct {
	kids []*target // named children, sorted once parsing is done
	pos  *target   // the child `$`
	arr  []*target // the children `$[]` (name "") and `$[id]`
}

// target is what happens at one place: a modifier, or more below.
type target struct {
	name  string
	index int // array index that name may stand for, or -1
	mod   modifier
	sub   *node
}

// arrayIndex returns the array position that a name stands for, or -1.
func arrayIndex(s string) int {
	if s == "" || len(s) > 9 || s[0] < '0' || s[0] > '9' || (len(s) > 1 && s[0] == '0') {
		return -1
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// child returns the entry for one path part, made if there is none.
func (n *node) child(part string) (t *target, conflict bool) {
	switch {
	case part == "$":
		if len(n.arr) > 0 {
			return nil, true
		}
		if n.pos == nil {
			n.pos = &target{name: part, index: -1}
		}
		return n.pos, false
	case strings.HasPrefix(part, "$[") && strings.HasSuffix(part, "]"):
		if n.pos != nil || len(n.kids) > 0 {
			return nil, true
		}
		id := part[2 : len(part)-1]
		for _, t := range n.arr {
			if t.name == id {
				return t, false
			}
		}
		t = &target{name: id, index: -1}
		n.arr = append(n.arr, t)
		return t, false
	}
	if len(n.arr) > 0 {
		return nil, true
	}
	for _, t := range n.kids {
		if t.name == part {
			return t, false
		}
	}
	t = &target{name: part, index: arrayIndex(part)}
	n.kids = append(n.kids, t)
	return t, false
}

// insert puts m at path, whose parts these are.
func (n *node) insert(path string, parts []string, m modifier) error {
	for i, part := range parts {
		t, conflict := n.child(part)
		last := i == len(parts)-1
		at := strings.Join(parts[:i+1], ".")
		switch {
		case conflict:
			return conflictAt(path, strings.Join(parts[:i], "."))
		case t.mod != nil, last && t.sub != nil:
			return conflictAt(path, at)
		case last:
			t.mod = m
		case t.sub == nil:
			t.sub = &node{}
		}
		n = t.sub
	}
	return nil
}

func conflictAt(path, at string) error {
	return mongoerr.New(mongoerr.ConflictingUpdateOperators, "Updating the path '%s' would create a conflict at '%s'", path, at)
}

// sort orders children as MongoDB does: numbers by value, other names as strings. New
// fields are created in this order.
func (n *node) sort() {
	slices.SortFunc(n.kids, func(a, b *target) int { return compareNames(a, b) })
	for _, t := range n.kids {
		if t.sub != nil {
			t.sub.sort()
		}
	}
	if n.pos != nil && n.pos.sub != nil {
		n.pos.sub.sort()
	}
	for _, t := range n.arr {
		if t.sub != nil {
			t.sub.sort()
		}
	}
}

func compareNames(a, b *target) int {
	if a.index >= 0 && b.index >= 0 {
		return cmp.Compare(a.index, b.index)
	}
	return strings.Compare(a.name, b.name)
}

// merge joins what two positional forms want of the same array element.
func merge(path string, a, b *target) (*target, error) {
	if a.mod != nil || b.mod != nil {
		return nil, mongoerr.New(mongoerr.ConflictingUpdateOperators, "Update created a conflict at '%s'", path)
	}
	sub := &node{}
	var err error
	mergeOne := func(x, y *target) *target {
		if x == nil || y == nil || err != nil {
			if x == nil {
				return y
			}
			return x
		}
		var t *target
		t, err = merge(path+"."+x.name, x, y)
		return t
	}
	byName := func(xs, ys []*target) (out []*target) {
		out = slices.Clone(xs)
		for _, y := range ys {
			if i := slices.IndexFunc(out, func(x *target) bool { return x.name == y.name }); i >= 0 {
				out[i] = mergeOne(out[i], y)
			} else {
				out = append(out, y)
			}
		}
		return out
	}
	sub.kids = byName(a.sub.kids, b.sub.kids)
	sub.arr = byName(a.sub.arr, b.sub.arr)
	sub.pos = mergeOne(a.sub.pos, b.sub.pos)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(sub.kids, compareNames)
	return &target{name: a.name, index: a.index, sub: sub}, nil
}

// creates reports whether t makes its path where it is not there.
func (t *target) creates(r *run) bool {
	if t.mod != nil {
		return t.mod.creates(r)
	}
	if t.sub.pos != nil && t.sub.pos.creates(r) {
		return true
	}
	for _, k := range t.sub.kids {
		if k.creates(r) {
			return true
		}
	}
	return false
}
