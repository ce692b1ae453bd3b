package command

import (
	"strings"
	"sync"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query"
)

var readCommands = []Command{
	{Name: "find", Flags: Read | V1, Run: runFind, Filter: findFilter, Args: findArgs, Unstable: []string{"awaitData", "collectionUUID", "max", "min", "noCursorTimeout", "oplogReplay", "returnKey", "showRecordId", "tailable"}, Help: "Opens a cursor over the documents that match a filter."},
	{Name: "getMore", Flags: Read | V1 | Exhaust, Run: runGetMore, Help: "Returns the next batch of a cursor.", Args: []Arg{
		{"collection", TString, true}, {"batchSize", TNumber, false}}},
	{Name: "planCacheClear", Run: runPlanCacheClear, Help: "Forgets the plans of a collection, or of one query's shape.", Args: []Arg{
		{"query", TObject, false}, {"sort", TObject, false}, {"projection", TObject, false}, {"collation", TObject, false}}},
	{Name: "killCursors", Flags: V1, Run: runKillCursors, Help: "Closes cursors.", Args: []Arg{{"cursors", TArray, true}}},
	{Name: "aggregate", Flags: Read | Write | V1, Run: runAggregate, Args: aggregateArgs, Unstable: []string{"collectionUUID", "explain"}, Help: "Runs an aggregation pipeline."},
	{Name: "count", Flags: Read | V1, Run: runCount, Args: countArgs, Unstable: []string{"collectionUUID"}, Help: "Counts the documents that match a query."},
	{Name: "distinct", Flags: Read, Run: runDistinct, Args: distinctArgs, Help: "Lists the distinct values of a field."},
	{Name: "explain", Flags: Read | V1, Run: runExplain, Help: "Shows how a command would be run, or was.", Args: []Arg{{"verbosity", TString, false}}},
}

var findArgs = []Arg{
	{"filter", TObject, false}, {"sort", TObject, false}, {"projection", TObject, false}, {"hint", TObject | TString, false},
	{"skip", TNumber, false}, {"limit", TNumber, false}, {"batchSize", TNumber, false}, {"singleBatch", TBoolLike, false},
	{"max", TObject, false}, {"min", TObject, false}, {"returnKey", TBoolLike, false}, {"showRecordId", TBoolLike, false},
	{"tailable", TBoolLike, false}, {"oplogReplay", TBoolLike, false}, {"noCursorTimeout", TBoolLike, false},
	{"awaitData", TBoolLike, false}, {"allowPartialResults", TBoolLike, false}, {"collation", TObject, false},
	{"allowDiskUse", TBoolLike, false}, {"let", TObject, false}, {"ntoreturn", TNumber, false},
	{"$_requestResumeToken", TBoolLike, false}, {"$_resumeAfter", TObject, false}, {"collectionUUID", TBinData, false},
}

var aggregateArgs = []Arg{
	{"pipeline", TArray, true}, {"cursor", TObject, false}, {"explain", TBoolLike, false}, {"allowDiskUse", TBoolLike, false},
	{"hint", TObject | TString, false}, {"collation", TObject, false}, {"let", TObject, false},
	{"bypassDocumentValidation", TBoolLike, false}, {"collectionUUID", TBinData, false},
}

var countArgs = []Arg{
	{"query", TObject, false}, {"limit", TNumber, false}, {"skip", TNumber, false}, {"hint", TObject | TString, false},
	{"collation", TObject, false}, {"fields", TObject, false}, {"collectionUUID", TBinData, false},
}

var distinctArgs = []Arg{
	{"key", TString, true}, {"query", TObject, false}, {"hint", TObject | TString, false}, {"collation", TObject, false},
}

// queryOp hands the operation to the query room.
func (c *Ctx) queryOp() *query.OpContext {
	g, op := &c.Generic, c.Op.Query
	op.LSID, op.HasTxn, op.TxnNumber = g.LSID, g.HasTxnNumber, g.TxnNumber
	switch g.StmtID.Type {
	case bson.TypeArray:
		for v := range g.StmtID.Doc().Values() {
			n, _ := v.AsInt64()
			op.StmtIDs = append(op.StmtIDs, int32(n))
		}
	case bson.TypeMissing:
	default:
		n, _ := g.StmtID.AsInt64()
		op.StmtID = int32(n)
	}
	op.Comment, op.APIStrict = g.Comment, g.APIStrict
	op.ReadConcern = query.ReadConcern{Level: g.ReadConcern.Level, AfterClusterTime: g.ReadConcern.AfterClusterTime, AtClusterTime: g.ReadConcern.AtClusterTime}
	op.WriteConcern = query.WriteConcern{Provided: g.WriteConcern.Given, W: int(g.WriteConcern.W), Mode: g.WriteConcern.Mode, J: g.WriteConcern.J, WTimeout: g.WriteConcern.WTimeout}
	op.Let = c.ArgDoc("let")
	op.KeepEmptyTS = c.ArgBool("bypassEmptyTsReplacement", false)
	op.ClusterTime, _ = c.Node.Waiter.LastApplied()
	if g.HasTxnNumber && c.Command.Has(Txn) && c.Node.Params.TestCommands() {
		op.BeforeCommit = c.failWrite
	}
	return op
}

