package command

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/auth"
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query"
	"github.com/cairndb/cairn/internal/session"
)

// Node is what the commands of one server work on. node fills it once, before the
// first request; it is not changed afterwards.
type Node struct {
	Table    *Table
	Catalog  *catalog.Catalog
	Cursors  *query.Cursors
	Exec     query.Executor
	Ops      *session.Operations
	Sessions *session.Sessions
	Params   *Parameters
	Auth     *auth.Store
	Repl     Repl
	Waiter   Waiter
	Fail     *FailPoints
	Profiler *Profiler
	Log      *slog.Logger
	LogRing  *LogRing
	Warnings []Warning // of this start, for getLog
	Clock    func() time.Time
	Host     HostInfo
	Build    BuildInfo
	CmdLine  CmdLine

	// Status returns the sections of serverStatus that rooms other than command own,
	// in the order they are shown.
	Status []StatusSection
	// MapError gives the client's form of errors of the rooms below, nil if it has none.
	MapError func(error) *mongoerr.Error
	// EnsureProfile makes a database's system.profile if it is not there.
	EnsureProfile func(op *query.OpContext, db string) error
	// DiskUsage returns the bytes used and the size of the file system of the store.
	DiskUsage func() (used, total uint64, ok bool)
	// Metrics appends further subdocuments of serverStatus's metrics; may be nil.
	Metrics func(b *bson.Builder)
	// Match compiles a filter for documents that no collection holds (currentOp, listDatabases …).
	Match func(filter bson.Raw) (func(doc bson.Raw) (bool, error), error)
	// CheckView refuses a view's pipeline that could not be run.
	CheckView func(ns query.Namespace, on string, stages bson.Raw) error
	// ClearPlans forgets the plans of a collection, or of one shape.
	ClearPlans func(op *query.OpContext, r *query.FindRequest) error
	// EachClient calls f for every open connection; nil: there are none to show.
	EachClient func(f func(Client))
	// KillCursors closes the cursors of the sessions for which of is true.
	KillCursors func(of func(lsid bson.Raw) bool)
	// Fsync makes everything applied so far durable in the engine (a checkpoint).
	Fsync func(ctx context.Context) error
	// Retryable makes retryable writes happen once; nil: they are not told from others.
	Retryable *session.Retryable
	// NewReplay begins a range of entries for applyOps; validate has documents checked against
	// the validators of their collections.
	NewReplay func(validate bool) Replay
	// HasCollection reports whether a collection exists.
	HasCollection func(db, coll string) bool
	// ResizeOplog changes the oplog's bound; nil leaves a value as it is.
	ResizeOplog func(bytes *int64, minRetentionHours *float64) error
	// Shutdown begins a clean shutdown; force skips waiting.
	Shutdown func(force bool)
	// RotateLog closes and reopens the log file.
	RotateLog func() error

	// ReadOnly refuses every write: what is served is a moment of the past.
	ReadOnly atomic.Bool

	Counters Counters
	fsync    FsyncLock
}

// StatusSection is one section of serverStatus; its document is built when asked for.
type StatusSection struct {
	Name      string
	OnRequest bool // shown only when asked for by name
	Absent    bool // not shown at all on this server
	Build     func(b *bson.Builder)
}

// Waiter knows what is applied and durable.
type Waiter interface {
	// LastApplied is the newest optime that readers see.
	LastApplied() (ts bson.Timestamp, term int64)
	// LastDurable is the newest journaled optime.
	LastDurable() (ts bson.Timestamp, term int64)
	// WaitJournaled returns once everything up to ts is journaled.
	WaitJournaled(ctx context.Context, ts bson.Timestamp) error
}

// WriteResult is the newest optime of what a command wrote.
type WriteResult struct {
	TS   bson.Timestamp
	Term int64
}

// Warning is one line of the log startupWarnings.
type Warning struct {
	ID      int // of the message in MongoDB's log
	Message string
}

// Counters are the numbers of commands since start, in serverStatus's groups.
type Counters struct {
	Insert, Query, Update, Delete, GetMore, Command atomic.Int64
	Asserts                                         struct{ Regular, Warning, Msg, User, Rollovers atomic.Int64 }
	PerCommand                                      perCommand
	ReadLatency, WriteLatency, CommandLatency       Latency
	Docs                                            DocCounters
	top                                             top
}

// Latency sums the time of a group of operations.
type Latency struct{ Micros, Ops atomic.Int64 }

// Add counts one operation.
func (l *Latency) Add(d time.Duration) {
	l.Micros.Add(d.Microseconds())
	l.Ops.Add(1)
}

// HostInfo, BuildInfo and CmdLine are the fixed facts of the process.
type HostInfo struct {
	Hostname string
	Port     int
	PID      int
	Started  time.Time
}

// BuildInfo names what runs. MongoVersion is the behaviour that drivers may expect.
type BuildInfo struct {
	MongoVersion string // "8.0.x"
	Version      string // Cairn's own
	GitVersion   string
	GoVersion    string
}

// CmdLine is what getCmdLineOpts shows.
type CmdLine struct {
	Argv   []string
	Parsed bson.Raw
}
