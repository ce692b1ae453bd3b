package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
)

// TestIndexBuildUnderWriters: 16 writers insert, change and delete while a unique
// index is built; then it holds exactly what it should. If keys are doubled meanwhile,
// the build fails and leaves nothing.
func TestIndexBuildUnderWriters(t *testing.T) {
	t.Run("unique", func(t *testing.T) { buildUnderWriters(t, false) })
	t.Run("doubled", func(t *testing.T) { buildUnderWriters(t, true) })
}

func buildUnderWriters(t *testing.T, doubled bool) {
	ctx := limit(t)
	client := connect(t)
	c := client.Database("t").Collection("c")
	const writers, each = 16, 500
	docs := make([]any, 0, writers*each)
	for i := range writers * each {
		docs = append(docs, d("_id", i, "u", i))
	}
	_, err := c.InsertMany(ctx, docs)
	check(t, err)
	var wg sync.WaitGroup
	built := make(chan struct{})
	var wrote, refused atomic.Int64
	write := func(w, i int) (err error) {
		id := w + writers*(i%each)
		switch {
		case i%3 == 0:
			_, err = c.UpdateOne(ctx, d("_id", id), d("$set", d("u", 1_000_000+id+i/each*1_000_000)))
		case i%3 == 1:
			_, err = c.InsertOne(ctx, d("u", fmt.Sprint(w, "-", i)))
		case doubled: // the key that another document just got
			_, err = c.InsertOne(ctx, d("u", fmt.Sprint(w, "-", i-1)))
		default:
			_, err = c.DeleteOne(ctx, d("_id", id))
		}
		if doubled && mongo.IsDuplicateKeyError(err) {
			refused.Add(1)
			err = nil
		}
		return err
	}
	for w := range writers {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-built:
					if i > 50 {
						return
					}
				default:
				}
				if err := write(w, i); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				wrote.Add(1)
			}
		})
	}
	for wrote.Load() < 3*writers && !t.Failed() {
		check(t, client.Ping(ctx, nil))
	}
	_, err = c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: d("u", 1), Options: options.Index().SetUnique(true)})
	during := wrote.Load()
	close(built)
	wg.Wait()
	t.Logf("%d writes before the build ended, %d in all, %d refused; the build said: %v", during, wrote.Load(), refused.Load(), err)
	specs, lerr := c.Indexes().ListSpecifications(ctx)
	check(t, lerr)
	if doubled {
		wantCode(t, err, 11000)
	} else {
		check(t, err)
		n, err := c.CountDocuments(ctx, d("u", d("$exists", true)), options.Count().SetHint(d("u", 1)))
		check(t, err)
		all, err := c.CountDocuments(ctx, d())
		check(t, err)
		if n != all {
			t.Errorf("the index finds %d of %d documents", n, all)
		}
		_, err = c.InsertMany(ctx, []any{d("u", "twice"), d("u", "twice")})
		wantCode(t, err, 11000)
	}
	if (len(specs) == 1) != doubled {
		t.Errorf("indexes: %v", specs)
	}
	valid(ctx, t, c)
}

