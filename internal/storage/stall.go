package storage

import "sync/atomic"

// stall slows writers down while flushes and compactions are behind. Pebble
// would block inside its commit pipeline, where neither a failed store nor
// Close can reach a writer; so its thresholds are out of reach and the same
// rule is kept here, outside.
type stall struct {
	e         *Engine
	unchecked atomic.Int64 // bytes since the last look at the metrics
	lastPos   Pos          // sequencer only
	memLimit  uint64
	stalls    atomic.Uint64
}

const (
	// stallCheckBytes is how much is written between two looks at the metrics.
	stallCheckBytes = 1 << 20
	// stallSublevels is the L0 read amplification at which writers wait.
	stallSublevels = 20
	// bulkSublevels is that for bulk loads, which leave room for the others.
	bulkSublevels = 12
)

func (s *stall) init(e *Engine) {
	s.e = e
	s.lastPos = e.Applied().Pos
	s.memLimit = 4 * uint64(e.opts.MemTableBytes)
}

// wait is called by the sequencer before a batch of sets that ends at pos. An update is small
// in the journal and a whole document in the engine.
func (s *stall) wait(pos Pos, sets []*WriteSet) {
	size := 0
	for _, w := range sets {
		if w != nil {
			size += w.Size()
		}
	}
	n := max(int64(pos-s.lastPos), int64(size))
	s.lastPos = pos
	s.charge(n, s.memLimit, stallSublevels)
}

// waitBulk is called before an unlogged batch of n bytes.
func (s *stall) waitBulk(n int) { s.charge(int64(n), s.memLimit/2, bulkSublevels) }

func (s *stall) charge(n int64, mem uint64, sublevels int32) {
	s.e.pressure.written.Add(n)
	if s.unchecked.Add(n) < stallCheckBytes {
		return
	}
	s.unchecked.Store(0)
	for waited := false; ; waited = true {
		again := s.e.progress.listen()
		m := s.e.db.Metrics()
		s.e.pressure.sublevels.Store(m.Levels[0].Sublevels)
		s.e.pressure.bytes.Store(m.Levels[0].TablesSize)
		if m.MemTable.Size <= mem && m.Levels[0].Sublevels <= sublevels {
			return
		}
		if !waited {
			s.stalls.Add(1)
		}
		select {
		case <-again:
		case <-s.e.fail.failed:
			return
		case <-s.e.quit:
			return
		}
	}
}
