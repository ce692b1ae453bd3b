package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// sweepAll deletes the given manifests and sweeps.
func sweepAll(t testing.TB, r *Repo, o SweepOptions, ids ...string) SweepStats {
	t.Helper()
	ctx := context.Background()
	lk := must(r.Lock(ctx, Sweeping))(t)
	check(t, r.Delete(ctx, lk, ids...))
	st := must(r.Sweep(ctx, lk, o))(t)
	check(t, lk.Release(ctx))
	return st
}

func TestSweep(t *testing.T) {
	ctx := context.Background()
	for _, change := range []func(*InitOptions){func(*InitOptions) {}, encrypted} {
		r := newRepo(t, change)
		one, two := noise(1, 2<<20), noise(2, 2<<20)
		a := backup(t, r, map[string][]byte{"s": one})
		b := backup(t, r, map[string][]byte{"s": two})
		// Every fifth part of both: what is left of their packs is a third or so.
		var mix []byte
		for i := 0; i < len(one); i += 250 << 10 {
			mix = append(mix, one[i:min(i+80<<10, len(one))]...)
		}
		c := backup(t, r, map[string][]byte{"s": mix})

		if st := sweepAll(t, r, SweepOptions{}); st.Unused != 0 || st.Repacked != 0 || st.Deleted != 0 {
			t.Fatalf("something is unused: %+v", st)
		}
		// A dry run says what the real one does.
		before := must(contents(r))(t)
		lk := must(r.Lock(ctx, Sweeping))(t)
		early := must(r.Sweep(ctx, lk, SweepOptions{DryRun: true, Without: []string{a.ID, b.ID}}))(t)
		check(t, r.Delete(ctx, lk, a.ID, b.ID))
		dry := must(r.Sweep(ctx, lk, SweepOptions{DryRun: true}))(t)
		if early.Deleted != dry.Deleted || early.DeletedBytes != dry.DeletedBytes || early.RewrittenStored != dry.RewrittenStored {
			t.Fatalf("before the backups are deleted: %+v\nafter: %+v", early, dry)
		}
		if after := must(contents(r))(t); len(after) != len(before)-2+1 {
			t.Fatalf("a dry run changed the store from %d to %d objects", len(before), len(after))
		}
		st := must(r.Sweep(ctx, lk, SweepOptions{}))(t)
		check(t, lk.Release(ctx))
		if dry.Unused != st.Unused || dry.Repacked != st.Repacked || dry.RewrittenBytes != st.RewrittenBytes || dry.Deleted != st.Deleted || dry.DeletedBytes != st.DeletedBytes {
			t.Fatalf("dry run: %+v\nreal run: %+v", dry, st)
		}
		if ratio := float64(dry.RewrittenStored) / float64(st.RewrittenStored); ratio < 0.8 || ratio > 1.2 {
			t.Fatalf("a dry run says that %d bytes are stored anew, it was %d", dry.RewrittenStored, st.RewrittenStored)
		}
		if st.Unused < 7 || st.Repacked < 7 || st.Deleted != st.Unused+st.Repacked {
			t.Fatalf("%+v", st)
		}
		n := reopen(t, r)
		wantStreams(t, n, c, map[string][]byte{"s": mix})
		wantStreams(t, r, c, map[string][]byte{"s": mix})
		_, err := n.Verify(ctx, VerifyOptions{Percent: 100}, func(f Finding) { t.Errorf("finding %s", f) })
		check(t, err)
		var size int
		for _, data := range must(contents(r))(t) {
			size += len(data)
		}
		if size > len(mix)*13/10 {
			t.Errorf("%d bytes are left for %d", size, len(mix))
		}
		// With the last backup goes all.
		sweepAll(t, r, SweepOptions{}, c.ID)
		all := must(contents(r))(t)
		for name := range all {
			if k := kindOfName(name); k != "marker" && k != "key" {
				t.Errorf("left: %s", name)
			}
		}
	}
}

func TestSweepMergesIndexes(t *testing.T) {
	r := newRepo(t)
	streams := map[*Manifest]map[string][]byte{}
	for i := range 20 {
		data := map[string][]byte{"s": noise(uint64(i), 20<<10)}
		streams[backup(t, r, data)] = data
	}
	st := sweepAll(t, r, SweepOptions{})
	if st.IndexesBefore != 20 || st.Indexes != 1 {
		t.Fatalf("%+v", st)
	}
	n := reopen(t, r)
	for m, data := range streams {
		wantStreams(t, n, m, data)
	}
}

