package driver

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
)

func failPoint(ctx context.Context, t *testing.T, c *mongo.Client, name string, mode, data any) {
	t.Helper()
	cmd := d("configureFailPoint", name, "mode", mode)
	if data != nil {
		cmd = append(cmd, bson.E{Key: "data", Value: data})
	}
	check(t, c.Database("admin").RunCommand(ctx, cmd).Err())
}

// A fail point that was switched off stays off, whatever passes through the buffer that the
// request stood in.
func TestFailPointStaysOff(t *testing.T) {
	ctx := limit(t)
	client := connect(t, cairntest.Parameter("enableTestCommands=1"))
	c := client.Database("db").Collection("c")
	for name, data := range map[string]bson.D{
		"onPrimaryTransactionalWrite": d("failBeforeCommitExceptionCode", 1),
		"failCommand":                 d("failCommands", bson.A{"insert", "update"}, "closeConnection", true),
	} {
		failPoint(ctx, t, client, name, "alwaysOn", data)
		failPoint(ctx, t, client, name, "off", nil)
	}
	for i := range 50 {
		if _, err := c.InsertOne(ctx, d("_id", i)); err != nil {
			t.Fatal(i, err)
		}
		if _, err := c.UpdateOne(ctx, d("_id", i), d("$set", d("off!", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"))); err != nil {
			t.Fatal(i, err)
		}
	}
}

// A write concern error that a retry may help is retried by the driver: the reply's labels
// say so. failCommand's own labels stand in place of the server's.
func TestWriteConcernErrorLabels(t *testing.T) {
	ctx := context.Background() // with a deadline the driver would retry until then
	uri := cairntest.Start(t, cairntest.ReplSet("rs0"), cairntest.Parameter("enableTestCommands=1"))
	// Until the next heartbeat the driver takes the server for one that goes down.
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetHeartbeatInterval(500 * time.Millisecond))
	check(t, err)
	t.Cleanup(func() { _ = client.Disconnect(ctx) })
	c := client.Database("db").Collection("c")
	shutdown := d("code", 91, "errmsg", "shutting down")
	_, err = c.InsertOne(ctx, d("_id", "first"))
	check(t, err)
	for i, tc := range []struct {
		name   string
		data   bson.D
		times  int
		failed bool
		label  bool
	}{
		{"retried", d("failCommands", bson.A{"insert"}, "writeConcernError", shutdown), 1, false, false},
		{"twice", d("failCommands", bson.A{"insert"}, "writeConcernError", shutdown), 2, true, true},
		{"another code", d("failCommands", bson.A{"insert"}, "writeConcernError", d("code", 64, "errmsg", "waiting for replication timed out")), 1, true, false},
		{"no labels", d("failCommands", bson.A{"insert"}, "writeConcernError", shutdown, "errorLabels", bson.A{}), 1, true, false},
		{"given label", d("failCommands", bson.A{"insert"}, "writeConcernError", d("code", 64, "errmsg", "slow"), "errorLabels", bson.A{"RetryableWriteError"}), 1, false, false},
	} {
		failPoint(ctx, t, client, "failCommand", d("times", tc.times), tc.data)
		_, err := c.InsertOne(ctx, d("_id", i))
		var we mongo.WriteException
		if errors.As(err, &we) != tc.failed || (err != nil && we.HasErrorLabel("RetryableWriteError") != tc.label) {
			t.Errorf("%s: %v", tc.name, err)
		}
		failPoint(ctx, t, client, "failCommand", "off", nil)
		if n, err := c.CountDocuments(ctx, d("_id", i)); n != 1 || err != nil {
			t.Errorf("%s: %d documents, %v", tc.name, n, err)
		}
	}
}

// failCommand meets the first hello of a connection too, by its application's name, and a
// hello that waits already.
func TestFailPointOfHello(t *testing.T) {
	ctx := limit(t)
	uri := cairntest.Start(t, cairntest.ReplSet("rs0"), cairntest.Parameter("enableTestCommands=1"))
	admin := dial(t, uri)
	unknown := make(chan struct{}, 100)
	monitor := &event.ServerMonitor{ServerDescriptionChanged: func(e *event.ServerDescriptionChangedEvent) {
		if e.NewDescription.Kind == "Unknown" && e.PreviousDescription.Kind != "Unknown" {
			unknown <- struct{}{}
		}
	}}
	c, err := mongo.Connect(options.Client().ApplyURI(uri).SetAppName("unlucky").SetServerMonitor(monitor).SetHeartbeatInterval(500 * time.Millisecond).SetServerSelectionTimeout(time.Second))
	check(t, err)
	t.Cleanup(func() { _ = c.Disconnect(context.Background()) })
	check(t, c.Ping(ctx, nil))
	failPoint(ctx, t, admin, "failCommand", "alwaysOn", d("failCommands", bson.A{"hello", "isMaster"}, "appName", "unlucky", "closeConnection", true))
	select {
	case <-unknown:
	case <-ctx.Done():
		t.Fatal("no heartbeat failed")
	}
	check(t, admin.Ping(ctx, nil))
	late, err := mongo.Connect(options.Client().ApplyURI(uri).SetAppName("unlucky").SetServerSelectionTimeout(time.Second))
	check(t, err)
	t.Cleanup(func() { _ = late.Disconnect(context.Background()) })
	if err := late.Ping(ctx, nil); err == nil {
		t.Error("a first hello of that application was answered")
	}
	failPoint(ctx, t, admin, "failCommand", "off", nil)
	check(t, late.Ping(ctx, nil))
}

// failGetMoreAfterCursorCheckout ends a cursor between two batches.
func TestFailPointOfGetMore(t *testing.T) {
	ctx := limit(t)
	client := connect(t, cairntest.Parameter("enableTestCommands=1"))
	c := client.Database("db").Collection("c")
	insertN(ctx, t, c, 10, 0)
	failPoint(ctx, t, client, "failGetMoreAfterCursorCheckout", d("times", 1), d("errorCode", 280))
	cur, err := c.Find(ctx, bson.D{}, options.Find().SetBatchSize(3))
	check(t, err)
	n := 0
	for cur.Next(ctx) {
		n++
	}
	wantCode(t, cur.Err(), 280)
	if n != 3 {
		t.Errorf("%d documents before the error", n)
	}
}

// An error of a member that is not primary says of which topology it is.
func TestNotPrimaryTellsTopology(t *testing.T) {
	ctx := limit(t)
	uri := cairntest.Start(t, cairntest.ReplSet("rs0"), cairntest.Parameter("enableTestCommands=1"))
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetHeartbeatInterval(500 * time.Millisecond)) // asks again soon after the codes that tell nothing
	check(t, err)
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	db := client.Database("db")
	var hello bson.Raw
	check(t, db.RunCommand(ctx, d("hello", 1)).Decode(&hello))
	for _, tc := range []struct {
		code int
		tell bool
	}{{10107, true}, {189, true}, {11602, true}, {13435, true}, {91, false}, {11600, false}, {2, false}} {
		failPoint(ctx, t, client, "failCommand", d("times", 1), d("failCommands", bson.A{"count"}, "errorCode", tc.code))
		err := db.RunCommand(ctx, d("count", "c")).Err()
		wantCode(t, err, tc.code)
		var ce mongo.CommandError
		if errors.As(err, &ce) && ce.Raw.Lookup("topologyVersion").Equal(hello.Lookup("topologyVersion")) != tc.tell {
			t.Errorf("%d: %s", tc.code, ce.Raw)
		}
	}
}

