package query

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/query/exec"
	"github.com/cairndb/cairn/internal/query/plan"
	"github.com/cairndb/cairn/internal/storage"
)

// LocalOptions configure NewLocal.
type LocalOptions struct {
	Catalog *catalog.Catalog
	Engine  *storage.Engine
	// Log is what readers wait on: for new entries and for durability.
	Log Log
	// Sessions makes writes with a txnNumber happen exactly once; nil: they are plain.
	Sessions SessionHook
	// Stats answers the aggregation stages that show the server's own figures; nil: they
	// are refused.
	Stats StatsProvider
	// CursorTimeout is how long a cursor may stay idle. Default 10 minutes.
	CursorTimeout time.Duration
	// TTLInterval is the pause between two rounds of the TTL monitor. Default 60 s.
	TTLInterval time.Duration
	// Logger gets what the operator should see. Default: discard.
	Logger *slog.Logger
}

// StatsProvider makes the documents of $collStats and $currentOp.
type StatsProvider interface {
	CollStats(ctx context.Context, ns Namespace, spec bson.Raw) (bson.Raw, error)
	CurrentOp(ctx context.Context, spec bson.Raw) ([]bson.Raw, error)
	// Sessions makes those of $listLocalSessions.
	Sessions(ctx context.Context) ([]bson.Raw, error)
	// Host is the server's name and port, as $indexStats shows it.
	Host() string
}

// Log is what an executor needs of the order of writes.
type Log interface {
	// VisibleIndex is the index of the newest visible entry.
	VisibleIndex() uint64
	// WaitVisible returns when the entry of that index is visible.
	WaitVisible(ctx context.Context, index uint64) error
	// Sync makes everything durable that is visible at the call.
	Sync(ctx context.Context) error
	// LastApplied is the newest visible entry's place.
	LastApplied() oplog.OpTime
}

// Local executes requests on the collections of this process.
type Local struct {
	cat      *catalog.Catalog
	eng      *storage.Engine
	log      Log
	sessions SessionHook
	stats    StatsProvider
	cursors  *Cursors
	logger   *slog.Logger
	ttl      *ttlMonitor
	ids      *idSource
	series   openBuckets
	past     history

	plans struct {
		sync.RWMutex
		byUUID map[bson.UUID]*planned
	}

	life  context.Context
	end   context.CancelFunc
	tasks sync.WaitGroup
}

// planned is what is kept of a collection between queries.
type planned struct {
	coll    *catalog.Collection // the version it was made for
	x       *exec.Collection
	indexes []*plan.Index
	cache   *plan.Cache
	version uint64
}

// NewLocal returns an executor. Close it before the catalog.
func NewLocal(o LocalOptions) *Local {
	l := &Local{cat: o.Catalog, eng: o.Engine, log: o.Log, sessions: o.Sessions, stats: o.Stats, logger: o.Logger, cursors: NewCursors(o.CursorTimeout), ids: newIDSource()}
	if l.logger == nil {
		l.logger = slog.New(slog.DiscardHandler)
	}
	if l.sessions == nil {
		l.sessions = noSessions{}
	}
	l.past.window = DefaultSnapshotWindow
	l.plans.byUUID = map[bson.UUID]*planned{}
	l.life, l.end = context.WithCancel(context.Background())
	l.ttl = newTTLMonitor(l, o.TTLInterval)
	return l
}

// Start begins the background work: closing idle cursors and, unless the node is told
// otherwise, the TTL monitor.
func (l *Local) Start() {
	l.tasks.Go(l.reapCursors)
	l.tasks.Go(l.ttl.run)
}

// Close ends the background work and all cursors.
func (l *Local) Close() {
	l.end()
	l.tasks.Wait()
	l.cursors.KillIf(func(CursorInfo) bool { return true })
	l.past.clear()
}

// Cursors is the registry of open cursors.
func (l *Local) Cursors() *Cursors { return l.cursors }

func (l *Local) reapCursors() {
	tick := time.NewTicker(4 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-l.life.Done():
			return
		case now := <-tick.C:
			l.past.expire(now)
			if n := l.cursors.Reap(now); n > 0 {
				l.logger.Info("closed idle cursors", "count", n)
			}
		}
	}
}
