package query

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/eval/update"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/query/exec"
	"github.com/cairndb/cairn/internal/query/plan"
	"github.com/cairndb/cairn/internal/storage"
)

// maxUpsertRetries bounds how often an upsert that lost a race looks again.
const maxUpsertRetries = 100

// Update implements Executor.
func (l *Local) Update(op *OpContext, r *UpdateRequest) (*WriteReply, error) {
	defer l.noteLastOp(op)
	series := l.seriesBuckets(r.NS)
	if series != nil {
		r = &UpdateRequest{NS: series.NS, Updates: r.Updates, Unordered: r.Unordered, BypassValidation: r.BypassValidation, Let: r.Let}
	}
	if err := l.checkWritable(r.NS); err != nil {
		return nil, err
	}
	rep := &WriteReply{}
	for i := range r.Updates {
		prior, err := l.executed(op, i)
		if err != nil {
			return nil, err
		}
		if prior != nil {
			rep.addPrior(prior, i, op.statement(i))
			continue
		}
		res, err := l.updateStatement(op, r, i, series)
		if res != nil {
			rep.N += res.matched
			rep.NModified += res.modified
			if !res.upsertedID.IsMissing() {
				rep.N++
				rep.Upserted = append(rep.Upserted, Upserted{i, res.upsertedID})
			}
			res.release()
		}
		if op.EachStatement != nil {
			op.EachStatement(i, err)
		}
		if err != nil {
			e, fatal := statementError(err)
			if fatal != nil {
				return rep, fatal
			}
			rep.Errors = append(rep.Errors, WriteError{i, e})
			if !r.Unordered {
				break
			}
		}
	}
	return rep, nil
}

// addPrior counts a statement that was executed before.
func (rep *WriteReply) addPrior(p *PriorResult, i int, stmt int32) {
	rep.N += p.N
	rep.NModified += p.NModified
	if !p.UpsertedID.IsMissing() {
		rep.Upserted = append(rep.Upserted, Upserted{i, p.UpsertedID})
	}
	rep.RetriedStmtIDs = append(rep.RetriedStmtIDs, stmt)
}

// updateOp is one update on its way: what is looked for and what is done to it.
type updateOp struct {
	l      *Local
	op     *OpContext
	ns     Namespace
	sc     *scope // made when something looks at it: see scope
	filter match.Node
	full   *match.Matcher // nil: everything
	// q is a filter {_id: value} that was not parsed: filter and full are then made by
	// parseFilter, for who needs them, and id is the value.
	q      bson.Raw
	id     bson.Value
	let    bson.Raw
	up     *update.Update // nil: delete
	flat   update.Update  // what up may point to
	sort   bson.Raw
	hint   bson.Value
	multi  bool
	upsert bool
	bypass bool
	// collation is the request's, coll what came of it.
	collation bson.Raw
	coll      *collate.Collator
	// series is set if the documents are buckets of a time-series collection that was
	// addressed itself: what is counted are its measurements.
	series *catalog.Collection
	// supplied is inserted as it is when an upsert finds nothing ($merge).
	supplied bson.Raw
	info     *catalog.WriteInfo
	// keep asks for the documents before and after (findAndModify).
	keep     bool
	old, new bson.Raw

	matched, modified int64
	upsertedID        bson.Value
	buf, out          []byte // of the document before and after
	in                update.Input
	details           match.Details
}

// maxKeptBuffer bounds a buffer that is kept for reuse.
const maxKeptBuffer = 64 << 10

// updateOps are those of update and delete, with their memory; they keep nothing of it.
var updateOps = sync.Pool{New: func() any { return new(updateOp) }}

func (u *updateOp) release() {
	buf, out := u.buf, u.out
	if cap(buf)+cap(out) > 2*maxKeptBuffer {
		buf, out = nil, nil
	}
	*u = updateOp{buf: buf[:0], out: out[:0]}
	updateOps.Put(u)
}

