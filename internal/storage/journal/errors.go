package journal

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed is returned by calls after Close, and to those that it woke.
	ErrClosed = errors.New("journal: closed")
	// ErrReadOnly is returned by calls that would change a journal that was
	// opened read-only.
	ErrReadOnly = errors.New("journal: opened read-only")
	// ErrTruncated is a reader's error when its place was cut off the front.
	ErrTruncated = errors.New("journal: position was truncated")
)

// CorruptionError is a record or segment that was once whole on disk and no
// longer is. Nothing behind it may be trusted to follow from what is before.
type CorruptionError struct {
	File   string
	Offset int64
	Reason string
}

// Error names the file and the offset in it.
func (e *CorruptionError) Error() string {
	return fmt.Sprintf("journal: corrupt at %s offset %d: %s", e.File, e.Offset, e.Reason)
}
