package storage

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// TestPressure: compactions wait while much is written or an index is built, but not when
// L0 is deep or large, nor when somebody asked for them.
func TestPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pressure{most: 1000}
		busy, idle, total := false, uint64(10), uint64(100)
		p.meter.times = func() (uint64, uint64, bool) {
			if total += 100; !busy {
				idle += 50
			}
			return idle, total, true
		}
		want := func(what string, hold bool) {
			t.Helper()
			if got := p.hold(); got != hold {
				t.Errorf("%s: compactions wait: %t", what, got)
			}
		}
		write := func(n int64) {
			p.written.Add(n)
			<-time.After(hurryEvery)
		}
		write(0)
		want("at rest", false)
		write(hurry)
		want("in a burst", true)
		p.sublevels.Store(holdSublevels)
		want("in a burst, L0 is deep", false)
		p.sublevels.Store(1)
		p.bytes.Store(1000)
		want("in a burst, L0 is large", false)
		p.bytes.Store(10)
		p.urgent.Add(1)
		want("in a burst, somebody waits", false)
		p.urgent.Add(-1)
		write(10)
		want("after the burst", false)
		p.loads.Add(1)
		want("during a bulk load", true)
		p.loads.Add(-1)

		// Where no processor is idle less is a burst, unless somebody scans.
		little := func() {
			<-time.After(busyEvery) // of which the meter tells
			p.hold()
			write(busyHurry / 10) // twice as much a second
		}
		little()
		want("little is written, processors are idle", false)
		busy = true
		little()
		want("little is written, processors are busy", true)
		p.cursors.open.Add(1)
		little()
		want("little is written, a cursor is open", false)
		p.cursors.open.Add(-1)
		p.cursors.opened.Add(busyScans)
		write(busyHurry / 10) // twice as much a second
		want("little is written, many cursors are opened", false)
		little()
		want("the scans are over", true)

		// What is left behind a burst waits for an idle processor, but not for ever.
		write(10)
		want("behind a burst, processors are busy", true)
		p.cursors.open.Add(1)
		write(10)
		want("behind a burst, a cursor is open", false)
		p.cursors.open.Add(-1)
		write(10)
		want("behind a burst, the scan is over", true)
		busy = false
		<-time.After(busyEvery)
		write(10)
		want("behind a burst, processors are idle again", false)
		busy = true
		<-time.After(busyEvery)
		write(10)
		want("behind a burst, processors are busy again", true)
		<-time.After(behindBurst)
		want("the burst is long over", false)
		p.loads.Add(1)
		want("during another bulk load", true)
		p.loads.Add(-1)
		write(10)
		want("behind a bulk load", true)
		busy = false
		<-time.After(busyEvery)
		little()
		want("processors are idle in the end", false)
	})
}

// TestProcessorTimes: the system counts on, and no more was idle than there was.
func TestProcessorTimes(t *testing.T) {
	idle, total, ok := processorTimes()
	if !ok {
		t.Skipf("%s does not say how busy its processors are", runtime.GOOS)
	}
	if idle > total || total == 0 {
		t.Errorf("%d of %d idle", idle, total)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		i, all, ok := processorTimes()
		if !ok || i < idle || all < total || i-idle > all-total {
			t.Fatalf("idle %d of %d, then %d of %d (%t)", idle, total, i, all, ok)
		}
		if all > total {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the count stands still")
		}
	}
}

// TestHeldCompactionsRun: what waited in a burst is done behind it, without anybody asking.
func TestHeldCompactionsRun(t *testing.T) {
	n := memNode(t)
	n.e.pressure.mu.Lock()
	n.e.pressure.meter.times = func() (uint64, uint64, bool) { return 0, 0, false } // idle: they would wait for that
	n.e.pressure.mu.Unlock()
	l := n.e.NewBulkLoader(testTable, 0) // holds them
	for i := range 6 {
		n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey("key"), []byte{byte(i)}) })
		if err := n.e.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if m := n.e.db.Metrics(); m.Levels[0].Sublevels < 6 {
		t.Fatalf("L0 was compacted during the load: %d sublevels", m.Levels[0].Sublevels)
	}
	again := n.e.progress.listen()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for n.e.db.Metrics().Levels[0].Sublevels > 1 {
		<-again
		again = n.e.progress.listen()
	}
}
