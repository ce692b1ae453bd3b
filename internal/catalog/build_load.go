package catalog

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

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
	bits  []byte // the type bits of the key
}

// maxSuspects is how many doubled keys are looked at again; more are an error at once.
const maxSuspects = 10_000

func (d *duplicates) add(c *Collection, ix *Index, key, bits []byte) error {
	if len(d.keys) >= maxSuspects {
		return duplicateKey(c, ix, key, bits)
	}
	d.keys = append(d.keys, suspect{ix.Store.Ident, bytes.Clone(key), bytes.Clone(bits)})
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
	if err := b.load(coll, list, loaders, dups); err != nil {
		return err
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

// load fills the tables, as many at a time as there are processors.
func (b *buildState) load(coll *Collection, list []*Index, loaders []*storage.BulkLoader, dups *duplicates) error {
	found := make([]duplicates, len(list))
	g, ctx := errgroup.WithContext(b.ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, ix := range list {
		var check func(rest, value []byte) error
		if ix.Spec.Unique {
			check = adjacentCheck(coll, ix, &found[i])
		}
		g.Go(func() error { return loaders[i].Load(ctx, check) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, ix := range list {
		for _, s := range found[i].keys {
			if err := dups.add(coll, ix, s.key, s.bits); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	// scanBatchBytes is about how much of the documents goes to the makers of keys at once.
	scanBatchBytes = 256 << 10
	// scanBatches is how many batches there are for each maker: in its hands, waiting, being filled.
	scanBatches = 3
)

// scanBatch is a run of documents in the order of the scan.
type scanBatch struct {
	ids  []storage.RecordID
	ends []int // of each document in data
	data []byte
	left atomic.Int32 // makers that have not yet had it
}

func (s *scanBatch) reset() { s.ids, s.ends, s.data = s.ids[:0], s.ends[:0], s.data[:0] }

// scan adds the entries of all documents of the snapshot to the loaders. One goroutine
// reads; the indexes are dealt out to others, which make the keys and sort them.
func (b *buildState) scan(coll *Collection, snap *storage.Snapshot, list []*Index, loaders []*storage.BulkLoader) error {
	makers := min(runtime.GOMAXPROCS(0), len(list))
	free := make(chan *scanBatch, scanBatches*makers)
	for range cap(free) {
		free <- &scanBatch{}
	}
	g, ctx := errgroup.WithContext(b.ctx)
	todo := make([]chan *scanBatch, makers)
	for m := range todo {
		todo[m] = make(chan *scanBatch, cap(free))
		g.Go(func() error {
			s := getScratch()
			defer s.put()
			for batch := range todo[m] {
				if err := ctx.Err(); err != nil {
					return err
				}
				for i := m; i < len(list); i += makers {
					if err := b.addKeys(s, list[i], loaders[i], batch); err != nil {
						return err
					}
				}
				if batch.left.Add(-1) == 0 {
					free <- batch
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		defer func() {
			for _, c := range todo {
				close(c)
			}
		}()
		return b.read(ctx, coll, snap, free, todo)
	})
	err := g.Wait()
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	return err
}

// read gives the documents of the snapshot to the makers of keys.
func (b *buildState) read(ctx context.Context, coll *Collection, snap *storage.Snapshot, free <-chan *scanBatch, todo []chan *scanBatch) (err error) {
	cur := coll.store.Cursor(snap, storage.Forward)
	defer func() { err = errors.Join(err, cur.Close()) }()
	for more := cur.Next(); more; {
		var batch *scanBatch
		select {
		case batch = <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
		batch.reset()
		for more && len(batch.data) < scanBatchBytes {
			batch.ids = append(batch.ids, cur.RecordID())
			batch.data = append(batch.data, cur.Value()...)
			batch.ends = append(batch.ends, len(batch.data))
			more = cur.Next()
		}
		b.scanned.Add(int64(len(batch.ids)))
		batch.left.Store(int32(len(todo)))
		for _, c := range todo { // there is room for all batches in each
			c <- batch
		}
	}
	return cur.Err()
}

// addKeys adds the entries that an index has of a batch of documents.
func (b *buildState) addKeys(s *writeScratch, ix *Index, l *storage.BulkLoader, batch *scanBatch) error {
	s.relaxed = b.lenient
	start := 0
	for i, id := range batch.ids {
		doc := bson.Raw(batch.data[start:batch.ends[i]])
		start = batch.ends[i]
		s.keys.reset()
		s.ops, s.mk = s.ops[:0], s.mk[:0] // the arrays met are persisted at the end
		if err := s.addKeys(ix, doc, 0, false); err != nil {
			return err
		}
		for _, op := range s.ops {
			if err := l.AddIndexEntry(ix.Store, s.keys.key(op.span), id, s.keys.bits(op.span)); err != nil {
				return err
			}
		}
	}
	return nil
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
