package oplog

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/bson"
)

// background syncs what nobody waits for and keeps the ceiling ahead.
type background struct {
	pending atomic.Bool
	kick    chan struct{}
	quit    chan struct{}
	wg      sync.WaitGroup
}

// note has the journal synced within the commit interval.
func (b *background) note() {
	if b.pending.Load() || !b.pending.CompareAndSwap(false, true) {
		return
	}
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

func (s *Sequencer) startBackground() {
	s.bg.kick = make(chan struct{}, 1)
	s.bg.quit = make(chan struct{})
	s.bg.wg.Go(s.syncLoop)
}

// syncLoop sleeps while nothing is written.
func (s *Sequencer) syncLoop() {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-s.bg.kick:
		case <-s.bg.quit:
			return
		}
		timer.Reset(s.CommitInterval())
		select {
		case <-timer.C:
		case <-s.bg.quit:
			return
		}
		s.bg.pending.Store(false)
		if err := s.background(); err != nil {
			if !errors.Is(err, ErrClosed) {
				s.opt.Logger.Error("background sync of the journal failed", "error", err)
				s.engine.Fail(err)
			}
			return
		}
	}
}

// CommitInterval is the longest time that an applied unit stays unsynced when nobody
// waits for it.
func (s *Sequencer) CommitInterval() time.Duration { return time.Duration(s.interval.Load()) }

// SetCommitInterval changes it, from the next write on.
func (s *Sequencer) SetCommitInterval(d time.Duration) { s.interval.Store(int64(d)) }

func (s *Sequencer) background() error {
	end := s.j.Appended()
	if err := s.j.SyncTo(end.Pos); err != nil {
		return err
	}
	low := bson.NewTimestamp(Timestamp(end.TS).Seconds()+uint32(ceilingLow/time.Second), 0)
	if uint64(low) < s.ceiling.Load() {
		return nil
	}
	return s.raiseCeilingBehind()
}

// raiseCeilingBehind raises the ceiling through the queue, so that no
// committer waits for its sync.
func (s *Sequencer) raiseCeilingBehind() error {
	var c Timestamp
	w := NewWriteUnit(s.engine.NewRecoveryUnit(nil))
	w.LogLocal()
	w.OnSequence(func() error {
		c = s.ceilingFor(s.opt.Now())
		putState(w.RU, stateCeiling, uint64(c))
		return nil
	})
	f, err := s.Commit(w)
	if err != nil {
		return err
	}
	if err := s.j.SyncTo(f.pos); err != nil {
		return err
	}
	// A leader may have gone further meanwhile.
	for old := s.ceiling.Load(); old < uint64(c); old = s.ceiling.Load() {
		if s.ceiling.CompareAndSwap(old, uint64(c)) {
			break
		}
	}
	return nil
}

// Close persists the exact last ts, syncs the journal and stops. Commits that
// come later fail with ErrClosed.
func (s *Sequencer) Close() error {
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return nil
	}
	s.mu.closed = true
	s.mu.Unlock()
	close(s.bg.quit)
	s.bg.wg.Wait()

	w := NewWriteUnit(s.engine.NewRecoveryUnit(nil))
	w.LogLocal()
	w.OnSequence(func() error {
		// Nothing was admitted behind this unit, so no ts comes after.
		putState(w.RU, stateCeiling, uint64(s.lead.ts)+1)
		return nil
	})
	f, err := s.enqueue(w, true)
	if err == nil {
		err = s.j.SyncTo(f.pos)
	}
	s.visible.close()
	return err
}
