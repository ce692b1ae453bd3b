package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// bench is a server, a repository and a client for one row.
type bench struct {
	c        config
	dir      string
	server   *process
	client   *mongo.Client
	coll     *mongo.Collection
	next     atomic.Int64
	lastCPU  time.Duration // of the last backup command
	lastPeak int64
}

// process is a child.
type process struct{ cmd *exec.Cmd }

// cpu is what the process has used so far.
func (p *process) cpu() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond // ticks of 100 Hz
}

var uriOf = regexp.MustCompile(`mongodb://[^"]*`)

func newBench(ctx context.Context, c config, name string) (*bench, error) {
	b := &bench{c: c, dir: filepath.Join(c.work, name)}
	cmd := exec.Command(c.cairn, "serve", "--dbpath", b.dir+"/data", "--port", "0", "--replSet", "rs0", "--replSetAutoInitiate", "--oplogSize", "4000", "--nounixsocket", "--quiet")
	if err := os.MkdirAll(b.dir+"/data", 0o700); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b.server = &process{cmd}
	in := bufio.NewScanner(out)
	uri := ""
	for uri == "" && in.Scan() {
		uri = uriOf.FindString(in.Text())
	}
	go func() {
		for in.Scan() { // what it says further is not wanted, but the pipe must not fill
		}
	}()
	if uri == "" {
		return nil, errors.New("the server did not start")
	}
	os.Setenv("CAIRN_URI", uri)
	os.Setenv("CAIRN_REPO", "file://"+b.dir+"/repo")
	if b.client, err = mongo.Connect(options.Client().ApplyURI(uri)); err != nil {
		return nil, err
	}
	b.coll = b.client.Database("bench").Collection("c")
	return b, b.backup(ctx, nil, "init")
}

func (b *bench) close() error {
	_ = b.client.Disconnect(context.Background())
	err := b.server.cmd.Process.Signal(syscall.SIGTERM)
	return errors.Join(err, b.server.cmd.Wait(), os.RemoveAll(b.dir))
}

// backup runs a command and reads its JSON.
func (b *bench) backup(ctx context.Context, into any, args ...string) error {
	cmd := exec.CommandContext(ctx, b.c.cairn, append([]string{"backup", "--json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("cairn backup %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	b.lastCPU, b.lastPeak = cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), peak(cmd.ProcessState)
	if into == nil {
		return nil
	}
	return json.Unmarshal(out, into)
}

func peak(s *os.ProcessState) int64 {
	if u, ok := s.SysUsage().(*syscall.Rusage); ok {
		return u.Maxrss << 10
	}
	return 0
}

// running is `backup run` under way.
type running struct {
	cmd *exec.Cmd
	out strings.Builder
}

type runEnd struct {
	Requests int64   `json:"storeRequests"`
	PerHour  float64 `json:"storeRequestsAnHour"`
	cpu      time.Duration
	peak     int64
}

func (b *bench) startRun(ctx context.Context) (*running, error) {
	r := &running{cmd: exec.CommandContext(ctx, b.c.cairn, "backup", "--json", "--quiet", "run")}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, os.Stderr
	return r, r.cmd.Start()
}

func (r *running) stop() (end runEnd, err error) {
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return end, err
	}
	if err := r.cmd.Wait(); err != nil {
		return end, fmt.Errorf("cairn backup run: %w\n%s", err, r.out.String())
	}
	end.cpu, end.peak = r.cmd.ProcessState.UserTime()+r.cmd.ProcessState.SystemTime(), peak(r.cmd.ProcessState)
	return end, json.Unmarshal([]byte(r.out.String()), &end)
}

// loaded is what a load did.
type loaded struct {
	n    int64
	took time.Duration
	cpu  time.Duration // of the server
}

func (l loaded) rate() float64   { return float64(l.n) / l.took.Seconds() }
func (l loaded) cpuPer() float64 { return l.cpu.Seconds() * 1e6 / float64(l.n) }

func (b *bench) doc(pad int) bson.D {
	id := b.next.Add(1)
	text := make([]byte, pad)
	rnd := rand.New(rand.NewPCG(uint64(id), 1))
	for i := range text {
		text[i] = byte('a' + rnd.IntN(26))
	}
	return bson.D{{Key: "_id", Value: id}, {Key: "n", Value: int32(0)}, {Key: "text", Value: string(text)}}
}

// load inserts batches for the duration.
func (b *bench) load(ctx context.Context, connections, batch int) (l loaded, err error) {
	before, began := b.server.cpu(), time.Now()
	ctx, cancel := context.WithTimeout(ctx, b.c.duration)
	defer cancel()
	var n atomic.Int64
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for ctx.Err() == nil {
				docs := make([]any, batch)
				for i := range docs {
					docs[i] = b.doc(40)
				}
				if batch == 1 {
					_, err = b.coll.InsertOne(ctx, docs[0])
				} else {
					_, err = b.coll.InsertMany(ctx, docs)
				}
				if err == nil {
					n.Add(int64(batch))
				}
			}
		})
	}
	wg.Wait()
	return loaded{n.Load(), time.Since(began), b.server.cpu() - before}, nil
}

