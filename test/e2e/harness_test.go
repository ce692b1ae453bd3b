//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

var (
	crashes = flag.Int("crashes", 20, "how often TestCrash kills the server")
	soak    = flag.Duration("soak", 0, "how long TestSoak runs; 0 skips it")
)

// cairnBinary is the server under test.
func cairnBinary(t *testing.T) string {
	t.Helper()
	p, err := filepath.Abs("../../bin/cairn")
	if env := os.Getenv("CAIRN_BIN"); env != "" {
		p, err = env, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("%v: run `make build` first", err)
	}
	return p
}

// face is how the server shows itself.
type face string

const (
	standalone face = "standalone"
	replSet    face = "replset"
)

// flags turns a face into arguments. Fail points are on: suites test error handling with them.
func (f face) flags() []string {
	args := []string{"--setParameter", "enableTestCommands=1"}
	if f == replSet {
		args = append(args, "--replSet", "rs0", "--replSetAutoInitiate")
	}
	return args
}

// server is one process of the server under test.
type server struct {
	cmd    *exec.Cmd
	port   int
	exited chan struct{}
	err    error // of Wait; read after exited is closed
	log    *lockedBuffer
}

// lockedBuffer collects what the process prints while it runs.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// start runs the server on dir and waits until it answers. The test's end kills it if it still
// runs, and shows its log if the test failed.
func start(t *testing.T, dir string, f face, extra ...string) *server {
	t.Helper()
	s := spawn(t, portOf(t, dir), cairnBinary(t), func(port int) []string {
		args := []string{"serve", "--dbpath", dir, "--port", strconv.Itoa(port)}
		return append(append(args, f.flags()...), extra...)
	})
	s.awaitReady(t, f)
	return s
}

// ports remembers where the server of a directory listened: a replica set's configuration
// names its member by host and port, so a restart has to come back to the same one.
var ports sync.Map

func portOf(t *testing.T, dir string) int {
	if p, ok := ports.Load(dir); ok {
		return p.(int)
	}
	p, _ := ports.LoadOrStore(dir, freePort(t))
	return p.(int)
}

// spawn starts a process on port; CAIRN_E2E_START replaces the command, for trying the
// suites on another server ("{dir}" and "{port}" are replaced).
func spawn(t *testing.T, port int, path string, args func(port int) []string) *server {
	t.Helper()
	argv := append([]string{path}, args(port)...)
	if other := os.Getenv("CAIRN_E2E_START"); other != "" {
		dir := ""
		for i, a := range argv {
			if a == "--dbpath" {
				dir = argv[i+1]
			}
		}
		argv = strings.Fields(strings.NewReplacer("{dir}", dir, "{port}", strconv.Itoa(port)).Replace(other))
	}
	s := &server{cmd: exec.Command(argv[0], argv[1:]...), port: port, exited: make(chan struct{}), log: &lockedBuffer{}}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.err = s.cmd.Wait(); close(s.exited) }()
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("log of the server on port %d (last part):\n%s", s.port, lastPart(s.log.String()))
		}
	})
	return s
}

func lastPart(s string) string {
	if len(s) > 4000 {
		return "…" + s[len(s)-4000:]
	}
	return s
}

func (s *server) addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

func (s *server) uri(f face) string {
	if f == replSet && !external() {
		return "mongodb://" + s.addr() + "/?replicaSet=rs0"
	}
	return "mongodb://" + s.addr() + "/"
}

// awaitReady waits for the first answered hello, on the replica-set face for a primary.
func (s *server) awaitReady(t *testing.T, f face) {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + s.addr() + "/?directConnection=true").
		SetServerSelectionTimeout(time.Second).SetHeartbeatInterval(500 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	defer func() { _ = client.Disconnect(context.Background()) }()
	var last error
	err = poll(ctx, 5*time.Millisecond, s.exited, func() bool {
		conn, err := net.DialTimeout("tcp", s.addr(), time.Second)
		if err != nil {
			last = err
			return false
		}
		_ = conn.Close()
		var hello struct {
			Primary bool   `bson:"isWritablePrimary"`
			Set     string `bson:"setName"`
		}
		last = client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello)
		if last == nil && f == replSet && !external() && (!hello.Primary || hello.Set == "") {
			last = fmt.Errorf("hello says primary %v, set %q", hello.Primary, hello.Set)
		}
		return last == nil
	})
	if err != nil {
		t.Fatalf("the server is not ready: %v; last: %v\n%s", err, last, lastPart(s.log.String()))
	}
}