// updateStatement runs statement i of r.
func (l *Local) updateStatement(op *OpContext, r *UpdateRequest, i int, series *catalog.Collection) (*updateOp, error) {
	s := r.Updates[i]
	if series != nil {
		var err error
		if s, err = seriesUpdate(s, series.Options.Timeseries); err != nil {
			return nil, err
		}
	}
	if op.HasTxn && s.Multi {
		return nil, mongoerr.New(mongoerr.InvalidOptions, "Cannot use (or request) retryable writes with multi=true")
	}
	u := updateOps.Get().(*updateOp)
	u.l, u.op, u.ns, u.sort, u.hint, u.multi, u.upsert, u.bypass = l, op, r.NS, s.Sort, s.Hint, s.Multi, s.Upsert, r.BypassValidation
	u.info, u.collation, u.series = op.writeInfo(i), s.Collation, series
	if s.UpsertSupplied {
		if u.supplied = s.Constants.Get("new").Doc(); u.supplied == nil {
			return nil, mongoerr.New(mongoerr.FailedToParse, "the parameter 'upsertSupplied' is set to 'true', but no document was supplied")
		}
	}
	if s.Constants != nil && s.U.Type != bson.TypeArray {
		return nil, mongoerr.New(51198, "Constant values may only be specified for pipeline updates")
	}
	if err := u.parse(s.Q, s.U, s.ArrayFilters, withConstants(r.Let, s.Constants)); err != nil {
		return nil, err
	}
	return u, inPlan("Plan executor error during update", u.run())
}

// withConstants joins an update's `c` to the variables of `let`.
func withConstants(let, c bson.Raw) bson.Raw {
	switch {
	case c.IsEmpty():
		return let
	case let.IsEmpty():
		return literals(c)
	}
	return bson.NewBuilder(nil).AppendElems(let).AppendElems(literals(c)).Finish()
}

// literals makes constant expressions of values.
func literals(c bson.Raw) bson.Raw {
	b := bson.NewBuilder(nil)
	for k, v := range c.Elems() {
		b.Doc(k).Append("$literal", v).End()
	}
	return b.Finish()
}

// parse reads filter and update. The request's bytes live as long as the operation.
func (u *updateOp) parse(q bson.Raw, mod bson.Value, arrayFilters []bson.Raw, let bson.Raw) (err error) {
	t := &target{ns: u.ns, coll: u.l.cat.Pin().Lookup(u.ns)}
	if u.coll, err = t.collation(u.collation); err != nil {
		return err
	}
	u.let, u.in.Buf = let, &u.out
	if !let.IsEmpty() { // refused when wrong, though nothing may look at it
		if _, err := u.scope(); err != nil {
			return err
		}
	}
	if id, ok := pointID(q); ok && u.coll == nil && t.coll != nil && t.coll.Options.Collation == nil && !u.keep {
		u.q, u.id = q, id
	} else if err := u.parseFilter(q); err != nil {
		return err
	}
	if mod.IsMissing() {
		return nil
	}
	if err := u.coll.Err(); err != nil {
		return err
	}
	u.in.Now = bson.NewDateTime(u.op.Now)
	if arrayFilters == nil && u.flat.ParseFlat(mod) {
		u.up = &u.flat
		return nil
	}
	u.up, err = update.Parse(mod, update.Options{
		ArrayFilters: arrayFilters, HasArrayFilters: arrayFilters != nil, Multi: u.multi, Match: match.Options{Collation: u.coll, Expr: u.parseExpr},
		Pipeline: u.compilePipeline,
	})
	if err == nil && u.up.NeedsPositional() {
		err = u.needFilter()
	}
	return err
}

// scope makes the operation's scope, which few updates look at.
func (u *updateOp) scope() (_ *scope, err error) {
	if u.sc == nil {
		u.sc, err = newScope(u.op, u.let, u.coll)
	}
	return u.sc, err
}

