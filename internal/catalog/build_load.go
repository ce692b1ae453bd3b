package catalog

import (
	"context"
	"errors"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/storage"
)

// duplicates are the keys of unique indexes that were seen twice. They may be gone
// when the build is committed.
type duplicates struct {
	keys []suspect
}

type suspect struct {
	ident storage.Ident
	key   []byte
}

// maxSuspects is how many doubled keys are looked at again; more are an error at once.
const maxSuspects = 10_000

func (d *duplicates) add(c *Collection, ix *Index, key, bits []byte) error {
	if len(d.keys) >= maxSuspects {
		return duplicateKey(c, ix, key, bits)
	}
	d.keys = append(d.keys, suspect{ix.Store.Ident, append([]byte(nil), key...)})
	return nil
}

// loadBuild is step 2.
func (c *Catalog) loadBuild(b *buildState, dups *duplicates) (err error) {
	coll := c.Pin().ByUUID(b.coll)
	if coll == nil || len(coll.buildIndexes(b)) == 0 {
		return context.Cause(b.ctx)
	}
	list := coll.buildIndexes(b)
	for _, ix := range list {
		b.tables = append(b.tables, ix.Store.Table)
	}
	snap, err := c.eng.Snapshot()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	b.total.Store(coll.Count())
	loaders := make([]*storage.BulkLoader, len(list))
	for i, ix := range list {
		loaders[i] = c.eng.NewBulkLoader(ix.Store.Table, c.opt.BuildMemory/int64(len(list)))
		defer func() { err = errors.Join(err, loaders[i].Close()) }()
	}
	if err := b.scan(coll, snap, list, loaders); err != nil {
		return err
	}
	for i, ix := range list {
		var check func(rest, value []byte) error
		if ix.Spec.Unique {
			check = adjacentCheck(coll, ix, dups)
		}
		if err := loaders[i].Load(b.ctx, check); err != nil {
			return err
		}
	}
	ws := c.eng.NewWriteSet()
	defer ws.Release()
	ws.Set(b.side.AppendRecordKey(nil, loadedRow), nil)
	for _, ix := range list {
		// No entry tells a replay what arrays the scan met.
		bits := ix.state.multikey.load()
		storeMultikey(ws, ix.Store.Table, &bits)
	}
	if err := c.eng.ApplyUnlogged(ws); err != nil {
		return err
	}
	return c.eng.Flush()
}

// scan adds the entries of all documents of the snapshot to the loaders.
func (b *buildState) scan(coll *Collection, snap *storage.Snapshot, list []*Index, loaders []*storage.BulkLoader) (err error) {
	cur := coll.store.Cursor(snap, storage.Forward)
	defer func() { err = errors.Join(err, cur.Close()) }()
	s := getScratch()
	defer s.put()
	for cur.Next() {
		if n := b.scanned.Add(1); n%128 == 0 && b.ctx.Err() != nil {
			return context.Cause(b.ctx)
		}
		s.relaxed = b.lenient
		for i, ix := range list {
			s.keys.reset()
			s.ops = s.ops[:0]
			if err := s.addKeys(ix, bson.Raw(cur.Value()), 0, false); err != nil {
				return err
			}
			for _, op := range s.ops {
				if err := loaders[i].AddIndexEntry(ix.Store, s.keys.key(op.span), cur.RecordID(), s.keys.bits(op.span)); err != nil {
					return err
				}
			}
		}
	}
	return cur.Err()
}

// adjacentCheck notes keys that stand there twice among sorted entries.
func adjacentCheck(c *Collection, ix *Index, dups *duplicates) func(rest, value []byte) error {
	var last []byte
	noted := false
	return func(rest, value []byte) error {
		key := rest[:len(rest)-8]
		if string(key) != string(last) {
			last, noted = append(last[:0], key...), false
			return nil
		}
		if noted {
			return nil
		}
		noted = true
		return dups.add(c, ix, key, value)
	}
}
