package command

import (
	"slices"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query"
)

var writeCommands = []Command{
	{Name: "insert", Flags: Write | V1 | Txn, Run: runInsert, Args: withWriteArgs(Arg{"documents", TArray, true}), Help: "Inserts documents."},
	{Name: "update", Flags: Write | V1 | Txn, Run: runUpdate, Filter: statementFilter("updates"), Args: withWriteArgs(Arg{"updates", TArray, true}, Arg{"let", TObject, false}), Help: "Changes or replaces documents, or inserts them (upsert)."},
	{Name: "delete", Flags: Write | V1 | Txn, Run: runDelete, Filter: statementFilter("deletes"), Args: withWriteArgs(Arg{"deletes", TArray, true}, Arg{"let", TObject, false}), Help: "Deletes documents."},
	{Name: "findAndModify", Aliases: []string{"findandmodify"}, Flags: Write | V1 | Txn, Run: runFindAndModify, Filter: func(c *Ctx) bson.Value { return c.Arg("query") }, Args: findAndModifyArgs, Help: "Changes or deletes one document and returns it."},
	{Name: "applyOps", Flags: Write, Run: runApplyOps, Args: applyOpsArgs, Help: "Applies oplog entries, each as a unit of its own.",
		Note: "operations on a collection UUID that is not known are skipped; allowAtomic makes no difference, as in 8.0"},
	{Name: "bulkWrite", Flags: Write | V1 | Txn | AdminOnly, Run: runBulkWrite, Args: bulkWriteArgs, Help: "Inserts, updates and deletes over several collections."},
}

// statementFilter is the filter of the first statement of a batch.
func statementFilter(name string) func(*Ctx) bson.Value {
	return func(c *Ctx) bson.Value {
		if s := c.sequence(name); s != nil {
			if len(s.Docs) == 0 {
				return bson.Value{}
			}
			return s.Docs[0].Get("q")
		}
		list := c.Arg(name)
		if list.Type != bson.TypeArray {
			return bson.Value{}
		}
		_, statement := list.Doc().First()
		if statement.Type != bson.TypeDocument {
			return bson.Value{}
		}
		return statement.Doc().Get("q")
	}
}

func withWriteArgs(own ...Arg) []Arg {
	return append(own, Arg{"ordered", TBoolLike, false}, Arg{"bypassDocumentValidation", TBoolLike, false},
		Arg{"isTimeseriesNamespace", TBool, false}, Arg{"collectionUUID", TBinData, false}, Arg{"maxTimeMS", TNumber, false},
		Arg{"bypassEmptyTsReplacement", TBool, false})
}

var findAndModifyArgs = []Arg{
	{"query", TObject, false}, {"sort", TObject, false}, {"remove", TBoolLike, false}, {"update", TObject | TArray, false},
	{"new", TBoolLike, false}, {"fields", TObject, false}, {"upsert", TBoolLike, false}, {"arrayFilters", TArray, false},
	{"hint", TObject | TString, false}, {"collation", TObject, false}, {"let", TObject, false}, {"bypassDocumentValidation", TBoolLike, false},
	{"bypassEmptyTsReplacement", TBool, false},
}

var bulkWriteArgs = []Arg{
	{"ops", TArray, true}, {"nsInfo", TArray, true}, {"ordered", TBoolLike, false}, {"errorsOnly", TBoolLike, false},
	{"bypassDocumentValidation", TBoolLike, false}, {"let", TObject, false}, {"cursor", TObject, false},
	{"bypassEmptyTsReplacement", TBool, false},
}