// parseExpr is the match.ExprParser of the scope.
func (u *updateOp) parseExpr(v bson.Value) (match.ExprFunc, error) {
	sc, err := u.scope()
	if err != nil {
		return nil, err
	}
	return sc.matchOptions().Expr(v)
}

// parseFilter makes filter and full.
func (u *updateOp) parseFilter(q bson.Raw) error {
	sc, err := u.scope()
	if err != nil {
		return err
	}
	if u.filter, err = sc.filter(q); err != nil {
		return err
	}
	if !isTrue(u.filter) {
		u.full = match.New(u.filter)
	}
	return nil
}

// needFilter sees to it that filter is there.
func (u *updateOp) needFilter() error {
	if u.filter != nil {
		return nil
	}
	return u.parseFilter(u.q)
}

// run finds the documents and changes them, and inserts one if none is found and an
// upsert is asked for.
func (u *updateOp) run() error {
	for attempt := 0; ; attempt++ {
		err := u.changeAll()
		if err != nil || u.matched > 0 || !u.upsert {
			return err
		}
		if err := u.needFilter(); err != nil {
			return err
		}
		err = u.insert()
		if mongoerr.Is(err, mongoerr.DuplicateKey) && attempt < maxUpsertRetries && u.retriesDuplicate(err) {
			if err := u.op.Interrupt(); err != nil {
				return err
			}
			continue
		}
		return err
	}
}

// changeAll changes what the filter matches: one document, or all.
func (u *updateOp) changeAll() error {
	t := u.l.resolve(u.ns)
	if t.coll == nil {
		return nil
	}
	if id, ok := u.pointID(t); ok {
		return u.changePoint(t, id)
	}
	if err := u.needFilter(); err != nil {
		return err
	}
	for {
		again, err := u.changeFound(t)
		if err != nil || !again {
			return err
		}
	}
}

// pointID returns the _id if the filter is nothing else.
func (u *updateOp) pointID(t *target) (bson.Value, bool) {
	if !u.sort.IsEmpty() { // it is looked at when the query is planned
		return bson.Value{}, false
	}
	if u.q != nil {
		return u.id, t.idIndex() != nil && u.hint.IsMissing() && t.isPoint(u.id, u.coll)
	}
	c, ok := u.filter.(*match.Comparison)
	if !ok || c.Op != match.Eq || c.Path.String() != "_id" || t.idIndex() == nil || !u.hint.IsMissing() {
		return bson.Value{}, false
	}
	switch c.Value.Type {
	case bson.TypeNull, bson.TypeUndefined, bson.TypeArray, bson.TypeRegex:
		return bson.Value{}, false
	}
	return c.Value, t.isPoint(c.Value, u.coll)
}

func (u *updateOp) changePoint(t *target, id bson.Value) error {
	u.op.Stats.PlanSummary = "EXPRESS_IXSCAN { _id: 1 }"
	if err := u.op.Interrupt(); err != nil {
		return err
	}
	rid, err := t.coll.FindID(u.l.eng, id)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	t.coll.IDIndex().NoteAccess()
	u.op.Stats.KeysExamined++
	_, err = u.changeRecord(t, rid, nil)
	return err
}

// query is what is planned to find the documents.
func (u *updateOp) query(t *target) (*plan.Query, error) {
	q := &plan.Query{NS: u.ns.String(), Filter: u.filter, Collation: u.coll, NeedRecord: true}
	var err error
	if q.HintIndex, q.HintNatural, err = t.hint(u.hint); err != nil {
		return nil, err
	}
	if err := querySort(q, u.sort); err != nil {
		return nil, err
	}
	if q.Sort != nil {
		q.Limit = 1
	}
	return q, nil
}

