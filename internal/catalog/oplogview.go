package catalog

import (
	"context"
	"errors"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// oplogUUID is the same on every member: the log has no row in the catalog.
var oplogUUID = bson.UUID{0xCA, 0x14, 0x06, 0x10, 0x09, 0, 0x40, 0, 0x80}

// newOplogCollection is local.oplog.rs: capped, without indexes, a view of the journal.
func (c *Catalog) newOplogCollection() (*Collection, error) {
	size := max(c.log.Stats().MaxBytes, 1)
	opts, err := ParseCollectionOptions(bson.D("capped", true, "size", size, "autoIndexId", true))
	if err != nil {
		return nil, err
	}
	return c.newCollection(Oplog, oplogUUID, opts, storage.Table{Space: storage.SpacePrivate})
}

// Log is the oplog as its readers see it, nil if this catalog has none.
func (c *Catalog) Log() *oplog.Log { return c.log }

func (c *Catalog) oplogGet(id storage.RecordID, _ []byte) (bson.Raw, error) {
	return c.log.Find(oplog.Timestamp(id))
}

func (c *Catalog) oplogCursor(ctx context.Context, d storage.Direction, lower, upper storage.RecordID) (storage.RecordCursor, error) {
	cur, err := c.log.NewCursor(ctx, d)
	if err != nil {
		return nil, err
	}
	if lower == 0 && upper == 0 {
		return cur, nil
	}
	if upper == 0 {
		upper = storage.MaxRecordID
	}
	return &boundedLog{Cursor: cur, d: d, lower: lower, upper: upper}, nil
}

// boundedLog is a cursor over a part of the log. It seeks to the part's begin: the
// position of a ts is found in O(log n).
type boundedLog struct {
	*oplog.Cursor
	d            storage.Direction
	lower, upper storage.RecordID
	started      bool
}

func (b *boundedLog) inside(ok bool) bool {
	if !ok {
		return false // there is no entry to ask
	}
	id := b.RecordID()
	return id >= b.lower && id <= b.upper
}

func (b *boundedLog) Seek(id storage.RecordID) bool {
	b.started = true
	if b.d == storage.Forward {
		id = max(id, b.lower)
	} else {
		id = min(id, b.upper)
	}
	return b.inside(b.Cursor.Seek(id))
}

func (b *boundedLog) Next() bool {
	if b.started {
		return b.inside(b.Cursor.Next())
	}
	if b.d == storage.Forward {
		return b.Seek(b.lower)
	}
	return b.Seek(b.upper)
}

// IsPositionLost reports whether err says that a reader's place in the log was cut off.
func IsPositionLost(err error) bool { return errors.Is(err, oplog.ErrPositionLost) }
