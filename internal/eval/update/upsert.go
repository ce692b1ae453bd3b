package update

import (
	"sort"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// UpsertDocument returns the document that an upsert inserts, without an _id if neither
// filter nor update give one (the caller puts a new ObjectId in front).
func (u *Update) UpsertDocument(filter match.Node, in *Input) (bson.Raw, error) {
	eqs := equalities{}
	if err := eqs.gather(filter); err != nil {
		return nil, err
	}
	base, err := eqs.document(u.kind != Operators)
	if err != nil {
		return nil, err
	}
	ins := *in
	ins.Insert = true
	r, err := u.Apply(base, &ins)
	if err != nil {
		return nil, err
	}
	doc := withID(r.Doc, bson.Value{})
	if len(doc) > bson.MaxDocSize {
		return nil, mongoerr.New(17420, "Document to upsert is larger than %d", bson.MaxDocSize)
	}
	return doc, checkID(doc.Get("_id"))
}

// equalities are the values that a filter fixes, by path.
type equalities map[string]bson.Value

func (e equalities) gather(n match.Node) error {
	switch n := n.(type) {
	case *match.And:
		for _, k := range n.Kids {
			if err := e.gather(k); err != nil {
				return err
			}
		}
	case *match.Or:
		if len(n.Kids) == 1 {
			return e.gather(n.Kids[0])
		}
	case *match.In:
		if len(n.Values) == 1 && len(n.Regexes) == 0 {
			return e.add(n.Path.String(), n.Values[0])
		}
	case *match.Comparison:
		if n.Op == match.Eq {
			return e.add(n.Path.String(), n.Value)
		}
	}
	return nil
}

func (e equalities) add(path string, v bson.Value) error {
	for other := range e {
		switch {
		case other == path:
			return mongoerr.New(mongoerr.NotSingleValueField, "cannot infer query fields to set, path '%s' is matched twice", path)
		case strings.HasPrefix(path, other+"."), strings.HasPrefix(other, path+"."):
			short, long := other, path
			if len(short) > len(long) {
				short, long = long, short
			}
			return mongoerr.New(mongoerr.NotSingleValueField, "cannot infer query fields to set, both paths '%s' and '%s' are matched", short, long)
		}
	}
	e[path] = v
	return nil
}

// document builds the base document, fields in the order of their paths; of a
// replacement only the _id counts.
func (e equalities) document(onlyID bool) (bson.Raw, error) {
	paths := make([]string, 0, len(e))
	for p := range e {
		if strings.HasPrefix(p, "_id.") && onlyID {
			return nil, mongoerr.New(mongoerr.Code(111), "field at '_id' must be exactly specified, field at sub-path '%s'found", p)
		}
		if !onlyID || p == "_id" {
			paths = append(paths, p)
		}
	}
	sort.Strings(paths)
	root := &node{}
	for _, p := range paths {
		if err := root.insert(p, strings.Split(p, "."), set{e[p], false}); err != nil {
			return nil, err
		}
	}
	root.sort()
	u := &Update{root: root}
	doc, _, err := u.operators(bson.Empty, &Input{Insert: true})
	return doc, err
}
