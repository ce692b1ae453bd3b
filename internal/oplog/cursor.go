package oplog

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/storage"
	"github.com/cairndb/cairn/internal/storage/journal"
)

// Cursor reads the log in one direction. It is a storage.RecordCursor whose
// RecordIds are ts, and goes on at the end when more entries have come. It
// belongs to one goroutine.
type Cursor struct {
	l    *Log
	r    *journal.Reader
	dir  storage.Direction
	rec  *journal.Record
	from uint64 // forward: ts before which nothing is shown
	seen uint64 // index of the newest entry known to be passed
	err  error
}

var _ storage.RecordCursor = (*Cursor)(nil)

// NewCursor opens a cursor. It makes durable what is applied at the call, so
// that a client sees its own writes.
func (l *Log) NewCursor(ctx context.Context, dir storage.Direction) (*Cursor, error) {
	if err := l.s.Sync(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		// A failed node still shows what it has on disk.
		l.opt.Logger.Warn("oplog opened without a sync", "error", err)
	}
	from := journal.FromStart()
	if dir == storage.Backward {
		from = journal.FromEnd()
	}
	r, err := l.j.NewReader(from)
	if err != nil {
		return nil, readError(err)
	}
	return &Cursor{l: l, r: r, dir: dir}, nil
}

// Seek moves to the entry with this ts or, if there is none, to the next one
// in the direction of travel. It costs O(log n). That the place itself was cut
// off shows by a later ts than the one asked for.
func (c *Cursor) Seek(id storage.RecordID) bool {
	ts := uint64(max(id, 0))
	if c.dir == storage.Backward {
		ts++
	}
	if err := c.r.Seek(journal.FromTS(ts)); err != nil {
		return c.fail(err)
	}
	c.err, c.from, c.seen = nil, ts, 0
	if c.dir == storage.Backward {
		return c.prev()
	}
	return c.next()
}

// SeekTS is Seek in the words of the log.
func (c *Cursor) SeekTS(ts Timestamp) bool { return c.Seek(storage.RecordID(ts)) }

// Next moves to the next entry. False is the end of what is journaled and
// applied, where a later call may find more, or an error.
func (c *Cursor) Next() bool {
	if c.err != nil {
		return false
	}
	if c.dir == storage.Backward {
		return c.prev()
	}
	return c.next()
}

// bound is the end of what readers may see: journaled and applied.
func (c *Cursor) bound() journal.Mark {
	d, v := c.l.j.Durable(), c.l.s.visible.mark()
	if d.Pos < v.Pos {
		return d
	}
	return v
}

func (c *Cursor) next() bool {
	bound := c.bound()
	for c.r.Pos() < bound.Pos && c.r.Next() {
		if rec := c.r.Record(); rec.Kind == journal.KindEntry && rec.TS >= c.from {
			c.rec, c.seen = rec, rec.Index
			return true
		}
	}
	if err := c.r.Err(); err != nil {
		return c.fail(err)
	}
	// All that bound covers has been passed.
	c.rec, c.seen = nil, max(c.seen, bound.Index)
	return false
}

func (c *Cursor) prev() bool {
	bound := c.bound()
	for c.r.Prev() {
		if rec := c.r.Record(); rec.Kind == journal.KindEntry && rec.End <= bound.Pos {
			c.rec = rec
			return true
		}
	}
	c.rec = nil
	if err := c.r.Err(); err != nil {
		return c.fail(err)
	}
	return false
}

func (c *Cursor) fail(err error) bool {
	c.rec, c.err = nil, readError(err)
	return false
}

// RecordID is the ts of the current entry.
func (c *Cursor) RecordID() storage.RecordID { return storage.RecordID(c.rec.TS) }

// TS is the ts of the current entry.
func (c *Cursor) TS() Timestamp { return Timestamp(c.rec.TS) }

// Index is the journal index of the current entry.
func (c *Cursor) Index() uint64 { return c.rec.Index }

// Value is the current entry's document; valid until the next move.
func (c *Cursor) Value() []byte { return c.rec.Payload }

// Entry decodes the current entry; it is valid until the next move.
func (c *Cursor) Entry() (Entry, error) { return Decode(bson.Raw(c.rec.Payload)) }

// WaitForMore returns when Next would find another entry, for a cursor that
// runs forward and is at its end. The journal is synced at once for it.
func (c *Cursor) WaitForMore(ctx context.Context) error {
	next := c.seen + 1
	if err := c.l.s.visible.wait(ctx, next); err != nil {
		return err
	}
	return readError(c.l.j.WaitDurable(ctx, next))
}

// Err is why a move failed: ErrPositionLost, or damage on disk.
func (c *Cursor) Err() error { return c.err }

// Close gives up the cursor's file.
func (c *Cursor) Close() error {
	c.r.Close()
	return nil
}
