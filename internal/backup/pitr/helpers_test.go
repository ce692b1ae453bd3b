package pitr

import (
	"context"
	"testing"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn"
	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/batch"
	"github.com/cairndb/cairn/internal/backup/repo"
)

// dialer is every client's: cursors of different servers have different ids, or are left to the driver.
var dialer = batch.Dialer{Scribble: true}

func connectClient(uri string) (*mongo.Client, error) {
	return mongo.Connect(options.Client().ApplyURI(uri).SetDialer(&dialer).SetServerMonitoringMode(options.ServerMonitoringModePoll))
}

func upsert() *options.ReplaceOptionsBuilder { return options.Replace().SetUpsert(true) }

func connect(t testing.TB, uri string) *mongo.Client {
	t.Helper()
	c, err := connectClient(uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The server may be gone already: then its sessions need not be ended, and nobody waits for it.
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.Disconnect(ctx)
	})
	return c
}

// newEnv is a server of its own and an empty repository.
func newEnv(t testing.TB, opts ...cairntest.Option) *Env {
	t.Helper()
	e := newEnvAt(t, t.TempDir(), opts...)
	return e
}

func newEnvSet(t testing.TB, name string) *Env { return newEnv(t, cairntest.ReplSet(name)) }

// newEnvAt is newEnv with the repository in a directory.
func newEnvAt(t testing.TB, dir string, opts ...cairntest.Option) *Env {
	t.Helper()
	r, err := repo.Init(t.Context(), "file://"+dir, repo.InitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Env{Repo: r, Client: connect(t, cairntest.Start(t, opts...)), Dialer: &dialer, Say: t.Logf, Tool: "test", Pace: -1, Embedded: embedded}
}

// embedded is the throw-away server of drills and of serve.
func embedded(_ context.Context, dir string) (Server, error) {
	o := cairn.Options{InMemory: dir == "", Dir: dir, CacheBytes: 16 << 20, OplogBytes: 16 << 20, Parameters: []string{"ttlMonitorEnabled=false"}}
	return cairn.Open(o)
}

// on is the same repository with another server.
func (e *Env) on(c *mongo.Client) *Env {
	other := *e
	other.Client = c
	return &other
}

func docs(n, from int) []any {
	all := make([]any, n)
	for i := range all {
		all[i] = dbson.D{{Key: "_id", Value: from + i}, {Key: "name", Value: "itwye"}, {Key: "gender", Value: "male"}, {Key: "age", Value: (from + i) % 100}}
	}
	return all
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
