package catalog

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"unsafe"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// DocError is the error of one document of an Insert; nothing of the call was done.
type DocError struct {
	Index int
	Err   error
}

func (e *DocError) Error() string { return e.Err.Error() }

// Unwrap gives the error itself.
func (e *DocError) Unwrap() error { return e.Err }

// entryOp is one change of one index. doc counts the documents of the call from 0;
// the victims of a capped insert are -1, -2, …
type entryOp struct {
	ix     *Index
	doc    int
	span   keySpan
	remove bool
}

// writeScratch is the memory of one write; it is reused.
type writeScratch struct {
	keys    keyArena
	ops     []entryOp
	latches [][]byte
	latch   []byte
	seen    map[string]int
	mk      []multikeyTodo
	find    []byte
	fresh   []int // ops with _ids that nothing ever had, in their order

	// relaxed is set while the log is replayed over newer data: a document may not fit
	// an index for now. What breaks a unique index is handed to it instead of refused.
	relaxed func(ix *Index, key []byte)
	// newID is set when it is known that nothing has the _id.
	newID bool
}

type multikeyTodo struct {
	ix   *Index
	bits multikeyBits
}

var scratches = sync.Pool{New: func() any { return &writeScratch{seen: map[string]int{}} }}

// keepScratch bounds the memory that is kept for reuse.
const keepScratch = 1 << 20

func getScratch() *writeScratch { return scratches.Get().(*writeScratch) }

func (s *writeScratch) put() {
	if cap(s.keys.buf)+cap(s.latch) > keepScratch {
		return
	}
	s.keys.reset()
	clear(s.ops)
	clear(s.latches)
	clear(s.seen)
	clear(s.mk)
	s.ops, s.latches, s.latch, s.mk, s.relaxed, s.newID = s.ops[:0], s.latches[:0], s.latch[:0], s.mk[:0], nil, false
	s.fresh = s.fresh[:0]
	scratches.Put(s)
}

// addDoc adds the index entries of a document, to be put or removed.
func (s *writeScratch) addDoc(c *Collection, doc bson.Raw, n int, remove bool) error {
	for _, ix := range c.indexes {
		if err := s.addKeys(ix, doc, n, remove); err != nil {
			return err
		}
	}
	return nil
}

func (s *writeScratch) addKeys(ix *Index, doc bson.Raw, n int, remove bool) error {
	if ix.kept {
		if ix.Spec.Kind == "hashed" && !remove && s.relaxed == nil {
			return ix.checkHashable(doc)
		}
		return nil
	}
	if ix.partial != nil {
		if ok, err := ix.partial.Match(doc); err != nil || !ok {
			return err
		}
	}
	first := len(s.keys.spans)
	if err := ix.fields.appendKeys(&s.keys, doc); err != nil {
		s.keys.spans = s.keys.spans[:first]
		switch {
		case remove || s.relaxed != nil: // it has no entries, or is to get none
			return nil
		case ix.build != nil: // must not refuse the write: the build fails instead
			ix.build.fail(err)
			return nil
		}
		return err
	}
	for _, sp := range s.keys.spans[first:] {
		s.ops = append(s.ops, entryOp{ix, n, sp, remove})
	}
	if !remove {
		s.noteMultikey(ix)
	}
	return nil
}

// noteMultikey remembers the arrays that the keys just made met, if they are news.
func (s *writeScratch) noteMultikey(ix *Index) {
	n := len(ix.fields.paths)
	any := false
	for _, b := range s.keys.multikey[:n] {
		any = any || b != 0
	}
	if !any {
		return
	}
	var bits multikeyBits
	copy(bits[:n], s.keys.multikey[:n])
	if todo, any := ix.state.multikey.show(&bits, n); any {
		s.mk = append(s.mk, multikeyTodo{ix, todo})
	}
}

// lockUnique takes the latches of all keys of unique indexes as one group.
func (s *writeScratch) lockUnique(ctx context.Context, u *storage.RecoveryUnit) error {
	for i := range s.ops {
		op := &s.ops[i]
		if !op.ix.Spec.guards() || op.ix.build != nil {
			continue
		}
		start := len(s.latch)
		s.latch = op.ix.Store.AppendKey(s.latch, s.keys.key(op.span))
		s.latches = append(s.latches, s.latch[start:])
	}
	if len(s.latches) == 0 {
		return nil
	}
	// The buffer may have moved while it grew; what was sliced before keeps its bytes.
	return u.Lock(ctx, s.latches...)
}

