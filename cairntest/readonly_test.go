package cairntest_test

import (
	"context"
	"errors"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
)

func TestReadOnlyRefusesEveryWrite(t *testing.T) {
	db := cairntest.Open(t)
	c, err := mongo.Connect(options.Client().ApplyURI(db.URI()))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	defer c.Disconnect(ctx)
	coll := c.Database("a").Collection("b")
	if _, err := coll.InsertOne(ctx, bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	db.SetReadOnly()
	for _, cmd := range []bson.D{
		{{Key: "insert", Value: "b"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: 2}}}}},
		{{Key: "update", Value: "b"}, {Key: "updates", Value: bson.A{bson.D{{Key: "q", Value: bson.D{}}, {Key: "u", Value: bson.D{{Key: "$set", Value: bson.D{{Key: "x", Value: 1}}}}}}}}},
		{{Key: "delete", Value: "b"}, {Key: "deletes", Value: bson.A{bson.D{{Key: "q", Value: bson.D{}}, {Key: "limit", Value: 0}}}}},
		{{Key: "create", Value: "c"}},
		{{Key: "drop", Value: "b"}},
		{{Key: "dropDatabase", Value: 1}},
		{{Key: "createIndexes", Value: "b"}, {Key: "indexes", Value: bson.A{bson.D{{Key: "key", Value: bson.D{{Key: "x", Value: 1}}}, {Key: "name", Value: "x_1"}}}}},
		{{Key: "aggregate", Value: "b"}, {Key: "pipeline", Value: bson.A{bson.D{{Key: "$out", Value: "d"}}}}, {Key: "cursor", Value: bson.D{}}},
	} {
		var e mongo.CommandError
		err := c.Database("a").RunCommand(ctx, cmd).Err()
		if !errors.As(err, &e) || e.Code != 20 || e.Message != "Cannot execute a write operation in read-only mode" {
			t.Errorf("%v: %v", cmd, err)
		}
	}
	if n, err := coll.CountDocuments(ctx, bson.D{}); err != nil || n != 1 { // an aggregate that only reads
		t.Errorf("count %d, %v", n, err)
	}
	var hello struct{ ReadOnly bool }
	if err := c.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil || !hello.ReadOnly {
		t.Errorf("hello does not say readOnly: %v", err)
	}
}