func (c *Ctx) nonNegative(name, label string) (n int64, given bool, err error) {
	return nonNegative(c.Arg(name), label)
}

func nonNegative(v bson.Value, label string) (n int64, given bool, err error) {
	if v.IsNullish() {
		return 0, false, nil
	}
	if n = intArg(v, 0); n < 0 {
		return 0, true, mongoerr.New(mongoerr.Code(51024), "BSON field '%s' value must be >= 0, actual value '%d'", label, n)
	}
	return n, true, nil
}

// queryNS reads the namespace of a read command, which may be addressed by UUID.
func (c *Ctx) queryNS() (ns query.Namespace, id *bson.UUID, err error) {
	_, v := c.first()
	if v.Type == bson.TypeBinary {
		if u, ok := v.UUID(); ok {
			return query.Namespace{DB: c.DB}, &u, nil
		}
	}
	coll, err := c.Collection()
	return query.Namespace{DB: c.DB, Coll: coll}, nil, err
}

// findRequest reads the arguments of a find into r, which is zero.
func (c *Ctx) findRequest(r *query.FindRequest) error {
	ns, id, err := c.queryNS()
	if err != nil {
		return err
	}
	r.NS, r.UUID = ns, id
	// One pass over what is there instead of a look for each that may be: checkArgs has seen
	// to it that none comes twice and that their types are right.
	var skip, limit, batchSize, oldLimit bson.Value
	c.args.each(c.Body, func(name string, v bson.Value) {
		doc, is := bson.Raw(nil), !v.IsNullish() && v.Truthy()
		if v.Type == bson.TypeDocument {
			doc = v.Doc()
		}
		switch name {
		case "filter":
			r.Filter = doc
		case "sort":
			r.Sort = doc
		case "projection":
			r.Projection = doc
		case "hint":
			r.Hint = v
		case "min":
			r.Min = doc
		case "max":
			r.Max = doc
		case "collation":
			r.Collation = doc
		case "$_resumeAfter":
			r.ResumeAfter = doc
		case "skip":
			skip = v
		case "limit":
			limit = v
		case "batchSize":
			batchSize = v
		case "singleBatch":
			r.SingleBatch = is
		case "returnKey":
			r.ReturnKey = is
		case "showRecordId":
			r.ShowRecordID = is
		case "tailable":
			r.Tailable = is
		case "awaitData":
			r.AwaitData = is
		case "noCursorTimeout":
			r.NoTimeout = is
		case "allowPartialResults":
			r.AllowPartial = is
		case "oplogReplay":
			r.OplogReplay = is
		case "$_requestResumeToken":
			r.RequestResume = is
		case "allowDiskUse":
			if !v.IsNullish() {
				use := is
				r.AllowDiskUse = &use
			}
		case "ntoreturn":
			oldLimit = v
		}
	})
	if r.Skip, _, err = nonNegative(skip, "skip"); err != nil {
		return err
	}
	if r.Limit, _, err = nonNegative(limit, "limit"); err != nil {
		return err
	}
	if r.BatchSize, r.HasBatchSize, err = nonNegative(batchSize, "batchSize"); err != nil {
		return err
	}
	if r.CollectionUUID, err = c.collectionUUID(c.Arg("collectionUUID")); err != nil {
		return err
	}
	if r.AwaitData && !r.Tailable {
		return mongoerr.New(mongoerr.FailedToParse, "Cannot set 'awaitData' without also setting 'tailable'")
	}
	if !oldLimit.IsMissing() {
		return mongoerr.New(mongoerr.BadValue, "The ntoreturn field is not supported")
	}
	return nil
}

// keepBody makes the command's bytes its own: a cursor that stays open, and the plan
// behind it, point into them long after the message's buffer is used again.
func (c *Ctx) keepBody() {
	c.Body = c.Body.Clone()
	c.args.fill(c.Body) // it pointed into the old one
	c.DB = strings.Clone(c.DB)
}

// findRequests are for the next finds: the executor takes from one what it needs.
var findRequests = sync.Pool{New: func() any { return new(query.FindRequest) }}

