// Package cairn runs a Cairn server inside a Go program.
//
//	db, err := cairn.Open(cairn.Options{Dir: "data"})
//	if err != nil { … }
//	defer db.Close()
//	client, err := mongo.Connect(options.Client().ApplyURI(db.URI()))
//
// It is the same server that `cairn serve` runs: every driver and tool can connect
// to it. Several servers live side by side in one process. Tests use package
// cairntest.
package cairn

import (
	"context"
	"log/slog"

	"github.com/cairndb/cairn/internal/node"
)

// Options say what Open starts. The zero value is a store in ./data on a free TCP
// port of the loopback interface.
type Options struct {
	// Dir is the directory of the store; default "data".
	Dir string
	// InMemory keeps everything in memory: nothing outlives Close.
	InMemory bool
	// Addr is the address to listen on, without a port; default 127.0.0.1.
	Addr string
	// Port is the TCP port; 0, the default, takes a free one.
	Port int
	// ReplSet makes the server a replica set of one member with this name, initiated
	// at the first start. Default "": a standalone.
	ReplSet string
	// CacheBytes bounds the engine's memory; default 64 MB.
	CacheBytes int64
	// OplogBytes bounds the oplog; default 64 MB.
	OplogBytes int64
	// Parameters are server parameters, as --setParameter takes them: "ttlMonitorSleepSecs=1".
	Parameters []string
	// Log gets the server's log; default: nothing is logged.
	Log *slog.Logger
}

// DB is a running server.
type DB struct{ n *node.Node }

// Open starts a server. It returns once the server accepts connections, and what an
// earlier run left in the journal has been replayed. It fails if another process has
// the store open, if the store is corrupt or of a newer version.
func Open(o Options) (*DB, error) {
	c := node.Config{
		DBPath: o.Dir, InMemory: o.InMemory, Embedded: true, NoUnixSocket: true,
		Port: o.Port, AnyPort: o.Port == 0, ReplSet: o.ReplSet, ReplSetAutoInitiate: o.ReplSet != "",
		CacheBytes: o.CacheBytes, OplogBytes: o.OplogBytes, Parameters: o.Parameters, Log: o.Log,
	}
	if o.Addr != "" {
		c.BindIP = []string{o.Addr}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	n, err := node.Start(context.Background(), c)
	if err != nil {
		return nil, err
	}
	return &DB{n}, nil
}

// URI returns the connection string for drivers and tools.
func (db *DB) URI() string { return db.n.URI() }

// Port returns the TCP port.
func (db *DB) Port() int { return db.n.Port() }

// SetReadOnly makes the server refuse every write from now on, as a server does that
// shows the past: clients get IllegalOperation, expired documents stay.
func (db *DB) SetReadOnly() { db.n.SetReadOnly() }

// Failed is closed if the store failed and became read-only; Err then says why.
func (db *DB) Failed() <-chan struct{} { return db.n.Failed() }

// Err returns why the store became read-only, nil while it works.
func (db *DB) Err() error { return db.n.Failure() }

// Close ends the server cleanly: running operations end, everything is on disk when
// it returns, and the next Open has nothing to replay.
func (db *DB) Close() error { return db.n.Close() }
