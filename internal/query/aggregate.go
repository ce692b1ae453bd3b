package query

import (
	"context"
	"slices"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query/exec"
	"github.com/cairndb/cairn/internal/query/pipeline"
	"github.com/cairndb/cairn/internal/query/plan"
)

// maxViewDepth bounds how many views stand on each other; a cycle runs into it too.
const maxViewDepth = 20

// Aggregate implements Executor.
func (l *Local) Aggregate(op *OpContext, r *AggregateRequest, out *bson.Builder) error {
	src, err := l.aggregate(op, r)
	if err != nil {
		return err
	}
	return l.firstBatch(op, src, cursorSpec{ns: r.cursorNS(), command: "aggregate", limit: firstLimit(r.HasBatchSize, r.BatchSize)}, out)
}

// aggregateAll runs a pipeline to its end.
func (l *Local) aggregateAll(op *OpContext, r *AggregateRequest) ([]bson.Raw, error) {
	src, err := l.aggregate(op, r)
	if err != nil {
		return nil, err
	}
	defer src.close()
	var docs []bson.Raw
	for {
		d, err := src.it.Next(op.Ctx)
		if err != nil || d == nil {
			return docs, err
		}
		docs = append(docs, d.Clone())
	}
}

// aggregate parses a pipeline and opens it.
func (l *Local) aggregate(op *OpContext, r *AggregateRequest) (*pipeSource, error) {
	view, err := l.openView(op, readsOnly(r.NS, r.Pipeline))
	if err != nil {
		return nil, err
	}
	s, err := l.aggregateOn(op, r, view)
	if err != nil {
		view.close()
	}
	return s, err
}

// aggregateOn is aggregate on a view, which the source has then.
func (l *Local) aggregateOn(op *OpContext, r *AggregateRequest, view *view) (*pipeSource, error) {
	h, p, err := l.parseAggregate(op, r, view)
	if err != nil {
		return nil, err
	}
	if _, writes := p.Writes(); writes && op.ReadConcern.Level == "linearizable" {
		name, _ := r.Pipeline[len(r.Pipeline)-1].First()
		return nil, mongoerr.New(mongoerr.InvalidOptions, "Command aggregate does not support { readConcern: { level: \"linearizable\" } } :: caused by :: %s cannot be used with a 'linearizable' read concern level", name)
	}
	it, err := h.open(op.Ctx, r.NS, p, 0, r.Hint)
	if err != nil {
		return nil, err
	}
	s := &pipeSource{h: h, it: it, env: p.Env(), durable: needsDurable(op)}
	if _, writes := p.Writes(); writes { // written by the time of the reply, no documents come
		d, err := it.Next(op.Ctx)
		if err != nil {
			it.Close() // its error says no more
			return nil, firstBatchInPlan("aggregate", r.cursorNS(), err)
		}
		s.ahead = d.Clone()
	}
	return s, nil
}

// parseAggregate parses r's pipeline with a host of its own.
func (l *Local) parseAggregate(op *OpContext, r *AggregateRequest, view *view) (*host, *pipeline.Pipeline, error) {
	t := &target{ns: r.NS}
	if v := view.version(l); r.NS.Coll != "" {
		t.coll, t.view = v.Lookup(r.NS), v.View(r.NS)
	}
	coll, err := t.collation(r.Collation)
	if err == nil && len(r.Pipeline) > 0 {
		err = coll.Err()
	}
	if err != nil {
		return nil, nil, err
	}
	sc, err := newScope(op, r.Let, coll)
	if err != nil {
		return nil, nil, err
	}
	h := &host{l: l, op: op, view: view, bypass: r.BypassValidation, coll: coll}
	sc.env.Interrupt = h.interrupt
	o := &pipeline.Options{NS: pipeline.Namespace(r.NS), Expr: sc.pc, Env: sc.env, Host: h, AllowDiskUse: r.AllowDiskUse == nil || *r.AllowDiskUse, APIStrict: op.APIStrict}
	specs := make([]bson.Raw, len(r.Pipeline)) // the request's bytes end before the cursor does
	for i, s := range r.Pipeline {
		specs[i] = s.Clone()
	}
	p, err := pipeline.Parse(specs, o)
	if err != nil {
		return nil, nil, err
	}
	return h, p, p.Optimize()
}

