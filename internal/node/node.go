package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cairndb/cairn/internal/auth"
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/command"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/query"
	"github.com/cairndb/cairn/internal/repl"
	"github.com/cairndb/cairn/internal/server"
	"github.com/cairndb/cairn/internal/session"
	"github.com/cairndb/cairn/internal/storage"
)

// Node is a running server.
type Node struct {
	cfg     Config
	engine  *storage.Engine
	catalog *catalog.Catalog
	seq     *oplog.Sequencer
	log     *oplog.Log
	local   *query.Local
	set     *repl.Set
	cmds    *command.Node

	auth      *auth.Store
	sessions  *session.Sessions
	retryable *session.Retryable
	srv       *server.Server
	port      int
	closers   []func() error // run in reverse order
}

// Start opens the store, replays what a crash left, and listens.
func Start(ctx context.Context, cfg Config) (_ *Node, err error) {
	cfg.EnsureDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.closeAll())
		}
	}()
	if err := n.openStore(ctx); err != nil {
		return nil, err
	}
	if err := n.listen(ctx); err != nil {
		return nil, err
	}
	if err := n.openReplSet(ctx); err != nil {
		return nil, err
	}
	if n.cfg.ReplSet == "" || n.set.Initiated() { // else initiation does it: the set's log begins with that
		if err := n.auth.EnsureFeatureVersion(ctx); err != nil {
			return nil, err
		}
	}
	n.wireCommands()
	if err := n.applyParameters(); err != nil {
		return nil, err
	}
	if err := n.startupLog(ctx); err != nil {
		return nil, err
	}
	if err := n.dropTemporary(ctx); err != nil {
		return nil, err
	}
	n.startBackground()
	n.srv.Start()
	n.onClose(n.stopServer)
	if cfg.Backup != nil {
		cfg.Backup.Start(n.URI())
		n.onClose(cfg.Backup.Close)
	}
	return n, nil
}

func (n *Node) onClose(f func() error) { n.closers = append(n.closers, f) }

// closeAll runs the closers in reverse and joins their errors.
func (n *Node) closeAll() (err error) {
	for i := len(n.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, n.closers[i]())
	}
	n.closers = nil
	return err
}

// Close ends the node cleanly; nothing is left to replay.
func (n *Node) Close() error { return n.closeAll() }

// openStore opens engine, catalog, sequencer, oplog and executor.
func (n *Node) openStore(ctx context.Context) (err error) {
	cfg := &n.cfg
	started := time.Now()
	n.engine, err = storage.Open(storage.Options{Dir: cfg.DBPath, FS: cfg.FS, CacheBytes: cfg.CacheBytes,
		JournalSegmentBytes: min(max(cfg.OplogBytes/8, 1<<20), 64<<20), Logger: cfg.Log})
	if err != nil {
		return err
	}
	n.onClose(n.engine.Close)
	n.catalog, err = catalog.Open(catalog.Options{Engine: n.engine, CompileFilter: compileFilter, Now: cfg.Clock, Logger: cfg.Log.With("component", "catalog")})
	if err != nil {
		return err
	}
	n.onClose(func() error { n.catalog.Close(); return nil })
	n.sessions = session.NewSessions()
	n.retryable = session.NewRetryable(n.catalog, session.RetryableOptions{Sessions: n.sessions, Expired: n.endSessionWork, Now: cfg.Clock, Logger: cfg.Log.With("component", "session")})
	n.catalog.AddObserver(n.retryable)
	stats, err := n.catalog.Recover(ctx)
	if err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	if stats.Units > 0 {
		cfg.Log.Info("replayed the journal", "component", "node", "entries", stats.Entries, "units", stats.Units, "bytes", stats.Bytes, "took", time.Since(started).Round(time.Millisecond))
	}
	n.seq, err = oplog.NewSequencer(n.engine, oplog.SequencerOptions{Now: cfg.Clock, Logger: cfg.Log.With("component", "oplog")})
	if err != nil {
		return err
	}
	n.onClose(n.seq.Close)
	n.log, err = oplog.NewLog(n.seq, oplog.LogOptions{SizeBytes: cfg.OplogBytes, MinRetention: cfg.OplogMinRetention, Now: cfg.Clock, Logger: cfg.Log.With("component", "oplog")})
	if err != nil {
		return err
	}
	n.onClose(func() error { n.log.Close(); return nil })
	if err := n.catalog.Start(n.seq, n.log); err != nil {
		return err
	}
	n.auth = auth.New(n.catalog)
	n.retryable.Start(n.log)
	n.onClose(func() error { n.retryable.Close(); return nil })
	n.local = query.NewLocal(query.LocalOptions{Catalog: n.catalog, Engine: n.engine, Log: n.seq, Sessions: n.retryable, Stats: statsProvider{n}, Logger: cfg.Log.With("component", "query")})
	n.onClose(func() error { n.local.Close(); return nil })
	return nil
}

