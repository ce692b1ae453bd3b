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
