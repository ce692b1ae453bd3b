package query

import (
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/eval/project"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query/exec"
	"github.com/cairndb/cairn/internal/query/pipeline"
	"github.com/cairndb/cairn/internal/query/plan"
)

// explained is one planned query on its way to explain's reply.
type explained struct {
	l      *Local
	op     *OpContext
	t      *target
	q      *plan.Query
	o      exec.Options
	choice *choice
	took   time.Duration // of planning
	// top is the node on top of the winning plan that the executor itself stands for
	// (COUNT, UPDATE …), nil for none.
	top  *plan.Node
	ran  time.Duration
	rows int64
	// optimized: the query stands for a whole pipeline.
	optimized bool
	coll      *collate.Collator
}

// Explain implements Executor.
func (l *Local) Explain(op *OpContext, r *ExplainRequest, out *bson.Builder) error {
	switch r.Verbosity {
	case "queryPlanner", "executionStats", "allPlansExecution":
	default:
		return mongoerr.New(mongoerr.BadValue, "verbosity string must be one of {'queryPlanner', 'executionStats', 'allPlansExecution'}")
	}
	if r.Aggregate != nil {
		return l.explainAggregate(op, r, out)
	}
	e, agg, err := l.explainable(op, r)
	if err != nil {
		return err
	}
	if agg != nil {
		return l.explainAggregate(op, &ExplainRequest{Verbosity: r.Verbosity, Aggregate: agg}, out)
	}
	out.Str("explainVersion", "1")
	return e.append(out, r.Verbosity)
}

// explainable makes the planned query of a request, or the aggregation that it is on a view.
func (l *Local) explainable(op *OpContext, r *ExplainRequest) (*explained, *AggregateRequest, error) {
	e := &explained{l: l, op: op}
	var full *match.Matcher
	var sc *scope
	var err error
	switch {
	case r.Find != nil:
		if e.t, err = l.resolveFind(nil, &r.Find.NS, r.Find.UUID); err != nil {
			return nil, nil, err
		}
		if e.t.view != nil {
			a, err := r.Find.aggregation()
			return nil, a, err
		}
		if e.coll, err = e.t.collation(r.Find.Collation); err != nil {
			return nil, nil, err
		}
		if e.q, full, sc, err = l.findQuery(op, r.Find, e.t, e.coll); err != nil {
			return nil, nil, err
		}
	case r.Count != nil:
		e.t = l.resolve(r.Count.NS)
		if e.t.view != nil {
			return nil, &AggregateRequest{NS: r.Count.NS, Pipeline: []bson.Raw{bson.D("$match", r.Count.Query), bson.D("$count", "count")}}, nil
		}
		if e.coll, err = e.t.collation(r.Count.Collation); err != nil {
			return nil, nil, err
		}
		if e.q, full, sc, err = l.countQuery(op, r.Count, e.t, e.coll); err != nil {
			return nil, nil, err
		}
		e.top = &plan.Node{Stage: plan.Count, CountSkip: r.Count.Skip, CountLimit: countLimit(r.Count.Limit), Stats: &plan.Stats{}}
		if e.t.coll != nil && fastCount(e.q, e.t) {
			e.top.Stage = plan.RecordCount
		}
	case r.Distinct != nil:
		e.t = l.resolve(r.Distinct.NS)
		if e.t.view != nil {
			return nil, &AggregateRequest{NS: r.Distinct.NS, Pipeline: []bson.Raw{bson.D("$match", r.Distinct.Query)}}, nil
		}
		if e.coll, err = e.t.collation(r.Distinct.Collation); err != nil {
			return nil, nil, err
		}
		if e.q, full, sc, err = l.countQuery(op, &CountRequest{NS: r.Distinct.NS, Query: r.Distinct.Query, Hint: r.Distinct.Hint}, e.t, e.coll); err != nil {
			return nil, nil, err
		}
		e.q.CountOnly, e.q.NeedRecord = false, true
	default:
		return e, nil, e.write(r)
	}
	e.o = l.execOptions(op, sc, full, nil)
	return e, nil, e.plan(r)
}

