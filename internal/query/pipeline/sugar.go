package pipeline

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// The stages of this file are written in terms of others, as explain shows.

func parseCount(ps *parser, _ string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeString {
		return nil, mongoerr.New(40156, "the count field must be a non-empty string")
	}
	name := v.Str()
	switch {
	case name == "":
		return nil, mongoerr.New(40157, "the count field must be a non-empty string")
	case name[0] == '$':
		return nil, mongoerr.New(40158, "the count field cannot be a $-prefixed path")
	case strings.IndexByte(name, 0) >= 0:
		return nil, mongoerr.New(40159, "the count field cannot contain '\\0'")
	case strings.Contains(name, "."):
		return nil, mongoerr.New(40160, "the count field cannot contain '.'")
	case name == "_id":
		return nil, mongoerr.New(9039800, "the count field cannot be '_id'")
	}
	return ps.expand(
		bson.D("$group", bson.D("_id", nil, name, bson.D("$sum", 1))),
		bson.D("$project", bson.D(name, true, "_id", false)),
	)
}

func (ps *parser) expand(specs ...bson.Raw) ([]stage, error) {
	var out []stage
	for _, s := range specs {
		name, v := s.First()
		st, err := rowOf(name).parse(ps, name, v)
		if err != nil {
			return nil, err
		}
		out = append(out, st...)
	}
	return out, nil
}

func parseSortByCount(ps *parser, _ string, v bson.Value) ([]stage, error) {
	switch v.Type {
	case bson.TypeDocument:
		if !isOperatorDoc(v.Doc()) {
			return nil, mongoerr.New(40147, "the sortByCount field must be defined as a $-prefixed path or an expression inside an object")
		}
	case bson.TypeString:
		if !strings.HasPrefix(v.Str(), "$") {
			return nil, mongoerr.New(40148, "the sortByCount field must be defined as a $-prefixed path or an expression inside an object")
		}
	default:
		return nil, mongoerr.New(40149, "the sortByCount field must be specified as a string or as an object")
	}
	return ps.expand(
		bson.D("$group", bson.D("_id", v, "count", bson.D("$sum", 1))),
		bson.D("$sort", bson.D("count", -1)),
	)
}

func parseBucket(ps *parser, _ string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeDocument {
		return nil, mongoerr.New(40201, "Argument to $bucket stage must be an object, but found type: %s.", v.Type)
	}
	var groupBy, def bson.Value
	var bounds []bson.Value
	output := bson.D("count", bson.D("$sum", 1))
	for k, e := range v.Doc().Elems() {
		switch k {
		case "groupBy":
			if !(e.Type == bson.TypeString && strings.HasPrefix(e.Str(), "$")) && !(e.Type == bson.TypeDocument && isOperatorDoc(e.Doc())) {
				return nil, mongoerr.New(40202, "The $bucket 'groupBy' field must be defined as a $-prefixed path or an expression, but found: groupBy: %s.", expr.ToJSON(e))
			}
			groupBy = e
		case "boundaries":
			var err error
			if bounds, err = bucketBounds(ps, e); err != nil {
				return nil, err
			}
		case "default":
			def = e
		case "output":
			if e.Type != bson.TypeDocument {
				return nil, mongoerr.New(40196, "The $bucket 'output' field must be an object, but found type: %s.", e.Type)
			}
			output = e.Doc()
		default:
			return nil, mongoerr.New(40197, "Unrecognized option to $bucket: %s.", k)
		}
	}
	if groupBy.IsMissing() || bounds == nil {
		return nil, mongoerr.New(40198, "$bucket requires 'groupBy' and 'boundaries' to be specified.")
	}
	if err := checkDefault(def, bounds); err != nil {
		return nil, err
	}
	b := bson.NewBuilder(nil)
	b.Doc("$group").Doc("_id").Doc("$switch").Array("branches")
	for i := 0; i+1 < len(bounds); i++ {
		b.AppendDoc("", bson.D(
			"case", bson.D("$and", bson.A(
				bson.D("$gte", bson.A(groupBy, bson.D("$literal", bounds[i]))),
				bson.D("$lt", bson.A(groupBy, bson.D("$literal", bounds[i+1]))))),
			"then", bson.D("$literal", bounds[i])))
	}
	b.End()
	if !def.IsMissing() {
		b.AppendDoc("default", bson.D("$literal", def))
	}
	b.End().End()
	b.AppendElems(output)
	return ps.expand(b.Finish(), bson.D("$sort", bson.D("_id", 1)))
}

func bucketBounds(ps *parser, v bson.Value) ([]bson.Value, error) {
	if v.Type != bson.TypeArray {
		return nil, mongoerr.New(40200, "The $bucket 'boundaries' field must be an array, but found type: %s.", v.Type)
	}
	var out []bson.Value
	for e := range v.Doc().Values() {
		x, err := expr.Parse(e, ps.o.Expr)
		if err == nil {
			x, err = x.Optimize()
		}
		if err != nil {
			return nil, err
		}
		c, ok := expr.ConstantValue(x)
		if !ok {
			return nil, mongoerr.New(40191, "The $bucket 'boundaries' field must be an array of constant values, but found value: %s.", expr.ToJSON(e))
		}
		out = append(out, c)
	}
	if len(out) < 2 {
		return nil, mongoerr.New(40192, "The $bucket 'boundaries' field must have at least 2 values, but found %d value(s).", len(out))
	}
	for i := 1; i < len(out); i++ {
		lo, hi := out[i-1], out[i]
		if lo.Type.CanonicalOrder() != hi.Type.CanonicalOrder() {
			return nil, mongoerr.New(40193, "All values in the 'boundaries' option to $bucket must have the same type. Found conflicting types %s and %s.", lo.Type, hi.Type)
		}
		if ps.o.collation().Compare(lo, hi) >= 0 {
			return nil, mongoerr.New(40194, "The 'boundaries' option to $bucket must be sorted, but elements %d and %d are not in ascending order (%s is not less than %s).",
				i-1, i, expr.ValueText(lo), expr.ValueText(hi))
		}
	}
	return out, nil
}

func checkDefault(def bson.Value, bounds []bson.Value) error {
	if def.IsMissing() || def.Type.CanonicalOrder() != bounds[0].Type.CanonicalOrder() {
		return nil
	}
	if bson.Compare(def, bounds[0]) >= 0 && bson.Compare(def, bounds[len(bounds)-1]) < 0 {
		return mongoerr.New(40199, "The $bucket 'default' field must be less than the lowest boundary or greater than or equal to the highest boundary.")
	}
	return nil
}
