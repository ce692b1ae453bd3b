package query

import (
	"errors"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/eval/project"
	"github.com/cairndb/cairn/internal/eval/sortkey"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query/exec"
	"github.com/cairndb/cairn/internal/query/plan"
	"github.com/cairndb/cairn/internal/storage"
)

// Find implements Executor.
func (l *Local) Find(op *OpContext, r *FindRequest, out *bson.Builder) error {
	if done, err := l.findPoint(op, r, out); done || err != nil {
		return err
	}
	ns := &r.NS
	if r.UUID != nil {
		ns = nil
	}
	view, err := l.openView(op, ns)
	if err != nil {
		return err
	}
	held, err := l.find(op, r, view, out)
	if !held {
		view.close()
	}
	return err
}

// find is Find on a view; held says that a cursor, or what was one, has taken it.
func (l *Local) find(op *OpContext, r *FindRequest, view *view, out *bson.Builder) (held bool, err error) {
	t, err := l.resolveFind(view, &r.NS, r.UUID)
	if err != nil {
		return false, err
	}
	if err := CheckUUID(view.version(l), r.NS, t.coll, r.CollectionUUID); err != nil {
		return false, err
	}
	coll, err := t.collation(r.Collation)
	if err != nil {
		return false, err
	}
	if t.view != nil {
		return false, l.findOnView(op, r, t, out)
	}
	if id, ok := r.pointRead(); ok && t.coll != nil && t.idIndex() != nil && op.ReadConcern.Level != "snapshot" && t.isPoint(id, coll) {
		return false, l.findByID(op, r, t.coll, id, coll, out)
	}
	q, full, sc, err := l.findQuery(op, r, t, coll)
	if err != nil {
		return false, err
	}
	if t.coll == nil {
		appendCursor(out, "firstBatch", func() {}, 0, r.NS)
		return false, nil
	}
	o := l.execOptions(op, sc, full, view)
	o.NoDiskUse = r.AllowDiskUse != nil && !*r.AllowDiskUse
	x, err := l.start(op, t, q, o)
	if err != nil {
		return false, err
	}
	src := &findSource{l: l, x: x, count: t.coll.Count, view: view, showRecordID: r.ShowRecordID && !r.ReturnKey, tailable: r.Tailable, await: r.AwaitData, majority: needsDurable(op)}
	return true, l.firstBatch(op, src, cursorSpec{ns: r.NS, command: "find", limit: firstLimit(r.HasBatchSize, r.BatchSize), single: r.SingleBatch,
		noTimeout: r.NoTimeout, tailable: r.Tailable, await: r.AwaitData}, out)
}

func firstLimit(given bool, n int64) int64 {
	if given {
		return n
	}
	return firstBatchDocs
}

// pointRead reports whether the request is for one document by its _id and nothing else.
func (r *FindRequest) pointRead() (bson.Value, bool) {
	if !r.Sort.IsEmpty() || r.Skip != 0 || !r.Hint.IsMissing() || r.Min != nil || r.Max != nil || r.ReturnKey ||
		r.ShowRecordID || r.Tailable || (r.HasBatchSize && r.BatchSize == 0) || r.RequestResume || r.ResumeAfter != nil {
		return bson.Value{}, false
	}
	for it := r.Projection.Iter(); it.Next(); {
		if v := it.Value(); !v.IsNumber() && v.Type != bson.TypeBool {
			return bson.Value{}, false
		}
	}
	return pointID(r.Filter)
}

// pointID returns the _id of a filter {_id: value}.
func pointID(f bson.Raw) (bson.Value, bool) {
	it := f.Iter()
	if !it.Next() || it.Key() != "_id" {
		return bson.Value{}, false
	}
	v := it.Value()
	if it.Next() {
		return bson.Value{}, false
	}
	switch v.Type {
	case bson.TypeDocument:
		k, _ := v.Doc().First()
		if len(k) > 0 && k[0] == '$' {
			return v, false
		}
		return v, true
	case bson.TypeNull, bson.TypeUndefined, bson.TypeRegex, bson.TypeArray, bson.TypeMissing:
		return v, false
	}
	return v, true
}

