package pipeline

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// replaceRootStage is $replaceRoot and $replaceWith.
type replaceRootStage struct {
	root    expr.Expr
	subject string // what the error calls the expression
}

func parseReplaceRoot(ps *parser, name string, v bson.Value) ([]stage, error) {
	r := &replaceRootStage{subject: "'replacement document' "}
	if name == "$replaceRoot" {
		r.subject = "'newRoot' expression "
		if v.Type != bson.TypeDocument {
			return nil, mongoerr.New(40229, "expected an object as specification for $replaceRoot stage, got %s", v.Type)
		}
		root := bson.Value{}
		for k, e := range v.Doc().Elems() {
			if k != "newRoot" {
				return nil, mongoerr.New(mongoerr.UnknownField, "BSON field '$replaceRoot.%s' is an unknown field.", k)
			}
			root = e
		}
		if root.IsMissing() {
			return nil, mongoerr.New(40414, "BSON field '$replaceRoot.newRoot' is missing but a required field")
		}
		v = root
	}
	var err error
	if r.root, err = expr.Parse(v, ps.o.Expr); err != nil {
		return nil, err
	}
	return []stage{r}, nil
}

func (r *replaceRootStage) info() stageInfo { return stageInfo{name: "$replaceRoot"} }

func (r *replaceRootStage) optimize() (stage, error) {
	e, err := r.root.Optimize()
	return &replaceRootStage{e, r.subject}, err
}

func (r *replaceRootStage) serialize(b *bson.Builder) {
	b.Doc("").Doc("$replaceRoot")
	r.root.Append(b, "newRoot")
	b.End().End()
}

func (r *replaceRootStage) deps(d *expr.Deps) visibility {
	r.root.AddDeps(d)
	return sealed
}

func (r *replaceRootStage) open(o *Options, src Iterator) (Iterator, error) {
	return &replaceRootIter{src: src, r: r, env: o.env()}, nil
}

type replaceRootIter struct {
	src Iterator
	r   *replaceRootStage
	env *expr.Env
	buf []byte
}

func (it *replaceRootIter) Next(ctx context.Context) (bson.Raw, error) {
	doc, err := it.src.Next(ctx)
	if err != nil || doc == nil {
		return nil, err
	}
	it.env.Reset(doc)
	v, err := it.r.root.Eval(it.env)
	if err != nil {
		return nil, err
	}
	if v.Type != bson.TypeDocument {
		return nil, mongoerr.New(40228, "%s must evaluate to an object, but resulting value was: %s. Type of resulting value: '%s'. Input document: %s",
			it.r.subject, expr.ValueText(v), v.Type, expr.ValueText(doc.Value()))
	}
	it.buf = append(it.buf[:0], v.Data...)
	return bson.Raw(it.buf), nil
}

func (it *replaceRootIter) Close() error { return it.src.Close() }
