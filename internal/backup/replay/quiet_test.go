package replay

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/bson"
)

// What an earlier run asked for is waited for, also when its connection is gone; what others do is not.
func TestAwaitEarlier(t *testing.T) {
	ctx, uri := t.Context(), cairntest.Start(t)
	as := func(app string) *mongo.Client {
		c, err := mongo.Connect(options.Client().ApplyURI(uri).SetAppName(app))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Disconnect(ctx) })
		return c
	}
	admin := as("admin").Database("admin")
	run := func(cmd bson.Raw) {
		t.Helper()
		if err := admin.RunCommand(ctx, raw(cmd)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	run(bson.D("fsync", 1, "lock", true)) // writers wait
	done := make(chan error, 2)
	for _, app := range []string{"restore", "other"} {
		c := as(app)
		go func() {
			done <- c.Database("d").RunCommand(ctx, raw(bson.D("insert", "c", "documents", bson.A(bson.D("_id", app))))).Err()
		}()
	}
	said := ""
	say := func(format string, args ...any) { said += fmt.Sprintf(format, args...) }
	later := as("restore")
	// The insert is on its way to the server: it is waited for from when it is there.
	for {
		err := AwaitEarlier(ctx, later, 0, say)
		if err != nil {
			if !strings.Contains(err.Error(), "operations ") || strings.Contains(err.Error(), ",  ") {
				t.Error(err)
			}
			break
		}
		if ctx.Err() != nil {
			t.Fatal(ctx.Err())
		}
	}
	if err := AwaitEarlier(ctx, as("third"), 0, say); err != nil {
		t.Errorf("waits for others: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- AwaitEarlier(ctx, later, time.Minute, say) }()
	run(bson.D("fsyncUnlock", 1))
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A long command is shown as text.
func TestEarlierReadsTruncatedCommands(t *testing.T) {
	op := func(id int32, app, client string, cmd bson.Raw) bson.Raw {
		return bson.D("opid", id, "appName", app, "client", client, "command", cmd)
	}
	reply := bson.D("inprog", bson.A(
		op(1, "r", "10.0.0.1:5000", bson.D("currentOp", 1, "comment", "m")),
		op(2, "r", "10.0.0.1:5001", bson.D("$truncated", `{ applyOps: [ { op: "i", ns: "a.b"`)),
		op(3, "r", "10.0.0.1:5002", bson.D("$truncated", `{"insert": "c", "documents": [{`)),
		op(4, "r", "10.0.0.1:5003", bson.D("getMore", int64(5))),
		op(5, "r", "10.0.0.2:5001", bson.D("insert", "c")),
		op(6, "x", "10.0.0.1:5004", bson.D("insert", "c")),
		op(7, "r", "10.0.0.1:5005", bson.D("createIndexes", "c"))))
	if got := strings.Join(earlier(reply, "m"), " "); got != "2 3 7" {
		t.Errorf("%q", got)
	}
	if got := earlier(reply, "not there"); got != nil {
		t.Errorf("%q", got)
	}
}
