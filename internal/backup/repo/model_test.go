package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestModel runs random backups, deletions, sweeps, index rebuilds, restarts and crashes against a
// model that is a map of what was signed off, on the test's own clock. A deletion that crashed may
// have happened; all else must be exactly as in the model.
func TestModel(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		f := &faulty{clock: c}
		o := InitOptions{Options: fast(), PackSize: minPackSize}
		withFaults(f)(&o.Options)
		o.Retry.Attempts = 1
		if rapid.Bool().Draw(t, "encrypted") {
			o.Passphrase = "p"
		}
		r, err := Init(ctx, "mem://"+randomHex(8), o)
		if err != nil {
			t.Fatal(err)
		}
		model := map[string][]byte{}
		maybe := map[string]bool{} // deletion was interrupted
		var held *Lock             // a long-lived process's
		content := func() []byte {
			var b []byte
			for range rapid.IntRange(0, 6).Draw(t, "parts") {
				b = append(b, noise(uint64(rapid.IntRange(1, 8).Draw(t, "seed")), rapid.IntRange(0, 40<<10).Draw(t, "size"))...)
			}
			return b
		}
		// guard allows for a crash in the middle of fn.
		guard := func(t *rapid.T, fn func() error) bool {
			if rapid.IntRange(0, 2).Draw(t, "crash") == 0 {
				f.mu.Lock()
				f.crashAt, f.late = f.calls+rapid.IntRange(1, 12).Draw(t, "at"), rapid.Bool().Draw(t, "late")
				f.mu.Unlock()
			}
			err := fn()
			f.mu.Lock()
			crashed := f.gone
			f.gone, f.crashAt = false, 0
			f.mu.Unlock()
			if err != nil && !crashed {
				t.Fatalf("%v", err)
			}
			if crashed { // a new process; the old one's locks become stale
				if held != nil {
					held.stop()
					held = nil
				}
				c.move(time.Hour)
				n, err := Open(ctx, r.url, OpenOptions{o.Options})
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				r = n
			}
			return err == nil
		}
		under := func(kind LockKind, fn func(*Lock) error) error {
			lk, err := r.Lock(ctx, kind)
			if err != nil {
				return err
			}
			defer lk.stop()
			if err := fn(lk); err != nil {
				return err
			}
			return lk.Release(ctx)
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				list, err := r.Manifests(ctx)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range list {
					want, ok := model[m.ID]
					got, err := readBack(r, m.Streams[0])
					if !ok || err != nil || !bytes.Equal(got, want) {
						t.Fatalf("backup %s: known %v, %d bytes of %d, %v", m.ID, ok, len(got), len(want), err)
					}
				}
				for id := range model {
					found := false
					for _, m := range list {
						found = found || m.ID == id
					}
					if !found && !maybe[id] {
						t.Fatalf("backup %s is gone", id)
					}
					if !found {
						delete(model, id)
					}
				}
			},
			"backup": func(t *rapid.T) {
				data := content()
				stream := rapid.SampledFrom([]string{"s", "log"}).Draw(t, "stream")
				m := &Manifest{}
				done := guard(t, func() error {
					return under(Shared, func(lk *Lock) error { return writeUnder(ctx, r, lk, m, map[string][]byte{stream: data}) })
				})
				if m.ID != "" {
					model[m.ID] = data
					maybe[m.ID] = !done // it may have been signed off, and only the answer or the release failed
				}
			},
			"delete and sweep": func(t *rapid.T) {
				guard(t, func() error {
					return under(Sweeping, func(lk *Lock) error {
						for _, id := range sortedKeys(model) {
							if rapid.IntRange(0, 2).Draw(t, "delete") == 0 {
								maybe[id] = true
								if err := r.Delete(ctx, lk, id); err != nil {
									return err
								}
							}
						}
						_, err := r.Sweep(ctx, lk, SweepOptions{Repack: rapid.Float64Range(0.01, 1).Draw(t, "repack")})
						return err
					})
				})
			},
			"hold": func(t *rapid.T) {
				if held == nil {
					lk, err := r.Lock(ctx, Shared)
					if err != nil {
						t.Fatal(err)
					}
					held = lk
				}
			},
			"advance": func(t *rapid.T) {
				c.move(5 * time.Minute)
				if held != nil && rapid.Bool().Draw(t, "release") {
					if err := held.Release(ctx); err != nil && !errors.Is(err, ErrLockLost) {
						t.Fatal(err)
					}
					held = nil
				} else if held != nil {
					if err := held.Advance(ctx); err != nil && !errors.Is(err, ErrLockLost) {
						t.Fatal(err)
					}
				}
			},
			"rebuild": func(t *rapid.T) {
				if held == nil {
					guard(t, func() error {
						return under(Exclusive, func(lk *Lock) error { _, err := r.RebuildIndex(ctx, lk); return err })
					})
				}
			},
			"verify": func(t *rapid.T) {
				_, err := r.Verify(ctx, VerifyOptions{Percent: 100}, func(f Finding) {
					if !f.Kind.Note() {
						t.Fatal(f.String())
					}
				})
				if err != nil {
					t.Fatal(err)
				}
			},
		})
		if held != nil {
			held.stop()
		}
		if err := r.Close(); err != nil {
			t.Fatal(fmt.Errorf("close: %w", err))
		}
	})
}
