package oplog

import (
	"errors"
	"log/slog"
	"sync"
	"time"
)

// NoopInterval is how often MongoDB's periodic no-op comes.
const NoopInterval = 10 * time.Second

// NoopWriter writes an entry that says nothing when nothing else was written
// for some time: ts goes on, so that readers that wait for a time, and those
// that measure how far they are behind, are answered.
type NoopWriter struct {
	quit chan struct{}
	wg   sync.WaitGroup
}

// StartNoops starts the periodic no-op; interval 0 is NoopInterval. Stop it
// before the committer is closed.
func (s *Sequencer) StartNoops(interval time.Duration) *NoopWriter {
	if interval <= 0 {
		interval = NoopInterval
	}
	n := &NoopWriter{quit: make(chan struct{})}
	n.wg.Go(func() { n.run(s, interval, s.opt.Logger) })
	return n
}

// Stop returns when the writer has ended.
func (n *NoopWriter) Stop() {
	close(n.quit)
	n.wg.Wait()
}

func (n *NoopWriter) run(s *Sequencer, interval time.Duration, log *slog.Logger) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	last := s.LastApplied()
	for {
		select {
		case <-tick.C:
		case <-n.quit:
			return
		}
		if now := s.LastApplied(); now != last {
			last = now
			continue
		}
		f, err := s.WriteNoop(PeriodicNoop())
		if err != nil {
			if !errors.Is(err, ErrClosed) {
				log.Warn("periodic noop not written", "error", err)
			}
			return
		}
		last = f.OpTime
	}
}

// WriteNoop commits an entry that changes nothing, such as InitiatingSet.
func (s *Sequencer) WriteNoop(e Entry) (*Future, error) {
	w := NewWriteUnit(s.engine.NewRecoveryUnit(nil))
	w.Log(&e)
	return s.Commit(w)
}
