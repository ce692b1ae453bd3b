package query

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// SessionHook is what the write path needs of retryable writes; the session room
// provides it. The session's own record and images are written by its OpObserver,
// inside the unit.
type SessionHook interface {
	// Executed returns what the statement did if it was executed before, or nil.
	// An error (TransactionTooOld, IncompleteTransactionHistory …) ends the command.
	Executed(op *OpContext, stmtID int32) (*PriorResult, error)
}

// PriorResult is a statement's result rebuilt from the log.
type PriorResult struct {
	Op         byte // 'i', 'u', 'd', or 'n' for one that changed nothing
	N          int64
	NModified  int64
	UpsertedID bson.Value // the inserted _id: an update that has one upserted
	Image      bson.Raw   // findAndModify: the pre or post image, the document of an insert
	ImageKind  string     // "preImage", "postImage", or "" for an entry without a stored image
	Entry      bson.Raw   // the oplog entry
}

// CheckFindAndModify refuses a retry whose findAndModify is another one than that which
// the log tells of, as MongoDB does.
func (p *PriorResult) CheckFindAndModify(r *FindAndModifyRequest) error {
	incompatible := func(code mongoerr.Code) error {
		return mongoerr.New(code, "findAndModify retry request: %s is not compatible with previous write in the transaction of type: %c, oplogTs: %s, oplog: %s",
			r.describe(), p.Op, p.Entry.Get("ts"), p.Entry)
	}
	switch {
	case p.Op == 'd' && !r.Remove:
		return incompatible(40606)
	case p.Op == 'd' && p.ImageKind == "":
		return mongoerr.New(40607, "No pre-image available for findAndModify retry request:%s", r.describe())
	case p.Op == 'i' && (!r.Upsert || r.Remove):
		return incompatible(40608)
	case p.Op == 'u' && r.Remove:
		return incompatible(40610)
	case p.Op == 'u' && r.New && p.ImageKind != "postImage":
		return mongoerr.New(40611, "findAndModify retry request: %s wants the document after update returned, but only before update document is stored, oplogTs: %s, oplog: %s",
			r.describe(), p.Entry.Get("ts"), p.Entry)
	case p.Op == 'u' && !r.New && p.ImageKind != "preImage":
		return mongoerr.New(40612, "findAndModify retry request: %s wants the document before update returned, but only after update document is stored, oplogTs: %s, oplog: %s",
			r.describe(), p.Entry.Get("ts"), p.Entry)
	}
	return nil
}

// describe is the request in error messages.
func (r *FindAndModifyRequest) describe() bson.Raw {
	b := bson.NewBuilder(nil).Str("findAndModify", r.NS.Coll)
	if r.Query != nil {
		b.AppendDoc("query", r.Query)
	}
	if !r.Update.IsMissing() {
		b.Append("update", r.Update)
	}
	return b.Bool("remove", r.Remove).Bool("upsert", r.Upsert).Bool("new", r.New).Finish()
}

// noSessions is the hook of an executor without retryable writes.
type noSessions struct{}

func (noSessions) Executed(*OpContext, int32) (*PriorResult, error) { return nil, nil }
