package pipeline

import (
	"context"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Writes go out in batches of at most so many documents and bytes.
const (
	batchDocs  = 500
	batchBytes = 256 << 10
)

// outStage is $out.
type outStage struct{ ns Namespace }

func parseOut(ps *parser, _ string, v bson.Value) ([]stage, error) {
	s := &outStage{Namespace{DB: ps.o.NS.DB}}
	switch v.Type {
	case bson.TypeString:
		s.ns.Coll = v.Str()
	case bson.TypeDocument:
		for k, e := range v.Doc().Elems() {
			switch {
			case k == "db" && e.Type == bson.TypeString:
				s.ns.DB = e.Str()
			case k == "coll" && e.Type == bson.TypeString:
				s.ns.Coll = e.Str()
			case k == "db" || k == "coll":
				return nil, mongoerr.New(mongoerr.TypeMismatch, "BSON field '$out.%s' is the wrong type '%s', expected type 'string'", k, e.Type)
			case k == "timeseries":
				return nil, mongoerr.New(mongoerr.InvalidOptions, "$out to a time-series collection is not supported")
			default:
				return nil, mongoerr.New(mongoerr.UnknownField, "BSON field '$out.%s' is an unknown field.", k)
			}
		}
	default:
		return nil, mongoerr.New(16990, "$out only supports a string or object argument, but found %s", v.Type)
	}
	switch {
	case s.ns.Coll == "" || s.ns.DB == "":
		return nil, mongoerr.New(mongoerr.InvalidNamespace, "Invalid $out target namespace, %s", s.ns)
	case s.ns.special():
		return nil, mongoerr.New(17385, "Can't $out to special collection: %s", s.ns.Coll)
	case s.ns.internal():
		return nil, mongoerr.New(31321, "Can't $out to internal database: %s", s.ns.DB)
	}
	return []stage{s}, nil
}

// special reports whether the collection is one of the server's own.
func (n Namespace) special() bool { return strings.HasPrefix(n.Coll, "system.") }

// internal reports whether the database is one that results are not written to.
func (n Namespace) internal() bool { return n.DB == "admin" || n.DB == "config" || n.DB == "local" }

func (s *outStage) info() stageInfo          { return stageInfo{name: "$out", last: true} }
func (s *outStage) optimize() (stage, error) { return s, nil }

func (s *outStage) deps(d *expr.Deps) visibility {
	d.Whole = true
	return seesAll
}

func (s *outStage) serialize(b *bson.Builder) {
	b.Doc("").Doc("$out").Str("coll", s.ns.Coll).Str("db", s.ns.DB).End().End()
}

func (s *outStage) open(o *Options, src Iterator) (Iterator, error) {
	return &writeIter{src: src, run: func(ctx context.Context) error { return s.write(ctx, o, src) }}, nil
}

func (s *outStage) write(ctx context.Context, o *Options, src Iterator) error {
	w, err := o.Host.BeginOut(ctx, s.ns)
	if err != nil {
		return err
	}
	err = batches(ctx, o, src, func(docs []bson.Raw) error { return w.Insert(ctx, docs) })
	if err != nil {
		w.Abort()
		return err
	}
	return w.Commit(ctx)
}

// batches reads src and hands over copies of its documents in batches.
func batches(ctx context.Context, o *Options, src Iterator, f func(docs []bson.Raw) error) error {
	var docs []bson.Raw
	size := 0
	for {
		doc, err := src.Next(ctx)
		if err != nil {
			return err
		}
		if doc != nil {
			docs = append(docs, doc.Clone())
			size += len(doc)
		}
		if len(docs) > 0 && (doc == nil || len(docs) == batchDocs || size >= batchBytes) {
			if err := o.interrupt(); err != nil {
				return err
			}
			if err := f(docs); err != nil {
				return err
			}
			docs, size = docs[:0:0], 0
		}
		if doc == nil {
			return nil
		}
	}
}

// writeIter runs a writing stage at the first Next and gives no documents.
type writeIter struct {
	src  Iterator
	run  func(ctx context.Context) error
	done bool
}

func (it *writeIter) Next(ctx context.Context) (bson.Raw, error) {
	if it.done {
		return nil, nil
	}
	it.done = true
	return nil, it.run(ctx)
}

func (it *writeIter) Close() error { return it.src.Close() }
