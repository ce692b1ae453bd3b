// Package repotest is the suite that a store must pass to carry a backup repository: the same
// tests run in memory, on a directory, and (test/s3) against a real S3-compatible server.
//
// It uses only what package repo exports and a store's URL, and must not know which store it is.
package repotest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/cairndb/cairn/internal/backup/repo"
)

// Run runs the suite; url gives a store, or a prefix in one, that is empty, at each call.
func Run(t *testing.T, url func(t *testing.T) string) {
	for _, c := range []struct {
		name string
		fn   func(*testing.T, string)
	}{
		{"RoundTrip", roundTrip}, {"Encrypted", encrypted}, {"Init", initOnce}, {"Locks", locks}, {"Race", race},
		{"Sweep", sweep}, {"Parallel", parallel}, {"Records", records}, {"Cache", cache},
	} {
		t.Run(c.name, func(t *testing.T) { c.fn(t, url(t)) })
	}
}

func options() repo.Options {
	return repo.Options{Retry: repo.Retry{Attempts: 4, First: 10 * time.Millisecond, Max: 100 * time.Millisecond}}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, url string, o repo.InitOptions) *repo.Repo {
	t.Helper()
	o.Retry = options().Retry
	o.PackSize = 8 << 20
	r, err := repo.Init(context.Background(), url, o)
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	return r
}

func open(t *testing.T, url string, o repo.Options) *repo.Repo {
	t.Helper()
	o.Retry = options().Retry
	r, err := repo.Open(context.Background(), url, repo.OpenOptions{Options: o})
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	return r
}

