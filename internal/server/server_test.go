package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/wire"
)

// handlerFunc is a Handler for tests.
type handlerFunc func(ctx context.Context, c *Conn, req *wire.Request, out *wire.Reply) error

func (f handlerFunc) Handle(ctx context.Context, c *Conn, req *wire.Request, out *wire.Reply) error {
	return f(ctx, c, req, out)
}

func okHandler(_ context.Context, _ *Conn, _ *wire.Request, out *wire.Reply) error {
	out.Doc().Double("ok", 1)
	return nil
}

// logBuffer collects log lines; wait blocks until one contains a text.
type logBuffer struct {
	mu   sync.Mutex
	cond *sync.Cond
	b    bytes.Buffer
}

func newLog() *logBuffer { l := &logBuffer{}; l.cond = sync.NewCond(&l.mu); return l }

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.cond.Broadcast()
	return l.b.Write(p)
}

func (l *logBuffer) wait(t *testing.T, text string) {
	t.Helper()
	stop := time.AfterFunc(10*time.Second, l.cond.Broadcast)
	defer stop.Stop()
	end := time.Now().Add(10 * time.Second)
	l.mu.Lock()
	defer l.mu.Unlock()
	for !strings.Contains(l.b.String(), text) {
		if time.Now().After(end) {
			t.Fatalf("log has no %q:\n%s", text, l.b.String())
		}
		l.cond.Wait()
	}
}

func start(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// client is a raw connection.
type client struct {
	t    testing.TB
	nc   net.Conn
	r    *wire.Reader
	comp *wire.Compression
}

func dial(t testing.TB, s *Server) *client {
	t.Helper()
	addr := s.Addrs()[0]
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, nc)
}

func newClient(t testing.TB, nc net.Conn) *client {
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t: t, nc: nc, r: wire.NewReader(nc, wire.MaxMessageSize), comp: wire.NewCompression()}
}

func (c *client) send(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) recv() *wire.Answer {
	c.t.Helper()
	b, err := c.r.Next()
	if err != nil {
		c.t.Fatal(err)
	}
	a, err := wire.ParseAnswer(b, c.comp)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

func (c *client) run(m wire.Msg) *wire.Answer {
	c.t.Helper()
	c.send(m.Append(nil))
	return c.recv()
}

// closed fails unless the server closes the connection without another byte.
func (c *client) closed() {
	c.t.Helper()
	var b [1]byte
	if n, err := c.nc.Read(b[:]); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("connection is open: %d bytes, %v", n, err)
	}
}

var ping = bson.D("ping", 1, "$db", "admin")

func TestReplyAndChecksum(t *testing.T) {
	s := start(t, Config{Handler: handlerFunc(okHandler)})
	c := dial(t, s)
	for i := range int32(10) {
		a := c.run(wire.Msg{RequestID: i, Body: ping, Checksum: i%2 == 1})
		if a.ResponseTo != i || a.Checksum != (i%2 == 1) || a.Doc.Get("ok").Double() != 1 {
			t.Fatalf("%+v", a)
		}
	}
}

func TestCompressors(t *testing.T) {
	s := start(t, Config{Handler: handlerFunc(func(_ context.Context, _ *Conn, req *wire.Request, out *wire.Reply) error {
		out.Doc().Str("text", req.Body.Get("text").Str())
		return nil
	})})
	c := dial(t, s)
	text := strings.Repeat("compress me ", 1000)
	for id := wire.CompressorNone; id <= wire.CompressorZstd; id++ {
		m := wire.Msg{Body: bson.D("echo", 1, "text", text, "$db", "a")}
		b, err := m.AppendCompressed(nil, id, c.comp)
		if err != nil {
			t.Fatal(err)
		}
		c.send(b)
		if a := c.recv(); a.Compressor != id || a.OpCode != wire.OpMsg || a.Doc.Get("text").Str() != text {
			t.Fatalf("%s: %+v", id, a.Header)
		}
	}
	b := bson.NewBuilder(nil)
	s.Metrics().AppendNetwork(b)
	d := b.Finish()
	for _, path := range []string{"compression.snappy.compressor.bytesIn", "compression.zstd.compressor.bytesOut", "compression.zlib.decompressor.bytesOut"} {
		if d.Path(path).Int64() == 0 {
			t.Errorf("%s is 0", path)
		}
	}
	if d.Path("bytesIn").Int64() <= d.Path("physicalBytesIn").Int64() || d.Path("bytesOut").Int64() <= d.Path("physicalBytesOut").Int64() || d.Path("numRequests").Int64() != 4 {
		t.Error(d)
	}
}

