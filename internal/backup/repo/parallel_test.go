package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Many streams of many writers of one process, readers, a sweep and verify, all at once.
func TestEverythingAtOnce(t *testing.T) {
	ctx := context.Background()
	r := newRepo(t)
	old := backup(t, r, map[string][]byte{"s": noise(100, 1<<20)})
	var wg sync.WaitGroup
	fail := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	for i := range 3 {
		wg.Go(func() {
			lk, err := r.Lock(ctx, Shared)
			if err != nil {
				t.Error(err)
				return
			}
			w, err := r.NewWriter(ctx, lk)
			if err != nil {
				t.Error(err)
				return
			}
			want := map[string][]byte{}
			var streams sync.WaitGroup
			for k := range 4 {
				name := fmt.Sprintf("s%d", k)
				data := append(noise(uint64(k), 400<<10), noise(uint64(10*i+k), 200<<10)...)
				want[name] = data
				streams.Go(func() {
					s := w.Stream(name)
					for rest := data; len(rest) > 0; {
						n := min(len(rest), 7777)
						if _, err := s.Write(rest[:n]); err != nil {
							t.Error(err)
							return
						}
						rest = rest[n:]
					}
					fail(s.Close())
				})
			}
			streams.Wait()
			m := &Manifest{}
			if err := w.Commit(ctx, m); err != nil {
				t.Error(err)
				return
			}
			fail(lk.Release(ctx))
			for _, ref := range m.Streams {
				got, err := readBack(r, ref)
				if err != nil || !bytes.Equal(got, want[ref.Name]) {
					t.Errorf("%s: %d bytes, %v", ref.Name, len(got), err)
				}
			}
		})
	}
	wg.Go(func() {
		lk, err := r.Lock(ctx, Sweeping)
		if err != nil {
			t.Error(err)
			return
		}
		fail(r.Delete(ctx, lk, old.ID))
		for range 3 {
			_, err := r.Sweep(ctx, lk, SweepOptions{Repack: 0.01})
			fail(err)
		}
		fail(lk.Release(ctx))
	})
	wg.Go(func() {
		lk, err := r.Lock(ctx, Shared)
		if err != nil {
			t.Error(err)
			return
		}
		_, err = r.Verify(ctx, VerifyOptions{}, func(Finding) {}) // what it finds changes under its eyes
		fail(err)
		fail(lk.Release(ctx))
	})
	wg.Wait()
	sweepAll(t, r, SweepOptions{})
	_, err := reopen(t, r).Verify(ctx, VerifyOptions{Percent: 100}, func(f Finding) {
		if !f.Kind.Note() {
			t.Errorf("finding %s", f)
		}
	})
	check(t, err)
}

// The documented cost of a chunk in memory.
func TestIndexMemory(t *testing.T) {
	const chunks = 1 << 18
	x := newChunkIndex()
	rng := rand.NewChaCha8([32]byte{})
	var sample []ID
	for p := range chunks / 4096 {
		e := packEntry{id: ID{byte(p), byte(p >> 8)}, size: 16 << 20}
		for range 256 {
			b := blockEntry{off: 100, stored: 40 << 10}
			for range 16 {
				var c chunkEntry
				rng.Read(c.id[:])
				c.size = 8 << 10
				b.chunks = append(b.chunks, c)
			}
			sample = append(sample, b.chunks[7].id)
			e.blocks = append(e.blocks, b)
		}
		x.add(e, false)
	}
	size := cap(x.blocks)*16 + cap(x.packs)*128
	for _, b := range x.buckets {
		size += (cap(b) + 31) &^ 15 // the allocator's rounding
	}
	each := float64(size) / chunks
	t.Logf("%.1f bytes a chunk, %d chunks", each, x.entries)
	if each > 27 || x.entries != chunks { // buckets of four have more room to grow than those of a large repository: 21.7 with a million
		t.Errorf("%.1f bytes a chunk of %d", each, x.entries)
	}
	for i, id := range sample {
		if p, ok := x.lookup(id); !ok || p.pos != 7 || int(p.block) != i {
			t.Fatalf("chunk %d is found at %v, %v", i, p, ok)
		}
	}
	if _, ok := x.lookup(ID{1, 2, 3}); ok {
		t.Error("a chunk that is not there was found")
	}
}

const killedEnv = "CAIRN_REPO_TEST_KILLED"

// TestKilled kills a process that makes backup after backup, again and again, without a warning:
// what it had signed off is whole, its locks are in nobody's way, and its work is found again.
func TestKilled(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	if dir := os.Getenv(killedEnv); dir != "" {
		r := must(Open(ctx, dir, OpenOptions{fast()}))(t)
		for i := 0; ; i++ {
			backup(t, r, map[string][]byte{"s": append(noise(1, 1<<20), noise(uint64(os.Getpid()*1000+i), 300<<10)...)})
			lk := must(r.Lock(ctx, Sweeping))(t)
			if list := must(r.Manifests(ctx))(t); len(list) > 4 {
				check(t, r.Delete(ctx, lk, list[0].ID))
			}
			_ = must(r.Sweep(ctx, lk, SweepOptions{Repack: 0.01}))(t)
			check(t, lk.Release(ctx))
		}
	}
	if processIdentity(os.Getpid()) == "" {
		t.Skip("this system has no /proc to tell the dead from the living by")
	}
	dir := filepath.Join(t.TempDir(), "repository")
	r := must(Init(ctx, dir, InitOptions{Options: fast(), PackSize: 256 << 10}))(t)
	for i := range 6 {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestKilled$")
		cmd.Env = append(os.Environ(), killedEnv+"="+dir)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		check(t, cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		// Killed at some moment after it has signed one more backup off.
		list, _ := r.Manifests(ctx)
		for newest, end := len(list), time.Now().Add(time.Minute); ; {
			now, err := r.Manifests(ctx)
			if err == nil && (len(now) > newest || (len(now) > 0 && len(list) > 0 && now[len(now)-1].ID != list[len(list)-1].ID)) {
				break
			}
			select {
			case err := <-ended:
				t.Fatalf("it ended: %v\n%s", err, out.String())
			default:
			}
			if time.Now().After(end) {
				t.Fatalf("it makes no backup\n%s", out.String())
			}
			check(t, pause(ctx, 2*time.Millisecond))
		}
		check(t, pause(ctx, time.Duration(i*7)*time.Millisecond))
		check(t, cmd.Process.Kill())
		if err := <-ended; err == nil {
			t.Fatal("it was not killed")
		}
		lk := must(r.Lock(ctx, Exclusive))(t)
		n := reopen(t, r)
		_, err := n.Verify(ctx, VerifyOptions{Percent: 100}, func(f Finding) {
			if !f.Kind.Note() {
				t.Errorf("after kill %d: %s", i, f)
			}
		})
		check(t, err)
		for _, m := range must(n.Manifests(ctx))(t) {
			for _, ref := range m.Streams {
				if err := n.VerifyStream(ctx, ref); err != nil {
					t.Errorf("after kill %d: backup %s: %v", i, m.ID, err)
				}
			}
		}
		check(t, lk.Release(ctx))
	}
	var c *CorruptError
	if _, err := r.Manifests(ctx); errors.As(err, &c) {
		t.Error(err)
	}
	check(t, r.Close())
}
