package storage

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestCheckpointDefaults(t *testing.T) {
	var o Options
	o.EnsureDefaults()
	if o.CheckpointBytes != 1<<30 || o.CheckpointInterval != time.Minute {
		t.Errorf("checkpoints every %d bytes or %v", o.CheckpointBytes, o.CheckpointInterval)
	}
}

// TestCheckpointByBytes: without a timer, a checkpoint begins when enough
// journal lies behind the last one; a crash replays no more than that and what
// came while it ran.
func TestCheckpointByBytes(t *testing.T) {
	const every = 64 << 10
	mem := vfs.NewCrashableMem()
	o := testOptions(mem)
	o.CheckpointBytes = every
	n := openNode(t, o)
	deadline := time.Now().Add(20 * time.Second)
	for i := range 60 {
		m := n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey(fmt.Sprint(i)), []byte(strings.Repeat("x", 8000))) })
		for uint64(m.Pos)-n.e.ckpt.flushed.Load() >= every {
			if time.Now().After(deadline) {
				t.Fatal("no checkpoint")
			}
			runtime.Gosched()
		}
	}
	got, most := n.e.Stats().Checkpoints, uint64(60*8100/every)
	if got == 0 || got > most {
		t.Errorf("%d checkpoints, want 1 to %d", got, most)
	}
	clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	n.e.Crash()
	st, _, _ := look(t, clone)
	if st.From.Index == 0 || st.Bytes > every {
		t.Errorf("a crash replays %d bytes from index %d", st.Bytes, st.From.Index)
	}
}