// batch returns the statements of a write command, 1 to 100,000.
func (c *Ctx) batch(name string) ([]bson.Raw, error) {
	docs, err := c.ArgDocs(name)
	if err != nil {
		return nil, err
	}
	if len(docs) == 0 || len(docs) > MaxWriteBatchSize {
		return nil, mongoerr.New(mongoerr.InvalidLength, "Write batch sizes must be between 1 and %d. Got %d operations.", MaxWriteBatchSize, len(docs))
	}
	if n := len(c.Generic.StmtID.Doc()); c.Generic.StmtID.Type == bson.TypeArray && n > 0 && c.Generic.StmtID.Doc().Len() != len(docs) {
		return nil, mongoerr.New(mongoerr.InvalidLength, "Number of statement ids must match the number of batch entries")
	}
	return docs, nil
}

// checkTarget honours the arguments that say which collection a write is meant for: a
// collectionUUID has to be that of the namespace, and what Cairn does not have (time
// series, encrypted fields) is refused.
func (c *Ctx) checkTarget(ns query.Namespace, args *argIndex, body bson.Raw) error {
	if args.value(body, "isTimeseriesNamespace").Truthy() || !args.value(body, "encryptionInformation").IsMissing() {
		return mongoerr.New(mongoerr.CommandNotSupported, "time series and encrypted collections are not supported by this version of Cairn")
	}
	return c.checkUUID(ns, args.value(body, "collectionUUID"))
}

// checkUUID compares the collection of ns with a collectionUUID argument.
func (c *Ctx) checkUUID(ns query.Namespace, arg bson.Value) error {
	want, err := c.collectionUUID(arg)
	if err != nil || want == nil {
		return err
	}
	v := c.Node.Catalog.Pin()
	return query.CheckUUID(v, ns, v.Lookup(ns), want)
}

// collectionUUID reads the value of that argument, nil if it is not there.
func (c *Ctx) collectionUUID(v bson.Value) (*bson.UUID, error) {
	if v.IsNullish() {
		return nil, nil
	}
	want, ok := v.UUID()
	if !ok {
		return nil, wrongType(c.Command.Name+".collectionUUID", v.Type, TBinData)
	}
	return &want, nil
}

// writeLock waits for fsyncUnlock and reports the command as one that writes.
func (c *Ctx) writeLock() error {
	ctx, cancel := c.Op.Context()
	defer cancel()
	if err := c.Node.fsync.Wait(ctx); err != nil {
		if ierr := c.Op.Interrupt(); ierr != nil {
			return ierr
		}
		return err
	}
	return nil
}

func runInsert(c *Ctx) error {
	ns, _, err := c.queryNS()
	if err != nil {
		return err
	}
	if err := c.checkTarget(ns, &c.args, c.Body); err != nil {
		return err
	}
	docs, err := c.batch("documents")
	if err != nil {
		return err
	}
	if err := c.writeLock(); err != nil {
		return err
	}
	op := c.queryOp()
	rep, err := c.Node.Exec.Insert(op, &query.InsertRequest{NS: ns, Documents: docs, Unordered: !c.ArgBool("ordered", true), BypassValidation: c.ArgBool("bypassDocumentValidation", false)})
	c.Wrote(WriteResult{op.LastOp.TS, op.LastOp.Term})
	if err != nil {
		return err
	}
	c.Node.Counters.Insert.Add(rep.N)
	c.writeReply(rep, false)
	return nil
}

var updateStatementArgs = []Arg{
	{"q", TObject, true}, {"u", TObject | TArray, true}, {"c", TObject, false}, {"multi", TBoolLike, false}, {"upsert", TBoolLike, false},
	{"arrayFilters", TArray, false}, {"hint", TObject | TString, false}, {"collation", TObject, false}, {"sort", TObject, false},
	{"upsertSupplied", TBoolLike, false}, {"sampleId", TBinData, false}, {"includeQueryStatsMetrics", TBool, false},
}

var deleteStatementArgs = []Arg{
	{"q", TObject, true}, {"limit", TNumber, true}, {"hint", TObject | TString, false}, {"collation", TObject, false}, {"sampleId", TBinData, false},
}

