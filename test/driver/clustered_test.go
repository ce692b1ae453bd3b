package driver

import (
	"errors"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
)

// TestClusteredCollection walks through what a client sees of one.
func TestClusteredCollection(t *testing.T) {
	ctx := limit(t)
	client := connect(t)
	db := client.Database("db")
	check(t, db.CreateCollection(ctx, "c", options.CreateCollection().SetClusteredIndex(d("key", d("_id", 1), "unique", true, "name", "by id"))))
	c := db.Collection("c")
	spec, err := db.ListCollectionSpecifications(ctx, d("name", "c"))
	check(t, err)
	if got := spec[0].Options.Lookup("clusteredIndex").String(); got != `{"v": {"$numberInt":"2"},"key": {"_id": {"$numberInt":"1"}},"name": "by id","unique": true}` {
		t.Error(got)
	}
	if spec[0].IDIndex.Name != "" {
		t.Errorf("there is an index on _id: %v", spec[0].IDIndex)
	}
	_, err = c.InsertMany(ctx, bson.A{d("_id", 3, "x", 1), d("_id", 1, "x", 2), d("_id", 2, "x", 3)})
	check(t, err)
	_, err = c.InsertOne(ctx, d("_id", 2))
	wantCode(t, err, 11000)
	_, err = c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: d("x", 1)})
	check(t, err)

	for _, tc := range []struct {
		name string
		opts *options.FindOptionsBuilder
		want []int32
	}{
		{"natural order is that of _id", options.Find(), []int32{1, 2, 3}},
		{"$natural", options.Find().SetSort(d("$natural", -1)), []int32{3, 2, 1}},
		{"hint by name", options.Find().SetHint("by id"), []int32{1, 2, 3}},
		{"hint by key", options.Find().SetHint(d("_id", 1)), []int32{1, 2, 3}},
		{"another sort", options.Find().SetSort(d("x", 1)), []int32{3, 1, 2}},
	} {
		cur, err := c.Find(ctx, d("y", nil), tc.opts)
		check(t, err)
		var docs []struct {
			ID int32 `bson:"_id"`
		}
		check(t, cur.All(ctx, &docs))
		var got []int32
		for _, doc := range docs {
			got = append(got, doc.ID)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
	cur, err := c.Indexes().List(ctx)
	check(t, err)
	var list []bson.Raw
	check(t, cur.All(ctx, &list))
	if len(list) != 2 || list[0].Lookup("name").StringValue() != "by id" || !list[0].Lookup("clustered").Boolean() || !list[0].Lookup("unique").Boolean() {
		t.Errorf("indexes %v", list)
	}
	wantCode(t, c.Indexes().DropOne(ctx, "by id"), 5979800)
	check(t, c.Indexes().DropAll(ctx))
	var stats struct {
		Clustered bool
		Nindexes  int
	}
	check(t, db.RunCommand(ctx, d("collStats", "c")).Decode(&stats))
	if !stats.Clustered || stats.Nindexes != 0 {
		t.Errorf("%+v", stats)
	}
	valid(ctx, t, c)

	// $out keeps what the collection is.
	cur, err = c.Aggregate(ctx, bson.A{d("$set", d("z", 1)), d("$out", "c")})
	check(t, err)
	check(t, cur.Close(ctx))
	spec, err = db.ListCollectionSpecifications(ctx, d("name", "c"))
	check(t, err)
	if spec[0].Options.Lookup("clusteredIndex", "name").StringValue() != "by id" {
		t.Error("$out made it a plain collection")
	}
}

// A clustered collection's documents expire by the date in their _id.
func TestClusteredExpires(t *testing.T) {
	ctx := limit(t)
	client := connect(t, cairntest.Parameter("ttlMonitorSleepSecs=1"))
	db := client.Database("db")
	check(t, db.CreateCollection(ctx, "c", options.CreateCollection().SetClusteredIndex(d("key", d("_id", 1), "unique", true)).SetExpireAfterSeconds(3600)))
	c := db.Collection("c")
	_, err := c.InsertMany(ctx, bson.A{d("_id", time.Now().Add(-2*time.Hour)), d("_id", time.Now()), d("_id", "no date"), d("_id", bson.NewObjectIDFromTimestamp(time.Unix(1, 0)))})
	check(t, err)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := c.CountDocuments(ctx, bson.D{})
		check(t, err)
		if n == 3 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d documents are left", n)
		}
	}
}

// An index becomes unique in two steps; the documents that are in its way are named.
func TestMakeIndexUnique(t *testing.T) {
	ctx := limit(t)
	db := connect(t).Database("db")
	c := db.Collection("c")
	_, err := c.InsertMany(ctx, bson.A{d("_id", 1, "x", 1), d("_id", 2, "x", 1), d("_id", 3, "x", 2)})
	check(t, err)
	_, err = c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: d("x", 1)})
	check(t, err)
	mod := func(option string) error {
		return db.RunCommand(ctx, d("collMod", "c", "index", d("keyPattern", d("x", 1), option, true))).Err()
	}
	wantCode(t, mod("unique"), 72)
	check(t, mod("prepareUnique"))
	_, err = c.InsertOne(ctx, d("_id", 4, "x", 1))
	wantCode(t, err, 11000)
	_, err = c.UpdateOne(ctx, d("_id", 3), d("$set", d("x", 1)))
	wantCode(t, err, 11000)
	_, err = c.UpdateOne(ctx, d("_id", 1), d("$set", d("y", 1))) // what is doubled already may stay so
	check(t, err)
	err = mod("unique")
	wantCode(t, err, 359)
	var ce mongo.CommandError
	if errors.As(err, &ce); ce.Raw.Lookup("violations", "0", "ids").String() != `[{"$numberInt":"1"},{"$numberInt":"2"}]` {
		t.Errorf("violations %s", ce.Raw)
	}
	_, err = c.DeleteOne(ctx, d("_id", 2))
	check(t, err)
	check(t, mod("unique"))
	_, err = c.InsertOne(ctx, d("_id", 5, "x", 2))
	wantCode(t, err, 11000)
	valid(ctx, t, c)
}

// Commands that a MongoDB without a search server refuses have its error here.
func TestSearchIsRefused(t *testing.T) {
	ctx := limit(t)
	c := connect(t).Database("db").Collection("c")
	_, err := c.SearchIndexes().List(ctx, options.SearchIndexes())
	wantCode(t, err, 31082)
	_, err = c.SearchIndexes().CreateOne(ctx, mongo.SearchIndexModel{Definition: d("mappings", d("dynamic", true))})
	wantCode(t, err, 31082)
	_, err = c.Aggregate(ctx, bson.A{d("$search", d("text", d("query", "x", "path", "y")))})
	wantCode(t, err, 31082)
}
