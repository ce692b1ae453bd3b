package oplog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func TestCommitAppliesAndLogs(t *testing.T) {
	fs := vfs.NewMem()
	n := openNode(t, fs, SequencerOptions{Term: 7})
	f := n.mustInsert(t, 1, 2, 3)
	if f.OpTime != n.LastApplied() || f.OpTime.Term != 7 || f.Index != 3 || n.VisibleIndex() != 3 {
		t.Fatalf("future %+v, applied %v", f, n.LastApplied())
	}
	if err := f.WaitMajority(context.Background()); err != nil {
		t.Fatal(err)
	}
	if d := n.LastDurable(); d != f.OpTime {
		t.Fatalf("durable %v, want %v", d, f.OpTime)
	}
	if v, err := testStore.Get(n.e, 2, nil); err != nil || !slices.Equal(v, idDoc(2)) {
		t.Fatalf("record 2: %v %v", bson.Raw(v), err)
	}
	got := entries(t, n.e.Journal())
	if len(got) != 3 || got[2].OpTime != f.OpTime || got[1].RID != 2 || got[0].Wall == 0 {
		t.Fatalf("entries %+v", got)
	}
	n.close(t)

	n = openNode(t, fs, SequencerOptions{Term: 7})
	if n.LastApplied() != f.OpTime {
		t.Fatalf("applied after reopen %v, want %v", n.LastApplied(), f.OpTime)
	}
	f2 := n.mustInsert(t, 4)
	if f2.Index != 4 || f2.OpTime.TS <= f.OpTime.TS {
		t.Fatalf("first future after reopen %+v", f2)
	}
	n.close(t)
}

func TestFailedAndEmptyUnits(t *testing.T) {
	n := openNode(t, vfs.NewMem(), SequencerOptions{})
	defer n.close(t)
	first := n.mustInsert(t, 1)
	errHook := errors.New("hook")

	for name, hook := range map[string]func(w *WriteUnit){
		"sequence": func(w *WriteUnit) { w.OnSequence(func() error { return errHook }) },
		"stamp":    func(w *WriteUnit) { w.OnStamp(func(Stamped) error { return errHook }) },
	} {
		w := n.unit()
		insert(w, 9, idDoc(9))
		undone := false
		w.RU.RegisterChange(nil, func() { undone = true })
		hook(w)
		if _, err := n.Commit(w); !errors.Is(err, errHook) || !undone {
			t.Errorf("%s: err %v, undone %v", name, err, undone)
		}
	}
	w := n.unit()
	testStore.Put(w.RU, 9, idDoc(9))
	if _, err := n.Commit(w); !errors.Is(err, ErrNoEntry) {
		t.Errorf("changes without an entry: %v", err)
	}
	if _, err := testStore.Get(n.e, 9, nil); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("record of a failed unit: %v", err)
	}

	done := false
	w = n.unit()
	w.RU.RegisterChange(func() { done = true }, nil)
	f, err := n.Commit(w)
	if err != nil || f.OpTime != first.OpTime || f.Index != first.Index || !done {
		t.Errorf("empty unit: %+v %v", f, err)
	}
	if err := f.WaitJournaled(context.Background()); err != nil {
		t.Error(err)
	}
	if f := n.mustInsert(t, 2); f.Index != 2 {
		t.Errorf("index %d behind failed units, want 2", f.Index)
	}
}

