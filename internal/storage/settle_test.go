package storage

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestSettle: in an idle moment what was written lately is merged into one run, once, whatever
// was updated and deleted; a store that says no is left as it is, and one that closes or fails
// meanwhile ends.
func TestSettle(t *testing.T) {
	write := func(n *node, from, to int) {
		t.Helper()
		table := RecordStore{Table{SpaceReplicated, FirstIdent}}
		for i := from; i < to; i++ {
			if _, err := n.commit(func(u *RecoveryUnit) {
				for id := RecordID(1); id <= 100; id++ {
					if (int(id)+i)%7 == 0 {
						table.Delete(u, id)
					} else {
						table.Put(u, id, bytes.Repeat([]byte{byte(i)}, 1000))
					}
				}
			}); err != nil {
				t.Fatal(err)
			}
			if i%5 == 4 {
				if err := n.e.Flush(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	settled := func(n *node) bool {
		s := n.e.Stats()
		return s.L0Files == 0 && s.CompactionsNow == 0 && s.ReadAmp <= 1
	}
	o := testOptions(vfs.NewMem())
	o.NoSettle = false
	n := openNode(t, o)
	for _, from := range []int{0, 30} { // a second time too
		write(n, from, from+29)
		tick := time.NewTicker(20 * time.Millisecond)
		for end := time.Now().Add(time.Minute); !settled(n); <-tick.C {
			if time.Now().After(end) {
				t.Fatalf("it is not merged: %s", n.e.Describe())
			}
		}
		tick.Stop()
		table := RecordStore{Table{SpaceReplicated, FirstIdent}}
		for id := RecordID(1); id <= 100; id++ {
			v, err := table.Get(n.e, id, nil)
			if last := from + 28; (int(id)+last)%7 == 0 != (err != nil) || (err == nil && v[0] != byte(last)) {
				t.Fatalf("record %d: %v %v", id, v, err)
			}
		}
	}
	due := func(written, passed int64) (yes bool) {
		now := n.e.pressure.written.Load()
		s := settler{e: n.e, settled: now - written, passed: now - passed}
		for range settleIdle + 1 { // the first look finds what was used before
			yes = s.due()
		}
		return yes
	}
	if due(settleLeast-1, 1) || due(settleLeast, 0) || !due(settleLeast, 1) {
		t.Error("due is wrong at its bounds")
	}
	write(n, 60, 85)
	if err := n.e.Close(); err != nil { // whatever it was at
		t.Error(err)
	}
	n = openNode(t, o)
	write(n, 85, 110)
	n.e.Fail(fmt.Errorf("the test"))
	if err := n.e.Close(); err == nil {
		t.Error("a failed store closes without its error")
	}
}
