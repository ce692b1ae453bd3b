package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cairndb/cairn/internal/storage/journal"
)

func memNode(t testing.TB) *node {
	n := openNode(t, testOptions(vfs.NewMem()))
	t.Cleanup(func() {
		if err := n.e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return n
}

func TestRegisteredChanges(t *testing.T) {
	n := memNode(t)
	var log []string
	reg := func(u *RecoveryUnit, name string) {
		u.RegisterChange(func() { log = append(log, "commit "+name) }, func() { log = append(log, "rollback "+name) })
	}
	expect := func(want ...string) {
		t.Helper()
		if !slices.Equal(log, want) {
			t.Fatalf("%v, want %v", log, want)
		}
		log = nil
	}
	n.mustCommit(func(u *RecoveryUnit) { reg(u, "1"); reg(u, "2"); u.RegisterChange(nil, nil) })
	expect("commit 1", "commit 2")

	u := n.e.NewRecoveryUnit(nil)
	reg(u, "1")
	sp := u.Savepoint()
	reg(u, "2")
	reg(u, "3")
	if err := u.RollbackTo(sp); err != nil {
		t.Fatal(err)
	}
	expect("rollback 3", "rollback 2")
	reg(u, "4")
	u.Rollback()
	expect("rollback 4", "rollback 1")

	for name, fn := range map[string]func(){
		"rollback": u.Rollback,
		"commit":   func() { u.Commit(9) },
		"set":      func() { u.Set(nil, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of an ended unit does not panic", name)
				}
			}()
			fn()
		}()
	}
}

// A unit may be made by one goroutine, handed on and ended by another, long
// after the operation that made it.
func TestUnitOutlivesItsOperation(t *testing.T) {
	n := memNode(t)
	units := make(chan *RecoveryUnit)
	go func() {
		u := n.e.NewRecoveryUnit(nil)
		u.Set(tkey("a"), []byte("1"))
		if err := u.Lock(context.Background(), tkey("a")); err != nil {
			t.Error(err)
		}
		units <- u
	}()
	u := <-units
	m, err := n.append(u, 1)
	if err == nil {
		err = n.e.Apply(m, u.WriteSet())
	}
	if err != nil {
		t.Fatal(err)
	}
	u.Commit(m.Index)
	if got := dump(t, n.e); got != "a=1 " {
		t.Fatal(got)
	}
}

func TestSnapshotKnowsItsIndex(t *testing.T) {
	n := memNode(t)
	if _, ok := n.e.OldestSnapshot(); ok {
		t.Fatal("a snapshot is open")
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s, err := n.e.Snapshot()
				if err != nil {
					t.Error(err)
					return
				}
				oldest, ok := n.e.OldestSnapshot()
				if !ok || oldest > s.Index() {
					t.Errorf("oldest %d %v, this one has %d", oldest, ok, s.Index())
				}
				v, err := s.Get(tkey("n"), nil)
				if want := fmt.Sprint(s.Index()); s.Index() > 0 && (err != nil || string(v) != want) {
					t.Errorf("snapshot of index %d shows %s, %v", s.Index(), v, err)
				}
				s.Close()
				s.Close()
			}
		})
	}
	for range 2000 {
		n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey("n"), fmt.Append(nil, n.e.Applied().Index+1)) })
	}
	close(stop)
	wg.Wait()
	a, _ := n.e.Snapshot()
	n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey("n"), nil) })
	b, _ := n.e.Snapshot()
	if i, _ := n.e.OldestSnapshot(); i != a.Index() || a.Index()+1 != b.Index() {
		t.Fatalf("oldest %d, a %d, b %d", i, a.Index(), b.Index())
	}
	a.Close()
	if i, _ := n.e.OldestSnapshot(); i != b.Index() {
		t.Fatalf("oldest %d, b %d", i, b.Index())
	}
	b.Close()
	if s := n.e.Stats(); s.OpenSnapshots != 0 {
		t.Fatalf("%d snapshots are open", s.OpenSnapshots)
	}
}