// Expected is a request for one document by its _id that will come, zero if the one that comes is
// another. It is valid as long as the filter's bytes.
type Expected struct {
	storage.Expected
	coll *catalog.Collection // nil: none
	id   bson.Value
	at   *catalog.Version // of the catalog, in which coll was found
}

// Known reports whether it is one.
func (x *Expected) Known() bool { return x.coll != nil }

// Expect says that a request with that filter will come. If it is for one document by its _id, what
// it looks at is got from memory meanwhile.
func (l *Local) Expect(ns Namespace, filter bson.Raw) Expected {
	id, ok := pointID(filter)
	if !ok {
		return Expected{}
	}
	v := l.cat.Pin()
	c := v.Lookup(ns)
	if c == nil || c.Options.Collation != nil {
		return Expected{}
	}
	return Expected{c.ExpectID(l.eng, id), c, id, v}
}

// FindExpected implements Executor.
func (l *Local) FindExpected(op *OpContext, x *Expected, out *bson.Builder) (done bool, err error) {
	c := x.coll
	if c == nil || c.IDIndex() == nil || c.NS.DB == catalog.LocalDB || x.at != l.cat.Pin() {
		return false, nil
	}
	return true, l.answerByID(op, c.NS, c, func(room []byte) (bson.Raw, error) { return c.GetByID(l.eng, x.id, room) }, out)
}

// findPoint is the short way of the most frequent request: one document of a plain collection
// by its _id. done is false if r asks for more, or its target is another thing.
func (l *Local) findPoint(op *OpContext, r *FindRequest, out *bson.Builder) (done bool, err error) {
	id, ok := r.pointRead()
	if !ok || r.UUID != nil || r.CollectionUUID != nil || r.NS.DB == catalog.LocalDB || !r.Collation.IsEmpty() || op.ReadConcern.Level == "snapshot" {
		return false, nil
	}
	c := l.cat.Pin().Lookup(r.NS)
	if c == nil || c.IDIndex() == nil || (c.Options.Collation != nil && collate.HasString(id)) {
		return false, nil
	}
	return true, l.findByID(op, r, c, id, c.Options.Collation, out)
}

// findByID answers with one look-up and nothing else.
func (l *Local) findByID(op *OpContext, r *FindRequest, c *catalog.Collection, id bson.Value, coll *collate.Collator, out *bson.Builder) error {
	if coll.Err() != nil && collate.HasString(id) {
		return coll.Err()
	}
	read := func(room []byte) (bson.Raw, error) { return c.GetByID(l.eng, id, room) }
	if !r.Projection.IsEmpty() {
		sc, err := newScope(op, r.Let, coll)
		if err != nil {
			return err
		}
		proj, err := sc.projection(r.Projection, idFilter(r.Filter, sc))
		if err != nil {
			return err
		}
		whole := read
		read = func(room []byte) (bson.Raw, error) {
			doc, err := whole(room)
			if err != nil {
				return nil, err
			}
			if doc, err = proj.Apply(doc, &project.Extra{Env: sc.env}); err != nil {
				return nil, firstBatchInPlan("find", r.NS, err)
			}
			return doc, nil
		}
	}
	return l.answerByID(op, r.NS, c, read, out)
}

