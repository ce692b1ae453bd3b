package oplog

import (
	"context"
	"sync"

	"github.com/cairndb/cairn/internal/storage/journal"
)

// visible is the end of what is applied: everything before it can be read, and
// nothing behind it. It moves in the order of the log, without holes.
type visible struct {
	mu struct {
		sync.Mutex
		mark   journal.Mark
		optime OpTime
		closed bool
		notify chan struct{} // closed at the next move; nil if nobody waits
	}
}

func (v *visible) publish(m journal.Mark, t OpTime) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.mark, v.mu.optime = m, t
	v.wakeLocked()
}

func (v *visible) wakeLocked() {
	if v.mu.notify != nil {
		close(v.mu.notify)
		v.mu.notify = nil
	}
}

func (v *visible) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.closed = true
	v.wakeLocked()
}

func (v *visible) mark() journal.Mark {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.mark
}

func (v *visible) opTime() OpTime {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.optime
}

// wait returns when the entry of the given index is visible.
func (v *visible) wait(ctx context.Context, index uint64) error {
	for {
		v.mu.Lock()
		if v.mu.mark.Index >= index {
			v.mu.Unlock()
			return nil
		}
		if v.mu.closed {
			v.mu.Unlock()
			return ErrClosed
		}
		if v.mu.notify == nil {
			v.mu.notify = make(chan struct{})
		}
		ch := v.mu.notify
		v.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// LastApplied is the newest entry that is applied and visible.
func (s *Sequencer) LastApplied() OpTime { return s.visible.opTime() }

// LastDurable is the newest entry that survives a crash.
func (s *Sequencer) LastDurable() OpTime {
	d := s.j.Durable()
	if a := s.visible.opTime(); uint64(a.TS) <= d.TS {
		return a
	}
	return OpTime{Timestamp(d.TS), s.term.Load()}
}

// VisibleIndex is the index of the newest visible entry.
func (s *Sequencer) VisibleIndex() uint64 { return s.visible.mark().Index }

// WaitVisible returns when the entry of the given index is visible.
func (s *Sequencer) WaitVisible(ctx context.Context, index uint64) error {
	return s.visible.wait(ctx, index)
}

// Sync makes everything durable that is applied at the call.
func (s *Sequencer) Sync(ctx context.Context) error {
	return s.j.SyncWait(ctx, s.visible.mark().Pos)
}
