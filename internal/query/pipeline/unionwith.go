package pipeline

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// unionStage is $unionWith.
type unionStage struct {
	ns     Namespace
	sub    *Pipeline
	specs  []bson.Raw
	subEnv *expr.Env
}

func parseUnionWith(ps *parser, _ string, v bson.Value) ([]stage, error) {
	u := &unionStage{ns: Namespace{DB: ps.o.NS.DB}}
	switch v.Type {
	case bson.TypeString:
		u.ns.Coll = v.Str()
	case bson.TypeDocument:
		for k, e := range v.Doc().Elems() {
			switch {
			case k == "coll" && e.Type == bson.TypeString:
				u.ns.Coll = e.Str()
			case k == "pipeline" && e.Type == bson.TypeArray:
				var err error
				if u.specs, err = stageSpecs(e, notAnObject); err != nil {
					return nil, err
				}
			case k == "coll" || k == "pipeline":
				want := map[string]string{"coll": "string", "pipeline": "array"}[k]
				return nil, mongoerr.New(mongoerr.TypeMismatch, "BSON field '$unionWith.%s' is the wrong type '%s', expected type '%s'", k, e.Type, want)
			default:
				return nil, mongoerr.New(mongoerr.UnknownField, "BSON field '$unionWith.%s' is an unknown field.", k)
			}
		}
	default:
		return nil, mongoerr.New(mongoerr.FailedToParse, "the $unionWith stage specification must be an object or string, but found %s", v.Type)
	}
	if u.ns.Coll == "" && (len(u.specs) == 0 || !u.specs[0].Has("$documents")) {
		return nil, mongoerr.New(mongoerr.FailedToParse, "$unionWith stage without explicit collection must have a pipeline with $documents as first stage")
	}
	var err error
	u.sub, u.subEnv, err = ps.subPipeline(u.specs, u.ns, ps.o.Expr, inUnion)
	return []stage{u}, err
}

func (u *unionStage) info() stageInfo { return stageInfo{name: "$unionWith"} }

func (u *unionStage) optimize() (stage, error) { return u, u.sub.rewrite() }

func (u *unionStage) serialize(b *bson.Builder) {
	b.Doc("").Doc("$unionWith")
	if u.ns.Coll != "" {
		b.Str("coll", u.ns.Coll)
	}
	b.Any("pipeline", u.specs)
	b.End().End()
}

func (u *unionStage) deps(d *expr.Deps) visibility {
	inner := &expr.Deps{}
	u.sub.deps(inner)
	for id := range inner.Vars {
		d.AddVar(id)
	}
	return seesInput
}

func (u *unionStage) foreign() []Namespace {
	if u.ns.Coll == "" {
		return u.sub.Namespaces()
	}
	return append([]Namespace{u.ns}, u.sub.Namespaces()...)
}

func (u *unionStage) open(o *Options, src Iterator) (Iterator, error) {
	return &unionIter{src: src, u: u, o: o}, nil
}

type unionIter struct {
	src   Iterator
	u     *unionStage
	o     *Options
	inner Iterator
}

func (it *unionIter) Next(ctx context.Context) (bson.Raw, error) {
	if it.inner == nil {
		doc, err := it.src.Next(ctx)
		if err != nil || doc != nil {
			return doc, err
		}
		it.u.subEnv.InheritVars(it.o.env())
		if it.inner, err = openOn(ctx, it.u.sub, it.u.ns); err != nil {
			return nil, err
		}
	}
	return it.inner.Next(ctx)
}

func (it *unionIter) Close() error {
	err := it.src.Close()
	if it.inner != nil {
		if e := it.inner.Close(); err == nil {
			err = e
		}
	}
	return err
}