// A manifest that cannot be read: nothing is known, nothing is deleted.
func TestSweepStopsAtDamage(t *testing.T) {
	ctx := context.Background()
	r := newRepo(t)
	a := backup(t, r, map[string][]byte{"s": noise(1, 500<<10)})
	b := backup(t, r, map[string][]byte{"s": noise(2, 500<<10)})
	lk := must(r.Lock(ctx, Sweeping))(t)
	check(t, r.Delete(ctx, lk, a.ID))
	check(t, r.store.put(ctx, manifestName(b.ID), []byte("no manifest")))
	before := must(contents(r))(t)
	var c *CorruptError
	if _, err := r.Sweep(ctx, lk, SweepOptions{}); !errors.As(err, &c) || c.Object != manifestName(b.ID) {
		t.Fatalf("%v", err)
	}
	for name := range before {
		if _, err := r.store.get(ctx, name); err != nil && kindOfName(name) != "lock" {
			t.Errorf("%s is gone", name)
		}
	}
	check(t, lk.Release(ctx))
}

// A writer whose data equals what a sweep is about to delete begins and signs off at any two
// moments of the sweep. Whatever the order, its backup reads back whole.
func TestSweepBesideWriter(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	data := map[string][]byte{"s": noise(1, 150<<10)}
	mix := map[string][]byte{"s": append(noise(1, 40<<10), noise(3, 60<<10)...)}
	steps := 0
	run := func(begin, commit int, repack bool) {
		c, f, a, b := sharedClock(t, func(o *InitOptions) { o.PackSize = minPackSize })
		old := backup(t, a, data)
		keep := backup(t, a, mix)
		c.move(24 * time.Hour)

		var lk *Lock
		var w *Writer
		m := &Manifest{}
		step := 0
		var mu sync.Mutex
		turn := func() (more bool) {
			if !mu.TryLock() { // the writer's own calls
				return true
			}
			defer mu.Unlock()
			defer func() { step++ }()
			if step == begin {
				lk = must(a.Lock(ctx, Shared))(t)
				w = must(a.NewWriter(ctx, lk))(t)
				s := w.Stream("s")
				_, err := s.Write(data["s"])
				check(t, err)
				check(t, s.Close())
			}
			if step == commit && w != nil {
				check(t, w.Commit(ctx, m))
				check(t, lk.Release(ctx))
				w = nil
			}
			return w != nil || step < commit
		}
		turn()
		sw := must(b.Lock(ctx, Sweeping))(t)
		f.hook(func(string, string) { turn() })
		check(t, b.Delete(ctx, sw, old.ID))
		o := SweepOptions{Repack: 1}
		if repack {
			o.Repack = 0.05
		}
		st, err := b.Sweep(ctx, sw, o)
		check(t, err)
		for turn() { // what did not fit in
		}
		steps = max(steps, step)
		f.hook(nil)
		what := fmt.Sprintf("begin at %d, commit at %d, repack %v, %+v", begin, commit, repack, st)
		both := func() {
			t.Helper()
			n := reopen(t, a)
			for m, want := range map[*Manifest][]byte{m: data["s"], keep: mix["s"]} {
				got, err := readBack(n, m.Streams[0])
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%s: %d bytes, %v", what, len(got), err)
				}
			}
			_, err := n.Verify(ctx, VerifyOptions{Percent: 100}, func(f Finding) {
				if !f.Kind.Note() {
					t.Fatalf("%s: %s", what, f)
				}
			})
			check(t, err)
		}
		both()
		// And a sweep later, when what was condemned is deleted or rescued.
		c.move(time.Hour)
		_, err = b.Sweep(ctx, sw, o)
		check(t, err)
		both()
		check(t, sw.Release(ctx))
	}
	for _, repack := range []bool{false, true} {
		steps = 0
		run(0, 0, repack)
		n := steps
		if n < 20 {
			t.Fatalf("a sweep of %d steps", n)
		}
		for begin := 0; begin < n; begin += thin + begin/8 {
			for commit := begin; commit < n+2; commit += thin + (commit-begin)/2 {
				run(begin, commit, repack)
			}
		}
	}
}