func TestFirstWriterWins(t *testing.T) {
	n := memNode(t)
	ctx := t.Context()
	write := func(key string) {
		n.mustCommit(func(u *RecoveryUnit) {
			if err := u.Lock(ctx, tkey(key)); err != nil {
				t.Fatal(err)
			}
			u.Set(tkey(key), []byte("x"))
		})
	}
	write("a")
	s, err := n.e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	write("b")
	u := n.e.NewRecoveryUnit(s)
	if err := u.Lock(ctx, tkey("a"), tkey("c")); err != nil {
		t.Fatalf("a was written before the snapshot: %v", err)
	}
	if err := u.Lock(ctx, tkey("b")); !errors.Is(err, ErrWriteConflict) {
		t.Fatalf("b was written behind the snapshot: %v", err)
	}
	u.Rollback()
	// A unit on the latest state does not conflict, but is a writer to others.
	write("b")
	s2, err := n.e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	u = n.e.NewRecoveryUnit(s2)
	if err := u.Lock(ctx, tkey("b")); err != nil {
		t.Fatalf("the new snapshot knows b: %v", err)
	}
	u.Rollback()
	s.Close()
	s2.Close()
	if left := n.e.latches.writers.Load(); left != 0 {
		t.Fatalf("%d writers remembered with no snapshot open", left)
	}
	write("b")
	if left := n.e.latches.writers.Load(); left != 0 {
		t.Fatalf("%d writers remembered with no snapshot open", left)
	}
}

func TestLatchesPruneUnderAnOpenSnapshot(t *testing.T) {
	oldest := uint64(1)
	l := NewLatches(func() (uint64, bool) { return oldest, true })
	for i := range uint64(5000) {
		var h Held
		if err := l.Lock(t.Context(), &h, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		h.Release(i + 2)
	}
	oldest = 4900
	l.prune(oldest, true)
	if n := l.writers.Load(); n != 101 {
		t.Fatalf("%d writers remembered, want those behind 4900", n)
	}
}

// TestLatchesExclude: units that lock overlapping groups never run together
// and never wait for each other in a circle.
func TestLatchesExclude(t *testing.T) {
	l := NewLatches(func() (uint64, bool) { return 0, false })
	var owner [8]int
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 500 {
				var keys [][]byte
				var ids []int
				for range 1 + r.IntN(4) {
					k := r.IntN(len(owner))
					keys = append(keys, []byte{byte(k)})
					ids = append(ids, k)
				}
				var h Held
				if err := l.Lock(context.Background(), &h, keys...); err != nil {
					t.Error(err)
				}
				for _, k := range ids {
					owner[k] = g // the race detector sees a second owner
				}
				for _, k := range ids {
					if owner[k] != g {
						t.Errorf("key %d has two owners", k)
					}
				}
				h.Release(0)
			}
		})
	}
	wg.Wait()
	for i := range l.shards {
		if len(l.shards[i].latches) != 0 {
			t.Fatal("a latch is left held")
		}
	}
}

func TestLatchWaitEnds(t *testing.T) {
	l := NewLatches(func() (uint64, bool) { return 0, false })
	var a, b, c Held
	if err := l.Lock(t.Context(), &a, []byte("y")); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("killed")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := l.Lock(ctx, &b, []byte("x"), []byte("y"), []byte("z")); !errors.Is(err, cause) {
		t.Fatal(err)
	}
	if b.Holds() {
		t.Fatal("a failed group is held")
	}
	if err := l.Lock(t.Context(), &c, []byte("x"), []byte("z")); err != nil {
		t.Fatal(err)
	}
	if err := l.Lock(t.Context(), &c, []byte("x")); err != nil { // held already
		t.Fatal(err)
	}
	a.Release(0)
	c.Release(0)
	if err := l.Lock(t.Context(), &b, []byte("y")); err != nil {
		t.Fatal(err)
	}
	// Many keys, in two groups that overlap.
	var keys [][]byte
	for i := range 100 {
		keys = append(keys, fmt.Append(nil, i))
	}
	for range 2 {
		if err := l.Lock(t.Context(), &b, keys...); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.hashes) != 101 {
		t.Fatalf("%d latches held", len(b.hashes))
	}
	b.Release(0)
}

