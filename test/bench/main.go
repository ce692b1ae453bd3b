// Command bench is the load program: it drives any MongoDB server through the official Go
// driver and reports, row by row, throughput, latency and what the server's process spent.
//
//	bench --uri mongodb://127.0.0.1:27017
//	bench --start 'bin/cairn serve --port {port} --dbpath {dir}' --json out.json --label cairn
//	bench --compare a.json b.json
//
// Each row prepares what it needs, checks its own results (a wrong answer fails the row), and can
// be run alone with --rows. It owns the databases cairn_bench and cairn_ycsb of the server it is
// pointed at, and knows of that server only what a client and /proc can see.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"time"
)

// config is what the flags say.
type config struct {
	uri         string
	start       string
	connections int
	docs        int
	docSize     int
	duration    time.Duration
	rowTimeout  time.Duration
	rows        string
	jsonFile    string
	label       string
	serverPID   int
	seed        int64
	list        bool
	compare     bool
}

func main() {
	var c config
	flag.StringVar(&c.uri, "uri", "", "server to measure, mongodb://…")
	flag.StringVar(&c.start, "start", "", "command that starts the server to measure; {port} and {dir} are replaced; adds the start row")
	flag.IntVar(&c.connections, "connections", 16, "concurrent clients, one connection each")
	flag.IntVar(&c.docs, "docs", 100_000, "documents in the data set")
	flag.IntVar(&c.docSize, "doc-size", 1024, "bytes a document, about")
	flag.DurationVar(&c.duration, "duration", 10*time.Second, "how long a row runs")
	flag.DurationVar(&c.rowTimeout, "row-timeout", 5*time.Minute, "a row that takes longer fails")
	flag.StringVar(&c.rows, "rows", "", "comma-separated parts of row names; only these run (see --list)")
	flag.StringVar(&c.jsonFile, "json", "", "write the results to this file")
	flag.StringVar(&c.label, "label", "", "name of this run in tables (default: the server's version)")
	flag.IntVar(&c.serverPID, "server-pid", 0, "the server's process, when local (default: found by itself)")
	flag.Int64Var(&c.seed, "seed", 1, "seed of all random choices")
	flag.BoolVar(&c.list, "list", false, "list the rows and leave")
	flag.BoolVar(&c.compare, "compare", false, "compare two result files: --compare A.json B.json")
	flag.Parse()
	if os.Getenv("GOGC") == "" {
		// Its own garbage is collected less often: the processors are the server's to use.
		debug.SetGCPercent(1000)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, c, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, c config, args []string) error {
	switch {
	case c.compare:
		if len(args) != 2 {
			return fmt.Errorf("--compare takes two result files")
		}
		return compareFiles(os.Stdout, args[0], args[1])
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q", args[0])
	case c.list:
		for _, r := range allRows() {
			fmt.Printf("%-14s %s\n", r.name, r.about)
		}
		return nil
	case (c.uri == "") == (c.start == ""):
		return fmt.Errorf("give either --uri or --start")
	case c.connections < 1 || c.docs < 1000 || c.docs < c.connections || c.docSize < 200:
		return fmt.Errorf("at least 1 connection, 1000 documents, a document for each connection, and 200 bytes a document")
	}
	return measure(ctx, c)
}

// measure runs the chosen rows against one server and reports them.
func measure(ctx context.Context, c config) (err error) {
	chosen, err := chooseRows(allRows(), c.rows)
	if err != nil {
		return err
	}
	rep := newReport(c)
	progress := newProgress(os.Stderr)
	if c.start != "" {
		srv, res, err := startRow(ctx, c.start, progress)
		if srv != nil {
			defer func() { srv.stop() }()
		}
		if res != nil {
			rep.Rows = append(rep.Rows, *res)
		}
		if err != nil {
			return err
		}
		c.uri, c.serverPID = srv.uri, srv.pid()
	}
	e, err := newEnv(ctx, c)
	if err != nil {
		return err
	}
	defer e.close()
	rep.describe(e)
	for _, r := range chosen {
		progress.show("%s …", r.name)
		res := e.runRow(ctx, r)
		rep.Rows = append(rep.Rows, res)
		progress.clear()
		if ctx.Err() != nil {
			break
		}
	}
	rep.table(os.Stdout)
	if c.jsonFile != "" {
		if err := rep.write(c.jsonFile); err != nil {
			return err
		}
	}
	if bad := rep.failed(); len(bad) > 0 {
		return fmt.Errorf("failed rows: %s", strings.Join(bad, ", "))
	}
	return ctx.Err()
}

// chooseRows keeps the rows whose name contains one of the comma-separated parts; a part that
// equals a name chooses that row only.
func chooseRows(all []row, filter string) ([]row, error) {
	if filter == "" {
		return all, nil
	}
	keep := map[string]bool{}
	for _, part := range strings.Split(filter, ",") {
		n := 0
		for _, r := range all {
			if r.name == part {
				keep[r.name], n = true, 1
			}
		}
		for _, r := range all {
			if n != 1 && strings.Contains(r.name, part) {
				keep[r.name] = true
				n += 2
			}
		}
		if n == 0 {
			return nil, fmt.Errorf("no row is called %q (see --list)", part)
		}
	}
	var out []row
	for _, r := range all {
		if keep[r.name] {
			out = append(out, r)
		}
	}
	return out, nil
}
