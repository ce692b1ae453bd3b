package catalog

import (
	"context"
	"errors"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// cappedState belongs to the unit that holds the collection's capped latch.
//
// That latch is held from the choice of a RecordId until the unit is applied, so that
// documents become visible in the order of their RecordIds and a tailable cursor never
// skips one; it also makes the counters exact while a unit decides what to evict.
type cappedState struct {
	unit    *storage.RecoveryUnit
	pending delta            // what unit did so far, not in the counters yet
	oldest  storage.RecordID // no record has a lower id: saves walking over what was evicted
}

// victim is a document that makes room.
type victim struct {
	id  storage.RecordID
	doc bson.Raw
}

// insertCapped is Insert on a capped collection: the oldest documents go in the same
// unit, logged as deletes.
func (c *Collection) insertCapped(ctx context.Context, w *oplog.WriteUnit, docs []bson.Raw, info *WriteInfo) error {
	s := getScratch()
	defer s.put()
	if err := s.addDocs(c, docs); err != nil {
		return err
	}
	added := delta{count: int64(len(docs))}
	for i, d := range docs {
		if int64(len(d)) > c.Options.Size {
			return &DocError{i, mongoerr.New(mongoerr.BadValue, "object to insert exceeds cappedMaxSize")}
		}
		added.size += int64(len(d))
	}
	// Latches: the collection's, then the victims', then the unique keys of both. Nobody
	// who holds a record of this collection waits for the first two.
	if err := w.RU.Lock(ctx, c.store.AppendPrefix(nil)); err != nil {
		return err
	}
	st := &c.shared.capped
	if st.unit != w.RU {
		st.unit, st.pending = w.RU, delta{}
	}
	victims, err := c.lockVictims(ctx, w, added)
	if err != nil {
		return err
	}
	for i, v := range victims {
		if err := s.addDoc(c, v.doc, -1-i, true); err != nil {
			return err
		}
	}
	if err := s.lockUnique(ctx, w.RU); err != nil {
		return err
	}
	if err := s.checkUnique(c, w.RU, 0, len(docs) > 1); err != nil {
		return err
	}
	first, err := c.shared.rids.take(c.store, c.cat.eng, len(docs))
	if err != nil {
		return err
	}
	s.putAll(c, w.RU, docs, first)
	c.noteCapped(w, added)
	if err := c.logInserts(w, docs, first, info); err != nil {
		return err
	}
	for i := range s.ops {
		if op := &s.ops[i]; op.doc < 0 {
			s.perform(w.RU, op, victims[-1-op.doc].id)
		}
	}
	for _, v := range victims {
		if err := c.evicted(w, v, info); err != nil {
			return err
		}
	}
	return c.evictOwn(ctx, w, docs, first, info)
}

// noteCapped is note that also keeps the unit's own account.
func (c *Collection) noteCapped(w *oplog.WriteUnit, d delta) {
	st := &c.shared.capped
	st.pending.count += d.count
	st.pending.size += d.size
	c.note(w, d)
	w.RU.RegisterChange(nil, func() {
		st.pending.count -= d.count
		st.pending.size -= d.size
	})
}

// full reports whether the collection is beyond its limits with d more.
func (c *Collection) full(d delta) bool {
	p := c.shared.capped.pending
	return c.DataSize()+p.size+d.size > c.Options.Size ||
		(c.Options.Max > 0 && c.Count()+p.count+d.count > c.Options.Max)
}

// lockVictims chooses the oldest records that must go to make room for added, and
// takes their latches. It stops where the collection is empty.
func (c *Collection) lockVictims(ctx context.Context, w *oplog.WriteUnit, added delta) ([]victim, error) {
	var victims []victim
	from := c.shared.capped.oldest
	for c.full(added) {
		cur := c.store.CursorRange(w.RU, storage.Forward, from, 0)
		found := cur.Next()
		id := cur.RecordID()
		if err := errors.Join(cur.Err(), cur.Close()); err != nil {
			return nil, err
		}
		if !found {
			break
		}
		from = id + 1
		if err := w.RU.Lock(ctx, c.store.LatchKey(id)); err != nil {
			return nil, err
		}
		doc, err := c.store.Get(w.RU, id, nil)
		if errors.Is(err, storage.ErrNotFound) {
			continue // deleted while we waited for its latch
		}
		if err != nil {
			return nil, err
		}
		victims = append(victims, victim{id, doc})
		added.count--
		added.size -= int64(len(doc))
	}
	return victims, nil
}

// evicted deletes the record of v, whose index entries are gone already.
func (c *Collection) evicted(w *oplog.WriteUnit, v victim, info *WriteInfo) error {
	c.store.Delete(w.RU, v.id)
	c.noteCapped(w, delta{-1, -int64(len(v.doc))})
	w.RU.RegisterChange(func() { c.shared.capped.oldest = v.id + 1 }, nil)
	var own *WriteInfo // an eviction is no statement of the session
	if info != nil {
		own = &WriteInfo{FromMigrate: info.FromMigrate}
	}
	return c.logDelete(w, v.doc, own)
}

// evictOwn evicts documents of this very call: when a batch is larger than the collection.
func (c *Collection) evictOwn(_ context.Context, w *oplog.WriteUnit, docs []bson.Raw, first storage.RecordID, info *WriteInfo) error {
	for i := 0; i < len(docs)-1 && c.full(delta{}); i++ {
		s := getScratch()
		v := victim{first + storage.RecordID(i), docs[i]}
		err := s.addDoc(c, v.doc, 0, true) // its unique keys are latched already
		if err == nil {
			for j := range s.ops {
				s.perform(w.RU, &s.ops[j], v.id)
			}
			err = c.evicted(w, v, info)
		}
		s.put()
		if err != nil {
			return err
		}
	}
	return nil
}
