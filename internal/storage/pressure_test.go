package storage

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPressure: compactions wait while much is written or an index is built, but not when
// L0 is deep or large, nor when somebody asked for them.
func TestPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pressure{most: 1000}
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
	})
}

// TestHeldCompactionsRun: what waited in a burst is done behind it, without anybody asking.
func TestHeldCompactionsRun(t *testing.T) {
	n := memNode(t)
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
