package catalog

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// Collection is one collection as one version of the catalog knows it. It does not
// change; DDL makes a new one. What writes change (counters, RecordIds, locks) is shared
// by all versions of the collection.
type Collection struct {
	NS      Namespace
	UUID    bson.UUID
	Options *CollectionOptions

	name      string // NS as a string
	store     storage.RecordStore
	indexes   []*Index // the one on _id first, if there is one; those being built too
	validator *match.Matcher
	shared    *collShared
	cat       *Catalog
}

// collShared is what all versions of a collection have in common.
type collShared struct {
	lock  intentLock
	stats counters
	rids  ridAllocator
	// dropped is set once the collection's drop has committed.
	dropped atomic.Bool
	capped  cappedState
}

// Indexes are the indexes that are ready, the one on _id first.
func (c *Collection) Indexes() []*Index {
	for _, ix := range c.indexes {
		if ix.build != nil {
			return c.readyIndexes()
		}
	}
	return c.indexes
}

func (c *Collection) readyIndexes() []*Index {
	var ready []*Index
	for _, ix := range c.indexes {
		if ix.build == nil {
			ready = append(ready, ix)
		}
	}
	return ready
}

// AllIndexes are the indexes that are ready and those being built.
func (c *Collection) AllIndexes() []*Index { return c.indexes }

// ShownIndexes are AllIndexes but for the one on _id of a clustered collection, which has
// none for those who ask.
func (c *Collection) ShownIndexes() []*Index {
	if c.Options.Clustered {
		return c.indexes[1:]
	}
	return c.indexes
}

// shown is how many of n indexes createIndexes and dropIndexes count: the clustered one, but
// not that of buckets.
func (c *Collection) shown(n int) int {
	if c.Options.Clustered && c.Options.ClusteredIndex == nil {
		return n - 1
	}
	return n
}

// Index returns the index of that name, ready or being built, or nil.
func (c *Collection) Index(name string) *Index {
	for _, ix := range c.indexes {
		if ix.Spec.Name == name {
			return ix
		}
	}
	return nil
}

// IDIndex is the index on _id; the log has none, nor has a collection of local that was made
// without.
func (c *Collection) IDIndex() *Index {
	if len(c.indexes) == 0 || !c.indexes[0].Spec.IsID() {
		return nil
	}
	return c.indexes[0]
}

// Count is the number of documents, DataSize the bytes that they take.
func (c *Collection) Count() int64 {
	if c.IsOplog() {
		return c.cat.log.Stats().Count
	}
	return c.shared.stats.count.Load()
}

// DataSize is the number of bytes of all documents.
func (c *Collection) DataSize() int64 {
	if c.IsOplog() {
		return c.cat.log.Stats().SizeBytes
	}
	return c.shared.stats.size.Load()
}

// Dropped reports whether the collection is no more: what a cursor checks before
// it goes on.
func (c *Collection) Dropped() bool { return c.shared.dropped.Load() }

// IsCapped reports whether the collection keeps insertion order within a fixed size;
// the log counts as one.
func (c *Collection) IsCapped() bool { return c.Options.Capped }

// IsOplog reports whether this is local.oplog.rs, which is a view of the journal:
// nothing but Cursor and Get can be asked of it.
func (c *Collection) IsOplog() bool { return c.store.Ident == 0 }

// Get reads a document; storage.ErrNotFound if there is none. The result is the
// caller's; a reused dst saves the allocation.
func (c *Collection) Get(r storage.Reader, id storage.RecordID, dst []byte) (bson.Raw, error) {
	if c.IsOplog() {
		return c.cat.oplogGet(id, dst)
	}
	var key *storage.UniqueKey
	if ix := c.IDIndex(); ix != nil {
		key = ix.unique
	}
	b, err := c.store.GetKeyed(r, key, id, dst)
	return bson.Raw(b), err
}

// Cursor opens a cursor over the documents in the order of their RecordIds. ctx is for
// the log, which makes durable first what is applied.
func (c *Collection) Cursor(ctx context.Context, r storage.Reader, d storage.Direction) (storage.RecordCursor, error) {
	return c.CursorRange(ctx, r, d, 0, 0)
}

// CursorRange opens a cursor over the documents with lower <= RecordId <= upper; 0 is
// no bound. In the log the RecordId is the ts; what its cursor returns is an
// *oplog.Cursor if there are no bounds.
func (c *Collection) CursorRange(ctx context.Context, r storage.Reader, d storage.Direction, lower, upper storage.RecordID) (storage.RecordCursor, error) {
	if c.IsOplog() {
		return c.cat.oplogCursor(ctx, d, lower, upper)
	}
	return c.store.CursorRange(r, d, lower, upper), nil
}

// FindID returns the RecordId of the document with that _id, or storage.ErrNotFound.
func (c *Collection) FindID(r storage.Reader, id bson.Value) (storage.RecordID, error) {
	ix := c.IDIndex()
	if ix == nil {
		return 0, storage.ErrNotFound
	}
	s := idScratches.Get().(*idScratch)
	rid, err := c.store.LookupID(r, ix.unique, s.keyOf(ix, id), func(doc []byte) bool { return hasID(doc, id) })
	idScratches.Put(s)
	return rid, err
}