// write makes the query behind an update, delete or findAndModify.
func (e *explained) write(r *ExplainRequest) error {
	u := &updateOp{l: e.l, op: e.op}
	e.top = &plan.Node{Stage: plan.Update, Stats: &plan.Stats{}}
	var err error
	switch {
	case r.Update != nil:
		s := &r.Update.Updates[0]
		u.collation = s.Collation
		u.ns, u.hint, u.sort, u.multi, u.upsert = r.Update.NS, s.Hint, s.Sort, s.Multi, s.Upsert
		err = u.parse(s.Q, s.U, s.ArrayFilters, withConstants(r.Update.Let, s.Constants))
	case r.Delete != nil:
		s := &r.Delete.Deletes[0]
		u.collation = s.Collation
		u.ns, u.hint, u.multi = r.Delete.NS, s.Hint, s.Multi
		err = u.parse(s.Q, missing, nil, r.Delete.Let)
	default:
		f := r.FindAndModify
		u.collation = f.Collation
		u.ns, u.hint, u.sort, u.upsert = f.NS, f.Hint, f.Sort, f.Upsert
		err = u.parse(f.Query, f.Update, f.ArrayFilters, f.Let)
	}
	if err == nil {
		err = u.needFilter()
	}
	if err != nil {
		return err
	}
	if u.up == nil {
		e.top.Stage = plan.Delete
	}
	if e.t = e.l.resolve(u.ns); e.t.view != nil {
		return mongoerr.New(mongoerr.CommandNotSupportedOnView, "Namespace %s is a view, not a collection", u.ns)
	}
	if e.q, err = u.query(e.t); err != nil && e.t.coll != nil {
		return err
	}
	if e.q == nil {
		e.q = &plan.Query{NS: u.ns.String(), Filter: u.filter}
	}
	e.top.Multi, e.top.Upsert = u.multi, u.upsert
	e.o = e.l.execOptions(e.op, u.sc, u.full, nil)
	return e.plan(r)
}

// plan chooses the winner.
func (e *explained) plan(r *ExplainRequest) error {
	start := time.Now()
	defer func() { e.took = time.Since(start) }()
	e.choice = &choice{shape: e.q.Shape()}
	e.choice.cacheID = e.q.CacheKey(e.choice.shape, e.t.indexes)
	if e.t.coll == nil || (e.top != nil && e.top.Stage == plan.RecordCount) {
		return nil
	}
	if s := e.special(r); s != nil {
		e.choice.winner = exec.New(e.t.x, s, e.o)
		return nil
	}
	if err := e.try(); err != nil {
		return err
	}
	if e.choice.winner != nil && e.top != nil && e.top.Stage == plan.Count {
		toCountScan(e.choice.winner.Plan)
	}
	return nil
}

// try finds the winner without the plan cache, so that there are losers to show and the
// cache stays as it is; what the cache holds is marked.
func (e *explained) try() error {
	sols, err := plan.Plan(e.q, e.t.indexes)
	if err != nil {
		return err
	}
	c := e.choice
	if len(sols) == 1 {
		c.winner = exec.New(e.t.x, sols[0], e.o)
		return c.winner.Probe()
	}
	if sig, _, ok := e.t.cache.Lookup(c.cacheID, e.t.version); ok {
		for _, s := range sols {
			s.Cached = s.Signature() == sig
		}
	}
	trial, err := exec.Try(e.t.x, sols, e.o)
	if err != nil {
		return err
	}
	c.winner, c.losers = trial.Winner, trial.Losers
	return nil
}

// special are the plans that do not come out of the planner.
func (e *explained) special(r *ExplainRequest) *plan.Solution {
	switch {
	case r.Distinct != nil:
		return distinctSolution(e.q, e.t, r.Distinct.Key)
	case r.Find != nil:
		if id, ok := r.Find.pointRead(); !ok || e.t.idIndex() == nil || !e.t.isPoint(id, e.coll) {
			return nil
		}
		c, ok := e.q.Filter.(*match.Comparison)
		if !ok {
			return nil
		}
		n := &plan.Node{Stage: plan.Express, Index: e.t.idIndex(), Bounds: []plan.Intervals{{plan.Point(e.t.idIndex().Collation.Value(c.Value))}}}
		if e.q.Projection != nil {
			st := plan.ProjectionDefault
			if e.q.Projection.Simple() {
				st = plan.ProjectionSimple
			}
			n = &plan.Node{Stage: st, Projection: e.q.Projection, ProjSpec: e.q.ProjSpec, Kids: []*plan.Node{n}}
		}
		return &plan.Solution{Root: n}
	}
	return nil
}

