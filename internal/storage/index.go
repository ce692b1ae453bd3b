package storage

import (
	"bytes"
	"errors"
	"fmt"
)

// IndexStore is the table of one index. Keys are KeyStrings: self-delimiting
// byte strings in the order of the values (no KeyString is a prefix of
// another). The form of the entries is KeyString ‖ RecordId → type bits; with
// ByID set (the `_id` index) KeyString → RecordId ‖ type bits, which a point
// read finds by one Get.
type IndexStore struct {
	Table
	ByID bool
}

// PutNew is Put of an entry that does not exist, which is then known without a look.
func (s IndexStore) PutNew(u *RecoveryUnit, keyString []byte, id RecordID, typeBits []byte) {
	s.Put(u, keyString, id, typeBits)
	u.ws.noteFresh()
}

// Put stores an entry.
func (s IndexStore) Put(u *RecoveryUnit, keyString []byte, id RecordID, typeBits []byte) {
	w := u.WriteSet()
	if s.ByID {
		op := w.b.SetDeferred(prefixLen+len(keyString), recordIDLen+len(typeBits))
		s.AppendKey(op.Key[:0], keyString)
		append8(op.Value, id, typeBits)
		finish(op)
		w.noteRow()
		return
	}
	op := w.b.SetDeferred(prefixLen+len(keyString)+recordIDLen, len(typeBits))
	AppendRecordID(s.AppendKey(op.Key[:0], keyString), id)
	copy(op.Value, typeBits)
	finish(op)
}

func append8(dst []byte, id RecordID, rest []byte) {
	copy(AppendRecordID(dst[:0], id)[recordIDLen:len(dst)], rest)
}

// Remove removes the entry of a record.
func (s IndexStore) Remove(u *RecoveryUnit, keyString []byte, id RecordID) {
	w := u.WriteSet()
	n := prefixLen + len(keyString)
	if !s.ByID {
		n += recordIDLen
	}
	op := w.b.DeleteDeferred(n)
	k := s.AppendKey(op.Key[:0], keyString)
	if !s.ByID {
		AppendRecordID(k, id)
	}
	finish(op)
}

// LatchKey is the key to lock before putting into or removing from a unique
// index: the same for every record with that KeyString.
func (s IndexStore) LatchKey(keyString []byte) []byte { return clonePrefixed(s.Table, keyString) }

// Find returns the record of a KeyString (of several the first) and the type
// bits, which are appended to dst[:0]; or ErrNotFound. It is the uniqueness
// check, and the point read of `_id`.
func (s IndexStore) Find(r Reader, keyString, dst []byte) (RecordID, []byte, error) {
	return s.find(r, keyString, dst, keep{})
}

func (s IndexStore) find(r Reader, keyString, dst []byte, k keep) (RecordID, []byte, error) {
	if s.ByID {
		var buf [128]byte
		v, err := getPoint(r, s.AppendKey(buf[:0], keyString), dst, k)
		if err != nil {
			return 0, nil, err
		}
		if len(v) < recordIDLen {
			return 0, nil, corruptf("entry of index %s has %d bytes", s.Table, len(v))
		}
		return DecodeRecordID(v), v[recordIDLen:], nil
	}
	lower := clonePrefixed(s.Table, keyString)
	upper := append(bytes.Clone(lower), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	c := r.NewCursor(lower, upper)
	for ok := c.First(); ok; ok = c.Next() {
		k := c.Key()
		if len(k) != len(lower)+recordIDLen {
			continue
		}
		id := DecodeRecordID(k[len(lower):])
		bits := append(dst[:0], c.Value()...)
		return id, bits, errors.Join(c.Err(), c.Close())
	}
	if err := errors.Join(c.Err(), c.Close()); err != nil {
		return 0, nil, err
	}
	return 0, nil, ErrNotFound
}

// IndexBounds limit an index cursor: byte strings that stand in the order
// between KeyStrings, lower inclusive, upper exclusive; nil means no bound.
type IndexBounds struct{ Lower, Upper []byte }

// IndexCursor moves over the entries of an index, one way. It begins in front
// of the first one. What it returns is valid until the next move.
type IndexCursor struct {
	c       Cursor
	s       IndexStore
	d       Direction
	started bool
	ok      bool
	err     error
	buf     []byte
}

// Cursor opens a cursor over the entries between the bounds.
func (s IndexStore) Cursor(r Reader, d Direction, b IndexBounds) *IndexCursor {
	lo, hi := s.Bounds()
	if b.Lower != nil {
		lo = clonePrefixed(s.Table, b.Lower)
	}
	if b.Upper != nil {
		hi = clonePrefixed(s.Table, b.Upper)
	}
	if bytes.Compare(lo, hi) > 0 {
		hi = lo
	}
	return &IndexCursor{c: r.NewCursor(lo, hi), s: s, d: d}
}

// Seek moves, forward, to the first entry whose key is >= k; backward, to the
// last one whose key is < k. k is a KeyString or a byte string between them.
func (c *IndexCursor) Seek(k []byte) bool {
	c.buf = c.s.AppendKey(c.buf[:0], k)
	return c.seek()
}

// SeekBeyond moves to the entry that follows the given one in the direction of
// travel, whether that one still exists or not: how a yielded scan goes on.
func (c *IndexCursor) SeekBeyond(keyString []byte, id RecordID) bool {
	c.buf = c.s.AppendKey(c.buf[:0], keyString)
	if !c.s.ByID {
		c.buf = AppendRecordID(c.buf, id)
	}
	if c.d == Forward {
		c.buf = append(c.buf, 0)
	}
	return c.seek()
}

func (c *IndexCursor) seek() bool {
	c.started = true
	if c.d == Forward {
		c.ok = c.c.SeekGE(c.buf)
	} else {
		c.ok = c.c.SeekLT(c.buf)
	}
	return c.check()
}

// Next moves to the next entry in the direction of travel.
func (c *IndexCursor) Next() bool {
	switch {
	case !c.started && c.d == Forward:
		c.ok = c.c.First()
	case !c.started:
		c.ok = c.c.Last()
	case !c.ok:
		return false
	case c.d == Forward:
		c.ok = c.c.Next()
	default:
		c.ok = c.c.Prev()
	}
	c.started = true
	return c.check()
}

// check refuses entries that cannot be taken apart.
func (c *IndexCursor) check() bool {
	if !c.ok {
		return false
	}
	n := len(c.c.Key())
	if c.s.ByID {
		n = prefixLen + len(c.c.Value())
	}
	if n < prefixLen+recordIDLen {
		c.ok = false
		c.err = fmt.Errorf("%w: index %s has an entry that is too short", ErrCorruption, c.s.Table)
	}
	return c.ok
}

// KeyString is that of the entry.
func (c *IndexCursor) KeyString() []byte {
	k := c.c.Key()
	if c.s.ByID {
		return k[prefixLen:]
	}
	return k[prefixLen : len(k)-recordIDLen]
}

// RecordID is that of the entry's record.
func (c *IndexCursor) RecordID() RecordID {
	if c.s.ByID {
		return DecodeRecordID(c.c.Value())
	}
	k := c.c.Key()
	return DecodeRecordID(k[len(k)-recordIDLen:])
}

// TypeBits are those of the entry.
func (c *IndexCursor) TypeBits() []byte {
	v := c.c.Value()
	if c.s.ByID {
		return v[recordIDLen:]
	}
	return v
}

// Err is why a move returned false, or nil at the end.
func (c *IndexCursor) Err() error {
	if c.err != nil {
		return c.err
	}
	return c.c.Err()
}

// Close releases the cursor.
func (c *IndexCursor) Close() error { return c.c.Close() }
