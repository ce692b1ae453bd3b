package pitr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn/internal/backup/batch"
	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/backup/source"
	"github.com/cairndb/cairn/internal/bson"
)

// Env is what the operations work on. Its fields are set before the first one and not changed.
type Env struct {
	// Repo is the repository.
	Repo *repo.Repo
	// Client is the server that is backed up or restored into; nil for what needs none.
	Client *mongo.Client
	// Dialer makes the client's connections; nil: the driver's own does, and reading the oplog
	// costs more.
	Dialer *batch.Dialer
	// Say tells a person what happens, one line a call; nil: nobody.
	Say func(format string, args ...any)
	// Bar starts showing the progress of a part, total 0 if it is not known; nil: nobody looks.
	Bar func(name string, total int64) (add func(n int64), done func())
	// Now is the wall clock, for times that people read; what is restored is decided by the
	// server's timestamps alone. Default time.Now.
	Now func() time.Time
	// Workers is the number of collections that are read or written at once; default 4.
	Workers int
	// Tool is the program's name and version, for manifests.
	Tool string
	// Embedded starts a throw-away server; nil where none can be.
	Embedded func(ctx context.Context, dir string) (Server, error)
	// Pace overrides how long capturing waits before it asks a server that has nothing new
	// again; 0 is the default.
	Pace time.Duration
}

// Server is an embedded server.
type Server interface {
	URI() string
	SetReadOnly()
	Close() error
}

func (e *Env) say(format string, args ...any) {
	if e.Say != nil {
		e.Say(format, args...)
	}
}

func (e *Env) bar(name string, total int64) (add func(int64), done func()) {
	if e.Bar == nil {
		return func(int64) {}, func() {}
	}
	return e.Bar(name, total)
}

func (e *Env) now() time.Time {
	if e.Now == nil {
		return time.Now()
	}
	return e.Now()
}

func (e *Env) workers() int {
	if e.Workers <= 0 {
		return 4
	}
	return e.Workers
}

// Scopes of locks: two holders of one exclude each other.
const (
	scopeOplog = "oplog" // who continues the chain
	scopeFull  = "full"  // who takes a full backup
)

// lock takes a lock for the time of an operation.
func (e *Env) lock(ctx context.Context, req repo.LockRequest) (lk *repo.Lock, unlock func() error, err error) {
	lk, err = e.Repo.LockWith(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	return lk, func() error {
		// The operation may have been cancelled; its lock must go all the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return lk.Release(ctx)
	}, nil
}

func toPosition(o chain.OpTime) repo.Position {
	return repo.Position{T: o.TS.Seconds(), I: o.TS.Increment(), Term: o.Term}
}

func toOpTime(p repo.Position) chain.OpTime {
	return chain.OpTime{TS: bson.NewTimestamp(p.T, p.I), Term: p.Term}
}

// origin is the server that is backed up.
type origin struct {
	*source.Source
	env      *Env
	name     string // the replica set and its id; see Manifest.Source
	version  string
	majority bool
}

func (e *Env) openSource(ctx context.Context) (*origin, error) {
	if e.Client == nil {
		return nil, errors.New("no server is given: use --uri or CAIRN_URI")
	}
	s, err := source.Open(ctx, e.Client)
	if err != nil {
		return nil, err
	}
	s.Dialer = e.Dialer
	s.OnRetry = func(err error, pause time.Duration) {
		e.say("reading the oplog: %v; again in %s", err, pause.Round(time.Millisecond))
	}
	if e.Pace != 0 {
		s.Pace = e.Pace
	}
	o := &origin{Source: s, env: e, majority: s.SetName() != ""}
	o.version = e.serverVersion(ctx)
	o.name = e.sourceName(ctx, s.SetName())
	return o, nil
}

func (e *Env) command(ctx context.Context, db string, cmd bson.Raw) (bson.Raw, error) {
	raw, err := e.Client.Database(db).RunCommand(ctx, dbson.Raw(cmd)).Raw()
	return bson.Raw(raw), err
}

func (e *Env) serverVersion(ctx context.Context) string {
	info, err := e.command(ctx, "admin", bson.D("buildInfo", 1))
	if err != nil {
		return "" // only shown
	}
	v := "MongoDB " + strings.Clone(info.Get("version").Str())
	if c := info.Path("cairn.version").Str(); c != "" {
		v = "Cairn " + c + " (" + v + ")"
	}
	return v
}

// sourceName tells one set of servers from another: the replica set's name and id, the
// name alone where the id may not be read.
func (e *Env) sourceName(ctx context.Context, set string) string {
	if set == "" {
		return "standalone"
	}
	if cfg, err := e.command(ctx, "admin", bson.D("replSetGetConfig", 1)); err == nil {
		if v := cfg.Path("config.settings.replicaSetId"); v.Type == bson.TypeObjectID {
			id := v.ObjectID()
			return fmt.Sprintf("%s/%x", set, id[:])
		}
	}
	return set
}

// sameSource reports whether two names can be of one set.
func sameSource(a, b string) bool {
	if a == "" || b == "" || a == b {
		return true
	}
	aName, aID, aKnown := strings.Cut(a, "/")
	bName, bID, bKnown := strings.Cut(b, "/")
	return aName == bName && (aID == bID || !aKnown || !bKnown)
}

// barrier returns an entry that is behind everything that is visible on the server now,
// whatever a reader may have seen, and that will stay.
func (o *origin) barrier(ctx context.Context) (entry.OpTime, error) {
	visible, err := o.Visible(ctx)
	if err != nil {
		return entry.OpTime{}, err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		t, err := o.Newest(ctx)
		if err != nil || t.TS >= visible {
			return t, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return t, context.Cause(ctx)
		}
	}
}
