package server

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/wire"
)

// Conn is one client's connection. Its methods may be called from any goroutine.
type Conn struct {
	id            int64
	srv           *Server
	nc            net.Conn
	remote, local string
	ctx           context.Context
	cancel        context.CancelCauseFunc

	metadata atomic.Pointer[bson.Raw]
	attached atomic.Pointer[any]

	// Only the goroutine that serves the connection uses these.
	reader  *wire.Reader
	req     wire.Request
	out     wire.Reply
	scratch scratch

	watch     watch
	streaming atomic.Bool // inside an exhaust stream

	mu struct {
		sync.Mutex
		compressors []string
		onClose     []func()
		closed      bool
	}
}

func newConn(s *Server, nc net.Conn) *Conn {
	c := &Conn{srv: s, nc: nc, remote: addrString(nc.RemoteAddr()), local: addrString(nc.LocalAddr())}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	c.reader = wire.NewReader(nc, wire.MaxMessageSize)
	c.watch.init(c)
	return c
}

// addrString names clients of a Unix socket, which have no address, by MongoDB's word.
func addrString(a net.Addr) string {
	if a == nil || a.String() == "" || a.String() == "@" {
		return "anonymous unix socket"
	}
	return a.String()
}

// ID returns the connection's number, from 1 up.
func (c *Conn) ID() int64 { return c.id }

// RemoteAddr returns the client's address.
func (c *Conn) RemoteAddr() string { return c.remote }

// LocalAddr returns the address that the client connected to.
func (c *Conn) LocalAddr() string { return c.local }

// Context ends when the client is gone or the server gave up on the connection.
func (c *Conn) Context() context.Context { return c.ctx }

// Done is closed when Context ends.
func (c *Conn) Done() <-chan struct{} { return c.ctx.Done() }

// Running reports whether a request is being served.
func (c *Conn) Running() bool { return c.watch.running() }

// Metadata returns the client document of the connection's first hello, nil before.
func (c *Conn) Metadata() bson.Raw {
	if m := c.metadata.Load(); m != nil {
		return *m
	}
	return nil
}

// SetMetadata keeps a copy of the client document. Only the first call counts.
func (c *Conn) SetMetadata(d bson.Raw) {
	m := d.Clone()
	if !c.metadata.CompareAndSwap(nil, &m) {
		return
	}
	c.srv.log.LogAttrs(c.ctx, c.srv.connLevel(), "client metadata", slog.Int64("connection_id", c.id), slog.String("remote", c.remote),
		slog.String("app_name", c.AppName()), slog.String("driver", m.Path("driver.name").Str()+" "+m.Path("driver.version").Str()))
}

// AppName returns the name that the client's application gave, or "".
func (c *Conn) AppName() string { return c.Metadata().Path("application.name").Str() }

// NegotiateCompression keeps and returns the compressors of offered that the server
// speaks too, in the client's order.
func (c *Conn) NegotiateCompression(offered []string) []string {
	var agreed []string
	for _, name := range offered {
		if slices.Contains(c.srv.cfg.Compressors, name) && !slices.Contains(agreed, name) {
			agreed = append(agreed, name)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.compressors = agreed
	return agreed
}

// Compressors returns what was negotiated.
func (c *Conn) Compressors() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.compressors
}

// Attach keeps a value of another room with the connection, in place of the last.
func (c *Conn) Attach(v any) { c.attached.Store(&v) }

// Attached returns what Attach kept, or nil.
func (c *Conn) Attached() any {
	if v := c.attached.Load(); v != nil {
		return *v
	}
	return nil
}

// OnClose calls f once the connection has ended and its last request has returned;
// hooks run in reverse order. On a connection that has ended f runs at once.
func (c *Conn) OnClose(f func()) {
	c.mu.Lock()
	closed := c.mu.closed
	if !closed {
		c.mu.onClose = append(c.mu.onClose, f)
	}
	c.mu.Unlock()
	if closed {
		f()
	}
}

// Close ends the connection without another reply.
func (c *Conn) Close() {
	c.cancel(net.ErrClosed)
	c.nc.Close()
}

// kick ends the connection if it is idle or streams, else after the running request.
func (c *Conn) kick() {
	if c.streaming.Load() {
		c.cancel(ErrShutdown)
	}
	c.nc.SetReadDeadline(time.Unix(1, 0))
}

// end releases everything; the connection's goroutine calls it last.
func (c *Conn) end() {
	c.watch.stop()
	c.cancel(net.ErrClosed)
	c.nc.Close()
	c.reader.Release()
	c.req.Release()
	c.out.Free()
	c.mu.Lock()
	c.mu.closed = true
	hooks := c.mu.onClose
	c.mu.onClose = nil
	c.mu.Unlock()
	for _, f := range slices.Backward(hooks) {
		f()
	}
}
