package pitr

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	dbson "go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/backup/repo/repotest"
)

// newFaultyEnv is a server of its own and a repository on a store that can go wrong.
func newFaultyEnv(t *testing.T, attempts int) (*Env, *repotest.Faulty) {
	t.Helper()
	f := repotest.NewFaulty()
	o := repo.Options{Retry: repo.Retry{Attempts: attempts, First: time.Millisecond, Max: 2 * time.Millisecond}}
	r := must(repo.Init(t.Context(), f.URL(), repo.InitOptions{Options: o}))(t)
	t.Cleanup(func() { _ = r.Close() })
	return &Env{Repo: r, Client: connect(t, cairntest.Start(t)), Tool: "test", Pace: -1, Embedded: embedded}, f
}

// whole verifies the repository and restores its end, which must be what the server has.
func whole(t *testing.T, e *Env) {
	t.Helper()
	if v, err := e.Verify(t.Context(), VerifyOptions{}, func(s string) { t.Log(s) }); err != nil {
		t.Fatalf("%v %+v", err, v)
	}
	st := must(e.State(t.Context()))(t)
	if len(st.Coverage.Windows) != 1 || len(st.Coverage.Gaps) != 0 {
		t.Fatalf("windows %+v, gaps %+v", st.Coverage.Windows, st.Coverage.Gaps)
	}
	end, _ := st.Coverage.Newest()
	if back, want := restoreTo(t, e, end.TS), stateOf(t, e.Client); back != want {
		t.Errorf("comes back as\n%s\nbut was\n%s", back, want)
	}
}

// A store that fails a third of all calls, before they happen, after, or in the middle, costs
// repetitions and nothing else.
func TestStoreErrors(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e, f := newFaultyEnv(t, 30)
	coll := e.Client.Database("d").Collection("c")
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(1, 1))
	f.Set(func(string, string) repotest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if rnd.IntN(3) > 0 {
			return repotest.Fault{}
		}
		return repotest.Fault{Err: fmt.Errorf("the store: %w", io.ErrUnexpectedEOF), Late: rnd.IntN(2) == 0, Half: rnd.IntN(2) == 0}
	})
	must(coll.InsertMany(ctx, docs(500, 0)))(t)
	must(e.Full(ctx, FullOptions{}))(t)
	for i := range 5 {
		must(coll.InsertMany(ctx, docs(300, 1000+300*i)))(t)
		must(e.Incr(ctx, IncrOptions{SliceBytes: 20_000}))(t)
	}
	must(e.Full(ctx, FullOptions{}))(t)
	must(coll.DeleteMany(ctx, dbson.D{{Key: "age", Value: 7}}))(t)
	must(e.Incr(ctx, IncrOptions{}))(t)
	must(e.merge(ctx))(t)
	must(e.Prune(ctx, PruneOptions{Policy: chain.Policy{Last: 1}}))(t)
	whole(t, e)
	if n := e.Repo.Requests().Retries; n == 0 {
		t.Error("nothing went wrong")
	}
}

// A store that goes away for good at any kind of call ends the operation with an error that names the
// call; nothing that is not whole counts, and when the store is back the chain goes on.
func TestStoreGoesAway(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	faults := map[string]repotest.Fault{
		"gone": {Err: io.ErrClosedPipe}, "answer lost": {Err: io.ErrClosedPipe, Late: true},
		"half": {Err: io.ErrUnexpectedEOF, Half: true}, "full disk": {Err: fmt.Errorf("write: %w", syscall.ENOSPC)},
	}
	calls := []string{"put locks/", "stat locks/", "delete locks/", "list locks/", "get manifests/", "list manifests/", "list index/", "put packs/", "put index/", "put manifests/"}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			e, f := newFaultyEnv(t, 1)
			coll := e.Client.Database("d").Collection("c")
			must(coll.InsertMany(ctx, docs(300, 0)))(t)
			must(e.Full(ctx, FullOptions{}))(t)
			must(coll.InsertMany(ctx, docs(300, 300)))(t)
			must(e.Incr(ctx, IncrOptions{}))(t)
			n := 1000
			for _, call := range calls {
				if name == "full disk" && !strings.HasPrefix(call, "put") {
					continue
				}
				for kind, op := range map[string]func() error{
					"incr": func() error { _, err := e.Incr(ctx, IncrOptions{}); return err },
					"full": func() error { _, err := e.Full(ctx, FullOptions{}); return err },
				} {
					must(coll.InsertMany(ctx, docs(200, n)))(t) // more than fits into a manifest
					n += 200
					var gone atomic.Bool
					f.Set(func(op, object string) repotest.Fault {
						if strings.HasPrefix(op+" "+object, call) {
							gone.Store(true)
						}
						if !gone.Load() || name == "full disk" && op != "put" {
							return repotest.Fault{}
						}
						return fault
					})
					err := op()
					f.Set(nil)
					var se *repo.StoreError
					if !errors.As(err, &se) && !errors.Is(err, repo.ErrLockLost) {
						t.Fatalf("%s, at %s: %v", kind, call, err)
					}
					if name == "full disk" && !strings.Contains(err.Error(), "free space") {
						t.Fatalf("%s, at %s: %v", kind, call, err)
					}
				}
			}
			must(e.Incr(ctx, IncrOptions{}))(t)
			whole(t, e)
		})
	}
}