func TestLargeAndPipelined(t *testing.T) {
	var docs atomic.Int64
	s := start(t, Config{Handler: handlerFunc(func(_ context.Context, _ *Conn, req *wire.Request, out *wire.Reply) error {
		n := 0
		for i := range req.Sequences {
			for d := range req.Sequences[i].All() {
				n += len(d.Get("s").Str())
				docs.Add(1)
			}
		}
		out.Doc().Int32("n", int32(n)).Double("ok", 1)
		return nil
	})})
	c := dial(t, s)
	seq := make([]bson.Raw, 300)
	for i := range seq {
		seq[i] = bson.D("s", strings.Repeat("d", 10_000))
	}
	var b []byte
	for i := range int32(3) {
		b = (&wire.Msg{RequestID: i, Body: bson.D("insert", "c", "$db", "a"), Sequences: []wire.Docs{{ID: "documents", Docs: seq}}}).Append(b)
		b = (&wire.Msg{RequestID: 10 + i, Body: ping}).Append(b)
	}
	go c.nc.Write(b)
	for i := range int32(3) {
		if a := c.recv(); a.ResponseTo != i || a.Doc.Get("n").Int32() != 3_000_000 {
			t.Fatal(a)
		}
		if a := c.recv(); a.ResponseTo != 10+i {
			t.Fatal(a)
		}
	}
	if docs.Load() != 900 {
		t.Fatal(docs.Load())
	}
}

func TestErrors(t *testing.T) {
	log := newLog()
	mark := errors.New("mark")
	s := start(t, Config{
		Logger: slog.New(slog.NewTextHandler(log, nil)),
		MapError: func(err error) *mongoerr.Error {
			if errors.Is(err, mark) {
				return mongoerr.New(mongoerr.WriteConflict, "mapped")
			}
			return nil
		},
		ErrorTrailer: func(b *bson.Builder) { b.Int32("trailer", 1) },
		Handler: handlerFunc(func(ctx context.Context, _ *Conn, req *wire.Request, out *wire.Reply) error {
			out.Doc().Str("half", "written").Doc("open")
			switch req.Command() {
			case "code":
				return mongoerr.New(mongoerr.DuplicateKey, "dup").WithLabels("L").WithExtra(bson.D("keyValue", 7))
			case "mark":
				return fmt.Errorf("wrapped: %w", mark)
			case "plain":
				return errors.New("disk on fire")
			case "deadline":
				return context.DeadlineExceeded
			case "panic":
				panic("boom")
			case "huge":
				out.Doc().Str("x", strings.Repeat("x", wire.MaxInternalDocSize))
			}
			return nil
		}),
	})
	c := dial(t, s)
	for _, x := range []struct {
		cmd  string
		code mongoerr.Code
		msg  string
	}{
		{"code", 11000, "dup"}, {"mark", 112, "mapped"}, {"plain", 1, "disk on fire"}, {"deadline", 50, "time limit"},
		{"panic", 1, "boom"}, {"huge", 10334, "BSONObj size"},
	} {
		d := c.run(wire.Msg{Body: bson.D(x.cmd, 1, "$db", "a")}).Doc
		if d.Get("ok").Double() != 0 || mongoerr.Code(d.Get("code").Int32()) != x.code || d.Get("codeName").Str() != x.code.String() ||
			!strings.Contains(d.Get("errmsg").Str(), x.msg) || d.Has("half") || !d.Has("trailer") {
			t.Errorf("%s: %v", x.cmd, d)
		}
		if x.cmd == "code" && (d.Get("keyValue").Int32() != 7 || d.Path("errorLabels.0").Str() != "L") {
			t.Error(d)
		}
	}
	log.wait(t, "disk on fire")
	log.wait(t, "server_test.go") // the stack of the panic
	if d := c.run(wire.Msg{Body: bson.D("x", 1)}).Doc; d.Get("code").Int32() != 40571 {
		t.Error(d)
	}
	c.send(wire.AppendQuery(nil, 4, "admin.$cmd", bson.D("listDatabases", 1)))
	if a := c.recv(); !a.Failure || a.Doc.Get("code").Int32() != 352 || a.ResponseTo != 4 || a.OpCode != wire.OpReply {
		t.Error(a)
	}
	c.send(wire.AppendQuery(nil, 4, "admin.$cmd", bson.D("isMaster", 1)))
	if a := c.recv(); a.Failure || a.OpCode != wire.OpReply || !a.Doc.Has("half") {
		t.Error(a)
	}
}