func (b *bench) inserts(ctx context.Context, n, pad int) error {
	for n > 0 {
		docs := make([]any, min(n, 1000))
		for i := range docs {
			docs[i] = b.doc(pad)
		}
		if _, err := b.coll.InsertMany(ctx, docs); err != nil {
			return err
		}
		n -= len(docs)
	}
	return nil
}

// updates changes a field of random documents, one entry each.
func (b *bench) updates(ctx context.Context, n int) error {
	last := b.next.Load()
	for n > 0 {
		models := make([]mongo.WriteModel, min(n, 1000))
		for i := range models {
			id := last - rand.Int64N(max(int64(b.c.entries/2), 1))
			models[i] = mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "_id", Value: id}}).SetUpdate(bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}})
		}
		if _, err := b.coll.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false)); err != nil {
			return err
		}
		n -= len(models)
	}
	return nil
}

// change rewrites n documents from the one at from on, step apart.
func (b *bench) change(ctx context.Context, from, n, step int) error {
	models := make([]mongo.WriteModel, n)
	for i := range models {
		id := int64(1 + (from+i*step)%b.c.documents)
		models[i] = mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "_id", Value: id}}).SetUpdate(bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}})
	}
	_, err := b.coll.BulkWrite(ctx, models)
	return err
}

// waitStored waits until status says that nothing is pending.
func (b *bench) waitStored(ctx context.Context) error {
	marker, err := b.newest(ctx)
	if err != nil {
		return err
	}
	return b.poll(ctx, func() (bool, error) {
		var s struct {
			Newest struct {
				Time time.Time `json:"time"`
			} `json:"newestRestorable"`
		}
		if err := b.backup(ctx, &s, "status"); err != nil {
			return false, err
		}
		return s.Newest.Time.Unix() >= int64(marker), nil
	})
}

func (b *bench) newest(ctx context.Context) (uint32, error) {
	var e struct {
		TS bson.Timestamp `bson:"ts"`
		Op string         `bson:"op"`
	}
	err := b.client.Database("local").Collection("oplog.rs").FindOne(ctx, bson.D{}, options.FindOne().SetSort(bson.D{{Key: "$natural", Value: -1}})).Decode(&e)
	return e.TS.T, err
}

// waitNoop waits for the server's next no-op.
func (b *bench) waitNoop(ctx context.Context) error {
	first, err := b.newest(ctx)
	if err != nil {
		return err
	}
	return b.poll(ctx, func() (bool, error) {
		t, err := b.newest(ctx)
		return t > first, err
	})
}

func (b *bench) poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// packs counts the data objects of the repository.
func (b *bench) packs() (n int) {
	_ = filepath.WalkDir(b.dir+"/repo/packs", func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return nil // there may be none yet
	})
	return n
}