// changeFound runs the plan and changes what it gives. again asks for another run: the
// one document that a sorted search gave was no longer what it looked for.
func (u *updateOp) changeFound(t *target) (again bool, err error) {
	q, err := u.query(t)
	if err != nil {
		return false, err
	}
	sc, err := u.scope()
	if err != nil {
		return false, err
	}
	x, err := u.l.start(u.op, t, q, u.l.execOptions(u.op, sc, u.full, nil))
	if err != nil {
		return false, err
	}
	defer x.Close()
	var seen ridSet
	if u.multi && u.movesInIndex(x.Plan) {
		seen = ridSet{}
	}
	var row exec.Row
	for n := 1; ; n++ {
		if err := u.op.Interrupt(); err != nil {
			return false, err
		}
		ok, err := x.Next(&row)
		if err != nil {
			return false, err
		}
		if !ok {
			break
		}
		if seen != nil && !seen.add(row.ID) {
			continue
		}
		changed, err := u.changeRecord(t, row.ID, row.Doc)
		if err != nil {
			return false, err
		}
		if changed && !u.multi {
			break
		}
		again = !changed && q.Sort != nil && !u.multi
		if n%16 == 0 {
			if err := x.Tick(); err != nil {
				return false, err
			}
		}
	}
	keys, docs := exec.Examined(x.Plan.Root)
	u.op.Stats.KeysExamined += keys
	u.op.Stats.DocsExamined += docs
	return again, nil
}

// movesInIndex reports whether the update can move a document within an index that the
// plan scans, so that the scan could meet it again.
func (u *updateOp) movesInIndex(s *plan.Solution) bool {
	if u.up == nil {
		return false
	}
	paths, known := u.up.Paths()
	moves := false
	s.Root.Walk(func(n *plan.Node) {
		if n.Index == nil || n.Index.IsID {
			return
		}
		for _, p := range n.Index.Parts {
			for _, q := range paths {
				if overlaps(p.Path, q) {
					moves = true
				}
			}
		}
		moves = moves || !known
	})
	return moves
}

// overlaps reports whether a change at path b can change what stands at path a.
// Array positions may stand between the components, so only the first one decides.
func overlaps(a, b string) bool {
	a, _, _ = strings.Cut(a, ".")
	b, _, _ = strings.Cut(b, ".")
	return a == b
}