func TestMalformedFrameEndsItsConnectionOnly(t *testing.T) {
	log := newLog()
	s := start(t, Config{Handler: handlerFunc(okHandler), Logger: slog.New(slog.NewTextHandler(log, nil))})
	other := dial(t, s)
	flags := (&wire.Msg{Body: ping}).Append(nil)
	flags[17] = 0x80
	sum := (&wire.Msg{Body: ping, Checksum: true}).Append(nil)
	sum[len(sum)-1]++
	for _, x := range []struct {
		name, reason string
		bytes        []byte
	}{
		{"flags", "unknown required flags", flags},
		{"checksum", "checksum mismatch", sum},
		{"length", "length 5", []byte{5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0}},
		{"huge", "length 2147483647", []byte{255, 255, 255, 127, 1, 0, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0}},
		{"insert", "OP_INSERT is not supported", []byte{16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xd2, 7, 0, 0}},
		{"tls", "speaks TLS", append([]byte{0x16, 3, 1, 2}, make([]byte, 12)...)},
	} {
		c := dial(t, s)
		c.send(x.bytes)
		c.closed()
		log.wait(t, x.reason)
		other.run(wire.Msg{Body: ping})
	}
	c := dial(t, s)
	c.send([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	if b, err := io.ReadAll(c.nc); err != nil || !strings.Contains(string(b), "native driver port") {
		t.Fatalf("%q %v", b, err)
	}
}

func TestStalledClientHoldsNobodyUp(t *testing.T) {
	log := newLog()
	s := start(t, Config{Handler: handlerFunc(okHandler), Logger: slog.New(slog.NewTextHandler(log, nil))})
	stalled := dial(t, s)
	stalled.send([]byte{0, 0x6c, 0xdc, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0, 0, 0}) // claims 48,000,000
	c := dial(t, s)
	for range 100 {
		c.run(wire.Msg{Body: ping})
	}
	stalled.nc.Close()
	log.wait(t, "in the middle of a message")
}

func TestNoReply(t *testing.T) {
	var ran atomic.Int64
	s := start(t, Config{Handler: handlerFunc(func(_ context.Context, _ *Conn, req *wire.Request, out *wire.Reply) error {
		if req.NoReply {
			ran.Add(1)
			return errors.New("nobody hears this")
		}
		out.Doc().Double("ok", 1)
		return nil
	})})
	c := dial(t, s)
	for range 5 {
		c.send((&wire.Msg{Body: ping, MoreToCome: true}).Append(nil))
	}
	if a := c.run(wire.Msg{RequestID: 77, Body: ping}); a.ResponseTo != 77 || ran.Load() != 5 {
		t.Fatalf("%+v, %d ran", a, ran.Load())
	}
}

func TestExhaustStream(t *testing.T) {
	s := start(t, Config{Handler: handlerFunc(func(_ context.Context, _ *Conn, req *wire.Request, out *wire.Reply) error {
		n := req.Body.Get("getMore").Int32()
		out.Doc().Int32("n", n).Double("ok", 1)
		if n < 5 {
			out.Continue(bson.D("getMore", n+1, "$db", "a"))
		}
		return nil
	})})
	c := dial(t, s)
	c.send((&wire.Msg{RequestID: 3, Body: bson.D("getMore", int32(1), "$db", "a"), ExhaustAllowed: true}).Append(nil))
	last := int32(3)
	for n := int32(1); n <= 5; n++ {
		a := c.recv()
		if a.Doc.Get("n").Int32() != n || a.MoreToCome != (n < 5) || a.ResponseTo != last {
			t.Fatalf("reply %d: %+v", n, a)
		}
		last = a.RequestID
	}
	// Without the flag Continue has no effect; the connection goes on after a stream.
	if a := c.run(wire.Msg{Body: bson.D("getMore", int32(1), "$db", "a")}); a.MoreToCome || a.Doc.Get("n").Int32() != 1 {
		t.Fatal(a)
	}
	if a := c.run(wire.Msg{Body: bson.D("getMore", int32(5), "$db", "a")}); a.Doc.Get("n").Int32() != 5 {
		t.Fatal(a)
	}
}

func TestDropClosesWithoutReply(t *testing.T) {
	s := start(t, Config{Handler: handlerFunc(func(_ context.Context, _ *Conn, _ *wire.Request, out *wire.Reply) error {
		out.Doc().Double("ok", 1)
		out.Drop()
		return nil
	})})
	c := dial(t, s)
	c.send((&wire.Msg{Body: ping}).Append(nil))
	c.closed()
}

func TestDisconnectCancelsLongRequest(t *testing.T) {
	running, ended := make(chan *Conn), make(chan error)
	s := start(t, Config{Handler: handlerFunc(func(ctx context.Context, c *Conn, req *wire.Request, out *wire.Reply) error {
		out.Doc().Double("ok", 1)
		if req.Command() != "wait" {
			return nil
		}
		running <- c
		select {
		case <-ctx.Done():
			ended <- context.Cause(ctx)
		case ended <- nil: // the test lets go of the request
		}
		return nil
	})})
	c := dial(t, s)
	c.send((&wire.Msg{Body: bson.D("wait", 1, "$db", "a")}).Append(nil))
	<-running
	c.nc.Close()
	s.EachConn(func(sc *Conn) bool {
		<-sc.Done()
		return true
	})
	if err := <-ended; !errors.Is(err, ErrClientGone) {
		t.Fatal(err)
	}

	// What a client sent ahead is neither lost nor taken for a disconnect.
	c = dial(t, s)
	b := (&wire.Msg{RequestID: 1, Body: bson.D("wait", 1, "$db", "a")}).Append(nil)
	c.send((&wire.Msg{RequestID: 2, Body: ping}).Append(b))
	sc := <-running
	for !sc.watch.watching.Load() { // the watch begins after watchAfter
		select {
		case <-sc.Done():
			t.Fatal("cancelled")
		case <-time.After(time.Millisecond):
		}
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for id := int32(1); id <= 2; id++ {
		if a := c.recv(); a.ResponseTo != id {
			t.Fatal(a)
		}
	}
}

func TestConnFacts(t *testing.T) {
	closed := make(chan int, 3)
	s := start(t, Config{Handler: handlerFunc(func(_ context.Context, c *Conn, req *wire.Request, out *wire.Reply) error {
		switch req.Command() {
		case "hello":
			c.SetMetadata(req.Body.Get("client").Doc())
			c.Attach("state")
			c.OnClose(func() { closed <- 1 })
			c.OnClose(func() { closed <- 2 })
			out.Doc().Any("agreed", c.NegotiateCompression([]string{"zstd", "lzma", "snappy"}))
			return nil
		}
		out.Doc().Int64("id", c.ID()).Str("app", c.AppName()).Str("remote", c.RemoteAddr()).Str("local", c.LocalAddr()).
			Any("attached", c.Attached()).Bool("running", c.Running()).Any("compressors", c.Compressors())
		return nil
	})})
	c := dial(t, s)
	for _, app := range []string{"first", "second"} {
		a := c.run(wire.Msg{Body: bson.D("hello", 1, "client", bson.D("application", bson.D("name", app)), "$db", "admin")})
		if a.Doc.Path("agreed.0").Str() != "zstd" || a.Doc.Path("agreed.1").Str() != "snappy" || a.Doc.Get("agreed").Doc().Len() != 2 {
			t.Fatal(a.Doc)
		}
	}
	d := c.run(wire.Msg{Body: ping}).Doc
	if d.Get("id").Int64() != 1 || d.Get("app").Str() != "first" || d.Get("attached").Str() != "state" || !d.Get("running").Bool() ||
		d.Get("remote").Str() != c.nc.LocalAddr().String() || d.Get("local").Str() != c.nc.RemoteAddr().String() || d.Path("compressors.0").Str() != "zstd" {
		t.Fatal(d)
	}
	c.nc.Close()
	if a, b := <-closed, <-closed; a != 2 || b != 1 {
		t.Fatalf("hooks ran %d, %d", a, b)
	}
}

func TestUnixSocket(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Handler: handlerFunc(okHandler), UnixSocketPrefix: dir})
	path := s.Addrs()[1]
	if want := fmt.Sprintf("mongodb-%s.sock", strings.TrimPrefix(s.Addrs()[0], "127.0.0.1:")); filepath.Base(path) != want {
		t.Fatal(path)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatal(info, err)
	}
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	newClient(t, nc).run(wire.Msg{Body: ping})

	// A living server's socket is not taken, a dead one's is, a file is left alone.
	if _, err := listenUnix(context.Background(), path); err == nil {
		t.Fatal("two servers on one socket")
	}
	stale := filepath.Join(dir, "mongodb-1.sock")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	l, err = listenUnix(context.Background(), stale)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.WriteFile(stale, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(context.Background(), stale); err == nil {
		t.Fatal("a file was replaced")
	}
}

func TestListenAddresses(t *testing.T) {
	s := start(t, Config{Handler: handlerFunc(okHandler), BindIPs: []string{"localhost", "127.0.0.1", "127.0.0.2"}})
	a := s.Addrs()
	if len(a) != 2 || strings.TrimPrefix(a[0], "127.0.0.1:") != strings.TrimPrefix(a[1], "127.0.0.2:") {
		t.Fatal(a)
	}
	two, err := New(Config{Handler: handlerFunc(okHandler), BindIPs: []string{"127.0.0.3", "127.0.0.2"}, Port: func() int {
		_, p, _ := net.SplitHostPort(a[0])
		var n int
		fmt.Sscan(p, &n)
		return n
	}()})
	if err != nil {
		t.Fatal(err)
	}
	if err := two.Listen(context.Background()); err == nil || len(two.Addrs()) != 0 {
		t.Fatal("took an address in use", two.Addrs())
	}
	for _, bad := range []Config{{}, {Handler: s.cfg.Handler, Port: -1}, {Handler: s.cfg.Handler, Compressors: []string{"lzma"}}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v accepted", bad)
		}
	}
}

func TestMaxConns(t *testing.T) {
	s := start(t, Config{Handler: handlerFunc(okHandler), MaxConns: 2})
	a, b := dial(t, s), dial(t, s)
	a.run(wire.Msg{Body: ping})
	b.run(wire.Msg{Body: ping})
	dial(t, s).closed()
	gone := make(chan struct{})
	s.EachConn(func(c *Conn) bool { c.OnClose(func() { close(gone) }); return false })
	a.nc.Close()
	<-gone
	for s.Metrics().Current() != 1 {
		<-time.After(time.Millisecond)
	}
	dial(t, s).run(wire.Msg{Body: ping})
	bld := bson.NewBuilder(nil)
	s.Metrics().AppendConnections(bld)
	if d := bld.Finish(); d.Get("current").Int32() != 2 || d.Get("available").Int32() != 0 || d.Get("totalCreated").Int32() != 3 || d.Get("rejected").Int32() != 1 {
		t.Fatal(d)
	}
}

// failingListener fails as a process without free files does, then accepts.
type failingListener struct {
	net.Listener
	fails atomic.Int64
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.fails.Add(-1) >= 0 {
		return nil, errors.New("too many open files")
	}
	return l.Listener.Accept()
}

func TestAcceptBacksOff(t *testing.T) {
	s, err := New(Config{Handler: handlerFunc(okHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(context.Background()); err != nil {
		t.Fatal(err)
	}
	l := &failingListener{Listener: s.mu.listeners[0]}
	l.fails.Store(3)
	s.mu.listeners[0] = l
	s.Start()
	defer s.Shutdown(context.Background())
	dial(t, s).run(wire.Msg{Body: ping})
}

func TestThousandConnections(t *testing.T) {
	s := start(t, Config{Handler: handlerFunc(okHandler)})
	var wg sync.WaitGroup
	clients := make([]*client, 1000)
	for i := range clients {
		clients[i] = dial(t, s)
	}
	for _, c := range clients {
		wg.Go(func() {
			for range 5 {
				if a := c.run(wire.Msg{Body: ping}); a.Doc.Get("ok").Double() != 1 {
					t.Error(a.Doc)
				}
			}
		})
	}
	wg.Wait()
	if n := s.Metrics().Current(); n != 1000 {
		t.Fatal(n)
	}
}

func TestShutdown(t *testing.T) {
	running, release := make(chan struct{}), make(chan struct{})
	s, err := New(Config{Handler: handlerFunc(func(ctx context.Context, _ *Conn, req *wire.Request, out *wire.Reply) error {
		switch req.Command() {
		case "wait":
			running <- struct{}{}
			<-release
		case "stubborn":
			running <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		case "hello":
			if !req.ExhaustAllowed || req.RequestID == 0 {
				break
			}
			running <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		out.Doc().Double("ok", 1)
		out.Continue(nil)
		return nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.Start()
	idle, busy, stream, stubborn, stalled := dial(t, s), dial(t, s), dial(t, s), dial(t, s), dial(t, s)
	idle.run(wire.Msg{Body: ping})
	stalled.run(wire.Msg{Body: ping})
	stalled.send([]byte{100, 0, 0, 0})
	busy.send((&wire.Msg{Body: bson.D("wait", 1, "$db", "a")}).Append(nil))
	<-running
	stubborn.send((&wire.Msg{Body: bson.D("stubborn", 1, "$db", "a")}).Append(nil))
	<-running
	stream.send((&wire.Msg{Body: bson.D("hello", 1, "$db", "a"), ExhaustAllowed: true}).Append(nil))
	if a := stream.recv(); !a.MoreToCome {
		t.Fatal(a)
	}
	<-running

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Shutdown(ctx) }()
	idle.closed()
	stalled.closed()
	if a := stream.recv(); a.MoreToCome || a.Doc.Get("code").Int32() != int32(mongoerr.InterruptedAtShutdown) {
		t.Fatal(a.Doc)
	}
	stream.closed()
	if _, err := net.Dial("tcp", idle.nc.RemoteAddr().String()); err == nil {
		t.Fatal("still accepts")
	}
	close(release)
	if a := busy.recv(); a.Doc.Get("ok").Double() != 1 {
		t.Fatal(a.Doc)
	}
	busy.closed()
	select {
	case err := <-done:
		t.Fatal("shutdown did not wait", err)
	default:
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	stubborn.closed()
	one, two := net.Pipe()
	s.ServeConn(two)
	if _, err := one.Read(make([]byte, 1)); err == nil {
		t.Fatal("serves after shutdown")
	}
}
