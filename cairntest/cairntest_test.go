package cairntest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn"
	"github.com/cairndb/cairn/cairntest"
)

func connect(t *testing.T, uri string) *mongo.Client {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(uri).SetServerSelectionTimeout(10 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // its server may be gone, and then it would look for it for a while
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.Disconnect(ctx)
	})
	return c
}

// Servers of one process do not see each other's data, whatever face they show.
func TestSideBySide(t *testing.T) {
	ctx := context.Background()
	faces := [][]cairntest.Option{nil, nil, {cairntest.ReplSet("rs0")}, {cairntest.ReplSet("rs1"), cairntest.Parameter("enableTestCommands=1")}}
	clients := make([]*mongo.Client, len(faces))
	for i, opts := range faces {
		clients[i] = connect(t, cairntest.Start(t, opts...))
		if _, err := clients[i].Database("d").Collection("c").InsertOne(ctx, bson.M{"_id": i}); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range clients {
		var docs []bson.M
		cur, err := c.Database("d").Collection("c").Find(ctx, bson.M{})
		if err == nil {
			err = cur.All(ctx, &docs)
		}
		if err != nil || len(docs) != 1 || fmt.Sprint(docs[0]["_id"]) != fmt.Sprint(i) {
			t.Errorf("server %d: %v %v", i, docs, err)
		}
	}
}

// A server in memory is ready at once. The bound is ten times what is promised on a
// quiet machine, as tests share theirs; the best of three counts.
func TestReadyAtOnce(t *testing.T) {
	best := time.Hour
	for range 3 {
		start := time.Now()
		cairntest.Start(t)
		best = min(best, time.Since(start))
	}
	if best > time.Second {
		t.Errorf("the quickest start took %v", best)
	}
	t.Logf("started in %v", best)
}

// A directory keeps its data from one server to the next and admits one at a time.
func TestDir(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	db, err := cairn.Open(cairn.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, db.URI()).Database("d").Collection("c").InsertOne(ctx, bson.M{"_id": 1}); err != nil {
		t.Fatal(err)
	}
	if other, err := cairn.Open(cairn.Options{Dir: dir}); err == nil {
		t.Error("two servers have one directory open", other.Close())
	}
	start := time.Now()
	if err := db.Close(); err != nil || time.Since(start) > 5*time.Second {
		t.Fatalf("closing under a connected client took %v: %v", time.Since(start), err)
	}
	again := connect(t, cairntest.Start(t, cairntest.Dir(dir)))
	if n, err := again.Database("d").Collection("c").CountDocuments(ctx, bson.M{}); n != 1 || err != nil {
		t.Errorf("after a restart: %d documents, %v", n, err)
	}
}
