package find

import (
	"fmt"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
)

// Filter is a compiled filter.
type Filter struct {
	conds []cond
	// OnlyID tells that the filter speaks of _id alone, by equality or $in: an entry shows
	// by itself whether it is about such a document.
	OnlyID bool
}

type cond struct {
	path string
	test func(v bson.Value) bool // missing values included
}

// Compile reads a filter: {field: value}, {field: {$eq $ne $gt $gte $lt $lte $in $nin $exists}}
// and $and of such.
func Compile(filter bson.Raw) (*Filter, error) {
	f := &Filter{OnlyID: true}
	if err := f.add(filter); err != nil {
		return nil, err
	}
	f.OnlyID = f.OnlyID && len(f.conds) > 0
	return f, nil
}

func (f *Filter) add(filter bson.Raw) error {
	for k, v := range filter.Elems() {
		if k == "$and" {
			for part := range v.Doc().Values() {
				if err := f.add(part.Doc()); err != nil {
					return err
				}
			}
			continue
		}
		if strings.HasPrefix(k, "$") {
			return fmt.Errorf("the operator %s is not one of a change's filter: use fields with $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists", k)
		}
		name, _ := v.Doc().First()
		if v.Type != bson.TypeDocument || !strings.HasPrefix(name, "$") {
			f.OnlyID = f.OnlyID && k == "_id"
			f.conds = append(f.conds, cond{k, func(got bson.Value) bool { return same(got, v) }})
			continue
		}
		for op, arg := range v.Doc().Elems() {
			test, err := operator(op, arg)
			if err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
			f.OnlyID = f.OnlyID && k == "_id" && (op == "$eq" || op == "$in")
			f.conds = append(f.conds, cond{k, test})
		}
	}
	return nil
}

func operator(op string, arg bson.Value) (func(bson.Value) bool, error) {
	comparable := func(v bson.Value) bool {
		return !v.IsMissing() && (v.Type == arg.Type || v.IsNumber() && arg.IsNumber())
	}
	switch op {
	case "$eq":
		return func(v bson.Value) bool { return same(v, arg) }, nil
	case "$ne":
		return func(v bson.Value) bool { return !same(v, arg) }, nil
	case "$gt":
		return func(v bson.Value) bool { return comparable(v) && bson.Compare(v, arg) > 0 }, nil
	case "$gte":
		return func(v bson.Value) bool { return comparable(v) && bson.Compare(v, arg) >= 0 }, nil
	case "$lt":
		return func(v bson.Value) bool { return comparable(v) && bson.Compare(v, arg) < 0 }, nil
	case "$lte":
		return func(v bson.Value) bool { return comparable(v) && bson.Compare(v, arg) <= 0 }, nil
	case "$in", "$nin":
		if arg.Type != bson.TypeArray {
			return nil, fmt.Errorf("%s needs an array", op)
		}
		in := func(v bson.Value) bool {
			for a := range arg.Doc().Values() {
				if same(v, a) {
					return true
				}
			}
			return false
		}
		return func(v bson.Value) bool { return in(v) == (op == "$in") }, nil
	case "$exists":
		return func(v bson.Value) bool { return v.IsMissing() != arg.Truthy() }, nil
	}
	return nil, fmt.Errorf("the operator %s is not one of a change's filter: use $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists", op)
}

func same(a, b bson.Value) bool {
	if a.IsMissing() {
		return b.Type == bson.TypeNull
	}
	return bson.Equal(a, b)
}

// Match reports whether a document matches. An array matches if it does or one of its
// elements does.
func (f *Filter) Match(doc bson.Raw) bool {
	for _, c := range f.conds {
		if !match(doc.Value(), c.path, c.test) {
			return false
		}
	}
	return true
}

func match(v bson.Value, path string, test func(bson.Value) bool) bool {
	if path == "" {
		if test(v) {
			return true
		}
		if v.Type == bson.TypeArray {
			for e := range v.Doc().Values() {
				if test(e) {
					return true
				}
			}
		}
		return false
	}
	head, rest, _ := strings.Cut(path, ".")
	switch v.Type {
	case bson.TypeDocument:
		return match(v.Doc().Get(head), rest, test)
	case bson.TypeArray:
		if e := v.Doc().Get(head); !e.IsMissing() && match(e, rest, test) {
			return true
		}
		for e := range v.Doc().Values() {
			if e.Type == bson.TypeDocument && match(e, path, test) {
				return true
			}
		}
		return false
	}
	return test(bson.Value{})
}