// checkUnique looks for each key that is put into a unique index, in the unit's view
// and among the documents of this call. self is the record that may have it.
func (s *writeScratch) checkUnique(c *Collection, u *storage.RecoveryUnit, self storage.RecordID, many bool) error {
	for i := range s.ops {
		op := &s.ops[i]
		if op.remove || !op.ix.Spec.guards() || op.ix.build != nil {
			continue
		}
		key := s.keys.key(op.span)
		if op.ix.Store.ByID {
			fresh, err := op.ix.state.top.passes(op.ix.Store, c.cat.eng, key)
			switch {
			case err != nil:
				return err
			case s.newID:
				continue
			case fresh && (len(s.fresh) == 0 || bytes.Compare(key, s.keys.key(s.ops[s.fresh[len(s.fresh)-1]].span)) > 0):
				s.fresh = append(s.fresh, i)
				continue
			case s.isFresh(key):
				return &DocError{op.doc, duplicateKey(c, op.ix, key, s.keys.bits(op.span))}
			}
		}
		if many {
			l := s.latchOf(op, key)
			k := unsafe.String(unsafe.SliceData(l), len(l))
			if first, dup := s.seen[k]; dup && first != op.doc {
				return &DocError{op.doc, duplicateKey(c, op.ix, key, s.keys.bits(op.span))}
			}
			s.seen[k] = op.doc
		}
		rid, bits, err := op.ix.Store.Find(u, key, s.find)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			continue
		case err != nil:
			return err
		}
		s.find = bits
		if rid == self {
			continue
		}
		if s.relaxed != nil && !op.ix.Spec.IsID() {
			s.relaxed(op.ix, key)
			continue
		}
		return &DocError{op.doc, duplicateKey(c, op.ix, key, s.keys.bits(op.span))}
	}
	return nil
}

// isFresh reports whether a document of this call has that _id and was not looked for
// in the store because of it.
func (s *writeScratch) isFresh(key []byte) bool {
	_, found := slices.BinarySearchFunc(s.fresh, key, func(i int, key []byte) int {
		return bytes.Compare(s.keys.key(s.ops[i].span), key)
	})
	return found
}

// noteIDs counts the _ids that are put without checkUnique among those that exist.
func (s *writeScratch) noteIDs(c *Collection) error {
	for i := range s.ops {
		op := &s.ops[i]
		if op.remove || !op.ix.Store.ByID {
			continue
		}
		if _, err := op.ix.state.top.passes(op.ix.Store, c.cat.eng, s.keys.key(op.span)); err != nil {
			return err
		}
	}
	return nil
}

// latchOf is the key under the index's prefix, which tells equal keys of two
// indexes apart.
func (s *writeScratch) latchOf(op *entryOp, key []byte) []byte {
	start := len(s.latch)
	s.latch = op.ix.Store.AppendKey(s.latch, key)
	return s.latch[start:]
}

// perform makes the index changes of document n, whose record is rid.
func (s *writeScratch) perform(u *storage.RecoveryUnit, op *entryOp, rid storage.RecordID) {
	key, bits := s.keys.key(op.span), s.keys.bits(op.span)
	switch {
	case op.ix.build != nil:
		op.ix.build.side1(u, op.ix, op.remove, key, rid, bits)
	case op.remove:
		op.ix.Store.Remove(u, key, rid)
	default:
		op.ix.Store.Put(u, key, rid, bits)
	}
}

// performNew is perform for a document that is new.
func (s *writeScratch) performNew(u *storage.RecoveryUnit, op *entryOp, rid storage.RecordID) {
	if op.remove || op.ix.build != nil {
		s.perform(u, op, rid)
		return
	}
	op.ix.Store.PutNew(u, s.keys.key(op.span), rid, s.keys.bits(op.span))
}

