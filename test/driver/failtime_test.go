package driver

import (
	"errors"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
)

// maxTimeAlwaysTimeOut ends what has a time limit, a getMore too whose cursor has it from its
// find or aggregate, and nothing else.
func TestFailPointOfTime(t *testing.T) {
	ctx := t.Context() // with a deadline the driver would add a maxTimeMS of its own
	client := connect(t, cairntest.Parameter("enableTestCommands=1"))
	db := client.Database("db")
	insertN(ctx, t, db.Collection("c"), 10, 0)
	check(t, db.CreateCollection(ctx, "capped", options.CreateCollection().SetCapped(true).SetSizeInBytes(1<<16)))
	insertN(ctx, t, db.Collection("capped"), 3, 0)
	open := func(cmd bson.D) int64 {
		t.Helper()
		var r struct{ Cursor struct{ ID int64 } }
		check(t, db.RunCommand(ctx, cmd).Decode(&r))
		if r.Cursor.ID == 0 {
			t.Fatal(cmd, r)
		}
		return r.Cursor.ID
	}
	more := func(coll string, id int64, rest ...bson.E) error {
		return db.RunCommand(ctx, append(d("getMore", id, "collection", coll, "batchSize", 2), rest...)).Err()
	}
	limited := open(d("find", "c", "batchSize", 2, "maxTimeMS", 60000))
	pipe := open(d("aggregate", "c", "pipeline", bson.A{d("$set", d("x", 1))}, "cursor", d("batchSize", 2), "maxTimeMS", 60000))
	free := open(d("find", "c", "batchSize", 2))
	tail := open(d("find", "capped", "tailable", true, "awaitData", true, "maxTimeMS", 60000))
	failPoint(ctx, t, client, "maxTimeAlwaysTimeOut", "alwaysOn", nil)
	wantCode(t, more("c", limited), 50)
	wantCode(t, more("c", pipe), 50)
	check(t, more("c", free))
	check(t, more("capped", tail, bson.E{Key: "maxTimeMS", Value: 1}))
	wantCode(t, db.RunCommand(ctx, d("ping", 1, "maxTimeMS", 60000)).Err(), 50)
	wantCode(t, db.RunCommand(ctx, d("update", "c", "updates", bson.A{d("q", d(), "u", d("$set", d("x", 1)), "multi", true)}, "maxTimeMS", 60000)).Err(), 50)
	check(t, db.RunCommand(ctx, d("ping", 1)).Err())
	failPoint(ctx, t, client, "maxTimeAlwaysTimeOut", "off", nil)
	wantCode(t, more("c", limited), 43) // its time was over, and so is the cursor
	check(t, more("c", free))

	// A time limit that passes is none with maxTimeNeverTimeOut.
	failPoint(ctx, t, client, "failCommand", "alwaysOn", d("failCommands", bson.A{"ping"}, "blockConnection", true, "blockTimeMS", 50))
	wantCode(t, db.RunCommand(ctx, d("ping", 1, "maxTimeMS", 5)).Err(), 50)
	failPoint(ctx, t, client, "maxTimeNeverTimeOut", "alwaysOn", nil)
	check(t, db.RunCommand(ctx, d("ping", 1, "maxTimeMS", 5)).Err())
}

