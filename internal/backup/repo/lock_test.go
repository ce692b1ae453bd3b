package repo

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// shared returns two views of one store that go by one clock of the test.
func sharedClock(t testing.TB, change ...func(*InitOptions)) (*clock, *faulty, *Repo, *Repo) {
	c := newClock()
	f := &faulty{clock: c}
	r := newRepo(t, append(change, func(o *InitOptions) { withFaults(f)(&o.Options); o.Now = c.now })...)
	return c, f, r, reopen(t, r)
}

func TestLockKinds(t *testing.T) {
	ctx := context.Background()
	r := newRepo(t)
	for _, c := range []struct {
		a, b   LockRequest
		beside bool
	}{
		{LockRequest{Kind: Shared}, LockRequest{Kind: Shared}, true},
		{LockRequest{Kind: Shared}, LockRequest{Kind: Sweeping}, true},
		{LockRequest{Kind: Sweeping}, LockRequest{Kind: Shared}, true},
		{LockRequest{Kind: Sweeping}, LockRequest{Kind: Sweeping}, false},
		{LockRequest{Kind: Exclusive}, LockRequest{Kind: Shared}, false},
		{LockRequest{Kind: Shared}, LockRequest{Kind: Exclusive}, false},
		{LockRequest{Kind: Shared, Scope: "chain a"}, LockRequest{Kind: Shared, Scope: "chain a"}, false},
		{LockRequest{Kind: Shared, Scope: "chain a"}, LockRequest{Kind: Shared, Scope: "chain b"}, true},
	} {
		a := must(r.LockWith(ctx, c.a))(t)
		b, err := r.LockWith(ctx, c.b)
		var locked *LockedError
		switch {
		case c.beside:
			check(t, err)
			check(t, b.Release(ctx))
		case !errors.As(err, &locked) || locked.Holders[0].ID != a.Info().ID || !strings.Contains(err.Error(), "tester@host"):
			t.Errorf("%v after %v: %v", c.b, c.a, err)
		}
		check(t, a.Release(ctx))
		if left := must(r.store.list(ctx, kindLock.prefix()))(t); len(left) != 0 {
			t.Fatalf("%v are left", left)
		}
	}
	if _, err := r.Lock(ctx, "no"); err == nil {
		t.Error("an unknown kind was accepted")
	}
	if _, err := r.NewWriter(ctx, nil); err == nil {
		t.Error("a writer without a lock")
	}
	lk := must(r.Lock(ctx, Shared))(t)
	if r.Delete(ctx, lk, "x") == nil {
		t.Error("a shared lock may delete")
	}
	if _, err := r.Sweep(ctx, lk, SweepOptions{}); err == nil {
		t.Error("a shared lock may sweep")
	}
	check(t, lk.Release(ctx))
}