// performMultikey persists what noteMultikey found.
func (s *writeScratch) performMultikey(u *storage.RecoveryUnit) {
	for i := range s.mk {
		m := s.mk[i]
		storeMultikey(u, m.ix.Store.Table, &m.bits)
		u.RegisterChange(func() { m.ix.state.multikey.committed(&m.bits) }, nil)
	}
}

// Insert adds documents, each of which begins with its _id and has passed validation,
// with their index entries and oplog entries, to the unit. On an error of one document
// (*DocError) nothing of the call was done and the unit can go on without it.
func (c *Collection) Insert(ctx context.Context, w *oplog.WriteUnit, docs []bson.Raw, info *WriteInfo) error {
	if len(docs) == 0 {
		return nil
	}
	if c.IsOplog() {
		return mongoerr.New(mongoerr.InvalidNamespace, "cannot write to '%s'", c.NS)
	}
	if c.Options.Capped {
		return c.insertCapped(ctx, w, docs, info)
	}
	s := getScratch()
	defer s.put()
	if err := s.addDocs(c, docs); err != nil {
		return err
	}
	if err := s.lockUnique(ctx, w.RU); err != nil {
		return err
	}
	if err := s.checkUnique(c, w.RU, 0, len(docs) > 1); err != nil {
		return err
	}
	first, err := c.shared.rids.takeFor(w.RU, c.store, len(docs))
	if err != nil {
		return err
	}
	if len(docs) > 1 {
		c.reserve(w, docs, len(s.keys.buf), len(s.ops))
	}
	size := s.putAll(c, w.RU, docs, first)
	c.note(w, delta{int64(len(docs)), size})
	return c.logInserts(w, docs, first, info)
}

// What a record, an index entry and an oplog entry take beside their payload, roughly.
const (
	recordOverhead = 24
	entryOverhead  = 24
	logOverhead    = 200
)

// reserve makes room in the unit for an insert of many documents.
func (c *Collection) reserve(w *oplog.WriteUnit, docs []bson.Raw, keyBytes, entries int) {
	size := 0
	for _, d := range docs {
		size += len(d)
	}
	w.RU.Reserve(size + keyBytes + len(docs)*recordOverhead + entries*entryOverhead)
	if c.NS.logged() {
		w.Reserve(size + len(docs)*logOverhead)
	}
}

// addDocs adds the index entries of documents to be inserted.
func (s *writeScratch) addDocs(c *Collection, docs []bson.Raw) error {
	for i, d := range docs {
		if err := s.addDoc(c, d, i, false); err != nil {
			return &DocError{i, err}
		}
	}
	return nil
}

// putAll stores documents under consecutive RecordIds, with their index entries.
func (s *writeScratch) putAll(c *Collection, u *storage.RecoveryUnit, docs []bson.Raw, first storage.RecordID) (size int64) {
	for i, d := range docs {
		c.store.PutNew(u, first+storage.RecordID(i), d)
		size += int64(len(d))
	}
	for i := range s.ops {
		if op := &s.ops[i]; op.doc >= 0 {
			s.performNew(u, op, first+storage.RecordID(op.doc))
		}
	}
	s.performMultikey(u)
	return size
}

// Update replaces the document of record id, whose latch w holds and which is old,
// by new. o is the entry's o: {$v: 2, diff} or the whole new document.
func (c *Collection) Update(ctx context.Context, w *oplog.WriteUnit, id storage.RecordID, old, new, o bson.Raw, info *WriteInfo) error {
	return c.update(ctx, w, id, old, new, o, info, nil)
}

func (c *Collection) update(ctx context.Context, w *oplog.WriteUnit, id storage.RecordID, old, new, o bson.Raw, info *WriteInfo, r *replayWrite) error {
	if c.IsOplog() {
		return mongoerr.New(mongoerr.InvalidNamespace, "cannot write to '%s'", c.NS)
	}
	s := getScratch()
	defer s.put()
	if r != nil {
		s.relaxed = r.relaxed
	}
	if err := s.addChange(c, old, new); err != nil {
		return err
	}
	if err := s.lockUnique(ctx, w.RU); err != nil {
		return err
	}
	if err := s.checkUnique(c, w.RU, id, false); err != nil {
		return unwrapDoc(err)
	}
	s.replace(c, w.RU, id, new)
	if len(old) != len(new) {
		c.noteFor(r, w, delta{0, int64(len(new) - len(old))})
	}
	return c.logUpdate(w, old, new, o, info)
}

