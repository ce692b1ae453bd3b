package query

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// bulkTotals are the sums of a bulkWrite's reply.
type bulkTotals struct {
	errors, inserted, matched, modified, upserted, deleted int64
}

// BulkWrite implements Executor: the operations run one by one, each in the way of its
// own command; the replies stand in a cursor.
func (l *Local) BulkWrite(op *OpContext, r *BulkWriteRequest, out *bson.Builder) error {
	var sum bulkTotals
	var docs []bson.Raw
	var retried []int32
	for i := range r.Ops {
		rep, err := l.bulkOp(op, r, i)
		if err != nil {
			return err
		}
		retried = append(retried, rep.RetriedStmtIDs...)
		d := bulkReply(&r.Ops[i], i, rep, &sum)
		if len(rep.Errors) > 0 || !r.ErrorsOnly {
			docs = append(docs, d)
		}
		if len(rep.Errors) > 0 && !r.Unordered {
			break
		}
	}
	ns := Namespace{DB: "admin", Coll: "$cmd.bulkWrite"}
	if err := l.firstBatch(op, &sliceSource{docs: docs}, cursorSpec{ns: ns, limit: bulkLimit(r)}, out); err != nil {
		return err
	}
	out.IntOrLong("nErrors", sum.errors).IntOrLong("nInserted", sum.inserted).IntOrLong("nMatched", sum.matched)
	out.IntOrLong("nModified", sum.modified).IntOrLong("nUpserted", sum.upserted).IntOrLong("nDeleted", sum.deleted)
	if len(retried) > 0 {
		out.Array("retriedStmtIds")
		for _, id := range retried {
			out.Int32("", id)
		}
		out.End()
	}
	return nil
}

func bulkLimit(r *BulkWriteRequest) int64 {
	if r.HasBatchSize {
		return r.BatchSize
	}
	return -1
}

// bulkOp runs one operation; op's statement ids are those of the whole command.
func (l *Local) bulkOp(op *OpContext, r *BulkWriteRequest, i int) (*WriteReply, error) {
	o := &r.Ops[i]
	if o.NSIndex < 0 || o.NSIndex >= len(r.NSInfo) {
		return nil, mongoerr.New(mongoerr.BadValue, "BulkWrite ops entry %v has an invalid nsInfo index.", i)
	}
	ns := r.NSInfo[o.NSIndex]
	if r.NSErrors != nil && r.NSErrors[o.NSIndex] != nil {
		e, _ := mongoerr.As(r.NSErrors[o.NSIndex])
		return &WriteReply{Errors: []WriteError{{0, e}}}, nil
	}
	ids, first := op.StmtIDs, op.StmtID
	defer func() { op.StmtIDs, op.StmtID = ids, first }()
	if op.HasTxn {
		op.StmtIDs, op.StmtID = nil, op.statement(i)
	}
	var rep *WriteReply
	var err error
	switch {
	case op.HasTxn && (o.Update != nil && o.Update.Multi || o.Delete != nil && o.Delete.Multi):
		err = mongoerr.New(mongoerr.InvalidOptions, "Cannot use retryable writes with multi=true")
	case o.Insert != nil:
		rep, err = l.Insert(op, &InsertRequest{NS: ns, Documents: []bson.Raw{o.Insert}, BypassValidation: r.BypassValidation})
	case o.Update != nil:
		rep, err = l.Update(op, &UpdateRequest{NS: ns, Updates: []UpdateStatement{*o.Update}, BypassValidation: r.BypassValidation, Let: r.Let})
	default:
		rep, err = l.Delete(op, &DeleteRequest{NS: ns, Deletes: []DeleteStatement{*o.Delete}, Let: r.Let})
	}
	if err != nil {
		e, fatal := statementError(err)
		if fatal != nil {
			return nil, fatal
		}
		rep = &WriteReply{Errors: []WriteError{{0, e}}}
	}
	return rep, nil
}

// bulkReply is the reply document of one operation.
func bulkReply(o *BulkOp, i int, rep *WriteReply, sum *bulkTotals) bson.Raw {
	b := bson.NewBuilder(nil)
	if len(rep.Errors) > 0 {
		sum.errors++
		e := rep.Errors[0].Err
		b.Double("ok", 0).Int32("idx", int32(i)).Int32("code", int32(e.Code)).AppendElems(e.Extra).Str("errmsg", e.Message)
	} else {
		b.Double("ok", 1).Int32("idx", int32(i))
	}
	b.IntOrLong("n", rep.N)
	switch {
	case o.Insert != nil:
		sum.inserted += rep.N
	case o.Update != nil:
		b.IntOrLong("nModified", rep.NModified)
		sum.modified += rep.NModified
		sum.upserted += int64(len(rep.Upserted))
		sum.matched += rep.N - int64(len(rep.Upserted))
		if len(rep.Upserted) > 0 {
			b.Doc("upserted").Append("_id", rep.Upserted[0].ID).End()
		}
	default:
		sum.deleted += rep.N
	}
	return b.Finish()
}

// sliceSource gives documents that are there already.
type sliceSource struct{ docs []bson.Raw }

func (s *sliceSource) fill(op *OpContext, b *batch) (bool, error) {
	for len(s.docs) > 0 && b.room() && b.fits(len(s.docs[0])) {
		b.add(s.docs[0])
		s.docs = s.docs[1:]
	}
	return len(s.docs) == 0, op.Interrupt()
}

func (s *sliceSource) close() { s.docs = nil }
