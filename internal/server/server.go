package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/wire"
)

// Causes of the end of a request's context.
var (
	ErrClientGone = errors.New("client disconnected")
	ErrShutdown   = errors.New("server is shutting down")
)

// Config says where and how a server listens.
type Config struct {
	// Handler runs the requests. Required.
	Handler Handler
	// Logger gets what happens to connections. Default: discarded.
	Logger *slog.Logger
	// LogConnections logs every accepted and ended connection at level Info, not Debug.
	LogConnections bool

	// BindIPs are the addresses or host names to listen at; "*" is all. Default 127.0.0.1.
	BindIPs []string
	// IPv6 also listens at the IPv6 addresses of host names.
	IPv6 bool
	// Port of TCP; 0 takes a free one.
	Port int
	// NoTCP leaves out the TCP listeners; Port then only names the Unix socket.
	NoTCP bool
	// UnixSocketPrefix is the directory of the Unix socket mongodb-PORT.sock. Default: none.
	UnixSocketPrefix string

	// MaxConns is the most connections at a time. Default: 1,000,000, but no more
	// than 80 % of the files that the process may open.
	MaxConns int
	// Compressors that hello may agree on, best first. Default snappy, zstd, zlib;
	// an empty slice that is not nil turns compression off.
	Compressors []string

	// MapError turns errors of the rooms below (storage marks) into what clients
	// see; nil from it is InternalError.
	MapError func(error) *mongoerr.Error
	// ErrorTrailer adds what every reply of the node ends with, such as $clusterTime,
	// to an error that this package writes by itself.
	ErrorTrailer func(*bson.Builder)
}

// maxConnsCeiling is 1,000,000 connections at the 80 % that they may take.
const maxConnsCeiling = 1_250_000

// EnsureDefaults fills what was left out.
func (c *Config) EnsureDefaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if len(c.BindIPs) == 0 {
		c.BindIPs = []string{"127.0.0.1"}
	}
	if limit := fileLimit() / 10 * 8; c.MaxConns <= 0 || c.MaxConns > limit {
		c.MaxConns = limit
	}
	if c.Compressors == nil {
		c.Compressors = []string{"snappy", "zstd", "zlib"}
	}
}

// Validate refuses what cannot work.
func (c *Config) Validate() error {
	if c.Handler == nil {
		return errors.New("server: no handler")
	}
	if c.Port < 0 || c.Port > 65535 {
		return fmt.Errorf("server: port %d is not between 0 and 65535", c.Port)
	}
	for _, name := range c.Compressors {
		if _, ok := wire.CompressorByName(name); !ok {
			return fmt.Errorf("server: unknown compressor %q", name)
		}
	}
	return nil
}

// Server accepts connections and serves them. Its life: New, Listen, Start, Shutdown.
type Server struct {
	cfg     Config
	log     *slog.Logger
	comp    *wire.Compression
	metrics Metrics
	parser  wire.Parser

	ctx    context.Context // ends when shutdown's patience does
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // accept loops and connections

	nextConn atomic.Int64
	replyIDs atomic.Int32
	draining atomic.Bool

	mu struct {
		sync.Mutex
		listeners []net.Listener
		conns     map[*Conn]struct{}
		closed    bool
	}
}

// New returns a server that does not listen yet.
func New(cfg Config) (*Server, error) {
	cfg.EnsureDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Logger.With("component", "server"), comp: wire.NewCompression()}
	s.parser.Compression = s.comp
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.mu.conns = map[*Conn]struct{}{}
	s.metrics.init(s.comp, cfg.MaxConns)
	return s, nil
}

// Metrics returns the server's counters.
func (s *Server) Metrics() *Metrics { return &s.metrics }

// Start accepts connections at all listeners, in the background.
func (s *Server) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.mu.listeners {
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			s.acceptLoop(l)
		}()
	}
}

// EachConn calls f for every open connection until it returns false.
func (s *Server) EachConn(f func(*Conn) bool) {
	for _, c := range s.conns() {
		if !f(c) {
			return
		}
	}
}

func (s *Server) conns() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Conn, 0, len(s.mu.conns))
	for c := range s.mu.conns {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *Conn) int { return int(a.id - b.id) })
	return list
}

// ServeConn serves one connection until it ends, and closes it: any stream that
// tests and embedders hand in.
func (s *Server) ServeConn(nc net.Conn) {
	if c, ok := s.admit(nc); ok {
		s.serveAdmitted(c)
	}
}

func (s *Server) serveAdmitted(c *Conn) {
	c.serve()
	s.mu.Lock()
	delete(s.mu.conns, c)
	s.mu.Unlock()
	s.metrics.current.Add(-1)
	s.wg.Done()
}

// admit registers a connection; it closes it if there are too many or the server ends.
func (s *Server) admit(nc net.Conn) (*Conn, bool) {
	c := newConn(s, nc)
	s.mu.Lock()
	n := len(s.mu.conns)
	closed, full := s.mu.closed, n >= s.cfg.MaxConns
	if !closed && !full {
		c.id = s.nextConn.Add(1) // before others see it
		s.mu.conns[c] = struct{}{}
		s.wg.Add(1)
	}
	s.mu.Unlock()
	switch {
	case closed:
		c.Close()
		return nil, false
	case full:
		c.Close()
		s.metrics.rejected.Add(1)
		s.log.Warn("connection refused because there are too many open connections", "remote", c.remote, "connection_count", n)
		return nil, false
	}
	s.metrics.current.Add(1)
	s.metrics.created.Add(1)
	return c, true
}

// connLevel is the level of what happens to every connection.
func (s *Server) connLevel() slog.Level {
	if s.cfg.LogConnections {
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// giveUpTime is how long handlers get to notice that their context has ended.
const giveUpTime = 5 * time.Second

// Shutdown stops listening, ends idle connections and exhaust streams at once and
// lets running requests finish until ctx ends. What still runs then is cancelled
// and its connection closed; the error says how many did not end even so.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.mu.Lock()
	s.mu.closed = true
	listeners := s.mu.listeners
	s.mu.listeners = nil
	s.mu.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	for _, c := range s.conns() {
		c.kick()
	}
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	defer s.cancel(ErrShutdown)
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.cancel(ErrShutdown)
	for _, c := range s.conns() {
		c.nc.Close()
	}
	patience := time.NewTimer(giveUpTime)
	defer patience.Stop()
	select {
	case <-done:
		return nil
	case <-patience.C:
		return fmt.Errorf("server: %d connections still run a command: %w", len(s.conns()), context.Cause(ctx))
	}
}

// isNormalEnd reports whether err is how connections end every day.
func isNormalEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}