// checkFields compares a nested document with its rows, as checkArgs does for a command.
func checkFields(what string, doc bson.Raw, rows []Arg) error {
	var seen, there uint64 // by place in rows; there: not null
	for it := doc.Iter(); it.Next(); {
		k, v := it.Key(), it.Value()
		i := slices.IndexFunc(rows, func(a Arg) bool { return a.Name == k })
		switch {
		case i < 0:
			return unknownField(what + "." + k)
		case seen&(1<<i) != 0:
			return duplicateField(what + "." + k)
		case v.Type != bson.TypeNull && !rows[i].Types.Allows(v.Type):
			return wrongType(what+"."+k, v.Type, rows[i].Types)
		}
		seen |= 1 << i
		if !v.IsNullish() {
			there |= 1 << i
		}
	}
	for i := range rows {
		if rows[i].Required && there&(1<<i) == 0 {
			return missingField(what + "." + rows[i].Name)
		}
	}
	return nil
}

func arrayFilters(what string, v bson.Value) (list []bson.Raw, err error) {
	for k, e := range v.Doc().Elems() {
		if e.Type != bson.TypeDocument {
			return nil, wrongType(what+".arrayFilters."+k, e.Type, TObject)
		}
		list = append(list, e.Doc())
	}
	return list, nil
}

// updateStatement reads a statement that checkFields has passed; mods names its modification.
func updateStatement(what, mods string, d bson.Raw) (s query.UpdateStatement, err error) {
	for it := d.Iter(); it.Next(); {
		switch v := it.Value(); it.Key() {
		case "q":
			s.Q = v.Doc()
		case mods:
			s.U = v
		case "c":
			s.Constants = v.Doc()
		case "multi":
			s.Multi = v.Truthy()
		case "upsert":
			s.Upsert = v.Truthy()
		case "hint":
			s.Hint = v
		case "collation":
			s.Collation = v.Doc()
		case "sort":
			s.Sort = v.Doc()
		case "upsertSupplied":
			s.UpsertSupplied = v.Truthy()
		case "arrayFilters":
			if s.ArrayFilters, err = arrayFilters(what, v); err != nil {
				return s, err
			}
		}
	}
	if s.Multi && s.Sort != nil {
		return s, mongoerr.New(mongoerr.FailedToParse, "Cannot specify sort with multi=true")
	}
	return s, nil
}

func (c *Ctx) updateRequest() (*query.UpdateRequest, error) {
	ns, _, err := c.queryNS()
	if err != nil {
		return nil, err
	}
	if err := c.checkTarget(ns, &c.args, c.Body); err != nil {
		return nil, err
	}
	docs, err := c.batch("updates")
	if err != nil {
		return nil, err
	}
	mem := &struct { // one allocation where there is one statement
		r   query.UpdateRequest
		one [1]query.UpdateStatement
	}{}
	r := &mem.r
	*r = query.UpdateRequest{NS: ns, Unordered: !c.ArgBool("ordered", true), BypassValidation: c.ArgBool("bypassDocumentValidation", false), Let: c.ArgDoc("let")}
	if r.Updates = mem.one[:0]; len(docs) > 1 {
		r.Updates = make([]query.UpdateStatement, 0, len(docs))
	}
	for _, d := range docs {
		if err := checkFields("update.updates", d, updateStatementArgs); err != nil {
			return nil, err
		}
		s, err := updateStatement("update.updates", "u", d)
		if err != nil {
			return nil, err
		}
		if s.U.Type == bson.TypeArray {
			if err := query.CheckStages(s.U.Doc()); err != nil {
				return nil, err
			}
		}
		r.Updates = append(r.Updates, s)
	}
	return r, nil
}

func runUpdate(c *Ctx) error {
	r, err := c.updateRequest()
	if err != nil {
		return err
	}
	if err := c.writeLock(); err != nil {
		return err
	}
	c.Node.Counters.Update.Add(int64(len(r.Updates)))
	op := c.queryOp()
	c.profileStatements(op)
	rep, err := c.Node.Exec.Update(op, r)
	c.Wrote(WriteResult{op.LastOp.TS, op.LastOp.Term})
	if err != nil {
		return err
	}
	c.writeReply(rep, true)
	return nil
}

