package query

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/query/exec"
	"github.com/cairndb/cairn/internal/query/plan"
)

// Count implements Executor.
func (l *Local) Count(op *OpContext, r *CountRequest) (int64, error) {
	t := l.resolve(r.NS)
	if err := CheckUUID(l.cat.Pin(), r.NS, t.coll, r.CollectionUUID); err != nil {
		return 0, err
	}
	coll, err := t.collation(r.Collation)
	if err != nil {
		return 0, err
	}
	if t.view != nil {
		return l.countOnView(op, r, t)
	}
	q, full, sc, err := l.countQuery(op, r, t, coll)
	if err != nil || t.coll == nil {
		return 0, err
	}
	view, err := l.openView(op, &r.NS)
	if err != nil {
		return 0, err
	}
	defer view.close()
	if fastCount(q, t) && view.snap == nil {
		op.Stats.PlanSummary = "RECORD_STORE_FAST_COUNT"
		return limited(t.coll.Count(), r.Skip, countLimit(r.Limit)), nil
	}
	o := l.execOptions(op, sc, full, view)
	x, err := l.start(op, t, q, o)
	if err != nil {
		return 0, err
	}
	node := &plan.Node{Stage: plan.Count, CountSkip: r.Skip, CountLimit: countLimit(r.Limit)}
	n, err := exec.Count(x, node)
	op.Stats.KeysExamined, op.Stats.DocsExamined = exec.Examined(x.Plan.Root)
	if err == nil && needsDurable(op) {
		err = l.waitDurable(op)
	}
	return n, err
}

// fastCount reports whether the collection's own counter answers.
func fastCount(q *plan.Query, t *target) bool {
	return isTrue(q.Filter) && q.HintIndex == nil && !t.coll.IsOplog()
}

// countLimit is the number of documents after which counting ends; a negative limit
// means its absolute value, 0 none.
func countLimit(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

func limited(n, skip, limit int64) int64 {
	n = max(n-skip, 0)
	if limit > 0 {
		n = min(n, limit)
	}
	return n
}

func (l *Local) countQuery(op *OpContext, r *CountRequest, t *target, coll *collate.Collator) (*plan.Query, *match.Matcher, *scope, error) {
	sc, err := newScope(op, nil, coll)
	if err != nil {
		return nil, nil, nil, err
	}
	q := &plan.Query{NS: r.NS.String(), Collation: coll, CountOnly: true}
	if q.Filter, err = sc.filter(cloned(r.Query)); err != nil || t.coll == nil {
		return q, nil, sc, err
	}
	if q.HintIndex, q.HintNatural, err = t.hint(r.Hint); err != nil {
		return nil, nil, nil, err
	}
	if t.coll.IsOplog() {
		q.RecordIDField = "ts"
	}
	var full *match.Matcher
	if !isTrue(q.Filter) {
		full = match.New(q.Filter)
	}
	return q, full, sc, nil
}

// countOnView counts what the view's pipeline gives.
func (l *Local) countOnView(op *OpContext, r *CountRequest, t *target) (int64, error) {
	var stages []bson.Raw
	if !r.Query.IsEmpty() {
		stages = append(stages, bson.D("$match", r.Query))
	}
	if r.Skip > 0 {
		stages = append(stages, bson.D("$skip", r.Skip))
	}
	if n := countLimit(r.Limit); n > 0 {
		stages = append(stages, bson.D("$limit", n))
	}
	stages = append(stages, bson.D("$count", "count"))
	docs, err := l.aggregateAll(op, &AggregateRequest{NS: r.NS, Pipeline: stages, Hint: r.Hint, Collation: r.Collation})
	if err != nil || len(docs) == 0 {
		return 0, err
	}
	n, _ := docs[0].Get("count").AsInt64()
	return n, nil
}