// answerByID appends the cursor document with what read returns, which is storage.ErrNotFound for nothing.
func (l *Local) answerByID(op *OpContext, ns Namespace, c *catalog.Collection, read func(room []byte) (bson.Raw, error), out *bson.Builder) error {
	op.Stats.PlanSummary = "EXPRESS_IXSCAN { _id: 1 }"
	if err := op.Interrupt(); err != nil {
		return err
	}
	var err error
	appendCursor(out, "firstBatch", func() { err = out.AppendDocFrom("", read) }, 0, ns)
	switch {
	case err == nil:
		op.Stats.KeysExamined, op.Stats.DocsExamined, op.Stats.NReturned = 1, 1, 1
	case !errors.Is(err, storage.ErrNotFound):
		return err
	}
	c.IDIndex().NoteAccess()
	if needsDurable(op) {
		return l.waitDurable(op)
	}
	return nil
}

// idFilter parses a filter on _id, for projections that look at it.
func idFilter(f bson.Raw, sc *scope) match.Node {
	n, err := sc.filter(f)
	if err != nil {
		return &match.And{} // pointID saw to it that there is nothing to refuse
	}
	return n
}

// appendCursor appends the cursor document of a reply.
func appendCursor(out *bson.Builder, batch string, docs func(), id int64, ns Namespace) {
	out.Doc("cursor").Array(batch)
	docs()
	out.End().Int64("id", id).Join("ns", ns.DB, ".", ns.Coll).End()
}

// findQuery parses a find into a query to plan. The result holds no bytes of the request.
func (l *Local) findQuery(op *OpContext, r *FindRequest, t *target, coll *collate.Collator) (*plan.Query, *match.Matcher, *scope, error) {
	sc, err := newScope(op, r.Let, coll)
	if err != nil {
		return nil, nil, nil, err
	}
	q := &plan.Query{NS: r.NS.String(), Collation: coll, Skip: r.Skip, Limit: r.Limit, ReturnKey: r.ReturnKey, Tailable: r.Tailable, Min: cloned(r.Min), Max: cloned(r.Max)}
	if q.Filter, err = sc.filter(cloned(r.Filter)); err != nil {
		return nil, nil, nil, err
	}
	if q.HintIndex, q.HintNatural, err = t.hint(r.Hint); err != nil && t.coll != nil {
		return nil, nil, nil, err
	}
	if err := querySort(q, cloned(r.Sort)); err != nil {
		return nil, nil, nil, err
	}
	spec := cloned(r.Projection)
	if q.Projection, err = sc.projection(spec, q.Filter); err != nil {
		return nil, nil, nil, err
	}
	if q.Projection != nil {
		q.ProjSpec = q.Projection.Serialize()
	}
	if t.coll != nil && t.coll.IsOplog() {
		q.RecordIDField = "ts"
	}
	if t.coll != nil && t.coll.ClusteredName() != "" {
		q.Clustered = t.indexes[0]
	}
	if err := r.checkTailable(t); err != nil {
		return nil, nil, nil, err
	}
	if (r.Min != nil || r.Max != nil) && r.Hint.IsMissing() {
		return nil, nil, nil, mongoerr.New(51173, "When using min()/max() a hint of which index to use must be provided")
	}
	var full *match.Matcher
	if !isTrue(q.Filter) {
		full = match.New(q.Filter)
	}
	return q, full, sc, nil
}

func cloned(d bson.Raw) bson.Raw {
	if d == nil {
		return nil
	}
	return d.Clone()
}

func isTrue(n match.Node) bool {
	switch n := n.(type) {
	case *match.And:
		return len(n.Kids) == 0
	case match.AlwaysTrue, *match.AlwaysTrue:
		return true
	}
	return false
}