func findFilter(c *Ctx) bson.Value { return c.Arg("filter") }

// asksForOne reports whether a find whose filter is for one document asks for nothing else: besides
// it only says how many it wants.
func (c *Ctx) asksForOne() bool {
	list := c.args.all()
	if list == nil || c.Generic.ReadConcern.Given {
		return false
	}
	for i := range list {
		switch a := &list[i]; a.name {
		case "filter", "singleBatch":
		case "limit":
			if n, ok := a.v.AsInt64(); !ok || n < 0 {
				return false
			}
		default:
			if genericArg(a.name) < 0 {
				return false
			}
		}
	}
	return true
}

func runFind(c *Ctx) error {
	if c.soon.Known() && c.asksForOne() {
		if done, err := c.Node.Exec.FindExpected(c.Op.Query, &c.soon, c.Reply); done {
			c.Node.Counters.Query.Add(1)
			return err
		}
	}
	if !c.ArgBool("singleBatch", false) {
		c.keepBody()
	}
	r := findRequests.Get().(*query.FindRequest)
	defer func() {
		*r = query.FindRequest{}
		findRequests.Put(r)
	}()
	if err := c.findRequest(r); err != nil {
		return err
	}
	if err := c.waitReadConcern(); err != nil {
		return err
	}
	c.Node.Counters.Query.Add(1)
	return c.Node.Exec.Find(c.queryOp(), r, c.Reply)
}

func runGetMore(c *Ctx) error {
	_, v := c.first()
	if v.Type != bson.TypeInt64 {
		return wrongType("getMore.getMore", v.Type, TLong)
	}
	size, given, err := c.nonNegative("batchSize", "batchSize")
	if err != nil {
		return err
	}
	c.Node.Counters.GetMore.Add(1)
	r := &query.GetMoreRequest{NS: query.Namespace{DB: c.DB, Coll: c.ArgStr("collection")}, CursorID: v.Int64(), BatchSize: size,
		HasBatchSize: given && size > 0, MaxAwait: c.Generic.MaxTime.Milliseconds(), HasMaxAwait: c.Generic.HasMaxTime}
	// On an awaitData cursor maxTimeMS is how long to wait, not a deadline.
	op := c.queryOp()
	op.Deadline, op.MaxTime = time.Time{}, 0
	if c.Node.Params.TestCommands() {
		op.AfterCheckOut = c.failGetMore
	}
	if err := c.Node.Exec.GetMore(op, r, c.Reply); err != nil {
		return err
	}
	if c.ExhaustOK && op.Stats.CursorID != 0 && !op.Stats.Exhausted {
		c.Result.Next = c.Body
	}
	return nil
}

func runKillCursors(c *Ctx) error {
	coll, err := c.Collection()
	if err != nil {
		return err
	}
	r := &query.KillCursorsRequest{NS: query.Namespace{DB: c.DB, Coll: coll}}
	for k, v := range c.Arg("cursors").Doc().Elems() {
		if v.Type != bson.TypeInt64 {
			return wrongType("killCursors.cursors."+k, v.Type, TLong)
		}
		r.Cursors = append(r.Cursors, v.Int64())
	}
	rep, err := c.Node.Exec.KillCursors(c.queryOp(), r)
	if err != nil {
		return err
	}
	for _, l := range []struct {
		name string
		ids  []int64
	}{{"cursorsKilled", rep.Killed}, {"cursorsNotFound", rep.NotFound}, {"cursorsAlive", rep.Alive}, {"cursorsUnknown", rep.Unknown}} {
		c.Reply.Array(l.name)
		for _, id := range l.ids {
			c.Reply.Int64("", id)
		}
		c.Reply.End()
	}
	return nil
}

