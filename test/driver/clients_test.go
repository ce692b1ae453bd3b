package driver

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
)

// TestFailPointAtFirstHello: a fail point for an application meets the hello in which the
// application gives its name.
func TestFailPointAtFirstHello(t *testing.T) {
	ctx := limit(t)
	uri := cairntest.Start(t, cairntest.Parameter("enableTestCommands=1"))
	check(t, dial(t, uri).Database("admin").RunCommand(ctx, d("configureFailPoint", "failCommand", "mode", d("times", 2),
		"data", d("failCommands", []string{"hello", "isMaster"}, "appName", "late", "errorCode", 1234))).Err())
	var failed atomic.Int32
	c, err := mongo.Connect(options.Client().ApplyURI(uri).SetAppName("late").SetServerMonitor(&event.ServerMonitor{
		ServerHeartbeatFailed: func(*event.ServerHeartbeatFailedEvent) { failed.Add(1) }}))
	check(t, err)
	defer c.Disconnect(ctx)
	check(t, c.Ping(ctx, nil))
	if failed.Load() == 0 {
		t.Error("no hello has failed")
	}
}

// TestOlderArguments: what drivers send beyond the server's own arguments.
func TestOlderArguments(t *testing.T) {
	ctx := limit(t)
	uri := cairntest.Start(t)
	db := dial(t, uri).Database("t")
	_, err := db.Collection("c").InsertOne(ctx, d("_id", 1))
	check(t, err)
	check(t, db.RunCommand(ctx, d("validate", "c", "scandata", false, "full", false)).Err())
	balanced, err := mongo.Connect(options.Client().ApplyURI(strings.Replace(uri, "directConnection=true", "loadBalanced=true", 1)))
	check(t, err)
	defer balanced.Disconnect(ctx)
	if err := balanced.Ping(ctx, nil); err == nil || !strings.Contains(err.Error(), "the server does not support this mode") {
		t.Errorf("load balanced: %v", err)
	}
}

// TestBulkWriteInSession: the results of a retryable bulkWrite, too many for one batch, are
// read on in its session.
func TestBulkWriteInSession(t *testing.T) {
	ctx := limit(t)
	c := connect(t)
	big := func(s string) string { return strings.Repeat(s, 8<<20) }
	var writes []mongo.ClientBulkWrite
	for _, id := range []string{big("a"), big("b")} {
		writes = append(writes, mongo.ClientBulkWrite{Database: "t", Collection: "c",
			Model: mongo.NewClientUpdateOneModel().SetFilter(d("_id", id)).SetUpdate(d("$set", d("x", 1))).SetUpsert(true)})
	}
	res, err := c.BulkWrite(ctx, writes, options.ClientBulkWrite().SetVerboseResults(true))
	if err != nil {
		t.Fatalf("%.300s", err) // it shows all results
	}
	if res.UpsertedCount != 2 || len(res.UpdateResults) != 2 {
		t.Errorf("%d upserted, %d results", res.UpsertedCount, len(res.UpdateResults))
	}
}

// TestIdleConnections: currentOp shows a client that does nothing, when it is asked for all.
func TestIdleConnections(t *testing.T) {
	ctx := limit(t)
	uri := cairntest.Start(t)
	idle := dial(t, uri+"&appName=idle")
	check(t, idle.Ping(ctx, nil))
	admin := dial(t, uri).Database("admin")
	for _, c := range []struct {
		name string
		all  bool
	}{{"running", false}, {"all", true}} {
		var r struct {
			Ops []struct {
				App    string `bson:"appName"`
				Active bool   `bson:"active"`
			} `bson:"inprog"`
		}
		check(t, admin.RunCommand(ctx, d("currentOp", 1, "$all", c.all)).Decode(&r))
		found := false
		for _, o := range r.Ops {
			found = found || o.App == "idle" && !o.Active
		}
		if found != c.all {
			t.Errorf("%s: %+v", c.name, r.Ops)
		}
	}
}

// TestCommandHelp: help asks what a command does and does not run it.
func TestCommandHelp(t *testing.T) {
	ctx := limit(t)
	db := dial(t, cairntest.Start(t)).Database("t")
	r, err := db.RunCommand(ctx, d("drop", "c", "help", true)).Raw()
	check(t, err)
	if s, _ := r.Lookup("help").StringValueOK(); !strings.HasPrefix(s, "help for: drop ") {
		t.Errorf("%v", r)
	}
	wantCode(t, db.RunCommand(ctx, d("drop", "c", "help", false)).Err(), 40415)
}

