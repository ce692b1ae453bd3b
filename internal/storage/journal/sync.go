package journal

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// preallocateBelow is the size of a sync's own writes above which nothing is
// written ahead: a bulk load fills the space itself.
const preallocateBelow = 64 << 10

// syncer makes concurrent callers share fsyncs.
type syncer struct {
	mu struct {
		sync.Mutex
		running chan struct{} // closed at the end of the round under way; nil if none
	}
	waiting atomic.Int64 // calls that wait
	// The leader's own.
	last int64         // calls that the last round was for
	took time.Duration // what a round takes, a moving average
}

// How a leader lets others join its round. Where the disk is the limit there are enough of them
// when the round before ends; where the processors are, a sync takes as long as a few requests,
// and each is worth more when it waits for some of them.
const (
	gatherFrom  = 6                      // waiters in the last round: with fewer nobody waits
	gatherEnd   = 28                     // waiters that are enough
	gatherSlice = 80 * time.Microsecond  // nobody came for so long: nobody comes
	gatherMax   = 600 * time.Microsecond // and never longer than a round takes
)

// gather returns when it is time for the round that the caller leads.
func (j *Journal) gather() {
	s := &j.sync
	// Whoever is ready to append does so first and shares this sync: on a busy machine a
	// quarter more of them, on an idle one nobody waits.
	runtime.Gosched()
	n := s.waiting.Load()
	if s.last >= gatherFrom && n < gatherEnd {
		limit := min(s.took, gatherMax)
		timer := time.NewTimer(gatherSlice)
		defer timer.Stop()
		for begin := time.Now(); ; timer.Reset(gatherSlice) {
			<-timer.C
			before := n
			if n = s.waiting.Load(); n <= before || n >= gatherEnd || time.Since(begin) >= limit {
				break
			}
		}
	}
	s.last = n
}

// begin makes the caller the leader of a round, or returns the channel that
// ends the round under way.
func (s *syncer) begin() (leader bool, running chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.running != nil {
		return false, s.mu.running
	}
	s.mu.running = make(chan struct{})
	return true, nil
}

func (s *syncer) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.mu.running)
	s.mu.running = nil
}

// waitIdle returns when no round is under way.
func (s *syncer) waitIdle() {
	s.mu.Lock()
	ch := s.mu.running
	s.mu.Unlock()
	if ch != nil {
		<-ch
	}
}

// SyncTo returns when everything before p is durable. Concurrent callers share
// one fsync: the first leads, the others wait for its end, and whoever it did
// not cover starts the next.
func (j *Journal) SyncTo(p Pos) error { return j.SyncWait(context.Background(), p) }

// SyncWait is SyncTo for a caller who may give up waiting for the others.
func (j *Journal) SyncWait(ctx context.Context, p Pos) error {
	counted := false
	for {
		if j.durable.Load().Pos >= p {
			return nil
		}
		if err := j.checkSync(p); err != nil {
			return err
		}
		if !counted {
			j.stats.syncWaits.Add(1)
			j.sync.waiting.Add(1)
			defer j.sync.waiting.Add(-1)
			counted = true
		}
		leader, running := j.sync.begin()
		if leader {
			// The round that was under way may have covered p in between.
			if j.durable.Load().Pos < p {
				j.gather()
				j.syncRound()
			}
			j.sync.end()
			continue
		}
		select {
		case <-running:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (j *Journal) checkSync(p Pos) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mu.err != nil {
		return j.mu.err
	}
	if p > j.mu.appended.Pos {
		return fmt.Errorf("journal: sync to %d, only %d was appended", p, j.mu.appended.Pos)
	}
	return nil
}

// syncRound writes and syncs all that is appended and moves Durable there.
// Only a leader calls it.
func (j *Journal) syncRound() {
	j.wmu.Lock()
	mark, err := j.flushLocked()
	if err != nil {
		j.wmu.Unlock()
		return
	}
	j.preallocateLocked(mark)
	dirty, dirDirty := j.wmu.dirty, j.wmu.dirDirty
	j.wmu.dirty, j.wmu.dirDirty = nil, false
	done := make([]*segment, 0, 1)
	for _, seg := range dirty {
		seg.dirty = false
		if seg.sealed {
			done = append(done, seg)
		}
	}
	j.wmu.Unlock()

	start := time.Now()
	for _, seg := range dirty {
		if err := seg.file.SyncData(); err != nil {
			j.poison(fmt.Errorf("journal: sync %s: %w", seg.path, err))
			return
		}
	}
	if dirDirty {
		if err := j.dir.Sync(); err != nil {
			j.poison(fmt.Errorf("journal: sync %s: %w", j.opt.Dir, err))
			return
		}
	}
	j.stats.syncs.Add(1)
	took := time.Since(start)
	j.stats.syncNanos.Add(uint64(took))
	j.sync.took += (took - j.sync.took) / 8
	j.durable.Store(&mark)
	j.closeSealed(done)
}

// closeSealed gives up the write handles of segments that are whole on disk and
// writes their side files. A segment whose handle is open is not truncated, so
// none is made for one that is gone.
func (j *Journal) closeSealed(segs []*segment) {
	for _, seg := range segs {
		j.saveSparse(seg)
		j.closeFile(seg)
	}
}

func (j *Journal) closeFile(seg *segment) {
	j.wmu.Lock()
	defer j.wmu.Unlock()
	if seg.file != nil && !seg.dirty {
		// All is synced, so a failed close loses nothing.
		_ = seg.file.Close()
		seg.file = nil
	}
}

// preallocateLocked needs wmu. It writes zeros behind the end, so that the
// following small syncs find allocated blocks and an unchanged file size: about
// 40 % cheaper on ext4 (BenchmarkSync). Zeros are no record, so they may
// survive a crash or not. A failure is left to the next real write to meet.
func (j *Journal) preallocateLocked(mark Mark) {
	if j.opt.Preallocate <= 0 || len(j.wmu.dirty) != 1 {
		return
	}
	seg := j.wmu.dirty[0]
	if seg.sealed || mark.Pos-j.durable.Load().Pos > preallocateBelow {
		return
	}
	end := seg.offset(seg.written)
	if seg.zeroed-end >= preallocateBelow {
		return
	}
	from := max(seg.zeroed, end)
	to := min(from+j.opt.Preallocate, segmentHeaderLen+j.opt.SegmentSize)
	if to <= from {
		return
	}
	if j.wmu.zeros == nil {
		j.wmu.zeros = make([]byte, j.opt.Preallocate)
	}
	if _, err := seg.file.WriteAt(j.wmu.zeros[:to-from], from); err == nil {
		seg.zeroed = to
	}
}

// WaitDurable returns when the record of the given index is durable. If it is
// not appended yet it waits for that, and then syncs at once.
func (j *Journal) WaitDurable(ctx context.Context, index uint64) error {
	for {
		if j.durable.Load().Index >= index {
			return nil
		}
		j.mu.Lock()
		if err := j.mu.err; err != nil {
			j.mu.Unlock()
			return err
		}
		if m := j.mu.appended; m.Index >= index {
			j.mu.Unlock()
			if err := j.SyncWait(ctx, m.Pos); err != nil {
				return err
			}
			continue
		}
		if j.mu.notify == nil {
			j.mu.notify = make(chan struct{})
		}
		ch := j.mu.notify
		j.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
