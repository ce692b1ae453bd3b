// Command backup measures `cairn backup` as docs/benchmarks.md states it: what capturing costs the
// server and itself, how fast the oplog is replayed, what a second full backup stores, what no-ops
// cost, memory and requests.
//
//	make build && go run ./test/bench/backup                 # a server of its own
//	go run ./test/bench/backup --duration 3s --documents 20000 --rows capture,dedup
//
// Rates want a quiet machine; CPU times are those of the processes and stand a busy one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

type config struct {
	cairn, rows, work string
	duration          time.Duration
	documents         int
	entries           int
	connections       int
}

func main() {
	var c config
	flag.StringVar(&c.cairn, "cairn", "bin/cairn", "the binary, server and backup")
	flag.StringVar(&c.rows, "rows", "insertone,insertmany,replay,dedup,noops", "what to measure")
	flag.StringVar(&c.work, "work", "", "directory for data and repositories (a temporary one)")
	flag.DurationVar(&c.duration, "duration", 10*time.Second, "of each load")
	flag.IntVar(&c.documents, "documents", 200_000, "documents of 1 KB of the full backups")
	flag.IntVar(&c.entries, "entries", 200_000, "oplog entries of each replay")
	flag.IntVar(&c.connections, "connections", 16, "of the insertOne load")
	flag.Parse()
	if err := run(context.Background(), c); err != nil {
		fmt.Fprintln(os.Stderr, "backup bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c config) (err error) {
	if c.work == "" {
		if c.work, err = os.MkdirTemp("", "cairn-bench-backup-*"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(c.work)) }()
	}
	rows := []struct {
		name string
		do   func(context.Context, *bench) error
	}{
		{"insertone", insertOne}, {"insertmany", insertMany}, {"replay", replays}, {"dedup", dedup}, {"noops", noops},
	}
	for _, r := range rows {
		if !strings.Contains(","+c.rows+",", ","+r.name+",") {
			continue
		}
		b, err := newBench(ctx, c, r.name)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		err = r.do(ctx, b)
		if err = errors.Join(err, b.close()); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return nil
}

// insertOne measures what is lost of insertOne's throughput while a continuous backup runs.
func insertOne(ctx context.Context, b *bench) error {
	if err := b.backup(ctx, nil, "full"); err != nil {
		return err
	}
	alone, err := b.load(ctx, b.c.connections, 1)
	if err != nil {
		return err
	}
	r, err := b.startRun(ctx)
	if err != nil {
		return err
	}
	with, err := b.load(ctx, b.c.connections, 1)
	if err != nil {
		return err
	}
	end, err := r.stop()
	if err != nil {
		return err
	}
	fmt.Printf("insertOne w:1, %d connections: %.0f/s alone, %.0f/s beside run: %.1f %% lost; server CPU %.1f and %.1f µs an insert, capture %.1f µs\n", b.c.connections,
		alone.rate(), with.rate(), (1-with.rate()/alone.rate())*100, alone.cpuPer(), with.cpuPer(), end.cpu.Seconds()*1e6/float64(with.n))
	fmt.Printf("  run: %d MB resident at most, %d requests in %s, %.0f an hour at this load\n", end.peak>>20, end.Requests, with.took.Round(time.Second), end.PerHour)
	return nil
}

// insertMany measures what capturing costs beside the fastest load, and how long it stays behind.
func insertMany(ctx context.Context, b *bench) error {
	if err := b.backup(ctx, nil, "full"); err != nil {
		return err
	}
	r, err := b.startRun(ctx)
	if err != nil {
		return err
	}
	l, err := b.load(ctx, 4, 1000)
	if err != nil {
		return err
	}
	ended := time.Now()
	if err := b.waitStored(ctx); err != nil {
		return err
	}
	behind := time.Since(ended)
	end, err := r.stop()
	if err != nil {
		return err
	}
	fmt.Printf("insertMany: %.0f documents/s; server CPU %.2f s, capture CPU %.2f s: %.3f of it; all stored %.1f s after the end of %s of load; %d MB resident at most\n",
		l.rate(), l.cpu.Seconds(), end.cpu.Seconds(), end.cpu.Seconds()/l.cpu.Seconds(), behind.Seconds(), l.took.Round(time.Second), end.peak>>20)
	return nil
}

// replays measures the two shapes of replay.
func replays(ctx context.Context, b *bench) error {
	for _, shape := range []struct {
		name string
		make func(context.Context, *bench) error
	}{
		{"100-byte inserts", func(ctx context.Context, b *bench) error { return b.inserts(ctx, b.c.entries, 40) }},
		{"1 KB documents, half updates", func(ctx context.Context, b *bench) error {
			return errors.Join(b.inserts(ctx, b.c.entries/2, 950), b.updates(ctx, b.c.entries/2))
		}},
	} {
		if err := b.coll.Drop(ctx); err != nil {
			return err
		}
		if err := b.backup(ctx, nil, "full"); err != nil {
			return err
		}
		if err := shape.make(ctx, b); err != nil {
			return err
		}
		if err := b.backup(ctx, nil, "incr"); err != nil {
			return err
		}
		if err := b.coll.Drop(ctx); err != nil {
			return err
		}
		before := b.server.cpu()
		var out struct {
			Entries       int64   `json:"oplogEntries"`
			ReplaySeconds float64 `json:"replaySeconds"`
		}
		if err := b.backup(ctx, &out, "restore", "--to", "latest", "--yes"); err != nil {
			return err
		}
		fmt.Printf("replay of %s: %d entries in %.2f s, %.0f/s (1,515/s in the seed's story); %.1f µs of CPU an entry, server and tool\n", shape.name, out.Entries, out.ReplaySeconds,
			float64(out.Entries)/out.ReplaySeconds, ((b.server.cpu()-before)+b.lastCPU).Seconds()*1e6/float64(out.Entries))
	}
	return nil
}

// dedup measures what a second full backup stores.
func dedup(ctx context.Context, b *bench) error {
	if err := b.inserts(ctx, b.c.documents, 950); err != nil {
		return err
	}
	type full struct {
		Backup struct {
			Bytes  int64 `json:"bytes"`
			Stored int64 `json:"storedBytes"`
		} `json:"backup"`
		Seconds float64 `json:"seconds"`
	}
	var first full
	if err := b.backup(ctx, &first, "full"); err != nil {
		return err
	}
	fmt.Printf("full backup: %d documents of 1 KB, %d MB, stored in %d MB, %.1f s, %d MB resident at most\n", b.c.documents, first.Backup.Bytes>>20, first.Backup.Stored>>20, first.Seconds, b.lastPeak>>20)
	for _, change := range []struct {
		name string
		do   func() error
	}{
		{"nothing", func() error { return nil }},
		{"1 % appended", func() error { return b.inserts(ctx, b.c.documents/100, 950) }},
		{"1 % contiguous", func() error { return b.change(ctx, b.c.documents/2, b.c.documents/100, 1) }},
		{"1 % at random", func() error { return b.change(ctx, 0, b.c.documents/100, 97) }},
	} {
		if err := change.do(); err != nil {
			return err
		}
		var again full
		if err := b.backup(ctx, &again, "full"); err != nil {
			return err
		}
		fmt.Printf("  full after %s changed: stores %.2f %% of the first (chunks of 8 KB)\n", change.name, float64(again.Backup.Stored)/float64(first.Backup.Stored)*100)
	}
	return nil
}

// noops measures what a slice of no-ops stores.
func noops(ctx context.Context, b *bench) error {
	if err := b.backup(ctx, nil, "full"); err != nil {
		return err
	}
	if err := b.waitNoop(ctx); err != nil {
		return err
	}
	var out struct {
		Slices []struct {
			Kind   string `json:"kind"`
			Stored int64  `json:"storedBytes"`
		} `json:"slices"`
	}
	packs := b.packs()
	if err := b.backup(ctx, &out, "incr"); err != nil {
		return err
	}
	if len(out.Slices) != 1 || out.Slices[0].Kind != "extension" || b.packs() != packs {
		return fmt.Errorf("no-ops alone made %+v and %d packs", out.Slices, b.packs()-packs)
	}
	fmt.Println("a slice of no-ops: an extension, one manifest, no data object")
	return nil
}
