package storage

import (
	"sync"
	"sync/atomic"
	"time"
)

// pressure lets compactions wait while writers are in a hurry. A compaction takes a
// processor that a burst of writes could use, and merging few runs often costs more than
// merging many of them once. So while much is written, or an index is built, none begins
// until L0 is deep or large; as soon as the burst is over all that wait are started, unless the
// processors are busy with point reads, which gain nothing by them.
type pressure struct {
	// written is counted by those who write: bytes.
	written atomic.Int64
	// loads are the bulk loads at work.
	loads atomic.Int32
	// urgent are those who wait for compactions.
	urgent  atomic.Int32
	cursors cursorUse
	// sublevels and bytes are those of L0, as the writers last saw it.
	sublevels atomic.Int32
	bytes     atomic.Int64
	// most is the size of L0 at which compactions wait no longer.
	most int64

	mu    sync.Mutex
	at    time.Time // of the last look at written
	last  int64     // what it was
	seen  uint64    // cursors.opened then
	hurry bool
	burst time.Time // when the last burst was seen
	meter busyMeter
}

const (
	// hurry is how many bytes a second are a burst.
	hurry = 20 << 20
	// busyHurry is that where no processor is idle and hardly anybody scans, so that what a
	// compaction takes is taken from the clients and a deep L0 hurts nobody; busyScans is how
	// many cursors a second are hardly any.
	busyHurry = 2 << 20
	busyScans = 100
	// behindBurst is how long what a burst has left waits for an idle processor, on the same terms.
	behindBurst = time.Minute
	// holdSublevels is the read amplification of L0 at which compactions wait no longer.
	holdSublevels = 8
	// hurryEvery is how often the rate of the writes is looked at.
	hurryEvery = 50 * time.Millisecond
	// holdMemTables is how many full memtables of data L0 has when compactions wait no longer.
	holdMemTables = 16
)

// hold reports whether compactions are to wait.
func (p *pressure) hold() bool {
	if p.urgent.Load() > 0 || p.sublevels.Load() >= holdSublevels || p.bytes.Load() >= p.most {
		return false
	}
	return p.hurried()
}

// hurried reports whether much was written since the last look or an index is built, or that was
// so a short while ago and no processor has been idle since.
func (p *pressure) hurried() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.loads.Load() > 0 {
		p.burst = now
		return true
	}
	if d := now.Sub(p.at); d >= hurryEvery {
		n, seen := p.written.Load(), p.cursors.opened.Load()
		least := float64(hurry)
		scans := p.cursors.open.Load() > 0 || float64(seen-p.seen) >= busyScans*d.Seconds()
		points := p.meter.look(now) && !scans
		if points {
			least = busyHurry
		}
		if p.hurry = float64(n-p.last) >= least*d.Seconds(); p.hurry {
			p.burst = now
		}
		p.hurry = p.hurry || points && now.Sub(p.burst) < behindBurst
		p.at, p.last, p.seen = now, n, seen
	}
	return p.hurry
}