func TestHooksSeeTheOrder(t *testing.T) {
	n := openNode(t, vfs.NewMem(), SequencerOptions{})
	defer n.close(t)
	next := int64(0)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 20 {
				w := n.unit()
				w.OnSequence(func() error {
					next++
					insert(w, next, idDoc(next))
					return nil
				})
				w.OnStamp(func(s Stamped) error {
					if s.Len() != 1 || s.At(0) != s.Last() || s.Last().TS == 0 || s.Wall() == 0 {
						return fmt.Errorf("stamped %+v", s)
					}
					testStore.Put(w.RU, storage.RecordID(1000+next), bson.D("ts", s.Last().TS))
					return nil
				})
				if _, err := n.Commit(w); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i, e := range entries(t, n.e.Journal()) {
		if e.RID != int64(i+1) {
			t.Fatalf("entry %d has rid %d", i, e.RID)
		}
		v, err := testStore.Get(n.e, storage.RecordID(1001+i), nil)
		if err != nil || bson.Raw(v).Get("ts").Timestamp() != e.OpTime.TS {
			t.Fatalf("record with the ts of %d: %s %v", i, bson.Raw(v), err)
		}
	}
}

func TestPrevOpTimeInsideUnit(t *testing.T) {
	n := openNode(t, vfs.NewMem(), SequencerOptions{})
	defer n.close(t)
	before := OpTime{bson.NewTimestamp(5, 6), 3}
	lsid := bson.D("id", testUUID)
	w := n.unit()
	for i := range int32(3) {
		e := Entry{Op: OpInsert, NS: "a.b", O: idDoc(int64(i)), LSID: lsid, TxnNumber: 4, StmtIDs: []int32{i}, PrevInUnit: i > 0}
		if i == 0 {
			e.PrevOpTime = &before
		}
		w.Log(&e)
	}
	if _, err := n.Commit(w); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries(t, n.e.Journal()) {
		if *e.PrevOpTime != before {
			t.Fatalf("prevOpTime %v, want %v", e.PrevOpTime, before)
		}
		before = e.OpTime
	}
}

func TestSavepointTakesEntriesBack(t *testing.T) {
	n := openNode(t, vfs.NewMem(), SequencerOptions{})
	defer n.close(t)
	w := n.unit()
	insert(w, 1, idDoc(1))
	sp := w.Savepoint()
	insert(w, 2, idDoc(2))
	if err := w.RollbackTo(sp); err != nil {
		t.Fatal(err)
	}
	insert(w, 3, idDoc(3))
	if _, err := n.Commit(w); err != nil {
		t.Fatal(err)
	}
	if got := entries(t, n.e.Journal()); len(got) != 2 || got[1].RID != 3 {
		t.Fatalf("entries %+v", got)
	}
	if _, err := testStore.Get(n.e, 2, nil); !errors.Is(err, storage.ErrNotFound) {
		t.Fatalf("record 2: %v", err)
	}
}

// TestTimestampsIncrease restarts, cleanly and by crash, with a clock that
// jumps about, and looks for a ts that does not increase.
func TestTimestampsIncrease(t *testing.T) {
	clock := newFakeClock()
	var last Timestamp
	fs := vfs.NewCrashableMem()
	jumps := []time.Duration{0, time.Second, -time.Hour, 0, time.Minute, -time.Millisecond, 3 * time.Hour, -24 * time.Hour, 5 * time.Second}
	id := int64(0)
	for round := range 12 {
		n := openNode(t, fs, SequencerOptions{Now: clock.now})
		if a := n.LastApplied().TS; a > last {
			t.Fatalf("round %d: applied %v after open, last given out %v", round, a, last)
		}
		for _, jump := range jumps {
			clock.t = clock.t.Add(jump)
			for range 3 {
				id++
				f := n.mustInsert(t, id)
				if f.OpTime.TS <= last || f.OpTime.TS.Increment() == 0 {
					t.Fatalf("round %d, jump %v: ts %v behind %v", round, jump, f.OpTime, last)
				}
				last = f.OpTime.TS
			}
		}
		if round%3 == 2 {
			n.close(t)
			continue
		}
		// Nothing of the unsynced tail survives, but its ts were seen.
		crashed := fs.CrashClone(vfs.CrashCloneCfg{})
		n.close(t)
		fs = crashed
	}
}

func TestCleanRestartWastesNoTime(t *testing.T) {
	clock := newFakeClock()
	fs := vfs.NewMem()
	n := openNode(t, fs, SequencerOptions{Now: clock.now})
	f := n.mustInsert(t, 1)
	n.close(t)
	n = openNode(t, fs, SequencerOptions{Now: clock.now})
	defer n.close(t)
	if g := n.mustInsert(t, 2); g.OpTime.TS != f.OpTime.TS+1 {
		t.Fatalf("ts %v after a clean restart, %v before", g.OpTime, f.OpTime)
	}
}

func TestBackgroundSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, vfs.NewMem(), SequencerOptions{})
		f := n.mustInsert(t, 1)
		if n.LastDurable() == f.OpTime {
			t.Error("synced at once")
		}
		<-time.After(101 * time.Millisecond) // the bubble's clock
		synctest.Wait()
		if n.LastDurable() != f.OpTime {
			t.Errorf("durable %v after the commit interval, want %v", n.LastDurable(), f.OpTime)
		}
		n.close(t)
	})
}

