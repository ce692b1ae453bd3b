package storage

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// Reader is a view of the keys: the Engine (latest), a Snapshot, or a
// RecoveryUnit (its view with its own changes laid over).
type Reader interface {
	// Get appends the value of key to dst[:0] and returns it, or ErrNotFound.
	// The caller owns the result; a reused dst saves the allocation.
	Get(key, dst []byte) ([]byte, error)
	// NewCursor returns a cursor over [lower, upper); nil means no bound. It
	// shows the view as it is now; a RecoveryUnit's also shows what the unit
	// changes later. Errors come out of Cursor.Err. Close it.
	NewCursor(lower, upper []byte) Cursor
}

// Cursor moves over keys in order. It begins nowhere: First, Last, SeekGE or
// SeekLT come first. Key and Value are valid until the next move. A move that
// returns false is the end or an error: see Err. One goroutine at a time.
type Cursor interface {
	First() bool
	Last() bool
	SeekGE(key []byte) bool
	SeekLT(key []byte) bool
	Next() bool
	Prev() bool
	Key() []byte
	Value() []byte
	Err() error
	Close() error
}

// baseCursor is a cursor over the engine or a snapshot alone: Pebble's
// iterator with its errors converted.
type baseCursor struct {
	it  *pebble.Iterator
	err error
	use *cursorUse
}

func (c *baseCursor) First() bool            { return c.it.First() }
func (c *baseCursor) Last() bool             { return c.it.Last() }
func (c *baseCursor) SeekGE(key []byte) bool { return c.it.SeekGE(key) }
func (c *baseCursor) SeekLT(key []byte) bool { return c.it.SeekLT(key) }
func (c *baseCursor) Next() bool             { return c.it.Next() }
func (c *baseCursor) Prev() bool             { return c.it.Prev() }
func (c *baseCursor) Key() []byte            { return c.it.Key() }

func (c *baseCursor) Value() []byte {
	v, err := c.it.ValueAndErr()
	if err != nil && c.err == nil {
		c.err = convErr(err)
	}
	return v
}

func (c *baseCursor) Err() error {
	if c.err != nil {
		return c.err
	}
	return convErr(c.it.Error())
}

func (c *baseCursor) Close() error {
	if c.it == nil {
		return nil
	}
	err := c.it.Close()
	c.it = nil
	c.use.open.Add(-1)
	return convErr(err)
}

// cursorUse counts cursors: who steps through keys waits for each run of tables that lies over
// another, as who reads single keys does not.
type cursorUse struct {
	open   atomic.Int32
	opened atomic.Uint64
}

// errCursor is a cursor that could not be made.
type errCursor struct{ err error }

func (errCursor) First() bool          { return false }
func (errCursor) Last() bool           { return false }
func (errCursor) SeekGE(_ []byte) bool { return false }
func (errCursor) SeekLT(_ []byte) bool { return false }
func (errCursor) Next() bool           { return false }
func (errCursor) Prev() bool           { return false }
func (errCursor) Key() []byte          { return nil }
func (errCursor) Value() []byte        { return nil }
func (c errCursor) Err() error         { return c.err }
func (errCursor) Close() error         { return nil }

func newBaseCursor(r pebble.Reader, use *cursorUse, lower, upper []byte) Cursor {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return errCursor{convErr(err)}
	}
	use.open.Add(1)
	use.opened.Add(1)
	return &baseCursor{it: it, use: use}
}

func getFrom(r pebble.Reader, key, dst []byte) ([]byte, error) {
	v, closer, err := r.Get(key)
	if err != nil {
		return nil, convErr(err)
	}
	dst = append(dst[:0], v...)
	return dst, convErr(closer.Close())
}