// TestRefusedArguments: arguments that a server refuses, though they would do no harm.
func TestRefusedArguments(t *testing.T) {
	ctx := context.Background() // with a limit the driver sends a maxTimeMS of its own
	db := connect(t).Database("t")
	insertN(ctx, t, db.Collection("c"), 5, 1)
	open := func() int64 {
		r, err := db.RunCommand(ctx, d("find", "c", "batchSize", 1)).Raw()
		check(t, err)
		return r.Lookup("cursor", "id").Int64()
	}
	wantCode(t, db.RunCommand(ctx, d("getMore", open(), "collection", "c", "maxTimeMS", 0)).Err(), 2)
	wantCode(t, db.RunCommand(ctx, d("getMore", open(), "collection", "c", "maxTimeMS", 5)).Err(), 2)
	check(t, db.RunCommand(ctx, d("getMore", open(), "collection", "c", "readConcern", d("level", "snapshot"))).Err())
	check(t, db.RunCommand(ctx, d("validate", "c", "background", true)).Err())
	wantCode(t, db.RunCommand(ctx, d("validate", "c", "background", true, "full", true)).Err(), 72)
	pipeline := bson.A{d("$out", "o")}
	wantCode(t, db.RunCommand(ctx, d("aggregate", "c", "pipeline", pipeline, "explain", true, "writeConcern", d("j", true))).Err(), 9)
	check(t, db.RunCommand(ctx, d("aggregate", "c", "pipeline", pipeline, "explain", true)).Err())
	inner := d("aggregate", "c", "pipeline", pipeline, "cursor", d())
	check(t, db.RunCommand(ctx, d("explain", inner)).Err())
	wantCode(t, db.RunCommand(ctx, d("explain", append(inner, bson.E{Key: "writeConcern", Value: d("j", true)}))).Err(), 9)
	wantCode(t, db.RunCommand(ctx, d("hello", 1, "client", d("driver", d("name", "twice")))).Err(), 186)
	first := cairntest.Open(t)
	for _, c := range []struct {
		code  int32
		field string
		value bson.D
	}{
		{184, "client", d("application", d("name", strings.Repeat("a", 129)))},
		{185, "client", d("driver", d("name", strings.Repeat("a", 1024)))},
		{40414, "$clusterTime", d()},
		{14, "$clusterTime", d("clusterTime", d())},
	} {
		conn := socket(t, first)
		_, err := conn.Write(message(t, d("hello", 1, "$db", "admin", c.field, c.value)))
		check(t, err)
		r, err := answer(conn)
		check(t, err)
		if got, _ := r.Lookup("code").Int32OK(); got != c.code {
			t.Errorf("%.100v: %v", c.value, r)
		}
	}
}

// TestEmptyTimestamps: inserts and replacements fill in empty timestamps at the top, also of
// an upsert; operators and pipelines write what they are given.
func TestEmptyTimestamps(t *testing.T) {
	ctx := limit(t)
	c := connect(t).Database("t").Collection("c")
	empty := bson.Timestamp{}
	upsert := options.UpdateOne().SetUpsert(true)
	_, err := c.InsertOne(ctx, d("_id", "insert", "ts", empty))
	check(t, err)
	_, err = c.ReplaceOne(ctx, d("_id", "replace"), d("ts", empty), options.Replace().SetUpsert(true))
	check(t, err)
	_, err = c.UpdateOne(ctx, d("_id", "set"), d("$set", d("ts", empty)), upsert)
	check(t, err)
	_, err = c.UpdateOne(ctx, d("_id", "pipeline"), mongo.Pipeline{d("$replaceRoot", d("newRoot", d("$literal", d("ts", empty))))}, upsert)
	check(t, err)
	for id, filled := range map[string]bool{"insert": true, "replace": true, "set": false, "pipeline": false} {
		var r struct {
			TS bson.Timestamp `bson:"ts"`
		}
		check(t, c.FindOne(ctx, d("_id", id)).Decode(&r))
		if (r.TS != empty) != filled {
			t.Errorf("%s: %v", id, r.TS)
		}
	}
}