// addChange adds what has to be removed from and put into the indexes when old
// becomes new.
func (s *writeScratch) addChange(c *Collection, old, new bson.Raw) error {
	for _, ix := range c.indexes {
		if ix.partial == nil && ix.fields.unchanged(old, new) {
			continue
		}
		from := len(s.ops)
		if err := s.addKeys(ix, old, 0, true); err != nil {
			return err
		}
		mid := len(s.ops)
		if err := s.addKeys(ix, new, 0, false); err != nil {
			return err
		}
		s.dropCommon(from, mid)
	}
	return nil
}

// dropCommon drops removals in ops[from:mid] and puts in ops[mid:] of the same key;
// a put stays if the type bits differ. Both lists are sorted by key.
func (s *writeScratch) dropCommon(from, mid int) {
	removed, added := s.ops[from:mid:mid], s.ops[mid:]
	var keep []entryOp
	i, j := 0, 0
	for i < len(removed) && j < len(added) {
		switch c := bytes.Compare(s.keys.key(removed[i].span), s.keys.key(added[j].span)); {
		case c < 0:
			keep = append(keep, removed[i])
			i++
		case c > 0:
			keep = append(keep, added[j])
			j++
		default:
			if !bytes.Equal(s.keys.bits(removed[i].span), s.keys.bits(added[j].span)) {
				keep = append(keep, added[j])
			}
			i++
			j++
		}
	}
	keep = append(append(keep, removed[i:]...), added[j:]...)
	s.ops = append(s.ops[:from], keep...)
}

func (s *writeScratch) replace(c *Collection, u *storage.RecoveryUnit, id storage.RecordID, doc bson.Raw) {
	c.store.Put(u, id, doc)
	for i := range s.ops {
		s.perform(u, &s.ops[i], id)
	}
	s.performMultikey(u)
}

// Delete removes the document of record id, whose latch w holds and which is old.
func (c *Collection) Delete(ctx context.Context, w *oplog.WriteUnit, id storage.RecordID, old bson.Raw, info *WriteInfo) error {
	return c.delete(ctx, w, id, old, info, nil)
}

func (c *Collection) delete(ctx context.Context, w *oplog.WriteUnit, id storage.RecordID, old bson.Raw, info *WriteInfo, r *replayWrite) error {
	if c.IsOplog() {
		return mongoerr.New(mongoerr.InvalidNamespace, "cannot write to '%s'", c.NS)
	}
	s := getScratch()
	defer s.put()
	if err := s.addDoc(c, old, 0, true); err != nil {
		return err
	}
	if err := s.lockUnique(ctx, w.RU); err != nil {
		return err
	}
	s.remove(c, w.RU, id)
	c.noteFor(r, w, delta{-1, -int64(len(old))})
	return c.logDelete(w, old, info)
}

func (s *writeScratch) remove(c *Collection, u *storage.RecoveryUnit, id storage.RecordID) {
	c.store.Delete(u, id)
	for i := range s.ops {
		s.perform(u, &s.ops[i], id)
	}
}

func unwrapDoc(err error) error {
	if d := (*DocError)(nil); errors.As(err, &d) {
		return d.Err
	}
	return err
}

// duplicateKey is MongoDB's error for a key that is there already.
func duplicateKey(c *Collection, ix *Index, key, typeBits []byte) error {
	v, err := ix.decodeKey(key, typeBits)
	if err != nil {
		return err
	}
	if col := ix.Spec.Collation; col != nil {
		return mongoerr.New(mongoerr.DuplicateKey, "E11000 duplicate key error collection: %s index: %s collation: %s dup key: %s", c.NS, ix.Spec.Name, col.Spec(), v).
			WithExtra(bson.D("keyPattern", ix.Spec.Key, "keyValue", v, "collation", col.Spec()))
	}
	return mongoerr.New(mongoerr.DuplicateKey, "E11000 duplicate key error collection: %s index: %s dup key: %s", c.NS, ix.Spec.Name, v).
		WithExtra(bson.D("keyPattern", ix.Spec.Key, "keyValue", v))
}