// listen binds the addresses, so that the port is known to what comes next, but
// accepts nobody yet.
func (n *Node) listen(ctx context.Context) (err error) {
	cfg := &n.cfg
	n.cmds = &command.Node{}
	sc := server.Config{Handler: server.Commands{Node: n.cmds}, Logger: cfg.Log, BindIPs: cfg.BindIP, Port: cfg.Port,
		MaxConns: cfg.MaxConns, MapError: mapError}
	if !cfg.NoUnixSocket {
		sc.UnixSocketPrefix = cfg.UnixSocketPrefix
	}
	if n.srv, err = server.New(sc); err != nil {
		return err
	}
	if cfg.NoTCP {
		return nil
	}
	if err := n.srv.Listen(ctx); err != nil {
		return err
	}
	// For a start that fails further on; after stopServer nothing is left to close.
	n.onClose(func() error { return n.srv.Shutdown(context.Background()) })
	for _, a := range n.srv.Addrs() {
		if _, p, err := net.SplitHostPort(a); err == nil {
			n.port, _ = strconv.Atoi(p)
		}
	}
	return nil
}

// stopServer ends connections and interrupts what they run. Requests may begin until
// the server has stopped listening, and one may wait long: a driver asks its first
// hello that waits for a change again as soon as it is interrupted.
func (n *Node) stopServer() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- n.srv.Shutdown(ctx) }()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		n.cmds.Ops.KillAll(interruptedAtShutdown)
		select {
		case err := <-done:
			return err
		case <-again.C:
		}
	}
}

// endSessionWork closes the cursors of expired sessions.
func (n *Node) endSessionWork(ids []bson.UUID) {
	n.local.Cursors().KillIf(func(i query.CursorInfo) bool {
		id, ok := i.LSID.Get("id").UUID()
		return ok && slices.Contains(ids, id)
	})
}

// Port returns the TCP port.
func (n *Node) Port() int { return n.port }

// URI returns the connection string.
func (n *Node) URI() string {
	host := n.cfg.BindIP[0]
	if host == "0.0.0.0" || host == "::" || host == "*" {
		host = "localhost"
	}
	uri := "mongodb://" + net.JoinHostPort(host, strconv.Itoa(n.port)) + "/"
	if n.cfg.ReplSet != "" {
		return uri + "?replicaSet=" + n.cfg.ReplSet
	}
	return uri + "?directConnection=true"
}

// SetReadOnly refuses every write from now on, and deletes no expired documents.
// Operations that have begun end as they would have.
func (n *Node) SetReadOnly() {
	every, _ := n.local.TTL()
	n.local.SetTTL(every, false)
	n.cmds.ReadOnly.Store(true)
}

// Failed is closed when the store failed and turned read-only; Failure says why.
func (n *Node) Failed() <-chan struct{} { return n.engine.Failed() }

// Failure returns why the store is read-only, nil while it works.
func (n *Node) Failure() error { return n.engine.Failure() }

