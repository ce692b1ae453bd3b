package query

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
)

// OpTime is the place of a write in the log.
type OpTime = oplog.OpTime

// Namespace is a database and a collection name.
type Namespace = catalog.Namespace

// Executor runs requests. Local does it on this process's collections; the router
// of a sharded cluster is the other implementation.
//
// Methods that take an out builder append fields to its innermost open document
// (`cursor`, `values`, `queryPlanner` …) and leave `ok` and the generic reply fields
// to the caller. After an error the builder holds rubbish: reset it.
// A returned error is the whole command's; errors of single statements of a batch
// are in the reply.
type Executor interface {
	// Expect says that a request with that filter will come: advice that changes no answer. The
	// types in the filter have not been checked.
	Expect(ns Namespace, filter bson.Raw) Expected
	// FindExpected answers a find that asks for nothing but the document that Expect was told of. It
	// is not done if the catalog has changed since, or if the executor has no short way there: then
	// Find answers it.
	FindExpected(op *OpContext, x *Expected, out *bson.Builder) (done bool, err error)
	Find(op *OpContext, r *FindRequest, out *bson.Builder) error
	Aggregate(op *OpContext, r *AggregateRequest, out *bson.Builder) error
	GetMore(op *OpContext, r *GetMoreRequest, out *bson.Builder) error
	KillCursors(op *OpContext, r *KillCursorsRequest) (*KillCursorsReply, error)
	Count(op *OpContext, r *CountRequest) (int64, error)
	Distinct(op *OpContext, r *DistinctRequest, out *bson.Builder) error
	Insert(op *OpContext, r *InsertRequest) (*WriteReply, error)
	Update(op *OpContext, r *UpdateRequest) (*WriteReply, error)
	Delete(op *OpContext, r *DeleteRequest) (*WriteReply, error)
	FindAndModify(op *OpContext, r *FindAndModifyRequest) (*FindAndModifyReply, error)
	BulkWrite(op *OpContext, r *BulkWriteRequest, out *bson.Builder) error
	Explain(op *OpContext, r *ExplainRequest, out *bson.Builder) error
}

// Statements and cursors.

// FindRequest is a find command. Negative numbers, wrong types and unknown fields
// were refused by the command room.
type FindRequest struct {
	NS             Namespace
	UUID           *bson.UUID // addressed by UUID: NS.Coll is resolved from it
	CollectionUUID *bson.UUID // the collection must have it; nil: any
	Filter         bson.Raw   // nil: all
	Sort           bson.Raw
	Projection     bson.Raw
	Hint           bson.Value // string, document or missing
	Skip           int64
	Limit          int64 // 0: none
	BatchSize      int64 // only if HasBatchSize
	HasBatchSize   bool
	SingleBatch    bool
	Min, Max       bson.Raw
	ReturnKey      bool
	ShowRecordID   bool
	Tailable       bool
	AwaitData      bool
	NoTimeout      bool // noCursorTimeout
	AllowPartial   bool
	OplogReplay    bool
	AllowDiskUse   *bool
	Collation      bson.Raw
	Let            bson.Raw // nil: op.Let
	ResumeAfter    bson.Raw // $_resumeAfter
	RequestResume  bool     // $_requestResumeToken
}

// AggregateRequest is an aggregate command. NS.Coll is "" for db.aggregate([...]).
type AggregateRequest struct {
	NS               Namespace
	Pipeline         []bson.Raw
	Hint             bson.Value
	BatchSize        int64
	HasBatchSize     bool
	AllowDiskUse     *bool
	BypassValidation bool
	Collation        bson.Raw
	Let              bson.Raw
}

// GetMoreRequest continues a cursor.
type GetMoreRequest struct {
	NS           Namespace
	CursorID     int64
	BatchSize    int64
	HasBatchSize bool
	MaxAwait     int64 // maxTimeMS of getMore on a tailable awaitData cursor, 0: one second
	HasMaxAwait  bool  // getMore has a maxTimeMS, maybe 0
}

// KillCursorsRequest closes cursors.
type KillCursorsRequest struct {
	NS      Namespace
	Cursors []int64
}

// KillCursorsReply says what became of each.
type KillCursorsReply struct{ Killed, NotFound, Alive, Unknown []int64 }