// changeRecord changes one record if it still matches: latch, read the latest version,
// match again if it is not the one that was found, evaluate, write.
func (u *updateOp) changeRecord(t *target, rid storage.RecordID, found bson.Raw) (changed bool, err error) {
	var before, after bson.Raw
	err = u.l.unit(u.op, u.ns, false, func(ctx context.Context, c *catalog.Collection, w *oplog.WriteUnit) (bool, error) {
		before, after, changed = nil, nil, false
		if c.UUID != t.coll.UUID {
			return false, mongoerr.New(mongoerr.QueryPlanKilled, "collection dropped. UUID %s", t.coll.UUID)
		}
		if u.multi {
			w.RU.ReadsOnce()
		}
		if err := c.LockRecord(ctx, w, rid); err != nil {
			return false, err
		}
		doc, err := c.Get(w.RU, rid, u.buf)
		if errors.Is(err, storage.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		u.buf = doc
		u.op.Stats.DocsExamined++
		if ok, err := u.matches(doc, found); err != nil || !ok {
			return false, err
		}
		changed, before = true, doc
		if u.up == nil {
			return true, c.Delete(ctx, w, rid, doc, u.info)
		}
		u.in.Timestamp = u.l.ids.timestamp(u.op.Now)
		u.in.KeepEmptyTS = u.op.KeepEmptyTS
		res, err := u.up.Apply(doc, &u.in)
		if err != nil {
			return false, err
		}
		after = res.Doc
		if !res.Modified {
			return false, nil
		}
		if !u.bypass {
			if err := u.l.validate(c, doc, res.Doc); err != nil {
				return false, err
			}
		}
		return true, c.Update(ctx, w, rid, doc, res.Doc, res.Entry, u.info)
	})
	if errors.Is(err, errNoCollection) {
		if u.multi { // what it has changed is not all
			return false, u.l.gone(t.coll)
		}
		return false, nil
	}
	if err != nil || !changed {
		return false, err
	}
	u.count(before, after)
	return true, nil
}

// matches reports whether the latest version of a document is still looked for. The version that
// was found, if any, is not asked again: a filter with chance in it might say something else. Only
// a positional update asks in any case, for where in the arrays it matched.
func (u *updateOp) matches(doc, found bson.Raw) (bool, error) {
	if u.filter == nil { // a record's _id never changes, but look all the same
		first, v := doc.First()
		return first == "_id" && bson.Equal(v, u.id), nil
	}
	if u.full == nil {
		return true, nil
	}
	if u.up != nil && u.up.NeedsPositional() {
		u.in.Details = &u.details
		return u.full.MatchDetails(doc, &u.details)
	}
	if found != nil && bytes.Equal(doc, found) {
		return true, nil
	}
	return u.full.Match(doc)
}

func (u *updateOp) count(before, after bson.Raw) {
	n := int64(1)
	if u.series != nil {
		n = bucketCount(before, u.series.Options.Timeseries)
	}
	u.matched += n
	u.op.Stats.NMatched++
	switch {
	case u.up == nil:
		u.op.Stats.NDeleted++
	case &before[0] != &after[0]:
		u.modified += n
		u.op.Stats.NModified++
	}
	if u.keep {
		u.old, u.new = before.Clone(), cloned(after)
	}
}

// insert inserts the document of an upsert.
func (u *updateOp) insert() error {
	doc, err := u.upsertDocument()
	if err != nil {
		return err
	}
	err = u.l.unit(u.op, u.ns, true, func(ctx context.Context, c *catalog.Collection, w *oplog.WriteUnit) (bool, error) {
		if !u.bypass {
			if err := u.l.validate(c, nil, doc); err != nil {
				return false, err
			}
		}
		err := c.Insert(ctx, w, []bson.Raw{doc}, u.info)
		if d := (*catalog.DocError)(nil); errors.As(err, &d) {
			err = d.Err
		}
		return true, err
	})
	if err != nil {
		return err
	}
	u.upsertedID = doc.Get("_id")
	u.op.Stats.Upserts++
	if u.keep {
		u.new = doc
	}
	return nil
}

func (u *updateOp) upsertDocument() (bson.Raw, error) {
	if u.supplied != nil {
		return u.l.storable(u.op, u.supplied)
	}
	in := u.in
	in.Insert, in.Details, in.Timestamp = true, nil, u.l.ids.timestamp(u.op.Now)
	in.KeepEmptyTS = u.op.KeepEmptyTS
	doc, err := u.up.UpsertDocument(u.filter, &in)
	if err != nil {
		return nil, err
	}
	// Empty timestamps are those of a replacement, and filled in; what operators and
	// pipelines put there stays empty.
	defer func(was bool) { u.op.KeepEmptyTS = was }(u.op.KeepEmptyTS)
	u.op.KeepEmptyTS = true
	return u.l.storable(u.op, u.l.withID(u.op, doc))
}

// retriesDuplicate reports whether an upsert that found nothing but whose document was
// there when it was inserted should look again: the filter must pin all fields of the
// key that was there, so that the other document is the one looked for.
func (u *updateOp) retriesDuplicate(err error) bool {
	e, _ := mongoerr.As(err)
	value := e.Extra.Get("keyValue").Doc()
	if value == nil {
		return false
	}
	eq := map[string]bson.Value{}
	collect := func(n match.Node) {
		if c, ok := n.(*match.Comparison); ok && c.Op == match.Eq {
			eq[c.Path.String()] = c.Value
		}
	}
	collect(u.filter)
	if and, ok := u.filter.(*match.And); ok {
		for _, k := range and.Kids {
			collect(k)
		}
	}
	for k, v := range value.Elems() {
		if w, ok := eq[k]; !ok || (!e.Extra.Has("collation") && !bson.Equal(v, w)) { // with one, v is a key
			return false
		}
	}
	return true
}