// checkTailable refuses tailable cursors where they make no sense.
func (r *FindRequest) checkTailable(t *target) error {
	switch {
	case r.RequestResume || r.ResumeAfter != nil:
		return mongoerr.New(mongoerr.CommandNotSupported, "resume tokens of find ($_requestResumeToken, $_resumeAfter) are not supported yet")
	case !r.Tailable:
		if r.AwaitData {
			return mongoerr.New(mongoerr.FailedToParse, "Cannot set 'awaitData' without also setting 'tailable'")
		}
	case !r.Sort.IsEmpty() && bson.CompareDocs(r.Sort, bson.D("$natural", 1)) != 0:
		return mongoerr.New(mongoerr.BadValue, "cannot use tailable option with a sort other than {$natural: 1}")
	case r.SingleBatch:
		return mongoerr.New(mongoerr.FailedToParse, "Cannot use tailable option with the 'singleBatch' option")
	case t.coll != nil && !t.coll.IsCapped():
		return mongoerr.New(mongoerr.BadValue, "error processing query: ns=%s planner returned error :: caused by :: tailable cursor requested on non capped collection", r.NS)
	}
	return nil
}

func isNatural(sort bson.Raw) bool { return sort.Has("$natural") }

// querySort puts a sort specification into q; $natural is a direction, not an order.
func querySort(q *plan.Query, spec bson.Raw) error {
	if spec.IsEmpty() {
		return nil
	}
	if n := spec.Get("$natural"); !n.IsMissing() {
		f, ok := n.AsFloat64()
		if !ok || (f != 1 && f != -1) {
			return mongoerr.New(mongoerr.BadValue, "$natural sort cannot be set to a value other than -1 or 1.")
		}
		if spec.Len() > 1 {
			return mongoerr.New(mongoerr.BadValue, "Cannot include '$natural' in compound sort: %s", plan.Text(spec.Value()))
		}
		if q.HintIndex != nil {
			return mongoerr.New(mongoerr.BadValue, "error processing query: $natural sort cannot be used with a hint")
		}
		q.HintNatural = int(f)
		return nil
	}
	p, err := sortkey.Parse(spec)
	if err != nil {
		return err
	}
	p.Collation = q.Collation
	q.Sort, q.SortSpec = p, spec
	return q.Collation.Err()
}

// execOptions are those of an execution for op.
func (l *Local) execOptions(op *OpContext, sc *scope, full *match.Matcher, v *view) exec.Options {
	o := exec.Options{Ctx: op.Ctx, Reader: l.eng, Full: full, Interrupt: op.Interrupt, NewSorter: l.eng.NewSorter}
	if sc != nil {
		o.Env = sc.env
	}
	if v != nil && v.snap != nil {
		o.Reader, o.Stable = v.snap, true
	}
	return o
}

// start plans q and begins to run it: the only plan, the cached one, or the winner of a trial.
func (l *Local) start(op *OpContext, t *target, q *plan.Query, o exec.Options) (*exec.Exec, error) {
	for attempt := 0; ; attempt++ {
		p, err := l.choose(op, t, q, o)
		if errors.Is(err, exec.ErrReplan) && attempt < 8 {
			l.prepare(t)
			continue
		}
		if err != nil {
			return nil, err
		}
		p.winner.Plan.Root.Walk(func(n *plan.Node) {
			if n.Index != nil {
				if ix := t.coll.Index(n.Index.Name); ix != nil {
					ix.NoteAccess()
				}
			}
		})
		op.notePlan(p.winner.Plan.Summary())
		op.Stats.HasSortStage = op.Stats.HasSortStage || p.winner.Plan.HasSort
		return p.winner, nil
	}
}

// choice is the outcome of planning.
type choice struct {
	winner         *exec.Exec
	losers         []*exec.Exec
	shape, cacheID string
}

