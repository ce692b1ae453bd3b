// Command tools measures the backup tools: it loads data of a few shapes into a server,
// runs dump, restore and oplog replay over them, ours and by a flag the originals, one
// command at a time, and prints wall time, the tool's own CPU time, its peak memory and
// the size of what it made, as a table and as JSON.
//
//	go run ./test/bench/tools --start bin/cairn --size 1024 --originals /path/to/bin
//	go run ./test/bench/tools --uri mongodb://127.0.0.1:27017 --shapes big,small --json out.json
//
// The CPU time is the tool's, not the server's: it is what a busy machine leaves comparable.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

type config struct {
	uri, start, cairn, originals, work string
	shapes, only, jsonFile             string
	sizeMB, entries, runs              int
	keep                               bool
}

func main() {
	var c config
	flag.StringVar(&c.uri, "uri", "", "server to measure against")
	flag.StringVar(&c.start, "start", "", "start this cairn binary as the server, on a temporary directory")
	flag.StringVar(&c.cairn, "cairn", "bin/cairn", "binary whose dump and restore are measured")
	flag.StringVar(&c.originals, "originals", "", "directory with mongodump and mongorestore, to compare with")
	flag.StringVar(&c.work, "work", "", "directory for the dumps (a temporary one)")
	flag.StringVar(&c.shapes, "shapes", "big,small,wide,indexes,replay,replay-1KB", "what to measure")
	flag.StringVar(&c.only, "only", "", "run only commands whose name contains this")
	flag.StringVar(&c.jsonFile, "json", "", "write the results there as JSON")
	flag.IntVar(&c.sizeMB, "size", 256, "MB of documents in each shape")
	flag.IntVar(&c.entries, "entries", 200_000, "oplog entries of the replay, of which the original gets a twentieth; a fifth of them are of 1 KB, for both")
	flag.IntVar(&c.runs, "runs", 1, "run each command so often, report the least wall and the least CPU time")
	flag.BoolVar(&c.keep, "keep", false, "leave the data on the server")
	flag.Parse()
	if err := run(context.Background(), c); err != nil {
		fmt.Fprintln(os.Stderr, "tools:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c config) (err error) {
	if (c.uri == "") == (c.start == "") {
		return errors.New("give one of --uri and --start")
	}
	if c.work == "" {
		if c.work, err = os.MkdirTemp("", "cairn-bench-tools-"); err != nil {
			return err
		}
		defer os.RemoveAll(c.work)
	}
	defer os.RemoveAll(filepath.Join(c.work, "trash"))
	if c.cairn, err = filepath.Abs(c.cairn); err != nil {
		return err
	}
	if c.start != "" {
		srv, err := startServer(c.start, filepath.Join(c.work, "server"))
		if err != nil {
			return err
		}
		defer srv.stop()
		c.uri = srv.uri
	}
	client, err := mongo.Connect(options.Client().ApplyURI(c.uri))
	if err != nil {
		return err
	}
	defer client.Disconnect(context.WithoutCancel(ctx))
	var all []result
	for _, s := range strings.Split(c.shapes, ",") {
		rs, err := measureShape(ctx, c, client, s)
		all = append(all, rs...)
		if err != nil {
			print(all)
			return err
		}
	}
	print(all)
	if c.jsonFile == "" {
		return nil
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(c.jsonFile, append(b, '\n'), 0o666)
}

func measureShape(ctx context.Context, c config, client *mongo.Client, shape string) ([]result, error) {
	db := client.Database("bench_" + shape)
	if !c.keep {
		defer db.Drop(context.WithoutCancel(ctx))
	}
	switch shape {
	case "replay":
		return measureReplay(ctx, c, db, shape, 0)
	case "replay-1KB":
		return measureReplay(ctx, c, db, shape, 950)
	}
	load := shapes[shape]
	if load == nil {
		return nil, fmt.Errorf("no shape %q", shape)
	}
	if err := db.Drop(ctx); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "loading %s: %d MB\n", shape, c.sizeMB)
	size, err := load(ctx, db, int64(c.sizeMB)<<20)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", shape, err)
	}
	var rs []result
	for _, cmd := range dumpCommands(c, db.Name()) {
		if !strings.Contains(cmd.name, c.only) {
			continue
		}
		r, err := c.best(cmd)
		if err != nil {
			return rs, err
		}
		r.Shape, r.Bytes = shape, size
		rs = append(rs, r)
		if cmd.then != nil && strings.Contains(cmd.then.name, c.only) {
			r, err := c.best(*cmd.then)
			if err != nil {
				return rs, err
			}
			r.Shape, r.Bytes = shape, size
			rs = append(rs, r)
		}
		c.discard(cmd.out)
	}
	var stats bson.M
	if err := db.RunCommand(ctx, bson.D{{Key: "dbStats", Value: 1}}).Decode(&stats); err == nil {
		fmt.Fprintf(os.Stderr, "%s: %v collections, %v documents on the server\n", shape, stats["collections"], stats["objects"])
	}
	return rs, nil
}

// print writes the table; ratios are to the original's row of the same kind and shape.
func print(rs []result) {
	base := map[string]result{}
	for _, r := range rs {
		if r.Original {
			base[r.Shape+" "+r.Kind] = r
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "shape\tcommand\twall s\tcpu s\tcpu s/GB\tpeak MB\tsize MB\tper s\twall ratio\tcpu ratio")
	for _, r := range rs {
		gb := float64(r.Bytes) / (1 << 30)
		ratio := "\t"
		if b, ok := base[r.Shape+" "+r.Kind]; ok && !r.Original {
			ratio = fmt.Sprintf("%.2f\t%.2f", b.per(b.Wall)/r.per(r.Wall), r.per(r.CPU)/b.per(b.CPU))
		}
		rate := fmt.Sprintf("%.0f MB", float64(r.Bytes)/(1<<20)/r.Wall)
		if r.Entries > 0 {
			rate = fmt.Sprintf("%.0f entries", float64(r.Entries)/r.Wall)
		}
		fmt.Fprintf(w, "%s\t%s\t%.2f\t%.2f\t%.2f\t%.0f\t%.1f\t%s\t%s\n", r.Shape, r.Command, r.Wall, r.CPU, r.CPU/gb,
			float64(r.PeakKB)/1024, float64(r.Size)/(1<<20), rate, ratio)
	}
	_ = w.Flush()
	fmt.Println("wall ratio: how many times faster than the original; cpu ratio: its CPU time is 1")
}