// wireCommands fills the command layer's view of this node.
func (n *Node) wireCommands() {
	cfg := &n.cfg
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	ring := cfg.LogSink
	if ring == nil {
		ring = NewLogRing()
	}
	*n.cmds = command.Node{
		Table: command.NewTable(command.All()...), Exec: n.local, Catalog: n.catalog, Cursors: n.local.Cursors(),
		Ops: session.NewOperations(), Sessions: n.sessions, Retryable: n.retryable, Auth: n.auth, Params: command.NewParameters(), Repl: n.set,
		Waiter: waiter{n.seq}, Fail: command.NewFailPoints(), Profiler: command.NewProfiler(), Log: cfg.Log.With("component", "command"), LogRing: ring, Clock: cfg.Clock,
		Warnings:   []command.Warning{{ID: 22120, Message: "Access control is not enabled for the database. Read and write access to data and configuration is unrestricted"}},
		Host:       command.HostInfo{Hostname: net.JoinHostPort(host, strconv.Itoa(n.port)), Port: n.port, PID: os.Getpid(), Started: cfg.Clock()},
		Build:      command.BuildInfo{MongoVersion: MongoVersion, Version: cfg.Version, GitVersion: cfg.Commit, GoVersion: runtime.Version()},
		CmdLine:    command.CmdLine{Argv: cfg.Argv, Parsed: n.parsedOptions()},
		MapError:   mapError,
		Match:      compileMatch,
		CheckView:  n.local.CheckView,
		ClearPlans: n.local.ClearPlans,
		Metrics:    n.metrics,
		Fsync:      func(context.Context) error { return n.engine.Flush() },
		Shutdown:   n.requestShutdown,
		RotateLog:  cfg.RotateLog,
		DiskUsage: func() (used, total uint64, ok bool) {
			u, err := cfg.FS.GetDiskUsage(cfg.DBPath)
			return u.UsedBytes, u.TotalBytes, err == nil
		},
		EachClient: func(f func(command.Client)) {
			n.srv.EachConn(func(c *server.Conn) bool { f(c); return true })
		},
		KillCursors: func(of func(bson.Raw) bool) {
			n.local.Cursors().KillIf(func(i query.CursorInfo) bool { return of(i.LSID) })
		},
		ResizeOplog: n.resizeOplog,
		NewReplay: func(validate bool) command.Replay {
			r := n.catalog.NewReplay()
			if validate {
				r.Validate()
			}
			return r
		},
		HasCollection: func(db, coll string) bool {
			return n.catalog.Pin().Exists(catalog.Namespace{DB: db, Coll: coll})
		},
		EnsureProfile: func(op *query.OpContext, db string) error {
			return n.ensureCapped(op.Ctx, catalog.Namespace{DB: db, Coll: catalog.SystemProfile}, 1<<20)
		},
	}
	n.cmds.Status = n.statusSections()
	n.addParameters()
}

func (n *Node) requestShutdown(force bool) {
	if n.cfg.OnShutdown != nil {
		n.cfg.OnShutdown(force)
	}
}

func (n *Node) resizeOplog(bytes *int64, hours *float64) error {
	size := int64(0)
	if bytes != nil {
		size = *bytes
	}
	var keep *time.Duration
	if hours != nil {
		d := hoursOf(*hours)
		keep = &d
	}
	return n.log.Resize(size, keep)
}

// parsedOptions is getCmdLineOpts' parsed document.
func (n *Node) parsedOptions() bson.Raw {
	b := bson.NewBuilder(nil)
	b.Doc("net").Str("bindIp", strings.Join(n.cfg.BindIP, ",")).IntOrLong("port", int64(n.port)).End()
	if n.cfg.ReplSet != "" {
		b.Doc("replication").Str("replSetName", n.cfg.ReplSet).End()
	}
	if len(n.cfg.Parameters) > 0 {
		b.Doc("setParameter")
		for _, p := range n.cfg.Parameters {
			name, value, _ := cutParameter(p)
			b.Str(name, value)
		}
		b.End()
	}
	return b.Doc("storage").Str("dbPath", n.cfg.DBPath).End().Finish()
}

// waiter tells commands what is applied and durable.
type waiter struct{ seq *oplog.Sequencer }

// LastApplied implements command.Waiter.
func (w waiter) LastApplied() (bson.Timestamp, int64) {
	t := w.seq.LastApplied()
	return t.TS, t.Term
}

// LastDurable implements command.Waiter.
func (w waiter) LastDurable() (bson.Timestamp, int64) {
	t := w.seq.LastDurable()
	return t.TS, t.Term
}

// WaitJournaled implements command.Waiter.
func (w waiter) WaitJournaled(ctx context.Context, ts bson.Timestamp) error {
	if w.seq.LastDurable().TS >= ts {
		return nil
	}
	return w.seq.Sync(ctx)
}
