package repo

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// fast makes retries and scrypt cheap; packs small where asked for.
func fast() Options {
	return Options{Retry: Retry{Attempts: 3, First: time.Millisecond, Max: 2 * time.Millisecond}, cost: 1, poll: 100 * time.Millisecond, Now: time.Now, Owner: "tester@host", LockTTL: 30 * time.Minute}
}

// newRepo makes a repository in a store of its own in memory.
func newRepo(t testing.TB, change ...func(*InitOptions)) *Repo {
	t.Helper()
	o := InitOptions{Options: fast(), PackSize: 256 << 10}
	for _, c := range change {
		c(&o)
	}
	r, err := Init(context.Background(), "mem://"+randomHex(8), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func encrypted(o *InitOptions) { o.Passphrase = "correct horse" }

// reopen opens the same store again, as another process would.
func reopen(t testing.TB, r *Repo, change ...func(*Options)) *Repo {
	t.Helper()
	o := r.opts
	for _, c := range change {
		c(&o)
	}
	n, err := Open(context.Background(), r.url, OpenOptions{o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// backup writes streams under a lock of its own and returns the signed manifest.
func backup(t testing.TB, r *Repo, streams map[string][]byte) *Manifest {
	t.Helper()
	m, err := tryBackup(r, streams)
	check(t, err)
	return m
}

func tryBackup(r *Repo, streams map[string][]byte) (*Manifest, error) {
	ctx := context.Background()
	lk, err := r.Lock(ctx, Shared)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Kind: "full"}
	err = writeUnder(ctx, r, lk, m, streams)
	if rerr := lk.Release(ctx); err == nil {
		err = rerr
	}
	return m, err
}

func writeUnder(ctx context.Context, r *Repo, lk *Lock, m *Manifest, streams map[string][]byte) error {
	w, err := r.NewWriter(ctx, lk)
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(streams) {
		s := w.Stream(name)
		if strings.HasPrefix(name, "log") {
			s = w.Log(name)
		}
		if _, err := s.Write(streams[name]); err != nil {
			w.Abort()
			return err
		}
		if err := s.Close(); err != nil {
			w.Abort()
			return err
		}
	}
	return w.Commit(ctx, m)
}

func readBack(r *Repo, ref StreamRef) ([]byte, error) {
	rd, err := r.Open(context.Background(), ref)
	if err != nil {
		return nil, err
	}
	defer rd.Close()
	return io.ReadAll(rd)
}

// wantStreams reads all streams of a manifest and compares them.
func wantStreams(t testing.TB, r *Repo, m *Manifest, streams map[string][]byte) {
	t.Helper()
	if len(m.Streams) != len(streams) {
		t.Fatalf("%d streams, want %d", len(m.Streams), len(streams))
	}
	for _, ref := range m.Streams {
		got, err := readBack(r, ref)
		if err != nil {
			t.Fatalf("stream %s: %v", ref.Name, err)
		}
		if !bytes.Equal(got, streams[ref.Name]) {
			t.Fatalf("stream %s: %d bytes differ from the %d that were written", ref.Name, len(got), len(streams[ref.Name]))
		}
	}
}

// noise is bytes that do not compress; text does.
func noise(seed uint64, n int) []byte {
	var s [32]byte
	for i := range 8 {
		s[i] = byte(seed >> (8 * i))
	}
	b := make([]byte, n)
	rand.NewChaCha8(s).Read(b)
	return b
}

func readAll(rd io.ReadCloser) ([]byte, error) {
	b, err := io.ReadAll(rd)
	if cerr := rd.Close(); err == nil {
		err = cerr
	}
	return b, err
}
