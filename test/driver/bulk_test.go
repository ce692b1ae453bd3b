package driver

import (
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// The results of a bulkWrite that are too large for one reply come with getMore, to a
// retryable one too, whose session goes by a longer name in the server.
func TestBulkWriteGetMore(t *testing.T) {
	ctx := limit(t)
	client := connect(t)
	var models []mongo.ClientBulkWrite
	for _, letter := range []string{"a", "b"} {
		models = append(models, mongo.ClientBulkWrite{Database: "db", Collection: "c", Model: mongo.NewClientUpdateOneModel().
			SetFilter(d("_id", strings.Repeat(letter, 8<<20))).SetUpdate(d("$set", d("x", 1))).SetUpsert(true)})
	}
	res, err := client.BulkWrite(ctx, models, options.ClientBulkWrite().SetVerboseResults(true))
	if err != nil {
		var e mongo.ClientBulkWriteException
		errors.As(err, &e)
		t.Fatalf("%v: %+v", err, e.WriteError)
	}
	if res.UpsertedCount != 2 || len(res.UpdateResults) != 2 {
		t.Errorf("%d upserted, %d results", res.UpsertedCount, len(res.UpdateResults))
	}
	if n, err := client.Database("db").Collection("c").CountDocuments(ctx, bson.D{}); n != 2 || err != nil {
		t.Errorf("%d documents, %v", n, err)
	}
}

// A collectionUUID that is another's ends the operations on its namespace only.
func TestBulkWriteCollectionUUID(t *testing.T) {
	ctx := limit(t)
	client := connect(t)
	db := client.Database("db")
	_, err := db.Collection("c").InsertOne(ctx, d("_id", 0))
	check(t, err)
	spec, err := db.ListCollectionSpecifications(ctx, d("name", "c"))
	check(t, err)
	stale := bson.Binary{Subtype: 4, Data: []byte("0123456789abcdef")}
	for _, tc := range []struct {
		ordered            bool
		errors, insertions int32
	}{{true, 1, 0}, {false, 1, 1}} {
		var r struct {
			Cursor struct {
				FirstBatch []bson.M `bson:"firstBatch"`
			}
			NErrors   int32 `bson:"nErrors"`
			NInserted int32 `bson:"nInserted"`
		}
		check(t, client.Database("admin").RunCommand(ctx, d("bulkWrite", 1, "ordered", tc.ordered,
			"ops", bson.A{d("insert", 0, "document", d("x", 1)), d("insert", 1, "document", d("x", 2))},
			"nsInfo", bson.A{d("ns", "db.c", "collectionUUID", stale), d("ns", "db.c", "collectionUUID", spec[0].UUID)})).Decode(&r))
		if r.NErrors != tc.errors || r.NInserted != tc.insertions {
			t.Errorf("ordered %v: %+v", tc.ordered, r)
		}
		if got := r.Cursor.FirstBatch[0]; got["code"] != int32(361) || got["expectedCollection"] != "c" || got["actualCollection"] != nil {
			t.Errorf("ordered %v: %v", tc.ordered, got)
		}
	}
}

// listCollections shows numbers as MongoDB keeps them, however they were given.
func TestOptionsOfCapped(t *testing.T) {
	ctx := limit(t)
	db := connect(t).Database("db")
	check(t, db.CreateCollection(ctx, "c", options.CreateCollection().SetCapped(true).SetSizeInBytes(1000).SetMaxDocuments(10)))
	spec, err := db.ListCollectionSpecifications(ctx, bson.D{})
	check(t, err)
	if got := spec[0].Options.String(); got != `{"capped": true,"max": {"$numberInt":"10"},"size": {"$numberInt":"1024"}}` {
		t.Error(got)
	}
}
