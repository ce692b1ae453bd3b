package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// result is one measured command.
type result struct {
	Shape    string  `json:"shape"`
	Command  string  `json:"command"`
	Kind     string  `json:"kind"` // what it is compared with: dump, gzip, restore, replay
	Original bool    `json:"original"`
	Wall     float64 `json:"wallSeconds"`
	CPU      float64 `json:"cpuSeconds"` // user and system
	PeakKB   int64   `json:"peakKB"`
	Size     int64   `json:"size"`  // bytes it made
	Bytes    int64   `json:"bytes"` // of documents it went over
	Entries  int     `json:"entries,omitempty"`
}

// per scales a figure to one entry, where the commands had different numbers of them.
func (r result) per(v float64) float64 {
	if r.Entries > 0 {
		return v / float64(r.Entries)
	}
	return v
}

type command struct {
	name, kind string
	original   bool
	args       []string
	out        string   // what it makes
	then       *command // what reads it
	before     func() error
}

// dumpCommands are the dumps of one database and the restores of them.
func dumpCommands(c config, db string) []command {
	out := func(name string) string { return filepath.Join(c.work, name) }
	ours := func(name, kind, path string, args ...string) command {
		return command{name: "cairn dump" + name, kind: kind, out: path, args: append([]string{c.cairn, "dump", "--quiet", "--uri", c.uri, "-d", db}, args...)}
	}
	restore := func(name string, args ...string) *command {
		if exec.Command(c.cairn, "restore", "--help").Run() != nil {
			return nil
		}
		return &command{name: "cairn restore" + name, kind: "restore", args: append([]string{c.cairn, "restore", "--quiet", "--drop", "--uri", c.uri}, args...)}
	}
	var l []command
	if c.originals != "" {
		dump, rest := filepath.Join(c.originals, "mongodump"), filepath.Join(c.originals, "mongorestore")
		l = append(l,
			command{name: "mongodump", kind: "dump", original: true, out: out("o"), args: []string{dump, "--quiet", "--uri", c.uri, "-d", db, "-o", out("o")},
				then: &command{name: "mongorestore", kind: "restore", original: true, args: []string{rest, "--quiet", "--drop", "--uri", c.uri, "--dir", out("o")}}},
			command{name: "mongodump --archive", kind: "archive", original: true, out: out("oa"), args: []string{dump, "--quiet", "--uri", c.uri, "-d", db, "--archive=" + out("oa")}},
			command{name: "mongodump --gzip", kind: "compressed", original: true, out: out("og"), args: []string{dump, "--quiet", "--uri", c.uri, "-d", db, "--gzip", "-o", out("og")}},
		)
	}
	d := ours("", "dump", out("d"), "-o", out("d"))
	d.then = restore("", "--dir", out("d"))
	a := ours(" --archive", "archive", out("a"), "--archive="+out("a"))
	a.then = restore(" --archive", "--archive="+out("a"))
	return append(l, d, a,
		ours(" --parallelInCollection 4", "dump", out("p"), "-o", out("p"), "--parallelInCollection", "4"),
		ours(" --gzip", "compressed", out("g"), "-o", out("g"), "--gzip"),
		ours(" --compress zstd", "compressed", out("z"), "-o", out("z"), "--compress", "zstd"),
		ours(" --compress snappy", "compressed", out("s"), "-o", out("s"), "--compress", "snappy"),
	)
}

// measureReplay replays entries made up for it, each time into an empty database. pad is
// how many bytes the documents have beside a few small fields. Without it the original, which
// takes as long for each entry whatever their number, gets a twentieth of the entries.
func measureReplay(ctx context.Context, c config, db *mongo.Database, shape string, pad int) ([]result, error) {
	dir := filepath.Join(c.work, shape)
	defer os.RemoveAll(dir)
	var rs []result
	one := func(name string, original bool, entries int, args ...string) error {
		size, err := writeOplog(dir, db.Name(), entries, pad)
		if err != nil {
			return err
		}
		r, err := c.best(command{name: name, kind: "replay", original: original, args: append(args, "--quiet", "--uri", c.uri, "--oplogReplay", dir),
			before: func() error { return db.Drop(ctx) }})
		r.Shape, r.Bytes, r.Entries = shape, size, entries
		rs = append(rs, r)
		return err
	}
	entries, fewer := c.entries, max(1, c.entries/20)
	if pad > 0 {
		entries = max(1, c.entries/5)
		fewer = entries
	}
	if c.originals != "" {
		if err := one("mongorestore --oplogReplay", true, fewer, filepath.Join(c.originals, "mongorestore")); err != nil {
			return rs, err
		}
	}
	if exec.Command(c.cairn, "restore", "--help").Run() != nil {
		return rs, nil
	}
	return rs, one("cairn restore --oplogReplay", false, entries, c.cairn, "restore")
}

// best runs a command c.runs times: the wall and the CPU time are the least, each for itself,
// since what disturbs only adds to them; the memory is the most.
func (c config) best(cmd command) (result, error) {
	var r result
	wall, cpu, peak := math.Inf(1), math.Inf(1), int64(0)
	for range max(1, c.runs) {
		if cmd.out != "" {
			c.discard(cmd.out)
		}
		if cmd.before != nil {
			if err := cmd.before(); err != nil {
				return r, err
			}
		}
		var err error
		if r, err = cmd.run(); err != nil {
			return r, err
		}
		wall, cpu, peak = min(wall, r.Wall), min(cpu, r.CPU), max(peak, r.PeakKB)
	}
	r.Wall, r.CPU, r.PeakKB = wall, cpu, peak
	return r, nil
}

// discard takes away what a command made. ext4 without a journal looks for a minute at each inode
// that was deleted before it takes another, which a command that makes files would be charged for:
// so what is not too large to be kept is deleted at the end.
func (c config) discard(path string) {
	trash := filepath.Join(c.work, "trash")
	if c.sizeMB > 512 || os.MkdirAll(trash, 0o777) != nil || os.Rename(path, filepath.Join(trash, strconv.FormatInt(time.Now().UnixNano(), 36))) != nil {
		os.RemoveAll(path)
	}
}

func (cmd command) run() (result, error) {
	fmt.Fprintf(os.Stderr, "running %s\n", cmd.name)
	p := exec.Command(cmd.args[0], cmd.args[1:]...)
	var stderr bytes.Buffer
	p.Stderr = &stderr
	started := time.Now()
	err := p.Start()
	r := result{Command: cmd.name, Kind: cmd.kind, Original: cmd.original}
	if err == nil {
		done := make(chan struct{})
		go func() {
			err = p.Wait()
			close(done)
		}()
		r.PeakKB = watchPeak(p.Process.Pid, done)
	}
	r.Wall = time.Since(started).Seconds()
	if err != nil {
		return r, fmt.Errorf("%s: %w\n%s", cmd.name, err, stderr.String())
	}
	r.CPU = (p.ProcessState.UserTime() + p.ProcessState.SystemTime()).Seconds()
	if cmd.out != "" {
		err = filepath.WalkDir(cmd.out, func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			fi, err := d.Info()
			if err == nil {
				r.Size += fi.Size()
			}
			return err
		})
	}
	return r, err
}

// watchPeak returns the largest resident size, in KB, that a process had. It looks at the
// process itself: what wait reports also has the memory of this program, before the exec.
func watchPeak(pid int, done <-chan struct{}) (peak int64) {
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-done:
			return peak
		case <-t.C:
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(b)) {
				if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
					if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
						peak = max(peak, n)
					}
				}
			}
		}
	}
}
