package query

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// validate checks a document against its collection's validator; old is the document
// before, nil for an insert. A failure says which clauses are not satisfied.
func (l *Local) validate(c *catalog.Collection, old, doc bson.Raw) error {
	err := c.CheckValidator(old, doc)
	e, ok := mongoerr.As(err)
	if !ok || e.Code != mongoerr.DocumentValidationFailure {
		return err
	}
	root, cerr := match.Parse(c.Options.Validator, match.Options{Collation: c.Options.Collation}) // as written: indexes count its clauses
	if cerr != nil {
		return err // uses $expr: the catalog's own words do
	}
	if ok, merr := match.New(root).Match(doc); ok || merr != nil {
		return err // another rule of the collection, with an explanation of its own
	}
	info := bson.NewBuilder(nil).Append("failingDocumentId", doc.Get("_id")).Doc("details")
	explainMismatch(info, root, doc)
	return e.WithExtra(bson.D("errInfo", info.End().Finish()))
}

// explainMismatch appends why doc does not satisfy n, in the form of errInfo.details.
func explainMismatch(b *bson.Builder, n match.Node, doc bson.Raw) {
	switch n := n.(type) {
	case *match.And:
		b.Str("operatorName", "$and").Array("clausesNotSatisfied")
		for i, k := range n.Kids {
			if ok, err := match.New(k).Match(doc); ok || err != nil {
				continue
			}
			b.Doc("").Int32("index", int32(i)).Doc("details")
			explainMismatch(b, k, doc)
			b.End().End()
		}
		b.End()
	case *match.Or:
		b.Str("operatorName", "$or").Array("clausesNotSatisfied")
		for i, k := range n.Kids {
			b.Doc("").Int32("index", int32(i)).Doc("details")
			explainMismatch(b, k, doc)
			b.End().End()
		}
		b.End()
	case *match.JSONSchema:
		n.Explain(b, doc)
	case match.Leaf:
		explainLeaf(b, n, doc)
	default:
		spec := match.Serialize(n)
		name, _ := spec.First()
		if l, ok := notLeaf(n); ok {
			name = "$not"
			b.Str("operatorName", name).AppendDoc("specifiedAs", spec).Str("reason", "$not: child expression matched")
			appendConsidered(b, l, doc)
			return
		}
		b.Str("operatorName", name).AppendDoc("specifiedAs", spec).Str("reason", "expression did not match")
	}
}

func notLeaf(n match.Node) (match.Leaf, bool) {
	not, ok := n.(*match.Not)
	if !ok {
		return nil, false
	}
	l, ok := not.Kid.(match.Leaf)
	return l, ok
}

// typeNames is a $type filter as people write it, by the types' names.
func typeNames(n *match.TypeOp) bson.Raw {
	names := make([]string, 0, len(n.Types.Types)+1)
	if n.Types.AllNumbers {
		names = append(names, "number")
	}
	for _, t := range n.Types.Types {
		names = append(names, t.String())
	}
	if len(names) == 1 {
		return bson.D(n.Path.String(), bson.D("$type", names[0]))
	}
	return bson.D(n.Path.String(), bson.D("$type", names))
}

func explainLeaf(b *bson.Builder, n match.Leaf, doc bson.Raw) {
	spec := match.Serialize(n)
	if t, ok := n.(*match.TypeOp); ok {
		spec = typeNames(t)
	}
	_, ops := spec.First()
	name, _ := ops.Doc().First()
	b.Str("operatorName", name).AppendDoc("specifiedAs", spec)
	v := doc.Path(n.FieldPath().String())
	if _, exists := n.(*match.Exists); v.IsMissing() && !exists {
		b.Str("reason", "field was missing")
		return
	}
	reason := "comparison failed"
	switch n.(type) {
	case *match.In:
		reason = "no matching value found in array"
	case *match.TypeOp:
		reason = "type did not match"
	case *match.Regex:
		reason = "regular expression did not match"
	case *match.Exists:
		reason = "path does not exist"
	case *match.Mod:
		reason = "$mod did not evaluate to expected remainder"
	case *match.Size:
		reason = "array length was not equal to given size"
	case *match.ElemMatchObject, *match.ElemMatchValue:
		reason = "array did not satisfy the child predicate"
	case *match.BitTest:
		reason = "bitwise operator failed to match"
	}
	b.Str("reason", reason)
	appendConsidered(b, n, doc)
}

func appendConsidered(b *bson.Builder, n match.Leaf, doc bson.Raw) {
	v := doc.Path(n.FieldPath().String())
	if v.IsMissing() {
		return
	}
	b.Append("consideredValue", v)
	if t, ok := n.(*match.TypeOp); ok && t != nil {
		b.Str("consideredType", v.Type.String())
	}
}