// TestInterruptedUpdateMany: an updateMany that is killed or runs out of time leaves a
// prefix of the documents changed, each with its entry in the log.
func TestInterruptedUpdateMany(t *testing.T) {
	const docs = 20_000
	for _, how := range []string{"killOp", "maxTimeMS"} {
		t.Run(how, func(t *testing.T) {
			ctx := limit(t)
			client := connect(t)
			db := client.Database("t")
			c := db.Collection("c")
			insertN(ctx, t, c, docs, 10)
			cmd := d("update", "c", "updates", bson.A{d("q", d(), "u", d("$inc", d("n", 1)), "multi", true)}, "comment", "the one")
			done := make(chan error, 1)
			if how == "maxTimeMS" {
				done <- db.RunCommand(context.Background(), append(cmd, bson.E{Key: "maxTimeMS", Value: 20})).Err()
			} else {
				go func() { done <- db.RunCommand(ctx, cmd).Err() }()
				kill(ctx, t, client, c)
			}
			err := <-done
			if err == nil {
				t.Fatal("the update was not interrupted")
			}
			wantCode(t, err, map[string]int{"killOp": 11601, "maxTimeMS": 50}[how])
			var after []struct {
				ID int `bson:"_id"`
				N  int `bson:"n"`
			}
			cur, ferr := c.Find(ctx, d(), options.Find().SetSort(d("$natural", 1)))
			check(t, ferr)
			check(t, cur.All(ctx, &after))
			changed := 0
			for changed < len(after) && after[changed].N == 1 {
				changed++
			}
			for _, a := range after[changed:] {
				if a.N != 0 {
					t.Fatalf("document %d is changed behind %d that are and one that is not", a.ID, changed)
				}
			}
			if len(after) != docs || changed == 0 || changed == docs {
				t.Errorf("%d of %d documents changed", changed, len(after))
			}
			if n := len(entries(ctx, t, client, d("ns", "t.c", "op", "u"))); n != changed {
				t.Errorf("%d entries for %d changed documents", n, changed)
			}
			valid(ctx, t, c)
		})
	}
}

// kill ends the update that carries the comment, once it has changed something.
func kill(ctx context.Context, t *testing.T, client *mongo.Client, c *mongo.Collection) {
	t.Helper()
	for ctx.Err() == nil {
		if n, err := c.CountDocuments(ctx, d("n", 1), options.Count().SetLimit(1)); err != nil || n == 0 {
			check(t, err)
			continue
		}
		var ops struct {
			Inprog []struct {
				OpID    any      `bson:"opid"`
				Command bson.Raw `bson:"command"`
			} `bson:"inprog"`
		}
		check(t, client.Database("admin").RunCommand(ctx, d("currentOp", 1)).Decode(&ops))
		for _, o := range ops.Inprog {
			if s, _ := o.Command.Lookup("comment").StringValueOK(); s == "the one" {
				check(t, client.Database("admin").RunCommand(ctx, d("killOp", 1, "op", o.OpID)).Err())
				return
			}
		}
	}
	t.Fatal("the update was never seen at work")
}

// TestDDLDuringUpdateMany: the collection goes away or gets another name under an
// update of many documents. It ends in an orderly way, and the log explains what is there.
func TestDDLDuringUpdateMany(t *testing.T) {
	for _, how := range []string{"drop", "rename", "dropDatabase"} {
		t.Run(how, func(t *testing.T) {
			ctx := limit(t)
			client := connect(t)
			db := client.Database("t")
			c := db.Collection("c")
			insertN(ctx, t, c, 20_000, 10)
			done := make(chan error, 1)
			var res *mongo.UpdateResult
			go func() {
				var err error
				res, err = c.UpdateMany(ctx, d(), d("$inc", d("n", 1)))
				done <- err
			}()
			for {
				n, err := c.CountDocuments(ctx, d("n", 1), options.Count().SetLimit(1))
				check(t, err)
				if n > 0 {
					break
				}
			}
			switch how {
			case "drop":
				check(t, c.Drop(ctx))
			case "rename":
				check(t, client.Database("admin").RunCommand(ctx, d("renameCollection", "t.c", "to", "t.other")).Err())
			case "dropDatabase":
				check(t, db.Drop(ctx))
			}
			err := <-done
			t.Logf("the update said %v %+v", err, res)
			wantCode(t, err, 175)
			changed := len(entries(ctx, t, client, d("op", "u", "ns", bson.D{{Key: "$in", Value: bson.A{"t.c", "t.other"}}})))
			if how == "rename" {
				n, err := db.Collection("other").CountDocuments(ctx, d("n", 1))
				check(t, err)
				if int(n) != changed {
					t.Errorf("%d documents are changed, the log has %d entries", n, changed)
				}
				valid(ctx, t, db.Collection("other"))
			}
			all := entries(ctx, t, client, d())
			dropped := false
			for _, e := range all {
				ns := e.Lookup("ns").StringValue()
				if ns == "t.$cmd" {
					o, _ := e.Lookup("o").DocumentOK()
					first, _ := o.IndexErr(0)
					dropped = dropped || first.Key() == "drop" || first.Key() == "renameCollection"
				} else if dropped && ns == "t.c" {
					t.Fatalf("an entry behind the end of its collection: %v", e)
				}
			}
			if !dropped {
				t.Error("the log does not have the end of the collection")
			}
		})
	}
}