// A command that fails tells of its write concern too, if it got as far as the data: what
// made it fail is as durable as the client asks.
func TestFailedCommandWriteConcern(t *testing.T) {
	ctx := limit(t)
	client := connect(t, cairntest.Parameter("enableTestCommands=1"))
	db := client.Database("db")
	c := db.Collection("c")
	insertN(ctx, t, c, 3, 0)
	_, err := c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: d("k", 1), Options: options.Index().SetUnique(true).SetPartialFilterExpression(d("k", d("$gt", 0)))})
	check(t, err)
	_, err = c.InsertOne(ctx, d("_id", 10, "k", 1))
	check(t, err)
	// The driver's own commands would hide the reply.
	run := func(cmd bson.D, where *mongo.Database) (reply struct {
		OK   float64
		Code int32
		WCE  struct {
			Code int32
		} `bson:"writeConcernError"`
		Labels []string `bson:"errorLabels"`
	}) {
		t.Helper()
		err := where.RunCommand(ctx, cmd).Err()
		var ce mongo.CommandError
		if !errors.As(err, &ce) {
			t.Fatalf("%v: %v", cmd, err)
		}
		check(t, bson.Unmarshal(ce.Raw, &reply))
		return reply
	}
	two := d("w", 2)
	admin := client.Database("admin")
	for _, tc := range []struct {
		name string
		cmd  bson.D
		on   *mongo.Database
		code int32
		wce  int32
	}{
		{"duplicate key", d("findAndModify", "c", "query", d("_id", 1), "update", d("$set", d("k", 1)), "writeConcern", two), db, 11000, 100},
		{"update of a wrong type", d("findAndModify", "c", "query", d("_id", 10), "update", d("$push", d("k", 1)), "writeConcern", two), db, 2, 100},
		{"not parsed", d("findAndModify", "c", "query", d("_id", 1), "update", d("$nosuch", d("k", 1)), "writeConcern", two), db, 9, 0},
		{"unknown argument", d("findAndModify", "c", "query", d("_id", 1), "nosuch", 1, "writeConcern", two), db, 40415, 0},
		{"exists", d("create", "c", "capped", true, "size", 4096, "writeConcern", two), db, 48, 100},
		{"bad option", d("create", "z", "size", 4096, "writeConcern", two), db, 72, 0},
		{"no index", d("dropIndexes", "c", "index", "nosuch", "writeConcern", two), db, 27, 100},
		{"index build", d("createIndexes", "c", "indexes", bson.A{d("key", d("n", 1), "name", "n", "unique", true)}, "writeConcern", two), db, 11000, 100},
		{"mode", d("findAndModify", "c", "query", d("_id", 1), "update", d("$set", d("k", 1)), "writeConcern", d("w", "nosuch")), db, 11000, 79},
		{"applyOps", d("applyOps", bson.A{d("op", "i", "ns", "db.c", "o", d("_id", 99)), d("op", "i", "ns", "db.nosuch", "o", d("_id", 1))}, "writeConcern", two), admin, 26, 100},
		{"$merge", d("aggregate", "c", "pipeline", bson.A{d("$set", d("k", 1)), d("$merge", "c")}, "cursor", d(), "writeConcern", two), db, 11000, 100},
		{"satisfied", d("findAndModify", "c", "query", d("_id", 1), "update", d("$set", d("k", 1)), "writeConcern", d("w", "majority")), db, 11000, 0},
	} {
		if r := run(tc.cmd, tc.on); r.OK != 0 || r.Code != tc.code || r.WCE.Code != tc.wce || r.Labels != nil {
			t.Errorf("%s: %+v", tc.name, r)
		}
	}

	// A fail point's writeConcernError is told beside the real error, in place of the real one;
	// its errorCode comes before all else.
	dup := d("findAndModify", "c", "query", d("_id", 1), "update", d("$set", d("k", 1)), "writeConcern", two)
	failPoint(ctx, t, client, "failCommand", d("times", 1), d("failCommands", bson.A{"findAndModify"}, "writeConcernError", d("code", 64, "errmsg", "slow")))
	if r := run(dup, db); r.Code != 11000 || r.WCE.Code != 64 || r.Labels != nil {
		t.Errorf("%+v", r)
	}
	if r := run(dup, db); r.Code != 11000 || r.WCE.Code != 100 {
		t.Errorf("%+v", r)
	}
	failPoint(ctx, t, client, "failCommand", d("times", 1), d("failCommands", bson.A{"findAndModify"}, "errorCode", 8, "writeConcernError", d("code", 64, "errmsg", "slow")))
	if r := run(dup, db); r.Code != 8 || r.WCE.Code != 0 {
		t.Errorf("%+v", r)
	}
	if r := run(dup, db); r.Code != 11000 || r.WCE.Code != 100 {
		t.Errorf("%+v", r)
	}
	// Either error makes a retryable write worth another try.
	failPoint(ctx, t, client, "failCommand", d("times", 1), d("failCommands", bson.A{"findAndModify"}, "writeConcernError", d("code", 91, "errmsg", "bye")))
	if r := run(append(dup, bson.E{Key: "txnNumber", Value: int64(1000)}), db); r.Code != 11000 || r.WCE.Code != 91 || len(r.Labels) != 1 {
		t.Errorf("%+v", r)
	}
	// A read takes no write concern.
	failPoint(ctx, t, client, "failCommand", d("times", 1), d("failCommands", bson.A{"find"}, "writeConcernError", d("code", 64, "errmsg", "slow")))
	var reply bson.Raw
	check(t, db.RunCommand(ctx, d("find", "c")).Decode(&reply))
	if v, err := reply.LookupErr("writeConcernError"); err == nil {
		t.Error(v)
	}
}