// open runs p on a namespace: views become the front of the pipeline, what a find can
// do is planned, the rest runs on its results.
func (h *host) open(ctx context.Context, ns Namespace, p *pipeline.Pipeline, depth int, hint bson.Value) (pipeline.Iterator, error) {
	if p.HasSource() || ns.Coll == "" {
		return p.Run(nil)
	}
	t := h.l.resolveAt(h.view, ns)
	if t.view != nil {
		if depth >= maxViewDepth {
			return nil, mongoerr.New(165, "View depth too deep or view cycle detected; maximum depth is %d", maxViewDepth)
		}
		joined, err := h.onView(t, p)
		if err != nil {
			return nil, err
		}
		return h.open(ctx, Namespace{DB: ns.DB, Coll: t.view.On}, joined, depth+1, hint)
	}
	if t.coll == nil {
		return p.Run(nil)
	}
	q, full, rest, err := h.split(t, p, hint)
	if err != nil {
		return nil, err
	}
	x, err := h.l.start(h.op, t, q, h.execOptions(p.Env(), full))
	if err != nil {
		return nil, err
	}
	it := &execIterator{h: h, x: x}
	h.running = append(h.running, it)
	return rest.Run(it)
}

// CheckView refuses stages that a view cannot be made of.
func (l *Local) CheckView(ns Namespace, on string, stages bson.Raw) error {
	op := NewOpContext(context.Background())
	sc, err := newScope(op, nil, nil)
	if err != nil {
		return err
	}
	var specs []bson.Raw
	for k, v := range stages.Elems() {
		if v.Type != bson.TypeDocument {
			return mongoerr.New(mongoerr.TypeMismatch, "Each element of the 'pipeline' array must be an object")
		}
		if name, _ := v.Doc().First(); name == "$out" || name == "$merge" {
			return mongoerr.New(mongoerr.OptionNotSupportedOnView, "The aggregation stage %s in location %s of the pipeline cannot be used in the view definition of %s because it writes to disk", name, k, ns)
		}
		specs = append(specs, v.Doc())
	}
	_, err = pipeline.Parse(specs, &pipeline.Options{NS: pipeline.Namespace{DB: ns.DB, Coll: on}, Expr: sc.pc, Env: sc.env, Host: &host{l: l, op: op}, NoWrites: true})
	return err
}

// onView puts a view's pipeline in front of p.
func (h *host) onView(t *target, p *pipeline.Pipeline) (*pipeline.Pipeline, error) {
	var specs []bson.Raw
	if buckets := h.l.seriesBuckets(t.ns); buckets != nil {
		find, _ := p.SplitFind()
		if f := buckets.Options.Timeseries.BucketMatch(find.Filter); !f.IsEmpty() {
			specs = append(specs, bson.D("$match", f))
		}
	}
	for v := range t.view.Pipeline.Raw().Values() {
		specs = append(specs, v.Doc())
	}
	if !collate.Same(t.view.Collation, h.coll) {
		return nil, mongoerr.New(mongoerr.OptionNotSupportedOnView, "the view %s has another collation than the operation", t.ns)
	}
	vp, err := pipeline.Parse(specs, &pipeline.Options{NS: pipeline.Namespace{DB: t.ns.DB, Coll: t.view.On}, Expr: p.ExprContext(), Env: p.Env(), Host: h, AllowDiskUse: true, NoWrites: true})
	if err != nil {
		return nil, err
	}
	joined := p.Prepend(vp)
	return joined, joined.Optimize()
}

// split makes a query of what a find can do at p's beginning.
func (h *host) split(t *target, p *pipeline.Pipeline, hint bson.Value) (*plan.Query, *match.Matcher, *pipeline.Pipeline, error) {
	find, rest := p.SplitFind()
	sc := &scope{pc: p.ExprContext(), env: p.Env()}
	q := &plan.Query{NS: t.ns.String(), Collation: sc.coll(), Skip: find.Skip, Limit: find.Limit, OptionalProjection: true}
	var err error
	if q.Filter, err = sc.filter(find.Filter); err != nil {
		return nil, nil, nil, err
	}
	if q.HintIndex, q.HintNatural, err = t.hint(hint); err != nil {
		return nil, nil, nil, err
	}
	if err := querySort(q, find.Sort); err != nil {
		return nil, nil, nil, err
	}
	if q.Projection, err = sc.projection(find.Projection, q.Filter); err != nil {
		return nil, nil, nil, err
	}
	if q.Projection != nil {
		q.ProjSpec = q.Projection.Serialize()
	}
	if t.coll != nil && t.coll.IsOplog() {
		q.RecordIDField = "ts"
	}
	var full *match.Matcher
	if !isTrue(q.Filter) {
		full = match.New(q.Filter)
	}
	return q, full, rest, nil
}

func (h *host) execOptions(env *expr.Env, full *match.Matcher) exec.Options {
	o := exec.Options{Ctx: h.op.Ctx, Reader: h.l.eng, Full: full, Interrupt: h.interrupt, NewSorter: h.l.eng.NewSorter, Env: env}
	if h.view != nil && h.view.snap != nil {
		o.Reader, o.Stable = h.view.snap, true
	}
	return o
}