// distinctSolution is the plan of a distinct on an index, with the projection that its
// values stand for.
func distinctSolution(q *plan.Query, t *target, key string) *plan.Solution {
	s := plan.DistinctPlan(q, t.indexes, key)
	if s == nil {
		return nil
	}
	spec := bson.D("_id", 0, key, 1)
	p, err := project.Parse(spec, project.Options{})
	if err != nil {
		return s
	}
	s.Root = &plan.Node{Stage: plan.ProjectionCovered, Projection: p, ProjSpec: spec, Kids: []*plan.Node{s.Root}}
	return s
}

// toCountScan renames the scan of a plan that counts keys of one range.
func toCountScan(s *plan.Solution) {
	n := s.Root
	if n.Stage != plan.IxScan || n.Filter != nil || n.MinMax != nil {
		return
	}
	for _, b := range n.Bounds {
		if len(b) != 1 {
			return
		}
	}
	n.Stage = plan.CountScan
}

// append appends the explain of the query.
func (e *explained) append(out *bson.Builder, verbosity string) error {
	defer e.close()
	if verbosity != "queryPlanner" {
		if err := e.execute(); err != nil {
			return err
		}
	}
	e.queryPlanner(out)
	if verbosity == "queryPlanner" {
		return nil
	}
	out.Doc("executionStats")
	e.executionStats(out, verbosity)
	out.End()
	return nil
}

func (e *explained) close() {
	if e.choice != nil && e.choice.winner != nil {
		e.choice.winner.Close()
	}
}

// queryPlanner appends the section of that name.
func (e *explained) queryPlanner(out *bson.Builder) {
	out.Doc("queryPlanner").Str("namespace", e.q.NS).AppendDoc("parsedQuery", match.Serialize(e.q.Filter)).Bool("indexFilterSet", false)
	if e.q.Collation != nil {
		out.AppendDoc("collation", e.q.Collation.Spec())
	}
	hash := plan.Hash(e.choice.shape)
	out.Str("queryHash", hash).Str("planCacheShapeHash", hash).Str("planCacheKey", plan.Hash(e.choice.cacheID))
	out.IntOrLong("optimizationTimeMillis", e.took.Milliseconds())
	if e.optimized {
		out.Bool("optimizedPipeline", true)
	}
	out.Bool("maxIndexedOrSolutionsReached", false).Bool("maxIndexedAndSolutionsReached", false)
	out.Bool("maxScansToExplodeReached", false).Bool("prunedSimilarIndexes", false)
	out.Doc("winningPlan")
	plan.AppendPlan(out, e.winning())
	out.End().Array("rejectedPlans")
	for _, x := range e.choice.losers {
		out.Doc("")
		plan.AppendPlan(out, x.Plan)
		out.End()
	}
	out.End().End()
}

// winning is the winning plan with what stands on top of it.
func (e *explained) winning() *plan.Solution {
	root := &plan.Node{Stage: plan.EOF}
	cached := false
	if e.choice.winner != nil {
		root, cached = e.choice.winner.Plan.Root, e.choice.winner.Plan.Cached
	}
	if e.top != nil {
		if e.top.Stage != plan.RecordCount && len(e.top.Kids) == 0 {
			e.top.Kids = []*plan.Node{root}
		}
		root = e.top
	}
	return &plan.Solution{Root: root, Cached: cached}
}

// execute runs the winner for its statistics; writes count what they would do.
func (e *explained) execute() error {
	start := time.Now()
	defer func() { e.ran = time.Since(start) }()
	if e.top != nil && e.top.Stage == plan.RecordCount {
		e.top.Stats.NCount = limited(e.t.coll.Count(), e.top.CountSkip, e.top.CountLimit)
		e.top.Stats.IsEOF = true
		return nil
	}
	x := e.choice.winner
	if x == nil {
		return nil
	}
	if e.top != nil && e.top.Stage == plan.Count {
		_, err := exec.Count(x, e.top)
		return err
	}
	var row exec.Row
	for {
		ok, err := x.Next(&row)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if e.rows++; e.rows%tickEvery == 0 {
			if err := x.Tick(); err != nil {
				return err
			}
		}
		if e.top != nil && !e.top.Multi {
			break
		}
	}
	if e.top == nil {
		return nil
	}
	st := e.top.Stats
	st.IsEOF = true
	if e.top.Stage == plan.Delete {
		st.NDeleted = e.rows
	} else {
		st.NMatched, st.NModified = e.rows, e.rows
		if e.rows == 0 && e.top.Upsert {
			st.NUpserted = 1
		}
	}
	e.rows = 0 // writes return nothing
	return nil
}