func (c *Ctx) aggregateRequest() (*query.AggregateRequest, error) {
	r := &query.AggregateRequest{NS: query.Namespace{DB: c.DB}, Hint: c.Arg("hint"), Collation: c.ArgDoc("collation"),
		BypassValidation: c.ArgBool("bypassDocumentValidation", false)}
	if _, v := c.first(); v.IsNumber() {
		if n, _ := v.AsInt64(); n != 1 {
			return nil, mongoerr.New(mongoerr.FailedToParse, "Invalid command format: the 'aggregate' field must specify a collection name or 1")
		}
	} else {
		coll, err := c.Collection()
		if err != nil {
			return nil, err
		}
		r.NS.Coll = coll
	}
	for _, v := range c.Arg("pipeline").Doc().Elems() {
		if v.Type != bson.TypeDocument {
			return nil, mongoerr.New(mongoerr.TypeMismatch, "Each element of the 'pipeline' array must be an object")
		}
		r.Pipeline = append(r.Pipeline, v.Doc())
	}
	if v := c.Arg("allowDiskUse"); !v.IsNullish() {
		use := v.Truthy()
		r.AllowDiskUse = &use
	}
	cur := c.ArgDoc("cursor")
	explains := c.Command.Name != "aggregate" || c.ArgBool("explain", false)
	if explains && c.Generic.WriteConcern.Given {
		return nil, mongoerr.New(mongoerr.FailedToParse, "Aggregation explain does not support the 'writeConcern' option")
	}
	if cur == nil && !explains {
		return nil, mongoerr.New(mongoerr.FailedToParse, "The 'cursor' option is required, except for aggregate with the explain argument")
	}
	for k, v := range cur.Elems() {
		if k != "batchSize" {
			return nil, unknownField("aggregate.cursor." + k)
		}
		n, ok := v.AsInt64()
		if !v.IsNumber() {
			return nil, wrongType("aggregate.cursor.batchSize", v.Type, TNumber)
		}
		if !ok || n < 0 {
			return nil, mongoerr.New(mongoerr.BadValue, "BSON field 'batchSize' value must be >= 0, actual value '%d'", n)
		}
		r.BatchSize, r.HasBatchSize = n, true
	}
	return r, nil
}

func runAggregate(c *Ctx) error {
	c.keepBody()
	r, err := c.aggregateRequest()
	if err != nil {
		return err
	}
	if err := c.waitReadConcern(); err != nil {
		return err
	}
	c.Node.Counters.Command.Add(1)
	if c.ArgBool("explain", false) {
		return c.explain(&query.ExplainRequest{Verbosity: "queryPlanner", Aggregate: r}, c.Body)
	}
	if err := c.checkUUID(r.NS, c.Arg("collectionUUID")); err != nil {
		return err
	}
	c.readsOnly = !writesOut(r.Pipeline)
	op := c.queryOp()
	err = c.Node.Exec.Aggregate(op, r, c.Reply)
	c.Wrote(WriteResult{op.LastOp.TS, op.LastOp.Term})
	return err
}

// writesOut reports whether a pipeline ends in a stage that writes.
func writesOut(pipeline []bson.Raw) bool {
	if len(pipeline) == 0 {
		return false
	}
	name, _ := pipeline[len(pipeline)-1].First()
	return name == "$out" || name == "$merge"
}

func (c *Ctx) countRequest() (*query.CountRequest, error) {
	ns, _, err := c.queryNS()
	if err != nil {
		return nil, err
	}
	want, err := c.collectionUUID(c.Arg("collectionUUID"))
	if err != nil {
		return nil, err
	}
	skip, _, err := c.nonNegative("skip", "skip")
	return &query.CountRequest{NS: ns, CollectionUUID: want, Query: c.ArgDoc("query"), Hint: c.Arg("hint"), Skip: skip, Limit: c.ArgInt("limit", 0), Collation: c.ArgDoc("collation")}, err
}

func runCount(c *Ctx) error {
	r, err := c.countRequest()
	if err != nil {
		return err
	}
	if err := c.waitReadConcern(); err != nil {
		return err
	}
	c.Node.Counters.Command.Add(1)
	n, err := c.Node.Exec.Count(c.queryOp(), r)
	if err == nil {
		c.Reply.IntOrLong("n", n)
	}
	return err
}

func (c *Ctx) distinctRequest() (*query.DistinctRequest, error) {
	ns, _, err := c.queryNS()
	return &query.DistinctRequest{NS: ns, Key: c.ArgStr("key"), Query: c.ArgDoc("query"), Hint: c.Arg("hint"), Collation: c.ArgDoc("collation")}, err
}

func runDistinct(c *Ctx) error {
	r, err := c.distinctRequest()
	if err != nil {
		return err
	}
	if err := c.waitReadConcern(); err != nil {
		return err
	}
	c.Node.Counters.Command.Add(1)
	return c.Node.Exec.Distinct(c.queryOp(), r, c.Reply)
}

func runPlanCacheClear(c *Ctx) error {
	ns, _, err := c.queryNS()
	if err != nil {
		return err
	}
	r := &query.FindRequest{NS: ns, Filter: c.ArgDoc("query"), Sort: c.ArgDoc("sort"), Projection: c.ArgDoc("projection"), Collation: c.ArgDoc("collation")}
	if r.Filter == nil && (r.Sort != nil || r.Projection != nil || r.Collation != nil) {
		return mongoerr.New(mongoerr.BadValue, "sort or projection provided without query")
	}
	return c.Node.ClearPlans(c.queryOp(), r)
}