// GetByID is FindID and Get in one, and takes less than both.
func (c *Collection) GetByID(r storage.Reader, id bson.Value, dst []byte) (bson.Raw, error) {
	ix := c.IDIndex()
	if ix == nil {
		return nil, storage.ErrNotFound
	}
	s := idScratches.Get().(*idScratch)
	_, doc, err := c.store.Lookup(r, ix.unique, s.keyOf(ix, id), func(doc []byte) bool { return hasID(doc, id) }, dst)
	idScratches.Put(s)
	return doc, err
}

// ExpectID says that the document with that _id will be asked for: see storage.Expected.
func (c *Collection) ExpectID(e *storage.Engine, id bson.Value) storage.Expected {
	ix := c.IDIndex()
	if ix == nil {
		return storage.Expected{}
	}
	s := idScratches.Get().(*idScratch)
	defer idScratches.Put(s)
	return storage.Expect(e, ix.unique, s.keyOf(ix, id))
}

// hasID reports whether a document begins with that _id. It may say no if they are equal but
// not the same bytes.
func hasID(doc []byte, id bson.Value) bool {
	name, v := bson.Raw(doc).First()
	if name != "_id" {
		return false
	}
	if v.Type == id.Type {
		return bytes.Equal(v.Data, id.Data)
	}
	return v.IsNumber() && id.IsNumber() && bson.Compare(v, id) == 0
}

// idScratch is the memory of one FindID; it is reused.
type idScratch struct {
	id  [1]bson.Value
	key []byte
}

// keyOf is the key of an _id in its index. It is valid until the next call.
func (s *idScratch) keyOf(ix *Index, id bson.Value) []byte {
	s.id[0] = id
	s.key = ix.AppendKey(s.key[:0], s.id[:]...)
	s.id[0] = bson.Value{}
	return s.key
}

var idScratches = sync.Pool{New: func() any { return &idScratch{key: make([]byte, 0, 64)} }}

// LockRecord takes the record's latch for w: needed before the record is read to be
// updated or deleted.
func (c *Collection) LockRecord(ctx context.Context, w *oplog.WriteUnit, id storage.RecordID) error {
	return w.RU.Lock(ctx, c.store.LatchKey(id))
}

// StorageSize estimates the bytes on disk of the records.
func (c *Collection) StorageSize() (uint64, error) {
	if c.IsOplog() {
		return uint64(c.cat.log.Stats().SizeBytes), nil
	}
	return c.cat.eng.TableSize(c.store.Table)
}

// with returns a copy of c for a new version of the catalog.
func (c *Collection) with(change func(*Collection)) *Collection {
	n := *c
	change(&n)
	n.name = n.NS.String()
	return &n
}

// withIndexes returns a copy of c with other indexes.
func (c *Collection) withIndexes(ix []*Index) *Collection {
	return c.with(func(n *Collection) { n.indexes = ix })
}

// replaceIndex returns a copy of c in which ix takes the place of the index of the same name.
func (c *Collection) replaceIndex(ix *Index) *Collection {
	list := append([]*Index(nil), c.indexes...)
	for i := range list {
		if list[i].Spec.Name == ix.Spec.Name {
			list[i] = ix
		}
	}
	return c.withIndexes(list)
}

// ridAllocator gives out RecordIds. It begins behind the highest one in the store,
// which is looked up when the first is asked for.
type ridAllocator struct {
	mu struct {
		sync.Mutex
		known bool
		next  storage.RecordID
		// Ids below settled belong to units that have ended: what the store does not have
		// of them is free. open counts the units that have not, of those that took by takeFor.
		settled storage.RecordID
		open    int
	}
}

// take returns the first of n consecutive RecordIds.
func (a *ridAllocator) take(s storage.RecordStore, r storage.Reader, n int) (storage.RecordID, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.initLocked(s, r); err != nil {
		return 0, err
	}
	id := a.mu.next
	a.mu.next += storage.RecordID(n)
	return id, nil
}

// takeFor is take for a unit, which is known to use the ids until it ends.
func (a *ridAllocator) takeFor(u *storage.RecoveryUnit, s storage.RecordStore, n int) (storage.RecordID, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.initLocked(s, u.Engine()); err != nil {
		return 0, err
	}
	if a.mu.open == 0 {
		a.mu.settled = a.mu.next
	}
	a.mu.open++
	u.RegisterChange(a.ended, a.ended)
	id := a.mu.next
	a.mu.next += storage.RecordID(n)
	return id, nil
}

func (a *ridAllocator) ended() {
	a.mu.Lock()
	a.mu.open--
	a.mu.Unlock()
}

// given reports whether a unit that has not ended may use id, which it took.
func (a *ridAllocator) given(id storage.RecordID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.open > 0 && id >= a.mu.settled
}

// seen makes sure that ids up to id are not given out again.
func (a *ridAllocator) seen(s storage.RecordStore, r storage.Reader, id storage.RecordID) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.initLocked(s, r); err != nil {
		return err
	}
	a.mu.next = max(a.mu.next, id+1)
	return nil
}

// claim counts id among those given out if it lies behind all of them: nobody has it then.
func (a *ridAllocator) claim(s storage.RecordStore, r storage.Reader, id storage.RecordID) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.initLocked(s, r); err != nil || id < a.mu.next {
		return false, err
	}
	a.mu.next = id + 1
	return true, nil
}

func (a *ridAllocator) initLocked(s storage.RecordStore, r storage.Reader) error {
	if a.mu.known {
		return nil
	}
	last, err := s.LastID(r)
	if err != nil {
		return err
	}
	a.mu.next, a.mu.known = last+1, true
	return nil
}
