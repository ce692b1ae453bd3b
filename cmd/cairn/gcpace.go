package main

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// gcPercent is how much garbage a small heap may gather, in percent of what lives: nearly
	// all of a server's heap is blocks without pointers, which cost the collector nothing to
	// look at, so running often is cheaper than the garbage that would gather meanwhile.
	gcPercent = 50
	// gcSlack is how much a large heap may gather, in bytes, until gcLeastPercent is more:
	// of a cache of 4 GB gcPercent would let 2 GB of garbage gather.
	gcSlack        = 48 << 20
	gcLeastPercent = 5
	// gcLook is the pause between two looks at what lives.
	gcLook = 100 * time.Millisecond
)

// gcPace keeps the garbage that gathers between two collections near gcSlack.
type gcPace struct {
	sample  [1]metrics.Sample
	percent int
}

func newGCPace() *gcPace {
	p := &gcPace{percent: gcPercent}
	p.sample[0].Name = "/gc/heap/live:bytes"
	debug.SetGCPercent(gcPercent)
	return p
}

// run follows what lives until done is closed.
func (p *gcPace) run(done <-chan struct{}) {
	tick := time.NewTicker(gcLook)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			p.adjust()
		}
	}
}

func (p *gcPace) adjust() {
	metrics.Read(p.sample[:])
	want := gcPercentFor(p.sample[0].Value.Uint64())
	// Setting it stops all goroutines for a moment: not for a small change.
	if diff := want - p.percent; diff*8 > p.percent || -diff*8 > p.percent {
		debug.SetGCPercent(want)
		p.percent = want
	}
}

// gcPercentFor returns the target for a heap of which live bytes live.
func gcPercentFor(live uint64) int {
	if live == 0 {
		return gcPercent
	}
	return int(max(min(gcPercent, gcSlack*100/live), gcLeastPercent))
}