// onPrimaryTransactionalWrite counts the units of retryable writes, so that skip reaches into a
// batch: what was written before stays, and the retry does the rest, once.
func TestFailPointOfWriteUnits(t *testing.T) {
	ctx := limit(t)
	uri := cairntest.Start(t, cairntest.ReplSet("rs0"), cairntest.Parameter("enableTestCommands=1"))
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetHeartbeatInterval(500 * time.Millisecond))
	check(t, err)
	t.Cleanup(func() { _ = client.Disconnect(ctx) })
	db := client.Database("db")
	c := db.Collection("c")
	values := func() (v []int) {
		t.Helper()
		cur, err := c.Find(ctx, d(), options.Find().SetSort(d("_id", 1)))
		check(t, err)
		var docs []struct{ N int }
		check(t, cur.All(ctx, &docs))
		for _, doc := range docs {
			v = append(v, doc.N)
		}
		return v
	}
	is := func(what string, want ...int) {
		t.Helper()
		got := values()
		if len(got) != len(want) {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%s: %v, want %v", what, got, want)
			}
		}
	}
	insertN(ctx, t, c, 4, 0)
	inc := func(id int) bson.D { return d("q", d("_id", id), "u", d("$inc", d("n", 1))) }
	s, err := client.StartSession() // its numbers are given here; the driver's writes have other sessions
	check(t, err)
	defer s.EndSession(ctx)
	own := mongo.NewSessionContext(ctx, s)
	txn := int64(1000)
	batch := func(ordered bool) (bson.Raw, error) {
		txn++
		r, err := db.RunCommand(own, d("update", "c", "updates", bson.A{inc(0), inc(1), inc(2), inc(3)}, "ordered", ordered, "txnNumber", txn)).Raw()
		var we mongo.WriteException
		if errors.As(err, &we) {
			return we.Raw, nil
		}
		return r, err
	}
	hinder := func(mode bson.D, code int) {
		t.Helper()
		failPoint(ctx, t, client, "onPrimaryTransactionalWrite", mode, d("failBeforeCommitExceptionCode", code, "closeConnection", false))
	}
	// An error that is no interruption is that of the statement.
	hinder(d("skip", 2), 1)
	r, err := batch(true)
	check(t, err)
	if r.Lookup("n").Int32() != 2 || r.Lookup("writeErrors", "0", "index").Int32() != 2 || r.Lookup("writeErrors", "0", "code").Int32() != 1 {
		t.Error(r)
	}
	failPoint(ctx, t, client, "onPrimaryTransactionalWrite", "off", nil)
	is("ordered", 1, 1, 0, 0)
	hinder(d("times", 1), 1)
	if r, err = batch(false); err != nil || r.Lookup("n").Int32() != 3 || r.Lookup("writeErrors", "0", "index").Int32() != 0 {
		t.Error(r, err)
	}
	is("unordered", 1, 2, 1, 1)
	// An interruption ends the command, and a retry does what is left.
	hinder(d("skip", 3), 11600)
	_, err = batch(true)
	wantCode(t, err, 11600)
	is("interrupted", 2, 3, 2, 1)
	failPoint(ctx, t, client, "onPrimaryTransactionalWrite", "off", nil)
	txn--
	r, err = batch(true)
	check(t, err)
	if r.Lookup("n").Int32() != 4 || r.Lookup("retriedStmtIds").Type == 0 {
		t.Error(r)
	}
	is("retried", 2, 3, 2, 2)
	// Without a code the write is done, and the reply cut off: the driver sends it again.
	failPoint(ctx, t, client, "onPrimaryTransactionalWrite", d("skip", 1), nil)
	_, err = c.BulkWrite(ctx, []mongo.WriteModel{mongo.NewUpdateOneModel().SetFilter(d("_id", 0)).SetUpdate(d("$inc", d("n", 1))), mongo.NewUpdateOneModel().SetFilter(d("_id", 1)).SetUpdate(d("$inc", d("n", 1)))})
	check(t, err)
	is("cut off", 3, 4, 2, 2)
	// Writes that are none, or have no number, do not count.
	hinder(d("times", 1), 11600)
	_, err = c.UpdateOne(ctx, d("_id", "nosuch"), d("$inc", d("n", 1)))
	check(t, err)
	_, err = c.UpdateMany(ctx, d(), d("$inc", d("n", 1)))
	check(t, err)
	is("many", 4, 5, 3, 3)
	wantCode(t, db.RunCommand(own, d("findAndModify", "c", "query", d("_id", 0), "remove", true, "txnNumber", txn+2)).Err(), 11600)
	is("not removed", 4, 5, 3, 3)
}