// execIterator gives a plan's results to a pipeline.
type execIterator struct {
	h   *host
	x   *exec.Exec
	row exec.Row
	n   int
}

func (it *execIterator) Next(context.Context) (bson.Raw, error) {
	if it.n++; it.n%tickEvery == 0 {
		if err := it.x.Tick(); err != nil {
			return nil, err
		}
	}
	ok, err := it.x.Next(&it.row)
	if err != nil || !ok {
		return nil, err
	}
	return it.row.Doc, nil
}

func (it *execIterator) Close() error {
	keys, docs := exec.Examined(it.x.Plan.Root)
	it.h.op.Stats.KeysExamined += keys
	it.h.op.Stats.DocsExamined += docs
	it.x.Close()
	it.h.running = slices.DeleteFunc(it.h.running, func(o *execIterator) bool { return o == it })
	return nil
}

// pipeSource gives a pipeline's results batch by batch.
type pipeSource struct {
	h       *host
	it      pipeline.Iterator
	env     *expr.Env
	ahead   bson.Raw // a result that was read already
	durable bool
}

func (s *pipeSource) clusterTime() bson.Timestamp {
	if s.h.view.snap == nil {
		return 0
	}
	return s.h.view.ts
}

func (s *pipeSource) fill(op *OpContext, b *batch) (bool, error) {
	s.h.op = op
	for _, it := range s.h.running {
		it.x.Opts.Ctx = op.Ctx
	}
	done := false
	for !done && b.room() {
		d := s.ahead
		s.ahead = nil
		if d == nil {
			var err error
			if d, err = s.it.Next(op.Ctx); err != nil {
				return true, err
			}
		}
		switch {
		case d == nil:
			done = true
		case !b.fits(len(d)):
			s.ahead = d.Clone()
			return false, s.pause(op)
		default:
			b.add(d)
			if b.n%tickEvery == 0 {
				if err := op.Interrupt(); err != nil {
					return true, err
				}
			}
		}
	}
	if b.limit > 0 && !done && b.n == b.limit && s.ahead == nil {
		// A pipeline that ends exactly here needs no cursor.
		d, err := s.it.Next(op.Ctx)
		if err != nil {
			return true, err
		}
		if done = d == nil; !done {
			s.ahead = d.Clone()
		}
	}
	return done, s.pause(op)
}

// pause gives up all storage cursors until the next batch.
func (s *pipeSource) pause(op *OpContext) error {
	for _, it := range s.h.running {
		it.x.Save()
	}
	if s.durable {
		return s.h.l.waitDurable(op)
	}
	return nil
}

func (s *pipeSource) close() {
	s.it.Close() // gives up memory and temporary files; nothing to report
	s.h.view.close()
}

// findOnView runs a find on a view as an aggregation.
func (l *Local) findOnView(op *OpContext, r *FindRequest, t *target, out *bson.Builder) error {
	a, err := r.aggregation()
	if err != nil {
		return err
	}
	src, err := l.aggregate(op, a)
	if err != nil {
		return err
	}
	return l.firstBatch(op, src, cursorSpec{ns: r.NS, command: "find", limit: firstLimit(r.HasBatchSize, r.BatchSize), single: r.SingleBatch, noTimeout: r.NoTimeout}, out)
}

// aggregation is a find as a pipeline.
func (r *FindRequest) aggregation() (*AggregateRequest, error) {
	for _, o := range []struct {
		name string
		set  bool
	}{{"min", r.Min != nil}, {"max", r.Max != nil}, {"returnKey", r.ReturnKey}, {"showRecordId", r.ShowRecordID}, {"tailable", r.Tailable}} {
		if o.set {
			return nil, mongoerr.New(mongoerr.InvalidPipelineOperator, "Option %s not supported in aggregation.", o.name)
		}
	}
	a := &AggregateRequest{NS: r.NS, Hint: r.Hint, AllowDiskUse: r.AllowDiskUse, Collation: r.Collation, Let: r.Let}
	if !r.Filter.IsEmpty() {
		a.Pipeline = append(a.Pipeline, bson.D("$match", r.Filter))
	}
	if !r.Sort.IsEmpty() {
		if isNatural(r.Sort) {
			return nil, mongoerr.New(mongoerr.InvalidPipelineOperator, "Sort option $natural not supported in aggregation.")
		}
		a.Pipeline = append(a.Pipeline, bson.D("$sort", r.Sort))
	}
	if r.Skip > 0 {
		a.Pipeline = append(a.Pipeline, bson.D("$skip", r.Skip))
	}
	if r.Limit > 0 {
		a.Pipeline = append(a.Pipeline, bson.D("$limit", r.Limit))
	}
	if !r.Projection.IsEmpty() {
		a.Pipeline = append(a.Pipeline, bson.D("$project", r.Projection))
	}
	return a, nil
}
