package query

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// OpContext is what all requests of one operation share: who asked, until when, and
// at which concerns. The command room fills it; it is used by one goroutine, except
// for Kill.
type OpContext struct {
	Ctx    context.Context // ends with the connection or the server
	OpID   int64
	ConnID int64

	LSID      bson.Raw // {id, uid} or nil
	HasTxn    bool     // txnNumber was given
	TxnNumber int64
	StmtID    int32   // stmtId of the first statement, 0 if not given
	StmtIDs   []int32 // explicit stmtIds, nil if not given
	Comment   bson.Value
	Deadline  time.Time     // of maxTimeMS; zero: none
	MaxTime   time.Duration // maxTimeMS itself, handed on to the cursor
	ReadOnly  bool
	APIStrict bool
	// KeepEmptyTS stores Timestamp(0, 0) as it is (bypassEmptyTsReplacement).
	KeepEmptyTS bool
	Namespaces  []string // touched so far, for currentOp

	ReadConcern  ReadConcern
	WriteConcern WriteConcern
	Let          bson.Raw // `let` variables, values or expressions, nil if none
	Now          time.Time
	ClusterTime  bson.Timestamp

	// FromMigrate marks the entries of this operation's writes (chunk migration).
	FromMigrate bool

	// BeforeCommit is called before each unit of a retryable write is committed; its error gives
	// the unit up. nil is none: it is for fail points.
	BeforeCommit func() error

	// AfterCheckOut is called when a getMore has its cursor, and told whether what is left of
	// the cursor's maxTimeMS limits it; its error ends the cursor. nil is none: it is for fail
	// points.
	AfterCheckOut func(limited bool) error

	// EachStatement is called after each statement of an update or a delete that was tried,
	// with its place and its error; nil is none: it is for the profiler.
	EachStatement func(i int, err error)

	// LastOp is set by writes to the OpTime of their newest unit; the command room
	// waits for the write concern at it and reports it as operationTime.
	LastOp OpTime

	// Stats is filled during execution, for the profiler and the slow log.
	Stats OpStats

	killed atomic.Pointer[mongoerr.Error]
	shown  atomic.Pointer[string] // Stats.PlanSummary for those who look on
	ticks  uint32
}

// OpStats is what the profiler and the slow operation log say about an operation.
type OpStats struct {
	PlanSummary  string
	KeysExamined int64
	DocsExamined int64
	NReturned    int64
	NMatched     int64
	NModified    int64
	NInserted    int64
	NDeleted     int64
	Upserts      int64
	HasSortStage bool
	UsedDisk     bool
	NumYields    int64
	QueryHash    string
	PlanCacheKey string
	CursorID     int64
	Exhausted    bool
	Conflicts    int64 // write conflicts that were retried
	TriedWrite   bool  // a write unit was begun, whatever came of it
	// Waited is how long an awaitData getMore had nothing to do but wait for data: it is not
	// part of what the operation took.
	Waited time.Duration
}

// ReadConcern is a parsed readConcern.
type ReadConcern struct {
	Level            string // "", local, available, majority, snapshot, linearizable
	AfterClusterTime bson.Timestamp
	AtClusterTime    bson.Timestamp
}

// WriteConcern is a parsed writeConcern.
type WriteConcern struct {
	Provided bool   // the client gave one
	W        int    // number of members when Mode is ""
	Mode     string // "majority" or a tag set's name
	J        bool
	FSync    bool
	WTimeout time.Duration
}

// NewOpContext returns an OpContext of ctx at the present time.
func NewOpContext(ctx context.Context) *OpContext {
	return &OpContext{Ctx: ctx, Now: time.Now()}
}

// notePlan notes which plan runs.
func (op *OpContext) notePlan(summary string) {
	op.Stats.PlanSummary = summary
	op.shown.Store(&summary)
}

// PlanSummary returns which plan runs, "" if there is none yet. Safe for concurrent use.
func (op *OpContext) PlanSummary() string {
	if s := op.shown.Load(); s != nil {
		return *s
	}
	return ""
}

// Kill makes the operation end with err at its next look for interruption. Safe
// for concurrent use; the first error wins.
func (op *OpContext) Kill(err *mongoerr.Error) { op.killed.CompareAndSwap(nil, err) }

// Killed returns the error that Kill left, or nil.
func (op *OpContext) Killed() *mongoerr.Error { return op.killed.Load() }

// Interrupt returns the error that must end the operation now, or nil: it was
// killed, its connection went, or maxTimeMS is over. Meant to be called often.
func (op *OpContext) Interrupt() error {
	if e := op.killed.Load(); e != nil {
		return e
	}
	if op.ticks++; op.ticks&7 != 1 { // the first call always looks closer
		return nil
	}
	if err := op.Ctx.Err(); err != nil {
		return contextError(op.Ctx, err)
	}
	if !op.Deadline.IsZero() && time.Now().After(op.Deadline) {
		return errMaxTimeExpired()
	}
	return nil
}

// WaitContext returns a context that ends with the operation's deadline.
func (op *OpContext) WaitContext() (context.Context, context.CancelFunc) {
	if op.Deadline.IsZero() {
		return op.Ctx, func() {}
	}
	return WithLazyDeadline(op.Ctx, op.Deadline)
}

func errMaxTimeExpired() *mongoerr.Error {
	return mongoerr.New(mongoerr.MaxTimeMSExpired, "operation exceeded time limit")
}

func contextError(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		if e, ok := mongoerr.As(c); ok {
			return e
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errMaxTimeExpired()
	}
	return mongoerr.New(mongoerr.Interrupted, "operation was interrupted")
}
