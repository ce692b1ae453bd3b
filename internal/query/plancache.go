package query

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/query/pipeline"
	"github.com/cairndb/cairn/internal/query/plan"
)

// ClearPlans makes a collection's remembered plans forgotten: all, or with a query those of
// its shape. A collection that does not exist has none.
func (l *Local) ClearPlans(op *OpContext, r *FindRequest) error {
	t := l.resolve(r.NS)
	if t.coll == nil {
		return nil
	}
	if r.Filter == nil {
		t.cache.Clear()
		return nil
	}
	coll, err := t.collation(r.Collation)
	if err != nil {
		return err
	}
	q, _, _, err := l.findQuery(op, r, t, coll)
	if err != nil {
		return err
	}
	t.cache.Remove(q.CacheKey(q.Shape(), t.indexes))
	return nil
}

// describeQuery is the operation that a plan was made for.
func describeQuery(q *plan.Query) bson.Raw {
	b := bson.NewBuilder(nil).AppendDoc("query", match.Serialize(q.Filter))
	for _, f := range []struct {
		name string
		doc  bson.Raw
	}{{"sort", q.SortSpec}, {"projection", q.ProjSpec}} {
		if f.doc == nil {
			f.doc = bson.Empty
		}
		b.AppendDoc(f.name, f.doc)
	}
	if q.Collation != nil {
		b.AppendDoc("collation", q.Collation.Spec())
	}
	return b.Finish()
}

func describePlan(s *plan.Solution) bson.Raw {
	b := bson.NewBuilder(nil)
	plan.AppendPlan(b, &plan.Solution{Root: s.Root})
	out := bson.NewBuilder(nil)
	for k, v := range b.Finish().Elems() {
		if k != "isCached" {
			out.Append(k, v)
		}
	}
	return out.Finish()
}

// PlanCacheStats implements pipeline.Host.
func (h *host) PlanCacheStats(_ context.Context, ns pipeline.Namespace) (out []bson.Raw, err error) {
	t := h.l.resolve(Namespace(ns))
	if t.coll == nil {
		return nil, nil
	}
	for _, e := range t.cache.Entries(t.version) {
		hash := plan.Hash(e.Shape)
		b := bson.NewBuilder(nil).Str("version", "1").Str("queryHash", hash).Str("planCacheShapeHash", hash).Str("planCacheKey", plan.Hash(e.Key)).
			Bool("isActive", e.Active).Int64("works", e.Works).Str("worksType", "works").Date("timeOfCreation", bson.NewDateTime(e.Created))
		if e.Query != nil {
			b.AppendDoc("createdFromQuery", e.Query).AppendDoc("cachedPlan", e.Plan)
		}
		size := len(e.Key) + len(e.Shape) + len(e.Query) + len(e.Plan)
		b.Bool("indexFilterSet", false).IntOrLong("estimatedSizeBytes", int64(size))
		if h.l.stats != nil {
			b.Str("host", h.l.stats.Host())
		}
		out = append(out, b.Finish())
	}
	return out, nil
}