func TestIdents(t *testing.T) {
	n := memNode(t)
	for _, s := range []Space{SpaceReplicated, SpacePrivate} {
		n.mustCommit(func(u *RecoveryUnit) {
			for want := FirstIdent; want < FirstIdent+3; want++ {
				if id, err := u.NextIdent(s); err != nil || id != want {
					t.Fatalf("ident %d, %v, want %d", id, err, want)
				}
			}
		})
	}
	u := n.e.NewRecoveryUnit(nil)
	if id, err := u.NextIdent(SpaceReplicated); err != nil || id != FirstIdent+3 {
		t.Fatal(id, err)
	}
	u.Rollback()
	n.mustCommit(func(u *RecoveryUnit) {
		if id, err := u.NextIdent(SpaceReplicated); err != nil || id != FirstIdent+3 {
			t.Fatal("a rolled back ident is lost", id, err)
		}
	})
}

func TestDropIdent(t *testing.T) {
	n := memNode(t)
	other := Table{SpaceReplicated, testTable.Ident + 1}
	n.mustCommit(func(u *RecoveryUnit) {
		u.Set(tkey("a"), []byte("1"))
		u.Set(other.AppendKey(nil, []byte("a")), []byte("1"))
	})
	u := n.e.NewRecoveryUnit(nil)
	u.DropIdent(testTable)
	u.Rollback()
	n.e.WaitDropped()
	if got := dump(t, n.e); got != "a=1 " {
		t.Fatal("a rolled back drop dropped")
	}
	s, _ := n.e.Snapshot()
	n.mustCommit(func(u *RecoveryUnit) { u.DropIdent(testTable) })
	n.e.WaitDropped()
	if got := dump(t, n.e); got != "" {
		t.Fatalf("left after the drop: %s", got)
	}
	if got := dump(t, s); got != "a=1 " {
		t.Fatalf("the snapshot shows %q", got)
	}
	s.Close()
	if _, err := n.e.Get(other.AppendKey(nil, []byte("a")), nil); err != nil {
		t.Fatalf("the neighbour: %v", err)
	}
	if err := n.e.DropIdent(other); err != nil {
		t.Fatal(err)
	}
	n.e.WaitDropped()
	if _, err := n.e.Get(other.AppendKey(nil, []byte("a")), nil); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
}

func TestRecoverLocalUnits(t *testing.T) {
	mem := vfs.NewMem()
	n := openNode(t, testOptions(mem))
	key := Table{SpacePrivate, 9}.AppendKey(nil, []byte("k"))
	w := n.e.NewWriteSet()
	w.Set(key, []byte("v"))
	w.Set(droppedKey(Table{SpacePrivate, 8}), nil)
	p, err := w.AppendLocal(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Release()
	if _, err := n.e.journal.Append([]journal.Record{{Kind: journal.KindLocal, Payload: p}}); err != nil {
		t.Fatal(err)
	}
	n.e.Crash() // the engine never saw it; closing the journal wrote it
	e, err := Open(testOptions(mem))
	if err != nil {
		t.Fatal(err)
	}
	st, err := e.Recover(t.Context(), func(*RecoveryUnit, []journal.Record) error {
		return errors.New("called for a local unit")
	})
	if err != nil || st.LocalUnits != 1 || st.Units != 1 {
		t.Fatal(st, err)
	}
	if v, err := e.Get(key, nil); err != nil || string(v) != "v" {
		t.Fatal(v, err)
	}
	e.WaitDropped()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRecoverErrorNamesTheUnit(t *testing.T) {
	mem := vfs.NewMem()
	n := openNode(t, testOptions(mem))
	m, err := n.append(n.e.NewRecoveryUnit(nil), 1)
	if err != nil {
		t.Fatal(err)
	}
	n.e.Crash()
	e, err := Open(testOptions(mem))
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	_, err = e.Recover(t.Context(), func(*RecoveryUnit, []journal.Record) error { return boom })
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), fmt.Sprintf("index %d", m.Index)) {
		t.Fatal(err)
	}
	e.Crash()
}