func (e *explained) executionStats(out *bson.Builder, verbosity string) {
	root := e.winning().Root
	exec.FinishStats(root, e.ran.Milliseconds())
	keys, docs := exec.Examined(root)
	out.Bool("executionSuccess", true).IntOrLong("nReturned", e.rows).IntOrLong("executionTimeMillis", (e.took + e.ran).Milliseconds())
	out.IntOrLong("totalKeysExamined", keys).IntOrLong("totalDocsExamined", docs)
	out.Doc("executionStages").Bool("isCached", e.choice.winner != nil && e.choice.winner.Plan.Cached)
	plan.AppendStages(out, root)
	out.End()
	if verbosity != "allPlansExecution" {
		return
	}
	out.Array("allPlansExecution")
	if len(e.choice.losers) > 0 {
		all := append([]*exec.Exec{e.choice.winner}, e.choice.losers...)
		for _, x := range all {
			exec.FinishStats(x.Plan.Root, 0)
			k, d := exec.Examined(x.Plan.Root)
			out.Doc("").IntOrLong("nReturned", x.Plan.Root.Stats.Advanced).IntOrLong("executionTimeMillisEstimate", 0)
			out.IntOrLong("totalKeysExamined", k).IntOrLong("totalDocsExamined", d).Doc("executionStages")
			plan.AppendStages(out, x.Plan.Root)
			out.End().End()
		}
	}
	out.End()
}

// explainAggregate explains a pipeline: the find that it begins with and the stages
// that are left; a pipeline that is nothing but a find looks like one.
func (l *Local) explainAggregate(op *OpContext, r *ExplainRequest, out *bson.Builder) error {
	h, p, err := l.parseAggregate(op, r.Aggregate, nil)
	if err != nil {
		return err
	}
	h.view = &view{}
	ns := r.Aggregate.NS
	t := l.resolve(ns)
	for depth := 0; t.view != nil; depth++ {
		if depth >= maxViewDepth {
			return mongoerr.New(165, "View depth too deep or view cycle detected; maximum depth is %d", maxViewDepth)
		}
		if p, err = h.onView(t, p); err != nil {
			return err
		}
		ns.Coll = t.view.On
		t = l.resolve(ns)
	}
	out.Str("explainVersion", "1")
	if p.HasSource() || ns.Coll == "" {
		out.Array("stages")
		p.Explain(out)
		out.End()
		return nil
	}
	q, full, rest, err := h.split(t, p, r.Aggregate.Hint)
	if err != nil {
		return err
	}
	e := &explained{l: l, op: op, t: t, q: q, o: h.execOptions(p.Env(), full)}
	if err := e.plan(&ExplainRequest{}); err != nil {
		return err
	}
	if e.optimized = rest.Empty(); e.optimized {
		return e.append(out, r.Verbosity)
	}
	out.Array("stages").Doc("").Doc("$cursor")
	if err := e.append(out, r.Verbosity); err != nil {
		return err
	}
	out.End()
	if r.Verbosity != "queryPlanner" {
		out.IntOrLong("nReturned", e.rows).IntOrLong("executionTimeMillisEstimate", e.ran.Milliseconds())
	}
	out.End()
	if _, writes := rest.Writes(); writes || r.Verbosity == "queryPlanner" {
		rest.Explain(out)
	} else if err := h.explainStages(t, q, full, rest, out); err != nil {
		return err
	}
	out.End()
	return nil
}

// explainStages runs the stages behind the plan for their figures.
func (h *host) explainStages(t *target, q *plan.Query, full *match.Matcher, rest *pipeline.Pipeline, out *bson.Builder) error {
	var src pipeline.Iterator
	if t.coll != nil {
		x, err := h.l.start(h.op, t, q, h.execOptions(rest.Env(), full))
		if err != nil {
			return err
		}
		src = &execIterator{h: h, x: x}
	}
	stats, err := rest.RunStats(h.op.Ctx, src)
	if err != nil {
		return err
	}
	rest.ExplainStats(out, stats)
	return nil
}
