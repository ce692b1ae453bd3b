package pipeline

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// sourceStage is a first stage that makes documents: $collStats, $indexStats,
// $planCacheStats, $currentOp, $documents.
type sourceStage struct {
	name string
	spec bson.Value
	load func(ctx context.Context, o *Options) ([]bson.Raw, error)
}

func parseCollStats(ps *parser, name string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeDocument {
		return nil, mongoerr.New(mongoerr.FailedToParse, "$collStats must take a nested object but found: %s: %s", name, expr.ToJSON(v))
	}
	for k, e := range v.Doc().Elems() {
		switch k {
		case "latencyStats", "storageStats", "count", "queryExecStats", "operationStats", "targetAllNodes":
			if e.Type != bson.TypeDocument && k != "targetAllNodes" {
				return nil, mongoerr.New(mongoerr.TypeMismatch, "BSON field '$collStats.%s' is the wrong type '%s', expected type 'object'", k, e.Type)
			}
		default:
			return nil, mongoerr.New(mongoerr.UnknownField, "BSON field '$collStats.%s' is an unknown field.", k)
		}
	}
	spec, ns := v.Doc(), ps.o.NS
	return []stage{&sourceStage{name, v, func(ctx context.Context, o *Options) ([]bson.Raw, error) {
		d, err := o.Host.CollStats(ctx, ns, spec)
		return []bson.Raw{d}, err
	}}}, nil
}

func parseIndexStats(ps *parser, name string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeDocument || !v.Doc().IsEmpty() {
		return nil, mongoerr.New(28803, "The $indexStats stage specification must be an empty object")
	}
	ns := ps.o.NS
	return []stage{&sourceStage{name, v, func(ctx context.Context, o *Options) ([]bson.Raw, error) {
		return o.Host.IndexStats(ctx, ns)
	}}}, nil
}

func parsePlanCacheStats(ps *parser, name string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeDocument {
		return nil, mongoerr.New(mongoerr.FailedToParse, "$planCacheStats value must be an object. Found: %s", v.Type)
	}
	for k, e := range v.Doc().Elems() {
		if k != "allHosts" || e.Type != bson.TypeBool {
			return nil, mongoerr.New(mongoerr.FailedToParse, "$planCacheStats parameters object may contain only 'allHosts' field with a boolean. Found: %s", k)
		}
		if e.Bool() {
			return nil, mongoerr.New(4503200, "$planCacheStats stage supports allHosts parameter only for sharded clusters")
		}
	}
	ns := ps.o.NS
	return []stage{&sourceStage{name, v, func(ctx context.Context, o *Options) ([]bson.Raw, error) {
		return o.Host.PlanCacheStats(ctx, ns)
	}}}, nil
}

func parseCurrentOp(ps *parser, name string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeDocument {
		return nil, mongoerr.New(mongoerr.FailedToParse, "$currentOp options must be specified in an object, but found: %s", v.Type)
	}
	if ps.o.NS.DB != "admin" || ps.o.NS.Coll != "" {
		return nil, mongoerr.New(mongoerr.InvalidNamespace, "$currentOp must be run against the 'admin' database with {aggregate: 1}")
	}
	for k, e := range v.Doc().Elems() {
		switch k {
		case "allUsers", "idleConnections", "idleSessions", "localOps", "truncateOps", "idleCursors", "backtrace", "targetAllNodes":
			if e.Type != bson.TypeBool {
				return nil, mongoerr.New(mongoerr.FailedToParse, "The '%s' parameter of the $currentOp stage must be a boolean value, but found: %s", k, e.Type)
			}
		default:
			return nil, mongoerr.New(mongoerr.FailedToParse, "Unrecognized option '%s' in $currentOp stage.", k)
		}
	}
	spec := v.Doc()
	return []stage{&sourceStage{name, v, func(ctx context.Context, o *Options) ([]bson.Raw, error) {
		return o.Host.CurrentOp(ctx, spec)
	}}}, nil
}

func parseDocuments(ps *parser, name string, v bson.Value) ([]stage, error) {
	e, err := expr.Parse(v, ps.o.Expr)
	if err != nil {
		return nil, err
	}
	return []stage{&sourceStage{name, v, func(_ context.Context, o *Options) ([]bson.Raw, error) {
		env := o.env()
		env.Reset(bson.Empty)
		v, err := e.Eval(env)
		if err != nil {
			return nil, err
		}
		if v.Type != bson.TypeArray {
			return nil, mongoerr.New(5858203, "an array is expected")
		}
		var docs []bson.Raw
		for d := range v.Clone().Doc().Values() {
			if d.Type != bson.TypeDocument {
				return nil, mongoerr.New(40228, "'$documents' must evaluate to an array of objects, but an element was: %s. Type of resulting value: '%s'", expr.ValueText(d), d.Type)
			}
			docs = append(docs, d.Doc())
		}
		return docs, nil
	}}}, nil
}

func (s *sourceStage) info() stageInfo            { return stageInfo{name: s.name, source: true} }
func (s *sourceStage) optimize() (stage, error)   { return s, nil }
func (s *sourceStage) deps(*expr.Deps) visibility { return sealed }

func (s *sourceStage) serialize(b *bson.Builder) { b.Doc("").Append(s.name, s.spec).End() }

func (s *sourceStage) open(o *Options, src Iterator) (Iterator, error) {
	return &sourceIter{src: src, s: s, o: o}, nil
}

type sourceIter struct {
	src    Iterator
	s      *sourceStage
	o      *Options
	loaded bool
	docs   []bson.Raw
}

func (it *sourceIter) Next(ctx context.Context) (bson.Raw, error) {
	if !it.loaded {
		it.loaded = true
		var err error
		if it.docs, err = it.s.load(ctx, it.o); err != nil {
			return nil, err
		}
	}
	if len(it.docs) == 0 {
		return nil, nil
	}
	d := it.docs[0]
	it.docs = it.docs[1:]
	return d, nil
}

func (it *sourceIter) Close() error { return it.src.Close() }
