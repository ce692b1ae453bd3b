package driver

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn"
)

// tail reads entries of t.c behind a ts until it has seen n inserts, and returns
// where it is.
func tail(ctx context.Context, t *testing.T, client *mongo.Client, after bson.Timestamp, n int, seen func(id int64)) bson.Timestamp {
	t.Helper()
	cur, err := client.Database("local").Collection("oplog.rs").Find(ctx, d("ts", d("$gt", after)),
		options.Find().SetCursorType(options.TailableAwait).SetBatchSize(50))
	if err != nil {
		t.Error(err)
		return after
	}
	defer cur.Close(context.Background())
	for n > 0 && cur.Next(ctx) {
		var e struct {
			TS bson.Timestamp `bson:"ts"`
			Op string         `bson:"op"`
			NS string         `bson:"ns"`
			O  bson.Raw       `bson:"o"`
		}
		if err := cur.Decode(&e); err != nil {
			t.Error(err)
			return after
		}
		if !e.TS.After(after) {
			t.Errorf("ts %v behind %v", e.TS, after)
		}
		after = e.TS
		if e.Op == "i" && e.NS == "t.c" {
			seen(e.O.Lookup("_id").AsInt64())
			n--
		}
	}
	if n > 0 {
		t.Errorf("the tail ended %d inserts early: %v", n, cur.Err())
	}
	return after
}

// TestTail: a tailing reader of the log sees every write of 8 writers once and each
// writer's in its order, and goes on where it was after a restart.
func TestTail(t *testing.T) {
	ctx := limit(t)
	const writers, each = 8, 200
	dir := t.TempDir()
	next := make([]int64, writers) // what each writer's next insert is
	seen := func(id int64) {
		w := id % writers
		if id/writers != next[w] {
			t.Errorf("writer %d: insert %d seen where %d was due", w, id/writers, next[w])
		}
		next[w] = id/writers + 1
	}
	var at bson.Timestamp
	for round := range 2 {
		db := open(t, cairn.Options{Dir: dir, ReplSet: "rs0"})
		client := dial(t, db.URI())
		c := client.Database("t").Collection("c")
		tailed := make(chan struct{})
		missed := 0
		if round > 0 { // these were written after the reader had left
			missed = writers
		}
		go func() {
			defer close(tailed)
			at = tail(ctx, t, client, at, writers*each+missed, seen)
		}()
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				from := round * (each + 1)
				for i := from; i < from+each; i++ {
					if _, err := c.InsertOne(ctx, d("_id", int64(i*writers+w))); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		<-tailed
		for w := range writers {
			_, err := c.InsertOne(ctx, d("_id", int64((round*(each+1)+each)*writers+w)))
			check(t, err)
		}
		check(t, client.Disconnect(ctx))
		check(t, db.Close())
	}
}

// TestDDLUnderCursor: a cursor whose collection is gone says so.
func TestDDLUnderCursor(t *testing.T) {
	for _, how := range []string{"drop", "rename", "dropDatabase", "dropIndex"} {
		t.Run(how, func(t *testing.T) {
			ctx := limit(t)
			client := connect(t)
			db := client.Database("t")
			c := db.Collection("c")
			insertN(ctx, t, c, 100, 10)
			_, err := c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: d("n", 1)})
			check(t, err)
			cur, err := c.Find(ctx, d("n", d("$gte", 0)), options.Find().SetBatchSize(10).SetHint(d("n", 1)))
			check(t, err)
			defer cur.Close(ctx)
			switch how {
			case "drop":
				check(t, c.Drop(ctx))
			case "rename":
				check(t, client.Database("admin").RunCommand(ctx, d("renameCollection", "t.c", "to", "t.other")).Err())
			case "dropDatabase":
				check(t, db.Drop(ctx))
			case "dropIndex":
				check(t, c.Indexes().DropOne(ctx, "n_1"))
			}
			n := 0
			for cur.Next(ctx) {
				n++
			}
			if n != 10 {
				t.Errorf("%d documents, want those of the first batch", n)
			}
			wantCode(t, cur.Err(), 175)
		})
	}
}

// TestCappedOverrun: a cursor whose position in a capped collection was overwritten
// says so; one that keeps up sees all.
func TestCappedOverrun(t *testing.T) {
	ctx := limit(t)
	client := connect(t)
	db := client.Database("t")
	for _, tailable := range []bool{false, true} {
		c := db.Collection(map[bool]string{false: "plain", true: "tailable"}[tailable])
		check(t, db.RunCommand(ctx, d("create", c.Name(), "capped", true, "size", 1<<20, "max", 100)).Err())
		insertN(ctx, t, c, 100, 10)
		o := options.Find().SetBatchSize(10)
		if tailable {
			o.SetCursorType(options.Tailable)
		}
		cur, err := c.Find(ctx, d(), o)
		check(t, err)
		for i := range 150 {
			_, err := c.InsertOne(ctx, d("_id", 1000+i))
			check(t, err)
		}
		n := 0
		for n < 1000 && cur.Next(ctx) {
			n++
		}
		if n != 10 {
			t.Errorf("%s: %d documents, want those of the first batch", c.Name(), n)
		}
		wantCode(t, cur.Err(), 136)
	}
}

// A getMore that had nothing to do but wait for data was not slow, however long it waited.
func TestWaitingForDataIsNotSlow(t *testing.T) {
	ctx := t.Context()
	client := connect(t)
	db := client.Database("t")
	if err := db.CreateCollection(ctx, "capped", options.CreateCollection().SetCapped(true).SetSizeInBytes(1<<20)); err != nil {
		t.Fatal(err)
	}
	coll := db.Collection("capped")
	if _, err := coll.InsertOne(ctx, d("n", 1)); err != nil {
		t.Fatal(err)
	}
	profile := func(cmd bson.D) {
		t.Helper()
		if err := db.RunCommand(ctx, cmd).Err(); err != nil {
			t.Fatal(err)
		}
	}
	const slow = 1000 // more than anything takes that does not wait
	profile(d("profile", 1, "slowms", slow))
	cur, err := coll.Find(ctx, bson.D{}, options.Find().SetCursorType(options.TailableAwait).SetMaxAwaitTime(1500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cur.Close(context.Background())
	cur.Next(ctx)
	if cur.TryNext(ctx) {
		t.Fatal("a second document")
	}
	profile(d("profile", 2, "slowms", 100))
	if err := coll.FindOne(ctx, bson.D{}).Err(); err != nil {
		t.Fatal(err)
	}
	profile(d("profile", 0))
	ops, err := db.Collection("system.profile").Distinct(ctx, "command.getMore", bson.D{}).Raw()
	if n, _ := ops.Values(); err != nil || len(n) != 0 {
		t.Errorf("slow: %v, %v", n, err)
	}
	if n, err := db.Collection("system.profile").CountDocuments(ctx, d("op", "query")); err != nil || n == 0 {
		t.Errorf("the profiler wrote %d queries, %v", n, err)
	}
}