func TestConcurrentCommits(t *testing.T) {
	n := openNode(t, vfs.NewMem(), SequencerOptions{})
	const writers, each = 32, 50
	var wg sync.WaitGroup
	var mu sync.Mutex
	committed := 0
	for w := range int64(writers) {
		wg.Go(func() {
			var last Timestamp
			for i := range int64(each) {
				u := n.unit()
				id := 1 + w*each + i
				insert(u, id, idDoc(id))
				u.RU.RegisterChange(func() {
					mu.Lock()
					committed++
					mu.Unlock()
				}, nil)
				f, err := n.Commit(u)
				if err != nil {
					t.Error(err)
					return
				}
				if f.OpTime.TS <= last || n.LastApplied().TS < f.OpTime.TS {
					t.Errorf("ts %v behind %v, applied %v", f.OpTime, last, n.LastApplied())
				}
				last = f.OpTime.TS
				if _, err := testStore.Get(n.e, storage.RecordID(id), nil); err != nil {
					t.Errorf("own write %d: %v", id, err)
				}
				if i%10 == 0 {
					if err := f.WaitJournaled(context.Background()); err != nil || n.LastDurable().TS < f.OpTime.TS {
						t.Errorf("journaled: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if m := n.Metrics(); m.Units < writers*each || m.Entries != writers*each || m.Groups > m.Units+1 {
		t.Errorf("metrics %+v", m)
	}
	if committed != writers*each {
		t.Errorf("%d units called back", committed)
	}
	if got := entries(t, n.e.Journal()); len(got) != writers*each {
		t.Errorf("%d entries", len(got))
	}
	n.close(t)
}

func TestFailedAppendTurnsReadOnly(t *testing.T) {
	toggle := errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWriteAt || op.Kind == errorfs.OpFileSyncData {
			return errors.New("injected")
		}
		return nil
	})}
	n := openNode(t, errorfs.Wrap(vfs.NewMem(), &toggle), SequencerOptions{})
	n.mustInsert(t, 1)
	toggle.On()
	f := n.mustInsert(t, 2)
	if err := f.WaitJournaled(context.Background()); err == nil {
		t.Fatal("journaled though the disk failed")
	}
	w := n.unit()
	insert(w, 3, idDoc(3))
	if _, err := n.Commit(w); err == nil {
		t.Fatal("committed behind a failed journal")
	}
	w = n.unit()
	insert(w, 4, idDoc(4))
	if _, err := n.Commit(w); !errors.Is(err, storage.ErrReadOnly) {
		t.Fatalf("commit to a failed node: %v", err)
	}
	if _, err := testStore.Get(n.e, 1, nil); err != nil {
		t.Fatalf("read on a failed node: %v", err)
	}
	if err := n.Close(); err == nil {
		t.Error("close reports no failure")
	}
	_ = n.e.Close() // fails with the same cause
}

func TestPanicInHookFailsTheNode(t *testing.T) {
	n := openNode(t, vfs.NewMem(), SequencerOptions{})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		w := n.unit()
		w.OnSequence(func() error { panic("hook") })
		_, _ = n.Commit(w)
	}()
	w := n.unit()
	insert(w, 1, idDoc(1))
	if _, err := n.Commit(w); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("commit after a panic: %v", err)
	}
	_ = n.e.Close()
}
