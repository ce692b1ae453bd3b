package driver

import (
	"context"
	"errors"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
)

// TestCollectionUUID names the collection that a command means by its UUID too: under
// another name, or none, the command is refused and says what the collection is called.
func TestCollectionUUID(t *testing.T) {
	ctx := context.Background()
	client, err := mongo.Connect(options.Client().ApplyURI(cairntest.Start(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(ctx)
	db := client.Database("d")
	for _, coll := range []string{"here", "other"} {
		if _, err := db.Collection(coll).InsertOne(ctx, bson.D{{Key: "_id", Value: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.CreateView(ctx, "view", "here", mongo.Pipeline{}); err != nil {
		t.Fatal(err)
	}
	specs, err := db.ListCollectionSpecifications(ctx, bson.D{{Key: "name", Value: "here"}})
	if err != nil || len(specs) != 1 {
		t.Fatalf("%v, %v", specs, err)
	}
	uuid := *specs[0].UUID
	nobody := bson.Binary{Subtype: 4, Data: []byte("0123456789abcdef")}
	for _, cmd := range []bson.D{
		{{Key: "find", Value: ""}},
		{{Key: "find", Value: ""}, {Key: "filter", Value: bson.D{{Key: "_id", Value: 1}}}},
		{{Key: "find", Value: ""}, {Key: "hint", Value: bson.D{{Key: "$natural", Value: 1}}}},
		{{Key: "count", Value: ""}},
		{{Key: "aggregate", Value: ""}, {Key: "pipeline", Value: bson.A{}}, {Key: "cursor", Value: bson.D{}}},
		{{Key: "insert", Value: ""}, {Key: "documents", Value: bson.A{bson.D{}}}},
		{{Key: "update", Value: ""}, {Key: "updates", Value: bson.A{bson.D{{Key: "q", Value: bson.D{}}, {Key: "u", Value: bson.D{{Key: "$set", Value: bson.D{{Key: "x", Value: 1}}}}}}}}},
		{{Key: "delete", Value: ""}, {Key: "deletes", Value: bson.A{bson.D{{Key: "q", Value: bson.D{{Key: "_id", Value: 9}}}, {Key: "limit", Value: 0}}}}},
	} {
		for _, x := range []struct {
			coll   string
			uuid   any
			actual any // of the error; "": there is none
		}{{"here", uuid, ""}, {"here", nil, ""}, {"other", uuid, "here"}, {"missing", uuid, "here"}, {"view", uuid, "here"}, {"here", nobody, nil}} {
			if x.coll == "view" && cmd[0].Key != "find" && cmd[0].Key != "count" && cmd[0].Key != "aggregate" {
				continue // a write to a view has its own error
			}
			run := append(bson.D{{Key: cmd[0].Key, Value: x.coll}}, cmd[1:]...)
			run = append(run, bson.E{Key: "collectionUUID", Value: x.uuid})
			err := db.RunCommand(ctx, run).Err()
			if cmd[0].Key != "insert" { // which has nothing to explain
				plan := db.RunCommand(ctx, bson.D{{Key: "explain", Value: run}}).Err()
				if (plan == nil) != (err == nil) || plan != nil && plan.Error() != err.Error() {
					t.Errorf("explain of %v: %v, the command itself: %v", run, plan, err)
				}
			}
			if x.actual == "" {
				if err != nil {
					t.Errorf("%v: %v", run, err)
				}
				continue
			}
			var ce mongo.CommandError
			if !errors.As(err, &ce) || ce.Code != 361 || ce.Name != "CollectionUUIDMismatch" {
				t.Errorf("%v: %v", run, err)
				continue
			}
			var got struct {
				DB       string      `bson:"db"`
				UUID     bson.Binary `bson:"collectionUUID"`
				Expected string      `bson:"expectedCollection"`
				Actual   any         `bson:"actualCollection"`
			}
			if err := bson.Unmarshal(ce.Raw, &got); err != nil || got.DB != "d" || got.Expected != x.coll || got.Actual != x.actual || !got.UUID.Equal(x.uuid.(bson.Binary)) {
				t.Errorf("%v: %s, %v", run, ce.Raw, err)
			}
		}
	}
	if err := db.RunCommand(ctx, bson.D{{Key: "find", Value: "here"}, {Key: "collectionUUID", Value: "text"}}).Err(); err == nil {
		t.Error("a text is taken for a UUID")
	}
}