func (c *Ctx) deleteRequest() (*query.DeleteRequest, error) {
	ns, _, err := c.queryNS()
	if err != nil {
		return nil, err
	}
	if err := c.checkTarget(ns, &c.args, c.Body); err != nil {
		return nil, err
	}
	docs, err := c.batch("deletes")
	if err != nil {
		return nil, err
	}
	r := &query.DeleteRequest{NS: ns, Unordered: !c.ArgBool("ordered", true), Let: c.ArgDoc("let")}
	for _, d := range docs {
		if err := checkFields("delete.deletes", d, deleteStatementArgs); err != nil {
			return nil, err
		}
		limit, ok := d.Get("limit").AsInt64()
		if !ok || (limit != 0 && limit != 1) {
			return nil, mongoerr.New(mongoerr.FailedToParse, "The limit field in delete objects must be 0 or 1. Got %d", limit)
		}
		r.Deletes = append(r.Deletes, query.DeleteStatement{Q: d.Get("q").Doc(), Multi: limit == 0, Hint: d.Get("hint"), Collation: d.Get("collation").Doc()})
	}
	return r, nil
}

func runDelete(c *Ctx) error {
	r, err := c.deleteRequest()
	if err != nil {
		return err
	}
	if err := c.writeLock(); err != nil {
		return err
	}
	c.Node.Counters.Delete.Add(int64(len(r.Deletes)))
	op := c.queryOp()
	c.profileStatements(op)
	rep, err := c.Node.Exec.Delete(op, r)
	c.Wrote(WriteResult{op.LastOp.TS, op.LastOp.Term})
	if err != nil {
		return err
	}
	c.writeReply(rep, false)
	return nil
}

// writeReply writes n, nModified, upserted, writeErrors and the like.
func (c *Ctx) writeReply(rep *query.WriteReply, update bool) {
	b := c.Reply
	b.IntOrLong("n", rep.N)
	if c.Node.Repl.Initiated() && c.Node.Repl.SetName() != "" {
		b.ObjectID("electionId", c.Node.Repl.ElectionID())
		b.Doc("opTime").Timestamp("ts", c.wrote.TS).Int64("t", c.wrote.Term).End()
	}
	if len(rep.Upserted) > 0 {
		b.Array("upserted")
		for _, u := range rep.Upserted {
			b.Doc("").Int32("index", int32(u.Index)).Append("_id", u.ID).End()
		}
		b.End()
	}
	if update {
		b.IntOrLong("nModified", rep.NModified)
	}
	if len(rep.Errors) > 0 {
		c.wroteErrors = true
		b.Array("writeErrors")
		for i, e := range rep.Errors {
			writeErrorDoc(b.Doc(""), e, i, rep.Errors)
			b.End()
		}
		b.End()
	}
	if len(rep.RetriedStmtIDs) > 0 {
		b.Array("retriedStmtIds")
		for _, id := range rep.RetriedStmtIDs {
			b.Int32("", id)
		}
		b.End()
	}
}

// writeErrorDoc writes one element of writeErrors. A reply with very many errors
// keeps the message of the first ones only, so that it stays below 16 MiB.
func writeErrorDoc(b *bson.Builder, e query.WriteError, i int, all []query.WriteError) {
	b.Int32("index", int32(e.Index)).Int32("code", int32(e.Err.Code))
	if e.Err.Extra != nil {
		b.AppendElems(e.Err.Extra)
	}
	msg := e.Err.Message
	if i > 0 && len(all) > 1000 && b.Len() > 8<<20 {
		msg = ""
	}
	b.Str("errmsg", msg)
}