// Who watches may have no right to write: the status says what it cannot know, and nothing is changed.
func TestStatusOfWhoMayOnlyRead(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e, f := newFaultyEnv(t, 1)
	must(e.Full(ctx, FullOptions{}))(t)
	for op, known := range map[string]bool{"put": true, "get": false} {
		f.Set(func(kind, _ string) repotest.Fault {
			if kind == op {
				return repotest.Fault{Err: fmt.Errorf("open: %w", syscall.EACCES)}
			}
			return repotest.Fault{}
		})
		s, err := e.Status(ctx)
		if known && (err != nil || s.Newest == nil || s.NoLocks == nil || !strings.Contains(s.NoLocks.Error(), "permission denied")) {
			t.Errorf("without the right to %s: %+v %v", op, s, err)
		}
		if !known && err == nil {
			t.Errorf("without the right to %s nothing is known", op)
		}
	}
}

// The continuous backup outlives a store that is away for a while, and loses nothing.
func TestRunOutlivesTheStore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e, f := newFaultyEnv(t, 1)
	coll := e.Client.Database("d").Collection("c")
	r := must(e.NewRunner(RunOptions{Every: 10 * time.Millisecond, IdleEvery: 10 * time.Millisecond}))(t)
	stop := startRun(t, r)
	waitFor(t, "the first slice", func() bool {
		must(coll.InsertOne(ctx, dbson.D{}))(t)
		return r.Status().Slices > 0
	})
	f.Set(func(string, string) repotest.Fault { return repotest.Fault{Err: io.ErrClosedPipe} })
	must(coll.InsertMany(ctx, docs(100, 0)))(t)
	waitFor(t, "a failure", func() bool { return r.Status().LastError != "" })
	must(coll.InsertMany(ctx, docs(100, 100)))(t)
	f.Set(nil)
	end := newest(t, e)
	waitFor(t, "the end", func() bool { return r.Status().Stored.TS >= end })
	if s := r.Status(); s.LastError != "" || s.Retries == 0 {
		t.Errorf("%+v", s)
	}
	stop()
	whole(t, e)
}

// A store that is away for the objects of locks alone, for longer than a lock lives: whoever holds one ends,
// with an error that says why, and writes nothing more, though the store would take it. What was signed off
// before stays, and when the store is back everything goes on.
func TestStoreAwayForLocks(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e, f := newFaultyEnv(t, 1)
	var ahead atomic.Int64
	e.Repo = must(repo.Open(ctx, f.URL(), repo.OpenOptions{Options: repo.Options{Retry: repo.Retry{Attempts: 1}, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }}}))(t)
	t.Cleanup(func() { _ = e.Repo.Close() })
	coll := e.Client.Database("d").Collection("c")
	must(coll.InsertMany(ctx, docs(300, 0)))(t)
	must(e.Full(ctx, FullOptions{}))(t)
	n := 1000
	for _, at := range []string{"put packs/", "put index/"} {
		for kind, op := range map[string]func() error{
			"incr": func() error { _, err := e.Incr(ctx, IncrOptions{}); return err },
			"full": func() error { _, err := e.Full(ctx, FullOptions{}); return err },
		} {
			must(coll.InsertMany(ctx, docs(2000, n)))(t)
			n += 2000
			var away atomic.Bool
			var writes atomic.Int64
			f.Set(func(op, object string) repotest.Fault {
				switch {
				case strings.HasPrefix(object, "locks/") && away.Load():
					return repotest.Fault{Err: io.ErrClosedPipe}
				case strings.HasPrefix(op+" "+object, at) && !away.Swap(true):
					ahead.Add(int64(2 * repo.DefaultLockTTL)) // this one is on its way; none comes after it
				case away.Load() && op != "get" && op != "list" && op != "stat":
					writes.Add(1)
				}
				return repotest.Fault{}
			})
			err := op()
			f.Set(nil)
			var lapsed *repo.LapsedError
			if !away.Load() || !errors.As(err, &lapsed) || !errors.Is(err, repo.ErrLockLost) {
				t.Errorf("%s at %s: %v", kind, at, err)
			}
			if w := writes.Load(); w > 0 {
				t.Errorf("%s at %s: %d writes after the lock's end", kind, at, w)
			}
		}
	}
	must(e.Incr(ctx, IncrOptions{}))(t)

	// The continuous backup gives such a lock up as well, and goes on under another one.
	r := must(e.NewRunner(RunOptions{Every: 10 * time.Millisecond, IdleEvery: 10 * time.Millisecond}))(t)
	stop := startRun(t, r)
	waitFor(t, "the first slice", func() bool {
		must(coll.InsertOne(ctx, dbson.D{}))(t)
		return r.Status().Slices > 0
	})
	f.Set(func(_, object string) repotest.Fault {
		if strings.HasPrefix(object, "locks/") {
			return repotest.Fault{Err: io.ErrClosedPipe}
		}
		return repotest.Fault{}
	})
	ahead.Add(int64(2 * repo.DefaultLockTTL))
	waitFor(t, "the lock's end", func() bool {
		must(coll.InsertOne(ctx, dbson.D{}))(t)
		return strings.Contains(r.Status().LastError, "another process may take it over")
	})
	f.Set(nil)
	end := newest(t, e)
	waitFor(t, "the end", func() bool { return r.Status().Stored.TS >= end })
	stop()
	whole(t, e)
}
