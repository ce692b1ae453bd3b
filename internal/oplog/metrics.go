package oplog

import (
	"sync/atomic"

	"github.com/cairndb/cairn/internal/storage/journal"
)

type metrics struct {
	groups, units, entries, locals, rollbacks, ceilingWaits atomic.Uint64
}

// Metrics are counters since the start, for serverStatus and the metrics page.
type Metrics struct {
	Groups       uint64 // appends to the journal; Units / Groups units share one
	Units        uint64 // committed
	Entries      uint64 // logged by them
	LocalUnits   uint64
	Rollbacks    uint64 // units that failed in the sequencer
	CeilingWaits uint64 // commits held up by a sync of the ts ceiling
	Journal      journal.Stats
}

// Metrics returns the counters.
func (s *Sequencer) Metrics() Metrics {
	m := &s.metrics
	return Metrics{
		Groups: m.groups.Load(), Units: m.units.Load(), Entries: m.entries.Load(), LocalUnits: m.locals.Load(),
		Rollbacks: m.rollbacks.Load(), CeilingWaits: m.ceilingWaits.Load(),
		Journal: s.j.Stats(),
	}
}

// AcksPerSync is how many waits for durability one fsync answered on average.
func (m *Metrics) AcksPerSync() float64 {
	if m.Journal.Syncs == 0 {
		return 0
	}
	return float64(m.Journal.SyncWaits) / float64(m.Journal.Syncs)
}
