package node

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// logView shows the oplog to the catalog as a collection whose RecordIds are ts.
type logView struct{ log *oplog.Log }

// Get implements catalog.LogView.
func (v logView) Get(id storage.RecordID, dst []byte) (bson.Raw, error) {
	d, err := v.log.Find(bson.Timestamp(id))
	return append(dst[:0], d...), err
}

// Cursor implements catalog.LogView.
func (v logView) Cursor(d storage.Direction, lower, upper storage.RecordID) (storage.RecordCursor, error) {
	c, err := v.log.NewCursor(context.Background(), d)
	if err != nil {
		return nil, err
	}
	if lower == 0 && upper == 0 {
		return c, nil
	}
	return &boundedCursor{Cursor: c, dir: d, lower: lower, upper: upper}, nil
}

// Count implements catalog.LogView.
func (v logView) Count() int64 { return v.log.Stats().Count }

// Size implements catalog.LogView.
func (v logView) Size() int64 { return v.log.Stats().SizeBytes }

// boundedCursor keeps an oplog cursor between two timestamps, 0 for none.
type boundedCursor struct {
	*oplog.Cursor
	dir          storage.Direction
	lower, upper storage.RecordID
	started      bool
}

// Next moves to the next entry within the bounds.
func (c *boundedCursor) Next() bool {
	if !c.started {
		c.started = true
		if start := c.start(); start != 0 {
			return c.within(c.Cursor.Seek(start))
		}
	}
	return c.within(c.Cursor.Next())
}

// Seek moves to the entry with that id, or the next one, within the bounds.
func (c *boundedCursor) Seek(id storage.RecordID) bool {
	c.started = true
	if c.dir == storage.Forward {
		id = max(id, c.lower)
	} else if c.upper != 0 {
		id = min(id, c.upper)
	}
	return c.within(c.Cursor.Seek(id))
}

func (c *boundedCursor) start() storage.RecordID {
	if c.dir == storage.Forward {
		return c.lower
	}
	return c.upper
}

func (c *boundedCursor) within(ok bool) bool {
	if !ok {
		return false
	}
	id := c.RecordID()
	if c.dir == storage.Forward {
		return c.upper == 0 || id <= c.upper
	}
	return id >= c.lower
}