func (c *Ctx) findAndModifyRequest() (*query.FindAndModifyRequest, error) {
	ns, _, err := c.queryNS()
	if err != nil {
		return nil, err
	}
	r := &query.FindAndModifyRequest{NS: ns, Query: c.ArgDoc("query"), Sort: c.ArgDoc("sort"), Remove: c.ArgBool("remove", false),
		Update: c.Arg("update"), New: c.ArgBool("new", false), Fields: c.ArgDoc("fields"), Upsert: c.ArgBool("upsert", false),
		Hint: c.Arg("hint"), Collation: c.ArgDoc("collation"), Let: c.ArgDoc("let"), BypassValidation: c.ArgBool("bypassDocumentValidation", false)}
	if r.Update.Type == bson.TypeNull {
		r.Update = bson.Value{}
	}
	if r.ArrayFilters, err = arrayFilters("findAndModify", c.Arg("arrayFilters")); err != nil {
		return nil, err
	}
	has := !r.Update.IsMissing()
	switch {
	case r.Remove && has:
		return nil, mongoerr.New(mongoerr.FailedToParse, "Cannot specify both an update and remove=true")
	case r.Remove && r.Upsert:
		return nil, mongoerr.New(mongoerr.FailedToParse, "Cannot specify both upsert=true and remove=true ")
	case r.Remove && r.New:
		return nil, mongoerr.New(mongoerr.FailedToParse, "Cannot specify both new=true and remove=true; 'remove' always returns the deleted document")
	case r.Remove && !c.Arg("arrayFilters").IsNullish():
		return nil, mongoerr.New(mongoerr.FailedToParse, "Cannot specify arrayFilters and remove=true")
	case !r.Remove && !has:
		return nil, mongoerr.New(mongoerr.FailedToParse, "Either an update or remove=true must be specified")
	case r.Update.Type == bson.TypeArray && !c.Arg("arrayFilters").IsNullish():
		return nil, mongoerr.New(mongoerr.FailedToParse, "Cannot specify arrayFilters and a pipeline update")
	}
	return r, nil
}

func runFindAndModify(c *Ctx) error {
	r, err := c.findAndModifyRequest()
	if err != nil {
		return err
	}
	if err := c.writeLock(); err != nil {
		return err
	}
	c.Node.Counters.Command.Add(1)
	op := c.queryOp()
	rep, err := c.Node.Exec.FindAndModify(op, r)
	c.Wrote(WriteResult{op.LastOp.TS, op.LastOp.Term})
	if err != nil {
		return err
	}
	b := c.Reply
	b.Doc("lastErrorObject").IntOrLong("n", rep.N)
	if rep.HasUpdated {
		b.Bool("updatedExisting", rep.UpdatedExisting)
	}
	b.Append("upserted", rep.UpsertedID).End()
	if rep.Value != nil {
		b.AppendDoc("value", rep.Value)
	} else {
		b.Null("value")
	}
	if rep.Retried {
		b.Int32("retriedStmtId", op.StmtID)
	}
	return nil
}

func runBulkWrite(c *Ctx) error {
	c.keepBody() // the reply is a cursor
	r, err := c.bulkWriteRequest()
	if err != nil {
		return err
	}
	if err := c.writeLock(); err != nil {
		return err
	}
	op := c.queryOp()
	err = c.Node.Exec.BulkWrite(op, r, c.Reply)
	c.Wrote(WriteResult{op.LastOp.TS, op.LastOp.Term})
	c.Node.Counters.Insert.Add(op.Stats.NInserted)
	return err
}

var bulkUpdateArgs = []Arg{
	{"update", TNumber, true}, {"filter", TObject, true}, {"updateMods", TObject | TArray, true}, {"multi", TBoolLike, false}, {"upsert", TBoolLike, false},
	{"arrayFilters", TArray, false}, {"hint", TObject | TString, false}, {"collation", TObject, false}, {"constants", TObject, false}, {"sort", TObject, false},
	{"upsertSupplied", TBoolLike, false}, {"sampleId", TBinData, false},
}