func TestApplyGroupAndOrder(t *testing.T) {
	n := memNode(t)
	var sets []*WriteSet
	var recs []journal.Record
	for i := range 3 {
		w := n.e.NewWriteSet()
		w.Set(tkey("k"), fmt.Append(nil, i))
		w.Set(tkey(fmt.Sprint("k", i)), nil)
		sets = append(sets, w)
		recs = append(recs, journal.Record{Kind: journal.KindEntry, Index: uint64(i + 1), TS: uint64(i + 1)})
	}
	end, err := n.e.journal.Append(recs)
	if err != nil {
		t.Fatal(err)
	}
	m := Mark{Pos: end, Index: 3, TS: 3}
	if err := n.e.Apply(m, append(sets, nil)...); err != nil {
		t.Fatal(err)
	}
	for _, w := range sets {
		w.Release()
	}
	if got := dump(t, n.e); got != "k=2 k0= k1= k2= " {
		t.Fatal(got)
	}
	if err := n.e.Apply(m); err == nil {
		t.Fatal("the same position is applied twice")
	}
	if n.e.Failure() != nil {
		t.Fatal("a refused call fails the store")
	}
	// Entries that change nothing move the mark.
	end, err = n.e.journal.Append([]journal.Record{{Kind: journal.KindEntry, Index: 4, TS: 4}})
	if err == nil {
		err = n.e.Apply(Mark{Pos: end, Index: 4, TS: 4})
	}
	if err != nil || n.e.Applied().Index != 4 {
		t.Fatal(err, n.e.Applied())
	}
}

// TestConcurrentUse: readers, snapshots, bulk loads, drops and checkpoints run
// beside the sequencer while memtables flush and tables compact; a reader never
// sees part of a batch.
func TestConcurrentUse(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.MemTableBytes = 64 << 10
	n := openNode(t, o)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	loop := func(fn func(i int) error) {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := fn(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	pair := func(r Reader) error {
		c := r.NewCursor(testTable.Bounds())
		defer c.Close()
		var vals []string
		for ok := c.First(); ok; ok = c.Next() {
			vals = append(vals, string(c.Value()[:8]))
		}
		if len(vals) == 2 && vals[0] != vals[1] {
			return fmt.Errorf("half a batch: %v", vals)
		}
		return c.Err()
	}
	loop(func(int) error { return pair(n.e) })
	loop(func(int) error {
		s, err := n.e.Snapshot()
		if err != nil {
			return err
		}
		return errors.Join(pair(s), s.Close())
	})
	loop(func(i int) error {
		table := Table{SpaceReplicated, Ident(1000 + i)}
		l := n.e.NewBulkLoader(table, 0)
		for j := range 50 {
			if err := l.Add(fmt.Append(nil, j), make([]byte, 100)); err != nil {
				return err
			}
		}
		return errors.Join(l.Load(context.Background(), nil), l.Close(), n.e.DropIdent(table))
	})
	loop(func(i int) error {
		_ = n.e.Stats()
		if i%10 == 0 {
			return n.e.Flush()
		}
		_, err := n.e.Checkpoint()
		return err
	})
	for i := range 1500 {
		n.mustCommit(func(u *RecoveryUnit) {
			v := append(fmt.Appendf(nil, "%08d", i), make([]byte, 1000)...)
			u.Set(tkey("a"), v)
			u.Set(tkey("b"), v)
		})
	}
	close(stop)
	wg.Wait()
	n.e.WaitDropped()
	for _, i := range []Ident{1000, 1001} {
		lower, upper := Table{SpaceReplicated, i}.Bounds()
		c := n.e.NewCursor(lower, upper)
		if c.First() {
			t.Errorf("dropped table %d has entries", i)
		}
		c.Close()
	}
	if err := n.e.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestTryLock: a unit that does not wait gets all latches of a group or none.
func TestTryLock(t *testing.T) {
	e := memNode(t).e
	ctx := context.Background()
	a, b := e.NewRecoveryUnit(nil), e.NewRecoveryUnit(nil)
	b.NoWait()
	if err := a.Lock(ctx, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, keys := range [][][]byte{{[]byte("x")}, {[]byte("w"), []byte("x"), []byte("y")}} {
		if err := b.Lock(ctx, keys...); !errors.Is(err, ErrWouldWait) {
			t.Fatalf("Lock of a held latch: %v", err)
		}
	}
	if err := a.Lock(ctx, []byte("w"), []byte("y")); err != nil { // b holds neither
		t.Fatal(err)
	}
	a.Rollback()
	if err := b.Lock(ctx, []byte("w"), []byte("x"), []byte("y")); err != nil {
		t.Fatal(err)
	}
	c := e.NewRecoveryUnit(nil)
	c.NoWait()
	if err := c.Lock(ctx, []byte("y")); !errors.Is(err, ErrWouldWait) {
		t.Fatalf("Lock of a latch that TryLock took: %v", err)
	}
	b.Rollback()
	c.Rollback()
}
