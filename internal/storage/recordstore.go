package storage

// RecordStore is a table of records in the order of their ids.
type RecordStore struct{ Table }

// Put stores a record.
func (s RecordStore) Put(u *RecoveryUnit, id RecordID, value []byte) {
	u.WriteSet().setRecord(s.Table, id, value)
	u.ws.noteRow()
}

// PutNew is Put of a record that does not exist, which is then known without a look.
func (s RecordStore) PutNew(u *RecoveryUnit, id RecordID, value []byte) {
	s.Put(u, id, value)
	u.ws.noteFresh()
}

// Delete removes a record.
func (s RecordStore) Delete(u *RecoveryUnit, id RecordID) {
	u.WriteSet().deleteRecord(s.Table, id)
}

// Get appends the record to dst[:0], or returns ErrNotFound.
func (s RecordStore) Get(r Reader, id RecordID, dst []byte) ([]byte, error) {
	var buf [prefixLen + recordIDLen]byte
	return getPoint(r, s.AppendRecordKey(buf[:0], id), dst, keep{ahead: aheadRecords})
}

// LatchKey is the key to lock before changing the record.
func (s RecordStore) LatchKey(id RecordID) []byte {
	return s.AppendRecordKey(make([]byte, 0, prefixLen+recordIDLen), id)
}

// LastID is the highest id in the store, or 0 if it is empty.
func (s RecordStore) LastID(r Reader) (RecordID, error) {
	c := s.Cursor(r, Backward)
	var id RecordID
	if c.Next() {
		id = c.RecordID()
	}
	err := c.Err()
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	return id, err
}

// Direction is that of a scan.
type Direction int8

// The directions.
const (
	Forward  Direction = 1
	Backward Direction = -1
)

// RecordCursor moves over records in the order of their ids, one way. It
// begins in front of the first one. Value is valid until the next move and
// must not be changed. A move that returns false is the end or an error.
type RecordCursor interface {
	// Seek moves to the record with this id or, if there is none, to the next
	// one in the direction of travel.
	Seek(id RecordID) bool
	Next() bool
	RecordID() RecordID
	Value() []byte
	Err() error
	Close() error
}

// Cursor opens a cursor over the records of the store.
func (s RecordStore) Cursor(r Reader, d Direction) RecordCursor {
	return s.CursorRange(r, d, 0, 0)
}

// CursorRange opens a cursor over the records with lower <= id <= upper; 0
// means no bound.
func (s RecordStore) CursorRange(r Reader, d Direction, lower, upper RecordID) RecordCursor {
	lo, hi := s.Bounds()
	if lower != 0 {
		lo = s.AppendRecordKey(lo[:0], lower)
	}
	if upper != 0 && upper != MaxRecordID {
		hi = s.AppendRecordKey(nil, upper+1)
	}
	if lower != 0 && upper != 0 && lower > upper {
		hi = lo
	}
	c := &recordCursor{c: r.NewCursor(lo, hi), d: d, t: s.Table}
	c.base, _ = c.c.(*baseCursor)
	return c
}

type recordCursor struct {
	c       Cursor
	base    *baseCursor // c, when nothing is laid over it: saves a call a record
	t       Table
	d       Direction
	started bool
	ok      bool
	buf     [prefixLen + recordIDLen]byte
}

func (c *recordCursor) Seek(id RecordID) bool {
	c.started = true
	key := c.t.AppendRecordKey(c.buf[:0], id)
	if c.d == Forward {
		c.ok = c.c.SeekGE(key)
		return c.ok
	}
	if id == MaxRecordID {
		c.ok = c.c.Last()
	} else {
		c.ok = c.c.SeekLT(c.t.AppendRecordKey(c.buf[:0], id+1))
	}
	return c.ok
}

func (c *recordCursor) Next() bool {
	switch {
	case !c.started:
		c.started = true
		if c.d == Forward {
			c.ok = c.c.First()
		} else {
			c.ok = c.c.Last()
		}
	case !c.ok:
	case c.base != nil && c.d == Forward:
		c.ok = c.base.it.Next()
	case c.d == Forward:
		c.ok = c.c.Next()
	default:
		c.ok = c.c.Prev()
	}
	return c.ok
}

func (c *recordCursor) RecordID() RecordID {
	k := c.c.Key()
	if len(k) != prefixLen+recordIDLen {
		return 0
	}
	return DecodeRecordID(k[prefixLen:])
}

func (c *recordCursor) Value() []byte {
	if c.base != nil {
		v := c.base.Value()
		if c.d == Forward {
			prefetchBehind(v)
		}
		return v
	}
	return c.c.Value()
}

func (c *recordCursor) Err() error   { return c.c.Err() }
func (c *recordCursor) Close() error { return c.c.Close() }

// clonePrefixed is prefix ‖ rest in fresh memory.
func clonePrefixed(t Table, rest []byte) []byte {
	return append(t.AppendPrefix(make([]byte, 0, prefixLen+len(rest)+recordIDLen)), rest...)
}
