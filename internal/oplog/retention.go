package oplog

import (
	"fmt"
	"slices"
	"time"

	"github.com/cairndb/cairn/internal/storage/journal"
)

// maxPins bounds how many may hold the log back at a time.
const maxPins = 256

// Pin keeps the entries from its ts on. Pins are bounded: one that holds back
// too much is broken and then keeps nothing.
type Pin struct {
	l      *Log
	owner  string
	since  time.Time
	ts     Timestamp
	broken bool
}

// PinStats describe a pin.
type PinStats struct {
	Owner  string
	TS     Timestamp
	Since  time.Time
	Broken bool
}

// Pin keeps the entries whose ts is not below ts until it is released. The
// owner's name is shown to the operator. The error is ErrPositionLost if that
// entry is already gone.
func (l *Log) Pin(owner string, ts Timestamp) (*Pin, error) {
	p := &Pin{l: l, owner: owner, since: l.opt.Now(), ts: ts}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.mu.pins) >= maxPins {
		return nil, fmt.Errorf("oplog: %d pins hold the log, the limit is reached", maxPins)
	}
	// Under the lock, which a truncation takes to decide.
	if first := l.j.First(); first.Index > 1 && uint64(ts) < first.TS || ts <= l.mu.cut {
		return nil, ErrPositionLost
	}
	l.mu.pins[p] = struct{}{}
	return p, nil
}

// Advance moves the pin forward; moving it back has no effect. The error is
// ErrPositionLost if the pin was broken.
func (p *Pin) Advance(ts Timestamp) error {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	if p.broken {
		return ErrPositionLost
	}
	p.ts = max(p.ts, ts)
	return nil
}

// Err is ErrPositionLost if the pin was broken.
func (p *Pin) Err() error { return p.Advance(0) }

// Release ends the pin. A second call does nothing.
func (p *Pin) Release() {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	delete(p.l.mu.pins, p)
}

// Pins lists what holds the log, oldest ts first.
func (l *Log) Pins() []PinStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]PinStats, 0, len(l.mu.pins))
	for p := range l.mu.pins {
		out = append(out, PinStats{p.owner, p.ts, p.since, p.broken})
	}
	slices.SortFunc(out, func(a, b PinStats) int {
		if a.TS < b.TS {
			return -1
		}
		return 1
	})
	return out
}

func (l *Log) truncateLoop() {
	t := time.NewTicker(l.opt.TruncateEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-l.quit:
			return
		}
		if err := l.Truncate(); err != nil {
			l.opt.Logger.Error("oplog truncation failed", "error", err)
		}
	}
}

// Truncate cuts off the front what need not be kept: segments that are beyond
// the size, older than the retention, flushed into the engine, and not pinned.
func (l *Log) Truncate() error {
	segs := l.j.Segments()
	l.mu.Lock()
	size := l.mu.size
	l.mu.Unlock()
	if len(segs) < 2 || l.j.Size()-segmentBytes(segs, 0) < size {
		return nil
	}
	flushed, err := l.s.engine.Checkpoint()
	if err != nil {
		return err
	}
	keep := l.keepFrom(segs, flushed.Pos)
	if keep == 0 {
		return nil
	}
	if err := l.j.TruncateFront(keep); err != nil {
		return err
	}
	l.opt.Logger.Debug("oplog truncated", "keep_from_index", keep, "size", l.j.Size())
	return nil
}

// segmentBytes is the size of a segment that is not the last.
func segmentBytes(segs []journal.Segment, i int) int64 {
	return int64(segs[i+1].Base - segs[i].Base)
}

// keepFrom is the first index that must be kept; 0: all of them.
func (l *Log) keepFrom(segs []journal.Segment, flushed journal.Pos) (keep uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := l.j.Size()
	oldest := int64(0)
	if l.mu.retention > 0 {
		oldest = l.opt.Now().Add(-l.mu.retention).Unix()
	}
	for i := 0; i+1 < len(segs); i++ {
		next := segs[i+1]
		size -= segmentBytes(segs, i)
		if size < l.mu.size || next.Base > flushed {
			break
		}
		if l.mu.retention > 0 && int64(Timestamp(next.PrevTS).Seconds()) >= oldest {
			break
		}
		if !l.unpinLocked(Timestamp(next.PrevTS), size) {
			break
		}
		keep = next.PrevIndex + 1
		l.mu.cut = max(l.mu.cut, Timestamp(next.PrevTS))
	}
	return keep
}

// unpinLocked reports whether entries up to ts may go as far as the pins are
// concerned. Pins that hold back more than they may are broken.
func (l *Log) unpinLocked(upTo Timestamp, size int64) bool {
	limit := l.opt.PinLimitBytes
	if limit <= 0 {
		limit = l.mu.size
	}
	for p := range l.mu.pins {
		if p.broken || p.ts > upTo {
			continue
		}
		if size < l.mu.size+limit {
			return false
		}
		p.broken = true
		l.opt.Logger.Warn("oplog pin broken: it held back too much", "owner", p.owner, "ts", uint64(p.ts), "since", p.since)
	}
	return true
}
