package storage

import (
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// settler uses an idle moment to merge what was written last into what lies below, all of it:
// after that a scan steps through one run instead of merging a memtable and some runs, which
// takes half as long again. Pebble by itself leaves up to four runs on top for as long as
// nobody writes more.
type settler struct {
	e       *Engine
	settled int64 // what pressure.written was when the last one began
	passed  int64 // what it was when the store was too large for it
	idle    int   // looks in a row that found the process idle
	cpu     time.Duration
}

const (
	// settleEvery is the pause between two looks, settleIdle how many of them in a row must
	// have found the process idle: less than settleCPU of a processor's time used.
	settleEvery = 100 * time.Millisecond
	settleIdle  = 5
	settleCPU   = 4 * time.Millisecond
	// settleLeast is how much must have been written, settleTimes how many times that the tables
	// may have and settleMost how much at all: the work is in proportion to what was written, and
	// some seconds of one processor at most. Larger stores are left to Pebble.
	settleLeast = 1 << 20
	settleTimes = 8
	settleMost  = 1 << 30
)

func (s *settler) init(e *Engine) {
	s.e = e
	s.settled = e.pressure.written.Load()
	if e.opts.ReadOnly || e.opts.NoSettle {
		return
	}
	if _, ok := processTime(); !ok {
		return
	}
	e.wg.Go(s.loop)
}

func (s *settler) loop() {
	t := time.NewTicker(settleEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-s.e.fail.failed:
			return
		case <-s.e.quit:
			return
		}
		if s.due() {
			s.run()
		}
	}
}

// due reports whether there is something to do and nothing else is done.
func (s *settler) due() bool {
	if w := s.e.pressure.written.Load(); w-s.settled < settleLeast || w == s.passed {
		s.idle = 0
		return false
	}
	cpu, _ := processTime()
	if cpu-s.cpu < settleCPU {
		s.idle++
	} else {
		s.idle = 0
	}
	s.cpu = cpu
	return s.idle >= settleIdle
}

// run merges everything, if that is in proportion.
func (s *settler) run() {
	e := s.e
	s.idle = 0
	m := e.db.Metrics()
	if m.Compact.NumInProgress > 0 || m.Flush.NumInProgress > 0 || e.pressure.loads.Load() > 0 {
		return
	}
	size := int64(0)
	for i := range m.Levels {
		size += m.Levels[i].TablesSize
	}
	written := e.pressure.written.Load()
	if size > settleMost || size > settleTimes*(written-s.settled) {
		s.passed = written
		return
	}
	s.settled = written
	if err := s.merge(); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrClosed) && e.fail.err() == nil {
		e.log.Warn("merging tables in an idle moment", "err", err.Error())
	}
}

func (s *settler) merge() error {
	e := s.e
	if err := e.flush(); err != nil {
		return err
	}
	e.pressure.urgent.Add(1) // what a burst has left waits no longer: this is the idle moment
	defer e.pressure.urgent.Add(-1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.compactAll(ctx) }()
	select {
	case err := <-done:
		return err
	case <-e.quit:
	case <-e.fail.failed:
	}
	cancel()
	return <-done
}

// compactAll merges all tables. What has begun when ctx ends goes on.
func (e *Engine) compactAll(ctx context.Context) error {
	it, err := e.db.NewIter(&pebble.IterOptions{KeyTypes: pebble.IterKeyTypePointsOnly})
	if err != nil {
		return convErr(err)
	}
	var first, last []byte
	if it.First() {
		first = append(first, it.Key()...)
	}
	if it.Last() {
		last = append(append(last, it.Key()...), 0)
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil || first == nil {
		return convErr(err)
	}
	return convErr(e.db.Compact(ctx, first, last, false))
}
