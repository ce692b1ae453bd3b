package storage

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// The marks that other rooms test for with errors.Is.
var (
	// ErrNotFound: the key is not in the view.
	ErrNotFound = errors.New("storage: not found")
	// ErrWriteConflict: another unit wrote the key after this unit's snapshot
	// was taken (first writer wins).
	ErrWriteConflict = errors.New("storage: write conflict")
	// ErrWouldWait: a unit that does not wait (RecoveryUnit.NoWait) met a latch that another unit
	// holds.
	ErrWouldWait = errors.New("storage: another unit holds the latch")
	// ErrCorruption: bytes on disk are not what was written.
	ErrCorruption = errors.New("storage: data corruption")
	// ErrReadOnly: the store takes no more writes; the error that wraps it
	// names the cause.
	ErrReadOnly = errors.New("storage: read-only")
	// ErrClosed: the engine was closed.
	ErrClosed = errors.New("storage: closed")
	// ErrLocked: another process (or another Engine of this one) holds the
	// data directory.
	ErrLocked = errors.New("storage: data directory is in use")
	// ErrVersion: the data directory was written by a newer Cairn, or is not
	// Cairn's.
	ErrVersion = errors.New("storage: unsupported data directory")
)

// convErr marks Pebble's errors with the sentinels of this package.
func convErr(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pebble.ErrNotFound):
		return ErrNotFound
	case pebble.IsCorruptionError(err):
		return fmt.Errorf("%w: %w", ErrCorruption, err)
	case errors.Is(err, pebble.ErrClosed):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

func corruptf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorruption, fmt.Sprintf(format, args...))
}
