package storage

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// crashRig runs a random workload and takes crash clones of the file system at
// file operations: what was synced is in a clone, of the rest each part is or
// is not, at random.
type crashRig struct {
	t   *testing.T
	mem *vfs.MemFS
	rnd *rand.Rand // of the workload
	n   *node

	// history[i] is the state after index i; index 0 is the empty store.
	history []map[string]string

	mu       sync.Mutex
	hookRand *rand.Rand // of the clones; under mu
	percent  int        // chance of a clone at an operation
	match    func(errorfs.Op) bool
	clones   []crashClone
}

type crashClone struct {
	fs      *vfs.MemFS
	durable uint64 // index that must be there
	what    string
}

const maxClones = 25

func newCrashRig(t *testing.T, seed uint64, percent int, match func(errorfs.Op) bool) *crashRig {
	r := &crashRig{
		t: t, mem: vfs.NewCrashableMem(), percent: percent, match: match,
		rnd:      rand.New(rand.NewPCG(seed, 1)),
		hookRand: rand.New(rand.NewPCG(seed, 2)),
		history:  []map[string]string{{}},
	}
	return r
}

func (r *crashRig) options() Options {
	o := testOptions(errorfs.Wrap(r.mem, errorfs.InjectorFunc(r.onOp)))
	o.MemTableBytes = 64 << 10
	o.JournalSegmentBytes = 32 << 10
	return o
}

// onOp is called before every file operation.
func (r *crashRig) onOp(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if (r.match != nil && !r.match(op)) || r.n == nil || len(r.clones) >= maxClones || r.hookRand.IntN(100) >= r.percent {
		return nil
	}
	r.cloneLocked(fmt.Sprintf("op %d of %s", op.Kind, op.Path))
	return nil
}

func (r *crashRig) cloneLocked(what string) {
	durable := r.n.e.journal.Durable().Index
	fs := r.mem.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: []int{0, 50, 90, 100}[r.hookRand.IntN(4)],
		RNG:                 rand.New(rand.NewPCG(r.hookRand.Uint64(), 3)),
	})
	r.clones = append(r.clones, crashClone{fs: fs, durable: durable, what: what})
}

func (r *crashRig) clone(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cloneLocked(what)
}

func (r *crashRig) open() {
	r.setNode(openNode(r.t, r.options()))
}

// setNode lets the clones begin.
func (r *crashRig) setNode(n *node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n = n
}

