package catalog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/storage"
)

// side1 adds a side row: op u8 (0 put, 1 remove) | index ident u32 | RecordId 8 bytes |
// KeyString length u32 | KeyString | type bits.
func (b *buildState) side1(u *storage.RecoveryUnit, ix *Index, remove bool, key []byte, id storage.RecordID, bits []byte) {
	seq, err := b.seq.take(b.side, u, 1)
	if err == nil && seq <= loadedRow {
		seq, err = b.seq.take(b.side, u, 1)
	}
	if err != nil {
		b.fail(err)
		return
	}
	row := make([]byte, 0, 17+len(key)+len(bits))
	op := byte(0)
	if remove {
		op = 1
	}
	row = binary.BigEndian.AppendUint32(append(row, op), uint32(ix.Store.Ident))
	row = storage.AppendRecordID(row, id)
	row = binary.BigEndian.AppendUint32(row, uint32(len(key)))
	row = append(append(row, key...), bits...)
	b.side.Put(u, seq, row)
}

// sideOp is a decoded side row.
type sideOp struct {
	remove    bool
	ident     storage.Ident
	id        storage.RecordID
	key, bits []byte
}

func decodeSide(row []byte) (o sideOp, err error) {
	if len(row) < 17 {
		return o, fmt.Errorf("%w: side row of an index build has %d bytes", storage.ErrCorruption, len(row))
	}
	o.remove, o.ident = row[0] == 1, storage.Ident(binary.BigEndian.Uint32(row[1:]))
	o.id = storage.DecodeRecordID(row[5:])
	n := int(binary.BigEndian.Uint32(row[13:]))
	if n > len(row)-17 {
		return o, fmt.Errorf("%w: side row of an index build is cut", storage.ErrCorruption)
	}
	o.key, o.bits = row[17:17+n], row[17+n:]
	return o, nil
}

// fewRows is how many side rows may be left for the time when writers are kept out.
const fewRows = 200

// drainBuild is step 3. It ends early if writers are as fast: then the rest is done while
// they are kept out.
func (c *Catalog) drainBuild(b *buildState, dups *duplicates) error {
	last := math.MaxInt
	for {
		if b.ctx.Err() != nil {
			return context.Cause(b.ctx)
		}
		n, err := c.drainRound(b, dups)
		if err != nil || n < fewRows || n > last/2 {
			return err
		}
		last = n
	}
}

// drainBatch is how many side rows are done at a time.
const drainBatch = 256

// drainRound does the side rows that are there now to the indexes.
func (c *Catalog) drainRound(b *buildState, dups *duplicates) (n int, err error) {
	coll := c.Pin().ByUUID(b.coll)
	if coll == nil {
		return 0, context.Cause(b.ctx)
	}
	cur := b.side.CursorRange(c.eng, storage.Forward, loadedRow+1, 0)
	defer func() { err = errors.Join(err, cur.Close()) }()
	d := drainer{cat: c, coll: coll, ws: c.eng.NewWriteSet(), dups: dups}
	defer d.ws.Release()
	for cur.Next() {
		op, err := decodeSide(cur.Value())
		if err != nil {
			return n, err
		}
		if coll.byIdent(op.ident) == nil {
			return n, context.Cause(b.ctx)
		}
		d.do(op)
		d.ws.Delete(b.side.AppendRecordKey(nil, cur.RecordID()))
		b.drained.Add(1)
		if n++; n%drainBatch == 0 {
			if b.ctx.Err() != nil {
				return n, context.Cause(b.ctx)
			}
			if err := d.flush(); err != nil {
				return n, err
			}
		}
	}
	if err := cur.Err(); err != nil {
		return n, err
	}
	return n, d.flush()
}

// drainer does side rows to indexes, unlogged, batch by batch.
type drainer struct {
	cat  *Catalog
	coll *Collection
	ws   *storage.WriteSet
	put  []suspect // unique keys of the batch
	dups *duplicates
}

func (d *drainer) do(op sideOp) {
	ix := d.coll.byIdent(op.ident)
	entry := storage.AppendRecordID(ix.Store.AppendKey(nil, op.key), op.id)
	if op.remove {
		d.ws.Delete(entry)
		return
	}
	d.ws.Set(entry, op.bits)
	if ix.Spec.Unique {
		d.put = append(d.put, suspect{ident: op.ident, key: bytes.Clone(op.key)})
	}
}

// flush applies the batch and looks whether it doubled a key.
func (d *drainer) flush() error {
	if err := d.cat.eng.ApplyUnlogged(d.ws); err != nil {
		return err
	}
	d.ws.Reset()
	for _, s := range d.put {
		ix := d.coll.byIdent(s.ident)
		n, bits, err := ix.countKey(d.cat.eng, s.key)
		if err != nil {
			return err
		}
		if n > 1 {
			if err := d.dups.add(d.coll, ix, s.key, bits); err != nil {
				return err
			}
		}
	}
	d.put = d.put[:0]
	return nil
}

// countKey counts the entries of a key, up to two.
func (ix *Index) countKey(r storage.Reader, key []byte) (n int, bits []byte, err error) {
	cur := ix.Store.Cursor(r, storage.Forward, storage.IndexBounds{Lower: key, Upper: append(append([]byte(nil), key...), keystring.Above)})
	for n < 2 && cur.Next() {
		if n++; n == 1 {
			bits = append([]byte(nil), cur.TypeBits()...)
		}
	}
	return n, bits, errors.Join(cur.Err(), cur.Close())
}

func (c *Collection) byIdent(id storage.Ident) *Index {
	for _, ix := range c.indexes {
		if ix.Store.Ident == id {
			return ix
		}
	}
	return nil
}
