package catalog

import (
	"fmt"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/storage"
)

// PutDerived stores a document that follows from the entries of other collections and
// therefore has none of its own: an observer's record of a session, say. It takes the
// place of record at (whose document has oldLen bytes and the same _id), or is a new one
// if at is 0, and is then the only one with its _id, which is the caller's duty. u is a
// unit whose turn has come (OnStamp) or that recovery applies (OnApply): so RecordIds come
// out in the order of the log. The collection has no index but the one on _id.
func (c *Collection) PutDerived(u *storage.RecoveryUnit, at storage.RecordID, oldLen int, doc bson.Raw) (storage.RecordID, error) {
	if len(c.indexes) != 1 || c.Options.Capped {
		return 0, fmt.Errorf("catalog: derived document in %s: %w", c.NS, mongoerr.New(mongoerr.IllegalOperation, "the collection is capped or has more indexes than the one on _id"))
	}
	d := delta{0, int64(len(doc) - oldLen)}
	if at == 0 {
		rid, err := c.shared.rids.take(c.store, c.cat.eng, 1)
		if err != nil {
			return 0, err
		}
		s := getScratch()
		defer s.put()
		if err := s.addDoc(c, doc, 0, false); err != nil {
			return 0, err
		}
		if err := s.noteIDs(c); err != nil {
			return 0, err
		}
		for i := range s.ops {
			s.perform(u, &s.ops[i], rid)
		}
		at, d.count = rid, 1
	}
	c.store.Put(u, at, doc)
	if d == (delta{}) {
		return at, nil
	}
	c.count(u, d)
	u.RegisterChange(nil, func() {
		c.shared.stats.count.Add(-d.count)
		c.shared.stats.size.Add(-d.size)
	})
	return at, nil
}