// Of many takers at once never two hold an exclusive lock, and all get it in the end.
func TestExclusiveRace(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRepo(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	holders, turns := 0, 0
	for range 6 {
		wg.Go(func() {
			lk, err := r.LockWith(ctx, LockRequest{Kind: Exclusive, Wait: time.Minute})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			if holders++; holders != 1 {
				t.Errorf("%d holders", holders)
			}
			turns++
			mu.Unlock()
			check(t, lk.Check(ctx))
			mu.Lock()
			holders--
			mu.Unlock()
			if err := lk.Release(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if turns != 6 {
		t.Fatalf("%d turns", turns)
	}
}

// Every order of the steps of two takers: the second runs whole at each store call of the first.
func TestExclusiveInterleavings(t *testing.T) {
	ctx := context.Background()
	for at := 1; at < 6; at++ {
		r := newRepo(t)
		f := &faulty{}
		n := 0
		var second *Lock
		var secondErr error
		f.after = func(op, name string) {
			if n++; n == at {
				second, secondErr = r.Lock(ctx, Exclusive)
			}
		}
		first, err := reopen(t, r, withFaults(f)).Lock(ctx, Exclusive)
		if err == nil && second != nil && secondErr == nil && n >= at {
			t.Fatalf("both hold after step %d", at)
		}
		if err == nil {
			check(t, first.Release(ctx))
		}
		if second != nil {
			check(t, second.Release(ctx))
		}
	}
}

// A lock that was not refreshed is taken over; its holder notices before he signs off.
func TestStaleLockIsTakenOver(t *testing.T) {
	ctx := context.Background()
	c, _, a, b := sharedClock(t)
	old := must(a.Lock(ctx, Shared))(t)
	w := must(a.NewWriter(ctx, old))(t)
	s := w.Stream("s")
	_, err := s.Write(noise(1, 100<<10)) // no pack before the end: before a write the lock would be renewed
	check(t, err)
	check(t, s.Close())

	c.move(29 * time.Minute)
	if _, err := b.Lock(ctx, Exclusive); err == nil {
		t.Fatal("a live lock was taken over")
	}
	c.move(2 * time.Minute)
	infos := must(b.Locks(ctx))(t)
	if len(infos) != 1 || !strings.Contains(infos[0].Stale, "not refreshed for 31m") {
		t.Fatalf("%v", infos)
	}
	taken := must(b.Lock(ctx, Exclusive))(t)
	if err := w.Commit(ctx, &Manifest{}); !errors.Is(err, ErrLockLost) {
		t.Fatalf("the writer signed off: %v", err)
	}
	if err := old.Release(ctx); !errors.Is(err, ErrLockLost) {
		t.Fatalf("released: %v", err)
	}
	if list := must(b.Manifests(ctx))(t); len(list) != 0 {
		t.Fatalf("%d manifests", len(list))
	}
	check(t, taken.Check(ctx))
	check(t, taken.Release(ctx))
}

// The holder of a lock that looks stale comes back at every step of who takes it over: never do
// both go on.
func TestTakeOverInterleavings(t *testing.T) {
	ctx := context.Background()
	for at := 1; at < 12; at++ {
		c, f, a, b := sharedClock(t)
		old := must(a.Lock(ctx, Exclusive))(t)
		c.move(time.Hour)
		n := 0
		busy := false
		var back error = errors.New("not tried")
		f.after = func(op, name string) {
			if busy {
				return
			}
			if n++; n == at {
				busy = true
				back = old.Check(ctx) // refreshes, for an hour has passed
				busy = false
			}
		}
		lk, err := b.Lock(ctx, Exclusive)
		f.after = nil
		if err == nil && back == nil {
			if old.Check(ctx) == nil {
				t.Fatalf("both hold the lock after step %d", at)
			}
		}
		if err == nil {
			check(t, lk.Release(ctx))
		}
		old.stop()
	}
}

// Clocks that jump, forward or back, on the holder's machine: the store decides, the backup goes on.
func TestClockJumps(t *testing.T) {
	ctx := context.Background()
	for _, jump := range []time.Duration{48 * time.Hour, -48 * time.Hour} {
		own := newClock()
		r := newRepo(t)
		a := reopen(t, r, func(o *Options) { o.Now = own.now })
		lk := must(a.Lock(ctx, Shared))(t)
		w := must(a.NewWriter(ctx, lk))(t)
		s := w.Stream("s")
		_, err := s.Write(noise(1, 200<<10))
		check(t, err)
		check(t, s.Close())
		own.move(jump)
		m := &Manifest{}
		check(t, w.Commit(ctx, m))
		check(t, lk.Check(ctx))
		check(t, lk.Release(ctx))
		wantStreams(t, reopen(t, r), m, map[string][]byte{"s": noise(1, 200<<10)})
	}
	// The store's clock jumps: others take the lock for stale, and the holder is told.
	c, _, a, b := sharedClock(t)
	lk := must(a.Lock(ctx, Shared))(t)
	w := must(a.NewWriter(ctx, lk))(t)
	c.move(48 * time.Hour)
	x := must(b.Lock(ctx, Exclusive))(t)
	if err := w.Commit(ctx, &Manifest{}); !errors.Is(err, ErrLockLost) {
		t.Fatalf("signed off: %v", err)
	}
	check(t, x.Release(ctx))
	lk.stop()
}

// A lock removed between the two checks around the signing off: the manifest is withdrawn.
func TestLockLostWhileSigningOff(t *testing.T) {
	ctx := context.Background()
	r := newRepo(t)
	f := &faulty{}
	a := reopen(t, r, withFaults(f))
	lk := must(a.Lock(ctx, Shared))(t)
	f.after = func(op, name string) {
		if op == "put" && strings.HasPrefix(name, kindManifest.prefix()) {
			check(t, r.RemoveLock(ctx, lk.info.ID))
		}
	}
	err := writeUnder(ctx, a, lk, &Manifest{}, map[string][]byte{"s": {1}})
	if !errors.Is(err, ErrLockLost) {
		t.Fatalf("%v", err)
	}
	if list := must(r.Manifests(ctx))(t); len(list) != 0 {
		t.Fatal("the manifest is there")
	}
	lk.stop()
}

// The lock refreshes itself, and a lost one stops a writer that is at work.
func TestLockKeepsItself(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRepo(t)
	a := reopen(t, r, func(o *Options) { o.LockTTL = 2 * time.Second })
	lk := must(a.Lock(ctx, Shared))(t)
	first := must(r.store.list(ctx, kindLock.prefix()))(t)[0].name
	for {
		now := must(r.store.list(ctx, kindLock.prefix()))(t)
		if len(now) > 0 && now[len(now)-1].name != first {
			break
		}
		check(t, pause(ctx, time.Millisecond))
	}
	check(t, lk.Check(ctx))
	w := must(a.NewWriter(ctx, lk))(t)
	check(t, r.RemoveLock(ctx, lk.Info().ID))
	<-lk.Lost()
	s := w.Stream("s")
	for err := error(nil); err == nil; {
		_, err = s.Write(noise(1, 100<<10)) // ends when the writer has noticed
	}
	if err := w.Commit(ctx, &Manifest{}); !errors.Is(err, ErrLockLost) {
		t.Fatalf("%v", err)
	}
	if err := lk.Release(ctx); !errors.Is(err, ErrLockLost) {
		t.Fatalf("%v", err)
	}
	if _, err := a.NewWriter(ctx, lk); !errors.Is(err, ErrLockLost) {
		t.Fatalf("%v", err)
	}
}

// The lock of a process of this machine that has ended is stale at once.
func TestLockOfADeadProcess(t *testing.T) {
	if processIdentity(os.Getpid()) == "" {
		t.Skip("this system has no /proc to tell processes apart by")
	}
	ctx := context.Background()
	cmd := exec.Command("sleep", "60")
	check(t, cmd.Start())
	pid, identity := cmd.Process.Pid, processIdentity(cmd.Process.Pid)
	r := newRepo(t)
	dead := &Lock{r: r, info: LockInfo{ID: randomHex(8), Kind: Exclusive, PID: pid, Process: identity, TTL: time.Hour}}
	check(t, dead.put(ctx))
	if _, err := r.Lock(ctx, Shared); err == nil {
		t.Fatal("the lock of a live process was taken over")
	}
	check(t, cmd.Process.Kill())
	if err := cmd.Wait(); err == nil {
		t.Fatal("the process was not killed")
	}
	lk := must(r.Lock(ctx, Shared))(t)
	check(t, lk.Release(ctx))
}

func TestAdvance(t *testing.T) {
	ctx := context.Background()
	c, _, a, b := sharedClock(t)
	m := backup(t, a, map[string][]byte{"s": noise(1, 600<<10)})
	c.move(time.Hour)
	lk := must(a.Lock(ctx, Shared))(t) // a run that holds its lock for days
	w := must(a.NewWriter(ctx, lk))(t)
	sw := must(b.Lock(ctx, Sweeping))(t)
	check(t, b.Delete(ctx, sw, m.ID))
	st := must(b.Sweep(ctx, sw, SweepOptions{}))(t)
	if st.Unused == 0 || st.Deleted != 0 || st.Condemned != st.Unused || len(st.WaitingFor) != 1 {
		t.Fatalf("%+v", st)
	}
	if lk.Advance(ctx) == nil {
		t.Fatal("advanced with a writer open")
	}
	check(t, w.Abort())
	check(t, lk.Advance(ctx))
	st2 := must(b.Sweep(ctx, sw, SweepOptions{}))(t)
	if st2.Deleted != st.Unused {
		t.Fatalf("%+v", st2)
	}
	check(t, lk.Advance(ctx)) // too soon to look again
	check(t, lk.Release(ctx))
	check(t, sw.Release(ctx))
	if all := must(contents(b))(t); len(all) != 1 {
		t.Fatalf("left: %v", sortedKeys(all))
	}
}

// A process that went with its container, whose successor cannot tell that it is gone, keeps the next
// one waiting for a minute and not longer. The clocks of both may be wrong: the store's counts.
func TestLockOfALostContainer(t *testing.T) {
	ctx := context.Background()
	c := newClock()
	f := &faulty{clock: c}
	r := newRepo(t, func(o *InitOptions) { withFaults(f)(&o.Options); o.LockTTL = 0 })
	wrong := newClock()
	wrong.move(-1000 * time.Hour)
	a := reopen(t, r, func(o *Options) { o.Now = wrong.now })
	lost := must(a.LockWith(ctx, LockRequest{Kind: Shared, Scope: "oplog"}))(t)
	lost.stop()
	<-lost.done
	lost.info.Process = "" // of another host
	check(t, lost.refresh(ctx))
	var locked *LockedError
	for range 4 {
		c.move(DefaultLockTTL / 4)
		if _, err := r.LockWith(ctx, LockRequest{Kind: Shared, Scope: "oplog"}); !errors.As(err, &locked) {
			t.Fatalf("a lock that is younger than its time to live: %v", err)
		}
	}
	c.move(time.Second)
	next := must(r.LockWith(ctx, LockRequest{Kind: Shared, Scope: "oplog"}))(t)
	if err := lost.Check(ctx); !errors.Is(err, ErrLockLost) {
		t.Fatalf("the one that was lost comes back and holds it still: %v", err)
	}
	check(t, next.Release(ctx))
}

// lapsing is a store that is away for the objects of locks alone, as one process sees it; another one has
// the same store without faults, and both go by the test's clock.
func lapsing(t *testing.T, change ...func(*Options)) (c *clock, away *faulty, holder, other *Repo) {
	c, f, r, _ := sharedClock(t)
	away = &faulty{}
	holder = reopen(t, r, append(change, func(o *Options) { o.wrap = func(backend) backend { away.backend = f; return away } })...)
	return c, away, holder, r
}

// setFail lets calls of objects of a kind fail; it counts those of the others that change the store.
func (f *faulty) setFail(k objectKind, others *int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = func(op, name string) error {
		if strings.HasPrefix(name, k.prefix()) {
			return io.ErrClosedPipe
		}
		if op == "put" || op == "remove" {
			f.mu.Lock()
			defer f.mu.Unlock()
			*others++
		}
		return nil
	}
}

// A holder that cannot renew its lock until its life is over ends itself: not because it was told so, as
// nobody can tell it, and before another may take the lock over. Nothing is written from then on.
func TestLockLapses(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []LockKind{Shared, Sweeping, Exclusive} {
		c, away, a, b := lapsing(t)
		req := LockRequest{Kind: kind, Scope: "oplog"}
		lk := must(a.LockWith(ctx, req))(t)
		w := must(a.NewWriter(ctx, lk))(t)
		s := w.Stream("s")
		must(s.Write(noise(1, 600<<10)))(t) // packs, some of them stored
		var writes int
		away.setFail(kindLock, &writes)
		// Half of its life: the store is away, but nobody can have taken the lock over.
		c.move(lk.info.TTL * 3 / 4)
		if err := lk.Check(ctx); err == nil || errors.Is(err, ErrLockLost) {
			t.Fatalf("%s: %v", kind, err)
		}
		var locked *LockedError
		if _, err := b.LockWith(ctx, req); !errors.As(err, &locked) {
			t.Fatalf("%s: taken over while it lives: %v", kind, err)
		}
		c.move(lk.info.TTL * 15 / 100)
		if _, err := b.LockWith(ctx, req); !errors.As(err, &locked) {
			t.Fatalf("%s: taken over before its holder ends: %v", kind, err)
		}
		var lapsed *LapsedError
		if err := lk.Check(ctx); !errors.As(err, &lapsed) || !errors.Is(err, ErrLockLost) || !errors.Is(err, io.ErrClosedPipe) || !strings.Contains(err.Error(), "start again when the store answers") {
			t.Fatalf("%s: %v", kind, err)
		}
		<-lk.Lost()
		<-w.ctx.Done()
		away.mu.Lock()
		writes = 0
		away.mu.Unlock()
		if _, err := s.Write(noise(2, 600<<10)); err == nil {
			t.Errorf("%s: written under a lock whose life is over", kind)
		}
		if err := w.Commit(ctx, &Manifest{}); !errors.As(err, &lapsed) {
			t.Errorf("%s: signed off: %v", kind, err)
		}
		if kind != Shared {
			if err := a.Delete(ctx, lk, "20260101T000000.000000Z-00000000"); !errors.As(err, &lapsed) {
				t.Errorf("%s: deleted: %v", kind, err)
			}
			if _, err := a.Sweep(ctx, lk, SweepOptions{}); !errors.As(err, &lapsed) {
				t.Errorf("%s: swept: %v", kind, err)
			}
		}
		if err := lk.Release(ctx); !errors.As(err, &lapsed) {
			t.Errorf("%s: released: %v", kind, err)
		}
		if away.mu.Lock(); writes > 0 {
			t.Errorf("%s: %d writes after the end", kind, writes)
		}
		away.fail = nil
		away.mu.Unlock()
		// The store is back. The old lock does not come alive; a new one of the same process goes on, and
		// meets the old one no more.
		if err := lk.Check(ctx); !errors.As(err, &lapsed) {
			t.Errorf("%s: came back: %v", kind, err)
		}
		again := must(a.LockWith(ctx, req))(t)
		check(t, again.Release(ctx))
		if left := must(b.store.list(ctx, kindLock.prefix()))(t); len(left) != 0 {
			t.Errorf("%s: left: %v", kind, left)
		}
	}
}

// The same without a clock of the test: the holder waits for nothing but a store that hangs, and ends when
// its time is over.
func TestLockLapsesByItself(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, fault := range []string{"fails", "hangs"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			r := newRepo(t)
			f := &faulty{}
			a := reopen(t, r, withFaults(f), func(o *Options) { o.LockTTL = time.Second })
			lk := must(a.Lock(ctx, Shared))(t)
			w := must(a.NewWriter(ctx, lk))(t)
			hang := make(chan struct{})
			f.mu.Lock()
			f.fail = func(op, name string) error {
				if strings.HasPrefix(name, kindLock.prefix()) && fault == "hangs" {
					select {
					case <-hang:
					case <-lk.Lost(): // as a request ends with its context
					}
				}
				return io.ErrClosedPipe
			}
			f.mu.Unlock()
			<-lk.Lost()
			close(hang)
			<-w.ctx.Done()
			var lapsed *LapsedError
			err := context.Cause(w.ctx)
			if fault == "hangs" {
				// Whatever failed last, it is the lock that is lost.
				if !errors.Is(err, ErrLockLost) {
					t.Errorf("%v", err)
				}
			} else if !errors.As(err, &lapsed) {
				t.Errorf("%v", err)
			}
			if err := w.Abort(); err != nil {
				t.Errorf("%v", err)
			}
			if err := lk.Release(ctx); !errors.Is(err, ErrLockLost) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A machine that slept, or whose clock was set, comes back: if the store answers it decides, if it does
// not, the lock is lost.
func TestLockAfterAJump(t *testing.T) {
	ctx := context.Background()
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		own := newClock()
		r := newRepo(t)
		f := &faulty{}
		a := reopen(t, r, withFaults(f), func(o *Options) { o.Now = own.now })
		lk := must(a.Lock(ctx, Shared))(t)
		own.move(jump)
		check(t, lk.hold(ctx)) // renewed on the way
		check(t, lk.hold(ctx))
		var others int
		f.setFail(kindLock, &others)
		own.move(jump)
		w := must(a.NewWriter(ctx, lk))(t)
		s := w.Stream("s")
		must(s.Write(noise(1, 100<<10)))(t)
		if err := w.Commit(ctx, &Manifest{}); !errors.Is(err, ErrLockLost) || !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%v: %v", jump, err)
		}
		if others > 0 {
			t.Errorf("%v: %d writes", jump, others)
		}
		f.mu.Lock()
		f.fail = nil
		f.mu.Unlock()
		if err := lk.Release(ctx); !errors.Is(err, ErrLockLost) {
			t.Errorf("%v: %v", jump, err)
		}
	}
}
