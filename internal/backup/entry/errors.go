package entry

import "fmt"

// FormatError is bytes that are no oplog entry.
type FormatError struct {
	OpTime OpTime
	NS     string
	Why    string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("oplog entry %d:%d of %q cannot be read: %s", e.OpTime.TS.Seconds(), e.OpTime.TS.Increment(), e.NS, e.Why)
}

// UnknownError is an entry of a kind that this program does not know. It is never
// skipped: what it did would be missing.
type UnknownError struct {
	OpTime OpTime
	NS     string
	Op     string // the field op
	Name   string // the command of a c entry, else the op
}

func (e *UnknownError) Error() string {
	what := fmt.Sprintf("op %q", e.Name)
	if e.Op == "c" {
		what = fmt.Sprintf("command %q", e.Name)
	}
	return fmt.Sprintf("oplog entry %d:%d of %q has the %s, which this version does not know; it is not skipped, use a version that knows it",
		e.OpTime.TS.Seconds(), e.OpTime.TS.Increment(), e.NS, what)
}

// ChainError is an entry of a transaction whose earlier entries were not seen.
type ChainError struct {
	OpTime OpTime // of the entry
	Prev   OpTime // what it names as the one before; null if it names none
	Why    string
}

func (e *ChainError) Error() string {
	return fmt.Sprintf("oplog entry %d:%d is part of a transaction and %s (prevOpTime %d:%d): begin at or before the transaction's first entry",
		e.OpTime.TS.Seconds(), e.OpTime.TS.Increment(), e.Why, e.Prev.TS.Seconds(), e.Prev.TS.Increment())
}

// BorderError is a renameCollection that the rules cannot follow: into the kept
// namespaces from outside, whose documents are then unknown, or to another database.
type BorderError struct {
	OpTime   OpTime
	From, To string
	Why      string
}

func (e *BorderError) Error() string {
	return fmt.Sprintf("oplog entry %d:%d renames %s to %s, %s", e.OpTime.TS.Seconds(), e.OpTime.TS.Increment(), e.From, e.To, e.Why)
}

// SplitTransactionError is a transaction that writes namespaces which are kept and some
// which are not.
type SplitTransactionError struct {
	OpTime        OpTime
	Kept, Dropped string // one of each
}

func (e *SplitTransactionError) Error() string {
	return fmt.Sprintf("the transaction at oplog entry %d:%d writes %s, which is kept, and %s, which is not: keep both, or allow that a part of it is replayed",
		e.OpTime.TS.Seconds(), e.OpTime.TS.Increment(), e.Kept, e.Dropped)
}

// ViewError is a view that the rules put into another database than what it reads.
type ViewError struct {
	OpTime       OpTime
	View, ViewOn string // as renamed
}

func (e *ViewError) Error() string {
	return fmt.Sprintf("oplog entry %d:%d makes the view %s on %s, which the renames put into another database: rename both into one",
		e.OpTime.TS.Seconds(), e.OpTime.TS.Increment(), e.View, e.ViewOn)
}
