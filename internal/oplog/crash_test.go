package oplog

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// crashWorld is what clients of a node know at the moment of a crash.
type crashWorld struct {
	mu       sync.Mutex
	acked    map[int64]Timestamp // id of each journaled unit
	tailed   []Timestamp         // what a tailing client copied
	probes   int64
	lastSeen Timestamp // newest ts that anybody was told of
}

// TestRandomCrashes runs writers, a tailer and checkpoints, crashes at a random
// moment with any part of the unsynced data surviving, and checks the issue's
// promises after the restart. The next round goes on with what was left.
func TestRandomCrashes(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	fs := vfs.NewCrashableMem()
	rng := rand.New(rand.NewPCG(42, uint64(rounds)))
	w := &crashWorld{acked: map[int64]Timestamp{}}
	nextID := int64(0)
	for range rounds {
		n := openCrashNode(t, fs)
		w.check(t, n)
		fs = w.run(t, n, fs, rng, &nextID)
		if t.Failed() {
			return
		}
	}
}

func openCrashNode(t *testing.T, fs vfs.FS) *node {
	e := openEngine(t, storage.Options{FS: fs, JournalSegmentBytes: 64 << 10, MemTableBytes: 1 << 20})
	s, err := NewSequencer(e, SequencerOptions{CommitInterval: 2 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return &node{s, e}
}

// run lets clients work until a random number of units, then takes the crash.
func (w *crashWorld) run(t *testing.T, n *node, fs *vfs.MemFS, rng *rand.Rand, nextID *int64) *vfs.MemFS {
	l := openLog(t, n, LogOptions{})
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(1 + rng.IntN(300)))
	crash := make(chan struct{})
	ids := atomic.Int64{}
	ids.Store(*nextID)
	for range 4 {
		wg.Go(func() { w.write(t, n, ctx, &ids, &left, crash) })
	}
	wg.Go(func() { w.tail(t, l, ctx) })
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := n.e.Flush(); err != nil {
				t.Error(err)
			}
		}
	})
	<-crash
	// What was promised before this moment must be there behind it.
	w.mu.Lock()
	clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	acked, tailed := len(w.acked), len(w.tailed)
	snapshot := crashWorld{acked: map[int64]Timestamp{}, tailed: append([]Timestamp(nil), w.tailed...)}
	for id, ts := range w.acked {
		snapshot.acked[id] = ts
	}
	w.mu.Unlock()
	stop()
	wg.Wait()
	l.Close()
	n.close(t)
	if len(w.acked) < acked || len(w.tailed) < tailed {
		t.Error("the world shrank")
	}
	w.acked, w.tailed = snapshot.acked, snapshot.tailed
	*nextID = ids.Load()
	return clone
}

// unitSize is the number of documents in the unit that begins with an id. Ids
// of units are four apart.
func unitSize(first int64) int64 {
	if first >= 1<<40 {
		return 1
	}
	return 1 + first/4%4
}

func (w *crashWorld) write(t *testing.T, n *node, ctx context.Context, ids, left *atomic.Int64, crash chan struct{}) {
	for ctx.Err() == nil {
		u := n.unit()
		first := ids.Add(4)
		k := unitSize(first)
		for i := range k {
			insert(u, first+i, idBytes(first+i, int(first*131%4000)))
		}
		f, err := n.Commit(u)
		if err != nil {
			t.Error(err)
			return
		}
		if first/4%5 == 0 {
			if err := f.WaitJournaled(context.Background()); err != nil {
				t.Error(err)
				return
			}
			w.mu.Lock()
			w.acked[first+k-1] = f.OpTime.TS
			w.mu.Unlock()
		}
		w.mu.Lock()
		w.lastSeen = max(w.lastSeen, f.OpTime.TS)
		w.mu.Unlock()
		if left.Add(-1) == 0 {
			close(crash)
		}
	}
}

// tail copies the log from where the last round's copy ended.
func (w *crashWorld) tail(t *testing.T, l *Log, ctx context.Context) {
	c, err := l.NewCursor(ctx, storage.Forward)
	if err != nil {
		return // crashed before it began
	}
	defer c.Close()
	w.mu.Lock()
	from := Timestamp(0)
	if len(w.tailed) > 0 {
		from = w.tailed[len(w.tailed)-1] + 1
	}
	w.mu.Unlock()
	for ok := c.SeekTS(from); ; ok = c.Next() {
		if ok {
			w.mu.Lock()
			w.tailed = append(w.tailed, c.TS())
			w.mu.Unlock()
			continue
		}
		if c.Err() != nil {
			t.Error(c.Err())
			return
		}
		if c.WaitForMore(ctx) != nil {
			return
		}
	}
}

// check compares a restarted node with what was promised.
func (w *crashWorld) check(t *testing.T, n *node) {
	log := entries(t, n.e.Journal())
	byRID := map[int64]Timestamp{}
	last := Timestamp(0)
	for i, e := range log {
		if e.OpTime.TS <= last {
			t.Errorf("entry %d: ts %v behind %v", i, e.OpTime.TS, last)
		}
		last = e.OpTime.TS
		byRID[e.RID] = e.OpTime.TS
	}
	for id, ts := range w.acked {
		if byRID[id] != ts {
			t.Errorf("journaled unit of record %d is gone", id)
		}
	}
	for i, ts := range w.tailed {
		if i >= len(log) || log[i].OpTime.TS != ts {
			t.Errorf("entry %d of the tailer's copy is not in the log", i)
			break
		}
	}
	for rid := range byRID {
		first := rid - rid%4
		for i := range unitSize(first) {
			if byRID[first+i] == 0 {
				t.Errorf("the unit of records %d to %d is not whole", first, first+unitSize(first)-1)
			}
		}
	}
	w.checkData(t, n, byRID)
	w.probes++
	if f := n.mustInsert(t, 1<<40+4*w.probes); f.OpTime.TS <= w.lastSeen {
		t.Errorf("ts %v was given out before the crash", f.OpTime.TS)
	} else if err := f.WaitJournaled(context.Background()); err != nil {
		t.Error(err)
	}
}

// checkData: no record without its entry nor entry without its record.
func (w *crashWorld) checkData(t *testing.T, n *node, byRID map[int64]Timestamp) {
	c := testStore.Cursor(n.e, storage.Forward)
	defer c.Close()
	found := 0
	for c.Next() {
		found++
		id := int64(c.RecordID())
		if byRID[id] == 0 {
			t.Errorf("record %d without an entry", id)
		}
		if got, _ := bson.Raw(c.Value()).Get("_id").AsInt64(); got != id {
			t.Errorf("record %d holds document %d", id, got)
		}
	}
	if c.Err() != nil || found != len(byRID) {
		t.Errorf("%d records, %d entries: %v", found, len(byRID), c.Err())
	}
}