// unit commits a random unit of one or more chained records and notes the
// state that each whole unit leaves.
func (r *crashRig) unit() {
	u := r.n.e.NewRecoveryUnit(nil)
	state := maps.Clone(r.history[len(r.history)-1])
	for range 1 + r.rnd.IntN(4) {
		k := fmt.Sprintf("k%02d", r.rnd.IntN(40))
		switch r.rnd.IntN(8) {
		case 0:
			u.Delete(tkey(k))
			delete(state, k)
		case 1:
			u.DeleteRange(tkey(k), tkey(k+"\xff"))
			delete(state, k)
		default:
			v := fmt.Sprintf("%d-%s", len(r.history), strings.Repeat("x", r.rnd.IntN(4000)))
			u.Set(tkey(k), []byte(v))
			state[k] = v
		}
	}
	parts := 1 + r.rnd.IntN(3)
	m, err := r.n.append(u, parts)
	if err == nil {
		err = r.n.e.Apply(m, u.ws)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	u.Commit(m.Index)
	for range parts - 1 {
		r.history = append(r.history, nil) // no state ends inside a unit
	}
	r.history = append(r.history, state)
}

func (r *crashRig) run(units int) {
	for range units {
		r.unit()
		switch r.rnd.IntN(12) {
		case 0:
			if err := r.n.e.Flush(); err != nil {
				r.t.Fatal(err)
			}
		case 1:
			if err := r.n.e.journal.SyncTo(r.n.e.Applied().Pos); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

func readState(t testing.TB, r Reader) map[string]string {
	t.Helper()
	got := map[string]string{}
	c := r.NewCursor(testTable.Bounds())
	for ok := c.First(); ok; ok = c.Next() {
		_, rest, _ := SplitKey(c.Key())
		got[string(rest)] = string(c.Value())
	}
	if err := errors.Join(c.Err(), c.Close()); err != nil {
		t.Fatal(err)
	}
	return got
}

// check opens a clone: what is in the engine before and after recovery must be
// exactly a whole prefix of the history, and nothing durable may be missing.
// Looking at it read-only before shows the same and changes nothing.
func (r *crashRig) check(c crashClone) {
	r.t.Helper()
	seen, torn, state := look(r.t, c.fs)
	e, err := Open(testOptions(c.fs))
	if err != nil {
		r.t.Fatalf("clone at %s: %v", c.what, err)
	}
	r.same(c, "before recovery", e.Applied().Index, readState(r.t, e))
	r.same(c, "read-only", seen.From.Index, state)
	if torn != e.journal.Torn() {
		r.t.Fatalf("clone at %s: torn tail was %+v, is %+v", c.what, torn, e.journal.Torn())
	}
	st, err := e.Recover(r.t.Context(), (&node{t: r.t, e: e}).replay)
	if err != nil {
		r.t.Fatalf("clone at %s: recover: %v", c.what, err)
	}
	if st.To.Index != e.journal.Appended().Index || st.To.Index < c.durable {
		r.t.Fatalf("clone at %s: recovered to %d, journal has %d, durable was %d", c.what, st.To.Index, e.journal.Appended().Index, c.durable)
	}
	if seen.Took, st.Took = 0, 0; seen != st {
		r.t.Fatalf("clone at %s: recovery was to be %+v, was %+v", c.what, seen, st)
	}
	r.same(c, "after recovery", st.To.Index, readState(r.t, e))
	if err := e.Close(); err != nil {
		r.t.Fatalf("clone at %s: close: %v", c.what, err)
	}
}

func (r *crashRig) same(c crashClone, when string, index uint64, got map[string]string) {
	r.t.Helper()
	if index >= uint64(len(r.history)) || r.history[index] == nil {
		r.t.Fatalf("clone at %s, %s: index %d is not the end of a unit", c.what, when, index)
	}
	if want := r.history[index]; !maps.Equal(got, want) {
		r.t.Fatalf("clone at %s, %s: %d keys at index %d, want %d", c.what, when, len(got), index, len(want))
	}
}

func (r *crashRig) finish() {
	r.mu.Lock()
	clones := r.clones
	r.percent = 0
	r.mu.Unlock()
	if err := r.n.e.Close(); err != nil {
		r.t.Fatal(err)
	}
	for _, c := range clones {
		r.check(c)
	}
}

// TestCrashAnywhere: clones at any write, sync, create or rename.
func TestCrashAnywhere(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		r := newCrashRig(t, seed, 4, nil)
		r.open()
		r.run(120)
		r.finish()
	}
}

// TestCrashAtManifest: clones before and after each write to a MANIFEST file,
// where a missing gate shows: the journal must be there first.
func TestCrashAtManifest(t *testing.T) {
	for seed := range uint64(8) {
		after := false // the operation behind one on a MANIFEST is the point after it
		r := newCrashRig(t, 100+seed, 100, func(op errorfs.Op) bool {
			is := strings.Contains(op.Path, manifestPrefix)
			was := after
			after = is
			return is || was
		})
		r.open()
		for range 3 {
			r.run(30)
		}
		r.finish()
	}
}

// TestCrashPoints: the points of the write path that no file operation marks.
func TestCrashPoints(t *testing.T) {
	r := newCrashRig(t, 7, 0, nil)
	r.open()
	r.run(10)
	r.clone("append, no sync")

	// Between append and apply: the unit is in the journal only.
	u := r.n.e.NewRecoveryUnit(nil)
	u.Set(tkey("between"), []byte("1"))
	m, err := r.n.append(u, 2)
	if err != nil {
		t.Fatal(err)
	}
	state := maps.Clone(r.history[len(r.history)-1])
	state["between"] = "1"
	r.history = append(r.history, nil, state)
	r.clone("between append and apply")
	if err := r.n.e.journal.SyncTo(m.Pos); err != nil {
		t.Fatal(err)
	}
	r.clone("between append and apply, synced")
	if err := r.n.e.Apply(m, u.ws); err != nil {
		t.Fatal(err)
	}
	u.Commit(m.Index)

	// After apply, before a sync, with a flush in between: the gate syncs.
	r.unit()
	before := r.n.e.journal.Durable().Index
	if done, err := r.n.e.db.AsyncFlush(); err != nil {
		t.Fatal(err)
	} else {
		<-done
	}
	if got := r.n.e.journal.Durable().Index; got <= before || got < r.n.e.Applied().Index {
		t.Fatalf("the flush left the journal durable up to %d, applied is %d", got, r.n.e.Applied().Index)
	}
	r.clone("flushed without an explicit sync")
	r.finish()
}

// TestCrashTwice: recovery itself is cut off, at any file operation of it.
func TestCrashTwice(t *testing.T) {
	for seed := range uint64(4) {
		r := newCrashRig(t, 200+seed, 2, nil)
		r.open()
		r.run(60)
		r.mu.Lock()
		first := r.clones
		r.percent = 0
		r.mu.Unlock()
		for _, c := range first {
			// The second rig works on the first one's clone; what was durable
			// at the first crash must survive the second.
			second := newCrashRig(t, seed, 15, nil)
			c.fs = c.fs.CrashClone(vfs.CrashCloneCfg{}) // crashable again
			second.mem, second.history = c.fs, r.history
			e, err := Open(second.options())
			if err != nil {
				t.Fatal(err)
			}
			n := &node{t: t, e: e}
			second.setNode(n)
			if _, err := e.Recover(t.Context(), n.replay); err != nil {
				t.Fatal(err)
			}
			second.finish()
		}
		r.finish()
	}
}

// TestDropSurvivesCrash: a crash between the commit of a drop and the deletion
// of the range leaves the mark; the next start deletes.
func TestDropSurvivesCrash(t *testing.T) {
	mem := vfs.NewCrashableMem()
	n := openNode(t, testOptions(mem))
	n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey("a"), []byte("1")) })
	// The mark without the deletion: as if the crash came in between.
	n.mustCommit(func(u *RecoveryUnit) { u.Set(droppedKey(testTable), nil) })
	if err := n.e.Flush(); err != nil {
		t.Fatal(err)
	}
	clone := mem.CrashClone(vfs.CrashCloneCfg{})
	if err := n.e.Close(); err != nil {
		t.Fatal(err)
	}
	n = openNode(t, testOptions(clone))
	n.e.WaitDropped()
	if got := dump(t, n.e); got != "" {
		t.Fatalf("the dropped table still has %s", got)
	}
	if _, err := n.e.Get(droppedKey(testTable), nil); !errors.Is(err, ErrNotFound) {
		t.Fatalf("the mark is still there: %v", err)
	}
	if err := n.e.Close(); err != nil {
		t.Fatal(err)
	}
}