// choose plans q and picks a plan.
func (l *Local) choose(op *OpContext, t *target, q *plan.Query, o exec.Options) (*choice, error) {
	sols, err := plan.Plan(q, t.indexes)
	if err != nil {
		return nil, err
	}
	c := &choice{}
	if len(sols) == 1 {
		c.winner = exec.New(t.x, sols[0], o)
		return c, c.winner.Probe()
	}
	c.shape = q.Shape()
	c.cacheID = q.CacheKey(c.shape, t.indexes)
	op.Stats.QueryHash, op.Stats.PlanCacheKey = plan.Hash(c.shape), plan.Hash(c.cacheID)
	if sig, budget, ok := t.cache.Lookup(c.cacheID, t.version); ok {
		for _, s := range sols {
			if s.Signature() == sig {
				c.winner = l.cached(t, q, s, o, c.cacheID, budget)
				return c, c.winner.Probe()
			}
		}
	}
	trial, err := exec.Try(t.x, sols, o)
	if err != nil {
		return nil, err
	}
	c.winner, c.losers = trial.Winner, trial.Losers
	t.cache.Put(c.cacheID, t.version, c.winner.Plan.Signature(), trial.Works)
	t.cache.Describe(c.cacheID, plan.Description{Shape: c.shape, Query: describeQuery(q), Plan: describePlan(c.winner.Plan), Created: time.Now()})
	return c, nil
}

// cached runs the plan that the cache knows; if it needs far more work than it did when
// it won, the plans are tried against each other again.
func (l *Local) cached(t *target, q *plan.Query, s *plan.Solution, o exec.Options, key string, budget int64) *exec.Exec {
	s.Cached = true
	o.Budget = budget
	x := exec.New(t.x, s, o)
	x.Replan = func() (*plan.Solution, error) {
		t.cache.Evict(key)
		o := x.Opts
		o.Budget = 0
		sols, err := plan.Plan(q, t.indexes)
		if err != nil {
			return nil, err
		}
		trial, err := exec.Try(t.x, sols, o)
		if err != nil {
			return nil, err
		}
		trial.Winner.Close()
		t.cache.Put(key, t.version, trial.Winner.Plan.Signature(), trial.Works)
		return trial.Winner.Plan, nil
	}
	return x
}

// needsDurable reports whether nothing that is returned may be lost in a crash.
func needsDurable(op *OpContext) bool {
	switch op.ReadConcern.Level {
	case "majority", "linearizable", "snapshot":
		return true
	}
	return false
}

// waitDurable makes what the operation has seen durable.
func (l *Local) waitDurable(op *OpContext) error {
	ctx, cancel := op.WaitContext()
	defer cancel()
	if err := l.log.Sync(ctx); err != nil {
		if ctx.Err() != nil {
			return contextError(ctx, ctx.Err())
		}
		return err
	}
	return nil
}

// cursorSpec says how results are given out.
type cursorSpec struct {
	ns        Namespace
	command   string // that opens it, for its errors
	limit     int64
	single    bool
	noTimeout bool
	tailable  bool
	await     bool
}

// firstBatch appends the first batch of a source and keeps the rest in a cursor.
func (l *Local) firstBatch(op *OpContext, src batchSource, spec cursorSpec, out *bson.Builder) error {
	out.Doc("cursor").Array("firstBatch")
	b := newBatch(out, spec.limit)
	done, err := src.fill(op, b)
	if err != nil {
		src.close()
		return firstBatchInPlan(spec.command, spec.ns, err)
	}
	out.End()
	op.Stats.NReturned += b.n
	var id int64
	if done || spec.single {
		src.close()
		op.Stats.Exhausted = true
	} else {
		cur := &Cursor{NS: spec.ns, LSID: cloned(op.LSID), ConnID: op.ConnID, TxnNumber: -1, NoTimeout: spec.noTimeout,
			Tailable: spec.tailable, AwaitData: spec.await, source: src}
		cur.returned.Store(b.n)
		if op.MaxTime > 0 {
			cur.maxTime = max(op.MaxTime-time.Since(op.Now), time.Millisecond)
		}
		id = l.cursors.add(cur)
		op.Stats.CursorID = id
	}
	if at, ok := src.(interface{ clusterTime() bson.Timestamp }); ok && at.clusterTime() != 0 {
		out.Timestamp("atClusterTime", at.clusterTime())
	}
	out.Int64("id", id).Join("ns", spec.ns.DB, ".", spec.ns.Coll).End()
	return nil
}