// CountRequest is a count command.
type CountRequest struct {
	NS             Namespace
	CollectionUUID *bson.UUID // the collection must have it; nil: any
	Query          bson.Raw
	Hint           bson.Value
	Skip           int64
	Limit          int64 // negative counts as its absolute value
	Collation      bson.Raw
}

// DistinctRequest is a distinct command.
type DistinctRequest struct {
	NS        Namespace
	Key       string
	Query     bson.Raw
	Hint      bson.Value
	Collation bson.Raw
}

// ExplainRequest explains exactly one of its other fields.
type ExplainRequest struct {
	Verbosity     string // queryPlanner, executionStats, allPlansExecution
	Find          *FindRequest
	Aggregate     *AggregateRequest
	Count         *CountRequest
	Distinct      *DistinctRequest
	Update        *UpdateRequest
	Delete        *DeleteRequest
	FindAndModify *FindAndModifyRequest
}

// Writes.

// InsertRequest is an insert command.
type InsertRequest struct {
	NS               Namespace
	Documents        []bson.Raw
	Unordered        bool
	BypassValidation bool
	// System allows namespaces that only the server itself writes to, such as system.profile.
	System bool
}

// UpdateStatement is one element of an update command's `updates`.
type UpdateStatement struct {
	Q            bson.Raw
	U            bson.Value // document, or array for a pipeline
	Constants    bson.Raw   // `c`
	Multi        bool
	Upsert       bool
	ArrayFilters []bson.Raw
	Hint         bson.Value
	Collation    bson.Raw
	Sort         bson.Raw // 8.0: with Multi false only
	// UpsertSupplied inserts Constants' `new` as a whole (`upsertSupplied`, for $merge).
	UpsertSupplied bool
}

// UpdateRequest is an update command.
type UpdateRequest struct {
	NS               Namespace
	Updates          []UpdateStatement
	Unordered        bool
	BypassValidation bool
	Let              bson.Raw
}

// DeleteStatement is one element of a delete command's `deletes`.
type DeleteStatement struct {
	Q         bson.Raw
	Multi     bool // limit 0
	Hint      bson.Value
	Collation bson.Raw
}

// DeleteRequest is a delete command.
type DeleteRequest struct {
	NS        Namespace
	Deletes   []DeleteStatement
	Unordered bool
	Let       bson.Raw
}

// WriteError is the error of one statement.
type WriteError struct {
	Index int
	Err   *mongoerr.Error
}

// Upserted names a document that an upsert inserted.
type Upserted struct {
	Index int
	ID    bson.Value
}

// WriteReply is the result of insert, update and delete.
type WriteReply struct {
	N                 int64
	NModified         int64
	Upserted          []Upserted
	Errors            []WriteError
	RetriedStmtIDs    []int32
	WriteConcernError *WriteConcernError
}

// WriteConcernError is the part of a reply that says a write was done but not
// confirmed as asked.
type WriteConcernError struct {
	Err  *mongoerr.Error
	Info bson.Raw // errInfo
}

// FindAndModifyRequest is a findAndModify command.
type FindAndModifyRequest struct {
	NS               Namespace
	Query            bson.Raw
	Sort             bson.Raw
	Remove           bool
	Update           bson.Value // missing if Remove
	New              bool
	Fields           bson.Raw
	Upsert           bool
	ArrayFilters     []bson.Raw
	Hint             bson.Value
	Collation        bson.Raw
	Let              bson.Raw
	BypassValidation bool
}

// FindAndModifyReply is its result: Value is nil for null.
type FindAndModifyReply struct {
	N                 int64
	UpdatedExisting   bool
	HasUpdated        bool // false for remove: no updatedExisting in the reply
	UpsertedID        bson.Value
	Value             bson.Raw
	Retried           bool
	WriteConcernError *WriteConcernError
}

// BulkOp is one element of bulkWrite's `ops`: exactly one of its pointers is set.
type BulkOp struct {
	NSIndex int
	Insert  bson.Raw
	Update  *UpdateStatement
	Delete  *DeleteStatement
}

// BulkWriteRequest is the bulkWrite command of 8.0.
type BulkWriteRequest struct {
	NSInfo           []Namespace
	NSErrors         []error // of those whose collectionUUID is another's, in their place; may be nil
	Ops              []BulkOp
	Unordered        bool
	ErrorsOnly       bool
	BypassValidation bool
	Let              bson.Raw
	BatchSize        int64 // of the reply's cursor
	HasBatchSize     bool
}
