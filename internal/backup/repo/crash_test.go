package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// sound says that the repository has no damage and all its backups read back as they were.
func sound(t *testing.T, r *Repo, want map[string]map[string][]byte) {
	t.Helper()
	ctx := context.Background()
	list, err := r.Manifests(ctx)
	check(t, err)
	for _, m := range list {
		streams, ok := want[m.Options["name"]]
		if !ok {
			t.Fatalf("a backup %q that nobody made", m.Options["name"])
		}
		wantStreams(t, r, m, streams)
	}
	_, err = r.Verify(ctx, VerifyOptions{Percent: 100}, func(f Finding) {
		if !f.Kind.Note() {
			t.Errorf("verify: %s", f)
		}
	})
	check(t, err)
}

func named(name string) *Manifest {
	return &Manifest{Kind: "full", Options: map[string]string{"name": name}}
}

// The store goes away at every single change that a backup, a deletion and a sweep with repacking
// make, with and without the change having happened. What is left is always whole, what was
// signed off before is there, and the same work succeeds afterwards.
func TestCrashAtEveryOperation(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a := map[string][]byte{"x": noise(1, 700<<10), "y": noise(2, 100<<10)}
	b := map[string][]byte{"x": append(noise(1, 300<<10), noise(3, 500<<10)...), "y": noise(2, 100<<10)}
	want := map[string]map[string][]byte{"a": a, "b": b}
	// work is one process; it may be killed anywhere.
	work := func(r *Repo) error {
		lk, err := r.Lock(ctx, Shared)
		if err != nil {
			return err
		}
		if err := writeUnder(ctx, r, lk, named("b"), b); err != nil {
			return err
		}
		if err := lk.Release(ctx); err != nil {
			return err
		}
		sw, err := r.Lock(ctx, Sweeping)
		if err != nil {
			return err
		}
		list, err := r.Manifests(ctx)
		if err != nil {
			return err
		}
		for _, m := range list {
			if m.Options["name"] == "a" {
				if err := r.Delete(ctx, sw, m.ID); err != nil {
					return err
				}
			}
		}
		if _, err := r.Sweep(ctx, sw, SweepOptions{Repack: 0.01}); err != nil {
			return err
		}
		return sw.Release(ctx)
	}
	for _, enc := range []bool{false, true} {
		for _, late := range []bool{false, true} {
			if enc && late {
				continue // what differs is only what the bytes are
			}
			for n := 1; ; n += thin {
				r := newRepo(t, func(o *InitOptions) {
					if enc {
						encrypted(o)
					}
				})
				lk := must(r.Lock(ctx, Shared))(t)
				check(t, writeUnder(ctx, r, lk, named("a"), a))
				check(t, lk.Release(ctx))

				f := &faulty{crashAt: n, late: late}
				err := work(reopen(t, r, withFaults(f)))
				if !f.gone {
					check(t, err) // past the last operation
					if n < 15 {
						t.Fatalf("only %d operations", n)
					}
					break
				}
				if err == nil {
					t.Fatalf("operation %d failed and nobody noticed", n)
				}
				what := fmt.Sprintf("encrypted %v, late %v, operation %d: %v", enc, late, n, err)
				t.Run(what, func(t *testing.T) {
					after := reopen(t, r)
					sound(t, after, want)
					// Locks of the killed process are in the way of nobody but an exclusive taker;
					// this one is not known to be dead, since its process is ours.
					for _, l := range must(after.Locks(ctx))(t) {
						check(t, after.RemoveLock(ctx, l.ID))
					}
					check(t, work(after))
					sound(t, reopen(t, r), want)
					list := must(after.Manifests(ctx))(t)
					if !slices.ContainsFunc(list, func(m *Manifest) bool { return m.Options["name"] == "b" }) ||
						slices.ContainsFunc(list, func(m *Manifest) bool { return m.Options["name"] == "a" }) {
						t.Fatalf("%d backups after the work was done again", len(list))
					}
					// One more sweep, and nothing is left that is not needed.
					sw := must(after.Lock(ctx, Sweeping))(t)
					_, err := after.Sweep(ctx, sw, SweepOptions{Repack: 0.01})
					check(t, err)
					check(t, sw.Release(ctx))
					_, err = after.Verify(ctx, VerifyOptions{}, func(f Finding) { t.Errorf("left over: %s", f) })
					check(t, err)
				})
				if t.Failed() {
					return
				}
			}
		}
	}
}

// What was uploaded before a crash is not uploaded again.
func TestInterruptedBackupIsResumed(t *testing.T) {
	ctx := context.Background()
	r := newRepo(t)
	data := map[string][]byte{"s": noise(1, 8<<20)}
	packs := 0
	f := &faulty{}
	f.fail = func(op, name string) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if op == "put" && strings.HasPrefix(name, kindPack.prefix()) {
			if packs++; packs > 20 {
				f.gone = true
				return errCrash
			}
		}
		return nil
	}
	if _, err := tryBackup(reopen(t, r, withFaults(f)), data); !errors.Is(err, errCrash) {
		t.Fatalf("the crash was not noticed: %v", err)
	}
	after := reopen(t, r)
	for _, l := range must(after.Locks(ctx))(t) {
		check(t, after.RemoveLock(ctx, l.ID))
	}
	m := backup(t, after, data)
	// Two index objects of 8 packs were written, 16 of about 33 packs are found again.
	if m.Written.Packs > 20 || m.Written.NewBytes > 5<<20 {
		t.Fatalf("the second try wrote %+v", m.Written)
	}
	wantStreams(t, reopen(t, r), m, data)
}

// Requests that fail for a while are tried again; the backup does not notice.
func TestTransientErrors(t *testing.T) {
	r := newRepo(t)
	n := 0
	f := &faulty{}
	f.fail = func(op, name string) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if n++; n%3 == 0 {
			return errors.New("503 slow down")
		}
		return nil
	}
	flaky := reopen(t, r, withFaults(f), func(o *Options) { o.Retry.Attempts = 6 })
	data := map[string][]byte{"s": noise(1, 3<<20)}
	m := backup(t, flaky, data)
	wantStreams(t, flaky, m, data)
	if q := flaky.Requests(); q.Retries < 5 {
		t.Fatalf("requests: %+v", q)
	}
}
