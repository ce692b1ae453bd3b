package catalog

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// counters are the number and the size of a collection's documents. They change when
// a unit's turn in the log comes, and are stored by that same unit: the stored value is
// exact for the journal prefix that any flush of the engine names, and recovery goes on
// from it.
type counters struct{ count, size atomic.Int64 }

// delta is what one write does to the counters.
type delta struct{ count, size int64 }

// note has the counters changed and stored by w.
func (c *Collection) note(w *oplog.WriteUnit, d delta) {
	done := false
	w.OnSequence(func() error {
		c.count(w.RU, d)
		done = true
		return nil
	})
	w.RU.RegisterChange(nil, func() {
		// The sequencer gave the unit up behind its turn.
		if done {
			c.shared.stats.count.Add(-d.count)
			c.shared.stats.size.Add(-d.size)
		}
	})
}

// count changes the counters at once and stores them in u: for units that are
// applied in the order of the log.
func (c *Collection) count(u *storage.RecoveryUnit, d delta) {
	s := &c.shared.stats
	count, size := s.count.Add(d.count), s.size.Add(d.size)
	var key [counterKeyLen]byte
	var val [16]byte
	binary.BigEndian.PutUint64(val[:], uint64(count))
	binary.BigEndian.PutUint64(val[8:], uint64(size))
	u.Set(appendCounterKey(key[:0], c.store.Table), val[:])
}
