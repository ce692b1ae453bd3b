package query

import (
	"github.com/cairndb/cairn/internal/bson"
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
	UpsertedID bson.Value // missing unless the statement upserted
	Image      bson.Raw   // findAndModify: the pre or post image
}

// noSessions is the hook of an executor without retryable writes.
type noSessions struct{}

func (noSessions) Executed(*OpContext, int32) (*PriorResult, error) { return nil, nil }
