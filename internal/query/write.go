package query

import (
	"context"
	"errors"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// maxConflicts bounds how often a write is tried again; each time another one won, so
// the system as a whole gets on.
const maxConflicts = 10000

// statement is one retryable statement, or a plain one (id < 0).
func (op *OpContext) statement(i int) int32 {
	switch {
	case !op.HasTxn:
		return -1
	case i < len(op.StmtIDs):
		return op.StmtIDs[i]
	}
	return op.StmtID + int32(i)
}

// writeInfo is what the entries of statement i carry.
func (op *OpContext) writeInfo(i int) *catalog.WriteInfo {
	if !op.HasTxn {
		if op.FromMigrate {
			return &catalog.WriteInfo{FromMigrate: true}
		}
		return nil
	}
	return &catalog.WriteInfo{LSID: op.LSID, TxnNumber: op.TxnNumber, StmtIDs: []int32{op.statement(i)}, FromMigrate: op.FromMigrate}
}

// executed asks the session whether statement i was done before.
func (l *Local) executed(op *OpContext, i int) (*PriorResult, error) {
	if !op.HasTxn {
		return nil, nil
	}
	return l.sessions.Executed(op, op.statement(i))
}

// commit ends a unit and notes its place in the log.
func (l *Local) commit(op *OpContext, w *oplog.WriteUnit) error {
	f, err := l.cat.Commit(w)
	if err != nil {
		return err
	}
	if f.OpTime.TS > op.LastOp.TS {
		op.LastOp = f.OpTime
	}
	return nil
}

// noteLastOp makes a write that changed nothing wait, as its write concern asks, for
// what it saw.
func (l *Local) noteLastOp(op *OpContext) {
	if op.LastOp.IsNull() {
		op.LastOp = l.log.LastApplied()
	}
}

// unit runs fn in a write unit on the collection's current state, with DDL kept off, and
// commits what it did; done false gives the unit up. Lost conflicts are tried again.
func (l *Local) unit(op *OpContext, ns Namespace, create bool, fn func(ctx context.Context, c *catalog.Collection, w *oplog.WriteUnit) (done bool, err error)) error {
	ctx, cancel := op.WaitContext()
	defer cancel()
	op.Stats.TriedWrite = true
	for attempt := 0; ; attempt++ {
		err := l.tryUnit(ctx, op, ns, create, fn)
		if !errors.Is(err, storage.ErrWriteConflict) || attempt >= maxConflicts {
			return waitError(ctx, op, err)
		}
		op.Stats.Conflicts++
		if err := op.Interrupt(); err != nil {
			return err
		}
	}
}

func (l *Local) tryUnit(ctx context.Context, op *OpContext, ns Namespace, create bool, fn func(context.Context, *catalog.Collection, *oplog.WriteUnit) (bool, error)) error {
	c, grant, err := l.cat.BeginWrite(ctx, ns, create)
	if err != nil {
		return err
	}
	if c == nil {
		return errNoCollection
	}
	defer grant.Release()
	w := l.cat.NewUnit()
	done, err := fn(ctx, c, w)
	if err == nil && done && op.BeforeCommit != nil && op.HasTxn {
		err = op.BeforeCommit()
	}
	if err != nil || !done {
		w.Rollback()
		return err
	}
	return l.commit(op, w)
}

// errNoCollection says that a write found no collection: it has nothing to do.
var errNoCollection = errors.New("query: no such collection")

// waitError gives the client's form of an error of a wait that ended early.
func waitError(ctx context.Context, op *OpContext, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := mongoerr.As(err); ok {
		return err
	}
	if errors.Is(err, storage.ErrWriteConflict) {
		return mongoerr.New(mongoerr.WriteConflict, "Caused by :: Write conflict during plan execution and yielding is disabled. :: Please retry your operation or multi-document transaction.")
	}
	if e := op.Killed(); e != nil {
		return e
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return contextError(ctx, ctx.Err())
	}
	return err
}

// statementError sorts an error of one statement: one that a client caused is the
// statement's, anything else ends the command.
func statementError(err error) (*mongoerr.Error, error) {
	e, ok := mongoerr.As(err)
	if !ok {
		return nil, err
	}
	switch e.Code {
	case mongoerr.Interrupted, mongoerr.InterruptedAtShutdown, mongoerr.ClientDisconnect, mongoerr.NotWritablePrimary,
		mongoerr.MaxTimeMSExpired, mongoerr.ExceededTimeLimit, mongoerr.CursorKilled, mongoerr.TransactionTooOld, mongoerr.IncompleteTransactionHistory:
		return nil, err
	}
	return e, nil
}

// checkWritable refuses namespaces that documents cannot be written to.
func (l *Local) checkWritable(ns Namespace) error {
	if err := catalog.ValidateWritable(ns); err != nil {
		return err
	}
	if l.cat.Pin().View(ns) != nil {
		return mongoerr.New(mongoerr.CommandNotSupportedOnView, "Namespace %s is a view, not a collection", ns)
	}
	return nil
}

// withID returns d with a new _id in front if it has none.
func (l *Local) withID(op *OpContext, d bson.Raw) bson.Raw {
	if d.Has("_id") {
		return d
	}
	return bson.NewBuilder(make([]byte, 0, len(d)+24)).ObjectID("_id", l.ids.objectID(op.Now)).AppendElems(d).Finish()
}
