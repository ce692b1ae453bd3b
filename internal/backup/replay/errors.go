package replay

import (
	"fmt"

	"github.com/cairndb/cairn/internal/backup/entry"
)

// Error is an entry that could not be applied. What was before it in the oplog is
// applied; of what is behind it, documents other than its own may be.
type Error struct {
	OpTime entry.OpTime
	NS     string // as on the target
	Op     string // i, u, d or the command's name
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("replaying oplog entry %d:%d (%s of %s): %v", e.OpTime.TS.Seconds(), e.OpTime.TS.Increment(), e.Op, e.NS, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// RefusedError is an entry whose effect cannot be made from what it says.
type RefusedError struct{ Why string }

func (e *RefusedError) Error() string { return "it cannot be replayed: " + e.Why }

// NoCollectionError is a write to a collection that the target does not have, though
// nothing that was replayed dropped it: the data that the entries belong to is not there.
type NoCollectionError struct{ NS string }

func (e *NoCollectionError) Error() string {
	return "the target has no collection " + e.NS + ": restore the data that the oplog begins with first"
}

// UniqueError is a unique index that the end of the replay does not keep, or, on a
// MongoDB, one that was in the way.
type UniqueError struct {
	NS  string
	Why string
}

func (e *UniqueError) Error() string {
	return fmt.Sprintf("a unique index of %s: %s", e.NS, e.Why)
}