func noise(seed uint64, n int) []byte {
	var s [32]byte
	s[0], s[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	rand.NewChaCha8(s).Read(b)
	return b
}

func backup(r *repo.Repo, streams map[string][]byte) (*repo.Manifest, error) {
	ctx := context.Background()
	lk, err := r.Lock(ctx, repo.Shared)
	if err != nil {
		return nil, err
	}
	w, err := r.NewWriter(ctx, lk)
	if err != nil {
		return nil, errors.Join(err, lk.Release(ctx))
	}
	for _, name := range slices.Sorted(maps.Keys(streams)) {
		s := w.Stream(name)
		_, err := s.Write(streams[name])
		if err == nil {
			err = s.Close()
		}
		if err != nil {
			return nil, errors.Join(err, w.Abort(), lk.Release(ctx))
		}
	}
	m := &repo.Manifest{Kind: "full", End: repo.Position{T: 7, I: 3, Term: 1}}
	err = w.Commit(ctx, m)
	return m, errors.Join(err, lk.Release(ctx))
}

func same(t *testing.T, r *repo.Repo, m *repo.Manifest, streams map[string][]byte) {
	t.Helper()
	if len(m.Streams) != len(streams) {
		t.Fatalf("%d streams of %d", len(m.Streams), len(streams))
	}
	for _, ref := range m.Streams {
		rd, err := r.Open(context.Background(), ref)
		check(t, err)
		got, err := io.ReadAll(rd)
		check(t, err)
		check(t, rd.Close())
		if !bytes.Equal(got, streams[ref.Name]) {
			t.Fatalf("stream %s: %d bytes differ from the %d written", ref.Name, len(got), len(streams[ref.Name]))
		}
	}
}

func whole(t *testing.T, r *repo.Repo) repo.VerifyStats {
	t.Helper()
	st, err := r.Verify(context.Background(), repo.VerifyOptions{Percent: 100}, func(f repo.Finding) { t.Errorf("finding: %s", f) })
	check(t, err)
	return st
}

func roundTrip(t *testing.T, url string) {
	ctx := context.Background()
	r := create(t, url, repo.InitOptions{})
	streams := map[string][]byte{"big": noise(1, 10<<20), "small": []byte("x"), "empty": {}, "zeros": make([]byte, 1<<20)}
	m, err := backup(r, streams)
	check(t, err)
	n := open(t, url, repo.Options{})
	list, err := n.Manifests(ctx)
	check(t, err)
	if len(list) != 1 || list[0].ID != m.ID || list[0].End != m.End {
		t.Fatalf("%+v", list)
	}
	same(t, n, list[0], streams)
	again, err := backup(n, streams)
	check(t, err)
	if again.Written.Stored != 0 {
		t.Fatalf("the second time stored %+v", again.Written)
	}
	if st := whole(t, open(t, url, repo.Options{})); st.Packs != 2 || st.Manifests != 2 {
		t.Fatalf("%+v", st)
	}
	q := r.Requests()
	t.Logf("the first backup of 11 MB took %+v", q)
	if q.Put == 0 || q.BytesUp < 10<<20 || q.Retries != 0 {
		t.Errorf("requests: %+v", q)
	}
}

func encrypted(t *testing.T, url string) {
	id, err := age.GenerateX25519Identity() // a passphrase costs a second of scrypt
	check(t, err)
	r := create(t, url, repo.InitOptions{Recipients: []age.Recipient{id.Recipient()}})
	streams := map[string][]byte{"s": noise(2, 2<<20), "t": []byte("small")}
	m, err := backup(r, streams)
	check(t, err)
	n := open(t, url, repo.Options{Identities: []age.Identity{id}})
	same(t, n, m, streams)
	whole(t, n)
	if _, err := repo.Open(context.Background(), url, repo.OpenOptions{}); !errors.Is(err, repo.ErrKeyNeeded) {
		t.Fatalf("%v", err)
	}
}

func initOnce(t *testing.T, url string) {
	ctx := context.Background()
	if _, err := repo.Open(ctx, url, repo.OpenOptions{Options: options()}); !errors.Is(err, repo.ErrNoRepository) {
		t.Fatalf("an empty store: %v", err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	made := 0
	for range 4 {
		wg.Go(func() {
			r, err := repo.Init(ctx, url, repo.InitOptions{Options: options()})
			if err == nil {
				err = r.Close()
				mu.Lock()
				made++
				mu.Unlock()
			}
			if err != nil && !errors.Is(err, repo.ErrExists) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made != 1 {
		t.Errorf("%d of 4 at the same time made the repository", made)
	}
	open(t, url, repo.Options{})
}

func locks(t *testing.T, url string) {
	ctx := context.Background()
	r := create(t, url, repo.InitOptions{})
	a, err := r.LockWith(ctx, repo.LockRequest{Kind: repo.Exclusive, Purpose: "testing"})
	check(t, err)
	var locked *repo.LockedError
	if _, err := open(t, url, repo.Options{}).Lock(ctx, repo.Shared); !errors.As(err, &locked) || locked.Holders[0].Purpose != "testing" {
		t.Fatalf("%v", err)
	}
	check(t, a.Check(ctx))
	infos, err := r.Locks(ctx)
	check(t, err)
	if len(infos) != 1 || infos[0].ID != a.Info().ID || infos[0].Stale != "" {
		t.Fatalf("%+v", infos)
	}
	check(t, r.RemoveLock(ctx, infos[0].ID))
	if err := a.Check(ctx); !errors.Is(err, repo.ErrLockLost) {
		t.Fatalf("%v", err)
	}
}

func race(t *testing.T, url string) {
	ctx := context.Background()
	r := create(t, url, repo.InitOptions{})
	var mu sync.Mutex
	var wg sync.WaitGroup
	holders, turns := 0, 0
	for range 3 {
		wg.Go(func() {
			lk, err := r.LockWith(ctx, repo.LockRequest{Kind: repo.Sweeping, Wait: time.Minute})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			holders++
			turns++
			if holders != 1 {
				t.Errorf("%d holders", holders)
			}
			holders--
			mu.Unlock()
			if err := lk.Release(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if turns != 3 {
		t.Fatalf("%d turns", turns)
	}
}

func sweep(t *testing.T, url string) {
	ctx := context.Background()
	r := create(t, url, repo.InitOptions{})
	data := noise(3, 12<<20)
	a, err := backup(r, map[string][]byte{"s": data})
	check(t, err)
	streams := map[string][]byte{"s": append(bytes.Clone(data[:2<<20]), noise(4, 1<<20)...)}
	b, err := backup(r, streams)
	check(t, err)
	lk, err := r.Lock(ctx, repo.Sweeping)
	check(t, err)
	check(t, r.Delete(ctx, lk, a.ID))
	dry, err := r.Sweep(ctx, lk, repo.SweepOptions{DryRun: true})
	check(t, err)
	st, err := r.Sweep(ctx, lk, repo.SweepOptions{})
	check(t, err)
	check(t, lk.Release(ctx))
	if st.Deleted == 0 || st.Repacked == 0 || dry.Deleted != st.Deleted || dry.DeletedBytes != st.DeletedBytes {
		t.Fatalf("dry run: %+v\nreal run: %+v", dry, st)
	}
	n := open(t, url, repo.Options{})
	same(t, n, b, streams)
	whole(t, n)
}

func parallel(t *testing.T, url string) {
	ctx := context.Background()
	create(t, url, repo.InitOptions{})
	var wg sync.WaitGroup
	for i := range 3 {
		r := open(t, url, repo.Options{}) // three processes
		wg.Go(func() {
			streams := map[string][]byte{"own": noise(uint64(10+i), 2<<20), "common": noise(99, 2<<20)}
			m, err := backup(r, streams)
			if err != nil {
				t.Error(err)
				return
			}
			for _, ref := range m.Streams {
				if err := r.VerifyStream(ctx, ref); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if st := whole2(t, url); st.Manifests != 3 {
		t.Fatalf("%+v", st)
	}
}

// whole2 allows for chunks that two writers stored at the same time.
func whole2(t *testing.T, url string) repo.VerifyStats {
	t.Helper()
	st, err := open(t, url, repo.Options{}).Verify(context.Background(), repo.VerifyOptions{Percent: 100}, func(f repo.Finding) {
		if !f.Kind.Note() {
			t.Errorf("finding: %s", f)
		}
	})
	check(t, err)
	return st
}

func records(t *testing.T, url string) {
	ctx := context.Background()
	r := create(t, url, repo.InitOptions{})
	for i := range 5 {
		check(t, r.PutRecord(ctx, "drill", fmt.Sprintf("d%d", i%3), map[string]int{"n": i}))
	}
	list, err := open(t, url, repo.Options{}).Records(ctx, "drill")
	check(t, err)
	if len(list) != 3 || string(list[1].Data) != `{"n":4}` {
		t.Fatalf("%+v", list)
	}
	check(t, r.DeleteRecord(ctx, "drill", "d1"))
	if list, err = r.Records(ctx, "drill"); err != nil || len(list) != 2 {
		t.Fatalf("%+v %v", list, err)
	}
}

// cache serves indexes and manifests a second time without a request.
func cache(t *testing.T, url string) {
	ctx := context.Background()
	r := create(t, url, repo.InitOptions{})
	streams := map[string][]byte{"s": noise(5, 1<<20)}
	m, err := backup(r, streams)
	check(t, err)
	dir := t.TempDir()
	var gets []int64
	for range 2 {
		n := open(t, url, repo.Options{Cache: dir})
		_, err := n.Manifests(ctx)
		check(t, err)
		same(t, n, m, streams)
		gets = append(gets, n.Requests().Get)
	}
	if gets[1] != gets[0]-2 {
		t.Errorf("reads: %v", gets)
	}
}
