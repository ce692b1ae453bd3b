package storage

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// scheduler starts compactions up to the number that Pebble asks for, as its
// own default one does, but none once the store has failed: a compaction that
// cannot succeed would be tried again at once, for ever. And none while the
// writers are in a hurry, see pressure: then it looks again a little later.
type scheduler struct {
	failed <-chan struct{}
	hold   func() bool
	held   chan struct{} // one was told to wait
	db     pebble.DBForCompaction
	poke   chan struct{}
	stop   chan struct{}
	done   chan struct{}
	mu     struct {
		sync.Mutex
		running int
		stopped bool
	}
}

func newScheduler(failed <-chan struct{}, hold func() bool) *scheduler {
	return &scheduler{
		failed: failed, hold: hold, held: make(chan struct{}, 1), poke: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
}

// Register is called once by Pebble when it has opened.
func (s *scheduler) Register(_ int, db pebble.DBForCompaction) {
	s.db = db
	go s.loop()
}

// Unregister returns when nothing more will be granted.
func (s *scheduler) Unregister() {
	s.mu.Lock()
	stopped := s.mu.stopped
	s.mu.stopped = true
	s.mu.Unlock()
	if !stopped {
		close(s.stop)
	}
	<-s.done
}

// abandon is Unregister for a Pebble that failed to open: it may have registered.
func (s *scheduler) abandon() {
	if s.db != nil {
		s.Unregister()
	}
}

func (s *scheduler) hasFailed() bool {
	select {
	case <-s.failed:
		return true
	default:
		return false
	}
}

func (s *scheduler) reserve() bool {
	if s.hasFailed() {
		return false
	}
	if s.hold() {
		select {
		case s.held <- struct{}{}:
		default:
		}
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.stopped || s.mu.running >= s.db.GetAllowedWithoutPermission() {
		return false
	}
	s.mu.running++
	return true
}

func (s *scheduler) unreserve() {
	s.mu.Lock()
	s.mu.running--
	s.mu.Unlock()
}

// TrySchedule is Pebble asking for leave to start one now.
func (s *scheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	if !s.reserve() {
		return false, nil
	}
	return true, grant{s}
}

// UpdateGetAllowedWithoutPermission tells that more may be allowed than before.
func (s *scheduler) UpdateGetAllowedWithoutPermission() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

func (s *scheduler) loop() {
	defer close(s.done)
	var later <-chan time.Time
	for {
		select {
		case <-s.poke:
			s.grantWaiting()
		case <-s.held:
			if later == nil {
				later = time.After(hurryEvery)
			}
		case <-later:
			later = nil
			s.grantWaiting()
		case <-s.stop:
			return
		}
	}
}

func (s *scheduler) grantWaiting() {
	for s.reserve() {
		if waiting, _ := s.db.GetWaitingCompaction(); !waiting || !s.db.Schedule(grant{s}) {
			s.unreserve()
			return
		}
	}
}

// grant is the leave of one compaction.
type grant struct{ s *scheduler }

func (grant) Started()                                          {}
func (grant) MeasureCPU(pebble.CompactionGoroutineKind)         {}
func (grant) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// Done ends the compaction and lets the next one start.
func (g grant) Done() {
	g.s.unreserve()
	g.s.UpdateGetAllowedWithoutPermission()
}
