package oplog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/cairndb/cairn/internal/storage"
)

// pointRig runs one writer and takes crash clones at the file operations of one
// point of the write path. The writer inserts documents 1, 2, 3 and so on, an
// entry each.
type pointRig struct {
	mem *vfs.MemFS
	now time.Time // the wall clock; the writer's

	mu        sync.Mutex
	rng       *rand.Rand
	match     func(errorfs.Op) bool
	committed int64     // newest document of which somebody was told
	acked     int64     // newest one known to be journaled
	given     Timestamp // newest ts of which somebody was told
	clones    []pointClone
}

type pointClone struct {
	fs               *vfs.MemFS
	committed, acked int64
	given            Timestamp
	what             string
}

func (r *pointRig) onOp(op errorfs.Op) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead || !r.match(op) || r.committed == 0 || len(r.clones) >= 60 {
		return nil
	}
	r.clones = append(r.clones, pointClone{
		fs:        r.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[r.rng.IntN(3)], RNG: r.rng}),
		committed: r.committed, acked: r.acked, given: r.given,
		what: fmt.Sprintf("operation %d on %s behind document %d", op.Kind, op.Path, r.committed),
	})
	return nil
}

func (r *pointRig) open(t *testing.T, fs vfs.FS) (*node, *Log) {
	e := openEngine(t, storage.Options{FS: fs, JournalSegmentBytes: 4 << 10, CacheBytes: 8 << 20})
	s, err := NewSequencer(e, SequencerOptions{CommitInterval: time.Hour, Now: func() time.Time { return r.now }})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{s, e}
	return n, openLog(t, n, LogOptions{SizeBytes: 12 << 10, TruncateEvery: time.Hour, Now: func() time.Time { return r.now }})
}

func (r *pointRig) insert(t *testing.T, n *node, id int64) {
	f := n.mustInsert(t, id)
	r.mu.Lock()
	r.committed, r.given = id, f.OpTime.TS
	r.mu.Unlock()
	if id%3 != 0 {
		return
	}
	if err := f.WaitJournaled(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.acked = id
	r.mu.Unlock()
}

// TestCrashAtPoint crashes inside ceiling writes, segment rolls and front
// truncations and checks what each restart finds: a whole prefix of the
// documents with all that was journaled, the log an unbroken end of it, and no
// ts given out twice, though the clock has stepped back.
func TestCrashAtPoint(t *testing.T) {
	inJournal := func(op errorfs.Op) bool { return strings.Contains(op.Path, "/journal") }
	for name, p := range map[string]struct {
		match func(errorfs.Op) bool
		// step is what happens behind each document but the insert.
		step func(t *testing.T, r *pointRig, n *node, l *Log, id int64) error
	}{
		"ceiling": {inJournal, func(t *testing.T, r *pointRig, n *node, _ *Log, id int64) error {
			// The clock passes the ceiling, which the next commit then raises
			// itself, or comes near it, which the background does.
			if id%4 == 0 {
				r.now = r.now.Add(11 * time.Second)
				return nil
			}
			r.now = r.now.Add(3 * time.Second)
			return n.background()
		}},
		"segment roll": {
			func(op errorfs.Op) bool { return inJournal(op) && op.Kind != errorfs.OpFileWriteAt },
			func(_ *testing.T, r *pointRig, _ *node, _ *Log, _ int64) error {
				r.now = r.now.Add(10 * time.Millisecond)
				return nil
			},
		},
		"front truncation": {
			func(op errorfs.Op) bool { return inJournal(op) && op.Kind != errorfs.OpFileWriteAt },
			func(_ *testing.T, r *pointRig, n *node, l *Log, id int64) error {
				r.now = r.now.Add(10 * time.Millisecond)
				if id%5 != 0 {
					return nil
				}
				if err := n.e.Flush(); err != nil {
					return err
				}
				return l.Truncate()
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			r := &pointRig{mem: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(9, 9)), match: p.match, now: start}
			n, l := r.open(t, errorfs.Wrap(r.mem, errorfs.InjectorFunc(r.onOp)))
			for id := int64(1); id <= 150; id++ {
				r.insert(t, n, id)
				if err := p.step(t, r, n, l, id); err != nil {
					t.Fatal(err)
				}
			}
			if name == "front truncation" && l.Stats().Count == 150 {
				t.Error("nothing was truncated")
			}
			l.Close()
			n.close(t)
			if len(r.clones) < 30 {
				t.Errorf("only %d clones", len(r.clones))
			}
			for _, c := range r.clones {
				// A clone is no longer crashable, and the clock starts over.
				(&pointRig{now: start, match: func(errorfs.Op) bool { return false }}).check(t, c)
			}
		})
	}
}

func (r *pointRig) check(t *testing.T, c pointClone) {
	n, l := r.open(t, c.fs)
	defer n.close(t)
	defer l.Close()
	cur := testStore.Cursor(n.e, storage.Forward)
	docs := int64(0)
	for cur.Next() {
		if docs++; int64(cur.RecordID()) != docs {
			t.Fatalf("%s: document %d in place of %d", c.what, cur.RecordID(), docs)
		}
	}
	if err := cur.Close(); err != nil {
		t.Fatal(err)
	}
	// One commit may have been under way.
	if docs < c.acked || docs > c.committed+1 {
		t.Errorf("%s: %d documents, %d were journaled, %d committed", c.what, docs, c.acked, c.committed)
	}
	log := entries(t, n.e.Journal())
	for i, e := range log {
		if want := docs - int64(len(log)-1-i); e.RID != want {
			t.Fatalf("%s: entry %d of %d is of document %d, want %d", c.what, i, len(log), e.RID, want)
		}
	}
	if len(log) == 0 && docs > 0 {
		t.Errorf("%s: no entry is left", c.what)
	}
	if f := n.mustInsert(t, docs+1); f.OpTime.TS <= c.given {
		t.Errorf("%s: ts %v again, %v was given out before the crash", c.what, f.OpTime.TS, c.given)
	}
}