// poll calls ok every interval until it is true, the context ends or stop is closed.
func poll(ctx context.Context, interval time.Duration, stop <-chan struct{}, ok func() bool) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-stop:
			return fmt.Errorf("the process has ended")
		case <-tick.C:
		}
	}
	return nil
}

// kill is kill -9, and waits for the end.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// dump ends a server that hangs, and returns what it printed, with all its goroutines.
func (s *server) dump() string {
	_ = s.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		s.kill()
	}
	return s.log.String()
}

// stop is SIGTERM; the process must end cleanly.
func (s *server) stop(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("SIGTERM: %v", err)
	}
	select {
	case <-s.exited:
	case <-time.After(60 * time.Second):
		s.kill()
		t.Fatal("the server did not end within a minute of SIGTERM")
	}
	if s.err != nil && !external() {
		t.Errorf("after SIGTERM the server ended with %v, want exit code 0\n%s", s.err, lastPart(s.log.String()))
	}
}

// freePort is a port below those that the system gives to outgoing connections: of those one might
// be taken while the server is down, even by the connection that asks whether it is up, which then
// reaches itself.
func freePort(t *testing.T) int {
	t.Helper()
	const first, ports, tries = 20000, 12000, 100
	for range tries {
		port := first + rand.IntN(ports)
		if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatalf("no free port among %d tried from %d on", tries, first)
	return 0
}

// external says that the suites run against another server than bin/cairn.
func external() bool {
	return os.Getenv("CAIRN_E2E_URI") != "" || os.Getenv("CAIRN_E2E_START") != ""
}

// target is a URI for suites that need no more than that: the server of CAIRN_E2E_URI, or a new one.
func target(t *testing.T, f face) string {
	t.Helper()
	if uri := os.Getenv("CAIRN_E2E_URI"); uri != "" {
		if f == replSet && os.Getenv("CAIRN_E2E_FACE") != string(replSet) {
			t.Skip("the server of CAIRN_E2E_URI is a standalone (set CAIRN_E2E_FACE=replset otherwise)")
		}
		return uri
	}
	return start(t, t.TempDir(), f).uri(f)
}

// dial connects the Go driver and closes the client with the test.
func dial(t *testing.T, o *options.ClientOptions) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(o.SetServerSelectionTimeout(15 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = client.Disconnect(ctx)
	})
	return client
}

// script runs a client's suite and makes a subtest of each line that it reports: "ok - what",
// "not ok - what ## why", "skip - what". The last line must be "done": a script that ends early fails.
func script(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	done, n := false, 0
	for lines.Scan() {
		line := lines.Text()
		what, ok := strings.CutPrefix(line, "ok - ")
		bad, notOK := strings.CutPrefix(line, "not ok - ")
		skipped, skip := strings.CutPrefix(line, "skip - ")
		done = done || line == "done"
		switch {
		case ok:
			n++
			t.Run(what, func(t *testing.T) {})
		case notOK:
			n++
			title, why, _ := strings.Cut(bad, " ## ")
			t.Run(title, func(t *testing.T) { t.Error(why) })
		case skip:
			t.Run(skipped, func(t *testing.T) { t.Skip("not on this server") })
		}
	}
	if err != nil && !t.Failed() || !done || n == 0 {
		t.Fatalf("%s ended with %v after %d checks, done %v:\n%s", filepath.Base(name), err, n, done, lastPart(string(out)))
	}
	t.Logf("%d checks", n)
}
