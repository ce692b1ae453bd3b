package backup

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn"
	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/dump"
	"github.com/cairndb/cairn/internal/backup/restore"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// polled makes the driver look often whether the server is there, instead of being told of
// changes: a fail point changes nothing that the server would tell of.
const polled = "&serverMonitoringMode=poll&heartbeatFrequencyMS=500"

// patience is for servers that come back: on a busy machine they take their time.
const patience = 3 * time.Minute

// serverProcess is a server in a process of its own, which can be killed.
type serverProcess struct {
	t    testing.TB
	dir  string
	port string
	cmd  *exec.Cmd
}

// runServer is what the process does: its standard input says when to end.
func runServer(args string) {
	dir, port, _ := strings.Cut(args, "\n")
	o := cairn.Options{Dir: dir, ReplSet: "rs", CacheBytes: 16 << 20, OplogBytes: 64 << 20}
	_, err := fmt.Sscan(port, &o.Port)
	if err == nil {
		var db *cairn.DB
		if db, err = cairn.Open(o); err == nil {
			fmt.Println(db.Port())
			_, _ = io.Copy(io.Discard, os.Stdin)
			err = db.Close()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func newServerProcess(t testing.TB) *serverProcess {
	s := &serverProcess{t: t, dir: t.TempDir(), port: "0"}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *serverProcess) start() {
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env = append(os.Environ(), "CAIRN_TEST_SERVER="+s.dir+"\n"+s.port)
	s.cmd.Stderr = os.Stderr
	if _, err := s.cmd.StdinPipe(); err != nil { // closed with this process: no server is left behind
		s.t.Error(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err == nil {
		_, err = fmt.Fscan(out, &s.port)
	}
	if err != nil {
		s.t.Errorf("the server does not start: %v", err)
	}
}

// kill is kill -9.
func (s *serverProcess) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
	s.cmd = nil
}

func (s *serverProcess) uri() string {
	return "mongodb://127.0.0.1:" + s.port + "/?directConnection=true" + polled
}

// impatient is uri for who is to find the server gone soon.
func (s *serverProcess) impatient() string { return s.uri() + "&serverSelectionTimeoutMS=1000" }

// dumpFor runs a dump that gives up after a time, and calls hit at the first line of the log
// that contains at.
func dumpFor(limit time.Duration, uri, at string, hit func(), args ...string) (string, error) {
	var once sync.Once
	log := &lineWatcher{line: func(line string) {
		if strings.Contains(line, at) {
			once.Do(hit)
		}
	}}
	o, err := dump.ParseOptions(append([]string{uri}, args...), false, "test", "")
	if err != nil {
		return "", err
	}
	o.RetryFor = limit
	_, err = dump.Run(context.Background(), o, tool.NewLog(log, 0), nil, io.Discard)
	return log.String(), err
}

// restoreFor is the same for a restore from a stream: hit is called when half of it is read.
func restoreFor(limit time.Duration, uri string, data []byte, hit func(), args ...string) (restore.Result, string, error) {
	var log logBuffer
	o, err := restore.ParseOptions(tool.Config{Version: "test"}, false, append([]string{"--uri", uri}, args...))
	if err != nil {
		return restore.Result{}, "", err
	}
	o.RetryFor = limit
	half := len(data) / 2
	o.Stdin = io.MultiReader(bytes.NewReader(data[:half]), &hitReader{hit: hit}, bytes.NewReader(data[half:]))
	res, err := restoreWith(o, &log)
	return res, log.String(), err
}

// restoreArgs is a restore by a whole command line.
func restoreArgs(args ...string) (string, error) {
	var log logBuffer
	o, err := restore.ParseOptions(tool.Config{Version: "test"}, false, args)
	if err == nil {
		_, err = restoreWith(o, &log)
	}
	return log.String(), err
}

func restoreWith(o *restore.Options, log io.Writer) (restore.Result, error) {
	ctx := context.Background()
	client, err := o.Connect(ctx)
	if err != nil {
		return restore.Result{}, err
	}
	defer client.Disconnect(ctx)
	server, err := tool.Facts(ctx, client)
	if err != nil {
		return restore.Result{}, err
	}
	return restore.New(o, client, server, tool.NewLog(log, 0), nil).Run(ctx)
}

// hitReader is an empty reader that calls a function when it is read.
type hitReader struct{ hit func() }

func (h *hitReader) Read([]byte) (int, error) {
	h.hit()
	return 0, io.EOF
}

// TestPrimaryKilled kills the server, as kill -9 does, while it is dumped. If it comes back the
// dump is the whole collection; if it does not, the dump says so and leaves nothing that
// looks like one.
func TestPrimaryKilled(t *testing.T) {
	t.Parallel()
	const n = 8000
	s := newServerProcess(t)
	fill(t, connect(t, s.uri()), "d", "c", n)
	fill(t, connect(t, s.uri()), "d", "other", 100)
	// A killed server may lose what was not acknowledged as durable: all of it was.
	want := state(t, connect(t, s.uri()), "d")
	for name, args := range map[string][]string{
		"directory":  {"-o", "D"},
		"oplog":      {"-o", "D", "--oplog"},
		"ranges":     {"-o", "D", "--parallelInCollection", "2"},
		"archive":    {"--archive=D", "--oplog"},
		"compressed": {"--archive=D", "--compress", "zstd"},
	} {
		for _, back := range []bool{true, false} {
			dir := filepath.Join(t.TempDir(), "dump")
			for i := range args {
				args[i] = strings.Replace(args[i], "D", dir, 1)
			}
			limit, uri := patience, s.uri()
			if !back {
				limit, uri = 700*time.Millisecond, s.impatient()
			}
			log, err := dumpFor(limit, uri, "writing `d.c`", func() {
				s.kill()
				if back {
					s.start()
				}
			}, args...)
			for i := range args {
				args[i] = strings.Replace(args[i], dir, "D", 1)
			}
			if !back {
				s.start()
				if err == nil {
					// It was read to its end before the server went.
					if !strings.Contains(log, "dump is whole") {
						t.Errorf("%s: no error, and not whole\n%s", name, log)
					}
					continue
				}
				if !strings.Contains(err.Error(), "connection") && !strings.Contains(err.Error(), "server selection") {
					t.Errorf("%s: the error does not say that the server is gone: %v", name, err)
				}
				if left := regular(t, filepath.Dir(dir)); len(left) > 0 {
					t.Errorf("%s: %v left %q", name, err, left)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, log)
				continue
			}
			target := cairntest.Start(t, cairntest.ReplSet("rs"))
			if args[0] == "-o" {
				mustRestore(t, target, "--dir", dir)
			} else {
				mustRestore(t, target, "--archive="+dir)
			}
			compare(t, name, want, state(t, connect(t, target), "d"))
		}
	}
}

// TestTargetKilled kills the server while it is restored into.
func TestTargetKilled(t *testing.T) {
	t.Parallel()
	const n = 8000
	s := newServerProcess(t)
	src := cairntest.Start(t)
	fill(t, connect(t, src), "d", "c", n)
	var data bytes.Buffer
	if _, log, err := runDump(context.Background(), src, &data, "-d", "d", "-c", "c", "-o", "-"); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	res, log, err := restoreFor(patience, s.uri(), data.Bytes(), func() {
		s.kill()
		s.start()
	}, "-d", "d", "-c", "c", "-")
	if err != nil || res.Successes != n || res.Failures != 0 {
		t.Errorf("%+v, %v\n%s", res, err, log)
	}
	compare(t, "restored", state(t, connect(t, src), "d"), state(t, connect(t, s.uri()), "d"))

	res, log, err = restoreFor(700*time.Millisecond, s.impatient(), data.Bytes(), s.kill, "--drop", "-d", "d", "-c", "c", "-")
	if err == nil || !strings.Contains(err.Error(), "d.c") || res.Successes >= n {
		t.Errorf("without a server: %+v, %v\n%s", res, err, log)
	}
	s.start()
	got, err := connect(t, s.uri()).Database("d").Collection("c").CountDocuments(context.Background(), bson.D{})
	if err != nil || got < res.Successes {
		t.Errorf("%d documents are said to be in, there are %d, %v", res.Successes, got, err)
	}
}

// failing makes commands fail as a member does that is not the primary any more.
func failing(t testing.TB, c *mongo.Client, mode any, data ...bson.E) {
	t.Helper()
	cmd := bson.D{{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: mode}, {Key: "data", Value: bson.D(data)}}
	if err := c.Database("admin").RunCommand(context.Background(), cmd).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestSteppedDown has a primary that steps down, and another member take over, while the
// collection and the oplog are read: reading goes on. mongodump's way is to fail.
func TestSteppedDown(t *testing.T) {
	t.Parallel()
	const n = 8000
	uri := cairntest.Start(t, cairntest.ReplSet("rs"), cairntest.Parameter("enableTestCommands=1"))
	c := connect(t, uri)
	fill(t, c, "d", "c", n)
	for name, fault := range map[string]bson.D{
		"NotWritablePrimary":              {{Key: "errorCode", Value: int32(10107)}},
		"PrimarySteppedDown":              {{Key: "errorCode", Value: int32(189)}},
		"InterruptedDueToReplStateChange": {{Key: "errorCode", Value: int32(11602)}},
		"ShutdownInProgress":              {{Key: "errorCode", Value: int32(91)}},
		"connection closed":               {{Key: "closeConnection", Value: true}},
	} {
		for _, ns := range []string{"d.c", "local.oplog.rs"} {
			if ns != "d.c" && name != "PrimarySteppedDown" && name != "connection closed" {
				continue // the oplog's reader has its own tests
			}
			dir := filepath.Join(t.TempDir(), "dump")
			data := append(bson.D{{Key: "failCommands", Value: bson.A{"getMore"}}, {Key: "namespace", Value: ns}}, fault...)
			log, err := dumpFor(patience, host(uri)+"?directConnection=true"+polled, "writing `d.c`", func() {
				failing(t, c, bson.D{{Key: "times", Value: 3}}, data...)
			}, "-o", dir, "--oplog", "-d", "d")
			if err != nil {
				t.Errorf("%s on %s: %v\n%s", name, ns, err, log)
				continue
			}
			file, err := os.ReadFile(filepath.Join(dir, "d", "c.bson"))
			if err != nil {
				t.Fatal(err)
			}
			checkIDs(t, file, n)
		}
		failing(t, c, "off")
	}

	// The original's way.
	dir := filepath.Join(t.TempDir(), "dump")
	failing(t, c, "alwaysOn", bson.E{Key: "failCommands", Value: bson.A{"getMore"}}, bson.E{Key: "errorCode", Value: int32(10107)})
	o, err := dump.ParseOptions([]string{host(uri), "-o", dir}, true, "test", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = dump.Run(context.Background(), o, tool.NewLog(io.Discard, 0), nil, io.Discard); err == nil || !strings.Contains(err.Error(), "NotWritablePrimary") {
		t.Errorf("as mongodump: %v", err)
	}
	if left := regular(t, filepath.Dir(dir)); len(left) > 0 {
		t.Errorf("as mongodump: %q are left", left)
	}
}

// TestTargetSteppedDown has the primary step down while it is restored into: every command
// that changes something is sent again.
func TestTargetSteppedDown(t *testing.T) {
	t.Parallel()
	const n = 4000
	src := cairntest.Start(t)
	c := connect(t, src)
	fill(t, c, "d", "c", n)
	if _, err := c.Database("d").Collection("c").Indexes().CreateOne(context.Background(), mongo.IndexModel{Keys: bson.D{{Key: "pad", Value: 1}}}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "dump")
	mustDump(t, src, "-o", dir)
	want := state(t, c, "d")
	uri := cairntest.Start(t, cairntest.ReplSet("rs"), cairntest.Parameter("enableTestCommands=1"))
	dst := connect(t, uri)
	for command, code := range map[string]int32{"create": 10107, "insert": 189, "createIndexes": 11602, "drop": 91} {
		failing(t, dst, bson.D{{Key: "times", Value: 2}}, bson.E{Key: "failCommands", Value: bson.A{command}}, bson.E{Key: "errorCode", Value: code})
		if log, err := restoreArgs("--uri", host(uri)+"?directConnection=true"+polled, "--drop", "--dir", dir); err != nil {
			t.Fatalf("%s %d: %v\n%s", command, code, err, log)
		}
		compare(t, command, want, state(t, dst, "d"))
	}
	failing(t, dst, "off")
}