var bulkDeleteArgs = []Arg{
	{"delete", TNumber, true}, {"filter", TObject, true}, {"multi", TBoolLike, false}, {"hint", TObject | TString, false},
	{"collation", TObject, false}, {"sampleId", TBinData, false},
}

func (c *Ctx) bulkWriteRequest() (*query.BulkWriteRequest, error) {
	r := &query.BulkWriteRequest{Unordered: !c.ArgBool("ordered", true), ErrorsOnly: c.ArgBool("errorsOnly", false),
		BypassValidation: c.ArgBool("bypassDocumentValidation", false), Let: c.ArgDoc("let")}
	infos, err := c.ArgDocs("nsInfo")
	if err != nil {
		return nil, err
	}
	for _, d := range infos {
		if err := checkFields("bulkWrite.nsInfo", d, []Arg{{"ns", TString, true}, {"collectionUUID", TBinData, false}, {"encryptionInformation", TObject, false}, {"isTimeseriesNamespace", TBool, false}}); err != nil {
			return nil, err
		}
		ns, err := splitNS(d.Get("ns").Str())
		if err != nil {
			return nil, err
		}
		err = c.checkTarget(ns, &argIndex{}, d)
		if err != nil && !mongoerr.Is(err, mongoerr.CollectionUUIDMismatch) {
			return nil, err
		}
		r.NSInfo, r.NSErrors = append(r.NSInfo, ns), append(r.NSErrors, err)
	}
	if cur := c.ArgDoc("cursor"); cur != nil {
		if r.BatchSize, r.HasBatchSize = cursorBatchSize(cur); r.BatchSize < 0 {
			return nil, mongoerr.New(mongoerr.BadValue, "BSON field 'batchSize' value must be >= 0, actual value '%d'", r.BatchSize)
		}
	}
	ops, err := c.batch("ops")
	if err != nil {
		return nil, err
	}
	for i, d := range ops {
		op, err := bulkOp(d)
		if err != nil {
			return nil, err
		}
		if op.NSIndex < 0 || op.NSIndex >= len(r.NSInfo) {
			return nil, mongoerr.New(mongoerr.BadValue, "BulkWrite ops entry %d has an invalid nsInfo index.", i)
		}
		r.Ops = append(r.Ops, op)
	}
	return r, nil
}

func cursorBatchSize(cur bson.Raw) (int64, bool) {
	v := cur.Get("batchSize")
	n, _ := v.AsInt64()
	return n, v.IsNumber()
}

func bulkOp(d bson.Raw) (op query.BulkOp, err error) {
	kind, v := d.First()
	n, ok := v.AsInt64()
	if !ok {
		return op, wrongType("bulkWrite.ops."+kind, v.Type, TInt|TLong)
	}
	op.NSIndex = int(n)
	switch kind {
	case "insert":
		if err := checkFields("BulkWriteInsertOp", d, []Arg{{"insert", TNumber, true}, {"document", TObject, true}}); err != nil {
			return op, err
		}
		op.Insert = d.Get("document").Doc()
	case "update":
		if err := checkFields("BulkWriteUpdateOp", d, bulkUpdateArgs); err != nil {
			return op, err
		}
		s, err := updateStatement("BulkWriteUpdateOp", "updateMods", d)
		if err != nil {
			return op, err
		}
		s.Q, s.Constants = d.Get("filter").Doc(), d.Get("constants").Doc()
		op.Update = &s
	case "delete":
		if err := checkFields("BulkWriteDeleteOp", d, bulkDeleteArgs); err != nil {
			return op, err
		}
		op.Delete = &query.DeleteStatement{Q: d.Get("filter").Doc(), Multi: d.Get("multi").Truthy(), Hint: d.Get("hint"), Collation: d.Get("collation").Doc()}
	default:
		return op, mongoerr.New(mongoerr.FailedToParse, "Unrecognized or missing operation in bulkWrite ops: '%s'", kind)
	}
	return op, nil
}
