package retry

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cairndb/cairn/cairntest"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// attempts notes the commands that the driver sends: name and txnNumber.
type attempts struct {
	sync.Mutex
	sent []string
}

func (a *attempts) monitor() *event.CommandMonitor {
	return &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		if n, ok := e.Command.Lookup("txnNumber").Int64OK(); ok {
			a.Lock()
			a.sent = append(a.sent, fmt.Sprint(e.CommandName, " ", n))
			a.Unlock()
		}
	}}
}

func (a *attempts) take() []string {
	a.Lock()
	defer a.Unlock()
	s := a.sent
	a.sent = nil
	return s
}

// TestDriverRetries has the reply of each kind of write cut off, then its request lost,
// then the write hindered: the driver sends it again, and it happens once.
func TestDriverRetries(t *testing.T) {
	uri := cairntest.Start(t, cairntest.ReplSet("rs"), cairntest.Parameter("enableTestCommands=1"))
	a := &attempts{}
	// A monitor that is just reconnecting when a connection breaks is heard again after one interval.
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetMonitor(a.monitor()).SetHeartbeatInterval(500 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	admin := client.Database("admin")
	coll := client.Database("retry").Collection("c")
	inc := bson.D{{Key: "$inc", Value: bson.D{{Key: "v", Value: 1}}}}
	byID := func(id any) bson.D { return bson.D{{Key: "_id", Value: id}} }
	type doc struct {
		ID int `bson:"_id"`
		V  int
	}
	faults := map[string]bson.D{
		"reply cut off": {{Key: "configureFailPoint", Value: "onPrimaryTransactionalWrite"}, {Key: "mode", Value: bson.D{{Key: "times", Value: 1}}}},
		"request lost": {{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: bson.D{{Key: "times", Value: 1}}},
			{Key: "data", Value: bson.D{{Key: "failCommands", Value: bson.A{"insert", "update", "delete", "findAndModify", "bulkWrite"}}, {Key: "closeConnection", Value: true}}}},
		"write hindered": {{Key: "configureFailPoint", Value: "onPrimaryTransactionalWrite"}, {Key: "mode", Value: bson.D{{Key: "times", Value: 1}}},
			{Key: "data", Value: bson.D{{Key: "failBeforeCommitExceptionCode", Value: 262}, {Key: "closeConnection", Value: false}}}},
	}
	writes := map[string]func(t *testing.T) error{
		"insertOne": func(*testing.T) error { _, err := coll.InsertOne(ctx, doc{10, 0}); return err },
		"insertMany": func(t *testing.T) error {
			r, err := coll.InsertMany(ctx, []doc{{11, 0}, {12, 0}})
			if err == nil && len(r.InsertedIDs) != 2 {
				t.Error(r)
			}
			return err
		},
		"updateOne": func(t *testing.T) error {
			r, err := coll.UpdateOne(ctx, byID(1), inc)
			if err == nil && (r.MatchedCount != 1 || r.ModifiedCount != 1) {
				t.Error(r)
			}
			return err
		},
		"upsert": func(t *testing.T) error {
			r, err := coll.UpdateOne(ctx, byID(20), inc, options.UpdateOne().SetUpsert(true))
			if err == nil && (r.UpsertedCount != 1 || r.UpsertedID != int32(20)) {
				t.Error(r)
			}
			return err
		},
		"replaceOne": func(*testing.T) error { _, err := coll.ReplaceOne(ctx, byID(1), doc{1, 7}); return err },
		"deleteOne": func(t *testing.T) error {
			r, err := coll.DeleteOne(ctx, byID(2))
			if err == nil && r.DeletedCount != 1 {
				t.Error(r)
			}
			return err
		},
		"findOneAndUpdate": func(t *testing.T) error {
			var d doc
			err := coll.FindOneAndUpdate(ctx, byID(1), inc, options.FindOneAndUpdate().SetReturnDocument(options.After)).Decode(&d)
			if err == nil && d.V != 1 {
				t.Error(d)
			}
			return err
		},
		"findOneAndDelete": func(t *testing.T) error {
			var d doc
			err := coll.FindOneAndDelete(ctx, byID(3)).Decode(&d)
			if err == nil && d.ID != 3 {
				t.Error(d)
			}
			return err
		},
		"bulk": func(t *testing.T) error {
			r, err := coll.BulkWrite(ctx, []mongo.WriteModel{mongo.NewUpdateOneModel().SetFilter(byID(1)).SetUpdate(inc), mongo.NewUpdateOneModel().SetFilter(byID(2)).SetUpdate(inc)})
			if err == nil && r.ModifiedCount != 2 {
				t.Error(r)
			}
			return err
		},
		"client bulk": func(t *testing.T) error {
			r, err := client.BulkWrite(ctx, []mongo.ClientBulkWrite{
				{Database: "retry", Collection: "c", Model: mongo.NewClientInsertOneModel().SetDocument(doc{30, 0})},
				{Database: "retry", Collection: "c", Model: mongo.NewClientUpdateOneModel().SetFilter(byID(1)).SetUpdate(inc)},
			})
			if err == nil && (r.InsertedCount != 1 || r.ModifiedCount != 1) {
				t.Error(r)
			}
			return err
		},
	}
	state := func(t *testing.T) (docs []doc) {
		t.Helper()
		cur, err := coll.Find(ctx, bson.D{}, options.Find().SetSort(byID(1)))
		if err == nil {
			err = cur.All(ctx, &docs)
		}
		if err != nil {
			t.Fatal(err)
		}
		return docs
	}
	reset := func(t *testing.T) {
		t.Helper()
		if _, err := coll.DeleteMany(ctx, bson.D{}); err != nil {
			t.Fatal(err)
		}
		if _, err := coll.InsertMany(ctx, []doc{{1, 0}, {2, 0}, {3, 0}}); err != nil {
			t.Fatal(err)
		}
		a.take()
	}
	for name, w := range writes {
		t.Run(name, func(t *testing.T) {
			reset(t)
			if err := w(t); err != nil {
				t.Fatal(err)
			}
			want := state(t)
			for fault, cmd := range faults {
				reset(t)
				if err := admin.RunCommand(ctx, cmd).Err(); err != nil {
					t.Fatal(fault, err)
				}
				if err := w(t); err != nil {
					t.Errorf("%s: %v", fault, err)
				}
				if sent := a.take(); len(sent) != 2 || sent[0] != sent[1] {
					t.Errorf("%s: sent %v", fault, sent)
				}
				if got := state(t); !slices.Equal(got, want) {
					t.Errorf("%s: %v, want %v", fault, got, want)
				}
			}
		})
	}
}