// TestUnorderedBatch: what cannot be stored costs only itself.
func TestUnorderedBatch(t *testing.T) {
	ctx := limit(t)
	client := connect(t)
	db := client.Database("t")
	c := db.Collection("c")
	_, err := c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: d("u", 1), Options: options.Index().SetUnique(true)})
	check(t, err)
	docs := bson.A{}
	want := map[int]int{} // index → code
	for i := range 1500 {
		doc := d("_id", i, "u", i)
		switch {
		case i%100 == 7:
			doc, want[i] = d("_id", i-1, "u", -i), 11000
		case i%100 == 8:
			doc, want[i] = d("_id", i, "u", i-3), 11000
		case i == 700:
			doc, want[i] = d("_id", bson.A{1}, "u", -i), 2
		case i == 900:
			doc, want[i] = d("_id", i, "u", strings.Repeat("x", 1000), "a", deep(120)), 15 // Overflow: nested too deeply
		}
		docs = append(docs, doc)
	}
	_, err = c.InsertMany(ctx, docs, options.InsertMany().SetOrdered(false))
	var be mongo.BulkWriteException
	if !errors.As(err, &be) {
		if strings.Contains(fmt.Sprint(err), "nest") { // a message may be refused whole for its nesting, before it is a batch
			docs[900] = d("_id", 900, "u", 900)
			delete(want, 900)
			_, err = c.InsertMany(ctx, docs, options.InsertMany().SetOrdered(false))
		}
		if !errors.As(err, &be) {
			t.Fatalf("insert: %v", err)
		}
	}
	for _, we := range be.WriteErrors {
		if want[we.Index] != we.Code {
			t.Errorf("document %d: code %d %s, want %d", we.Index, we.Code, we.Message, want[we.Index])
		}
		delete(want, we.Index)
	}
	if len(want) > 0 {
		t.Errorf("accepted: %v", want)
	}
	n, err := c.CountDocuments(ctx, d())
	check(t, err)
	if int(n) != 1500-len(be.WriteErrors) {
		t.Errorf("%d documents stored, %d refused", n, len(be.WriteErrors))
	}
	valid(ctx, t, c)
}

func deep(levels int) bson.D {
	doc := d("a", 1)
	for range levels {
		doc = d("a", doc)
	}
	return doc
}

// TestTTL: expired documents go, each with its entry.
func TestTTL(t *testing.T) {
	ctx := limit(t)
	client := connect(t, cairntest.Parameter("ttlMonitorSleepSecs=1"))
	c := client.Database("t").Collection("c")
	_, err := c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: d("at", 1), Options: options.Index().SetExpireAfterSeconds(60)})
	check(t, err)
	old, now := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	docs := []any{}
	for i := range 100 {
		docs = append(docs, d("_id", i, "at", old), d("_id", 1000+i, "at", now), d("_id", 2000+i, "at", "no date"))
	}
	_, err = c.InsertMany(ctx, docs)
	check(t, err)
	for n := int64(300); n > 200; {
		n, err = c.CountDocuments(ctx, d())
		check(t, err)
	}
	if n := len(entries(ctx, t, client, d("ns", "t.c", "op", "d"))); n != 100 {
		t.Errorf("%d entries for 100 deletions", n)
	}
	if n, err := c.CountDocuments(ctx, d("_id", d("$lt", 1000))); err != nil || n != 0 {
		t.Errorf("%d expired documents are left (%v)", n, err)
	}
	valid(ctx, t, c)
}
