package driver

import (
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/cairndb/cairn/cairntest"
)

// A snapshot session sees what its first read saw, in all its reads and over the end of
// the collection, while others write.
func TestSnapshotSession(t *testing.T) {
	ctx := limit(t)
	client := connect(t)
	a, b := client.Database("db").Collection("a"), client.Database("db").Collection("b")
	insertN(ctx, t, a, 150, 0)
	insertN(ctx, t, b, 5, 0)
	s, err := client.StartSession(options.Session().SetSnapshot(true))
	check(t, err)
	defer s.EndSession(ctx)
	sctx := mongo.NewSessionContext(ctx, s)

	read := func(step string) {
		t.Helper()
		cur, err := a.Find(sctx, d("n", 0), options.Find().SetBatchSize(20))
		check(t, err)
		var docs []bson.Raw
		check(t, cur.All(sctx, &docs))
		n, err := b.CountDocuments(sctx, d("n", 0))
		check(t, err)
		var values []int
		check(t, a.Distinct(sctx, "n", bson.D{}).Decode(&values))
		if len(docs) != 150 || n != 5 || len(values) != 1 || values[0] != 0 {
			t.Errorf("%s: %d and %d documents, values %v", step, len(docs), n, values)
		}
	}
	read("first")
	_, err = a.UpdateMany(ctx, bson.D{}, d("$set", d("n", 1)))
	check(t, err)
	read("updated")
	insertN(ctx, t, client.Database("db").Collection("other"), 10, 0)
	_, err = b.DeleteMany(ctx, bson.D{})
	check(t, err)
	read("deleted")
	_, err = a.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: d("n", 1)})
	check(t, err)
	read("indexed")
	check(t, a.Drop(ctx))
	check(t, b.Drop(ctx))
	read("dropped")
	if n, err := a.CountDocuments(ctx, bson.D{}); n != 0 || err != nil {
		t.Errorf("the present has %d documents, %v", n, err)
	}
}

// A standalone has no time to read at; $out does not go with a linearizable read.
func TestReadConcernsRefused(t *testing.T) {
	ctx := limit(t)
	alone := dial(t, cairntest.Start(t)).Database("db").Collection("c", options.Collection().SetReadConcern(readconcern.Snapshot()))
	_, err := alone.Find(ctx, bson.D{})
	wantCode(t, err, 123)
	c := connect(t).Database("db").Collection("c", options.Collection().SetReadConcern(readconcern.Linearizable()))
	insertN(ctx, t, c, 3, 0)
	for _, stage := range []bson.D{d("$out", "x"), d("$merge", "x")} {
		_, err = c.Aggregate(ctx, bson.A{stage})
		wantCode(t, err, 72)
	}
	cur, err := c.Aggregate(ctx, bson.A{d("$match", bson.D{})})
	check(t, err)
	check(t, cur.Close(ctx))
}

// Sessions that were used are listed on any database.
func TestListSessions(t *testing.T) {
	ctx := limit(t)
	client := connect(t)
	s, err := client.StartSession()
	check(t, err)
	defer s.EndSession(ctx)
	check(t, client.Ping(mongo.NewSessionContext(ctx, s), nil))
	for _, tc := range []struct {
		of    interface{ Name() string }
		stage bson.D
	}{{client.Database("any"), d("$listLocalSessions", bson.D{})}, {client.Database("config").Collection("system.sessions"), d("$listSessions", d("allUsers", true))}} {
		var cur *mongo.Cursor
		if db, ok := tc.of.(*mongo.Database); ok {
			cur, err = db.Aggregate(ctx, bson.A{tc.stage})
		} else {
			cur, err = tc.of.(*mongo.Collection).Aggregate(ctx, bson.A{tc.stage})
		}
		check(t, err)
		found := false
		for cur.Next(ctx) {
			found = found || cur.Current.Lookup("_id", "id").Equal(s.ID().Lookup("id"))
			if cur.Current.Lookup("lastUse").Type != bson.TypeDateTime {
				t.Errorf("lastUse of %s", cur.Current)
			}
		}
		check(t, cur.Err())
		if !found {
			t.Errorf("%v does not list the session", tc.stage)
		}
	}
	_, err = client.Database("any").Collection("c").Aggregate(ctx, bson.A{d("$listLocalSessions", bson.D{})})
	wantCode(t, err, 73)
}

// A time that nobody read at can be read if nothing was written to the collection since, or
// since a state that is kept; else it is too old.
func TestSnapshotAtUnreadTime(t *testing.T) {
	ctx := limit(t)
	client := connect(t)
	db := client.Database("db")
	insertN(ctx, t, db.Collection("a"), 3, 0)
	insertN(ctx, t, db.Collection("b"), 3, 0)
	insert := func(coll string, id int) bson.Timestamp {
		t.Helper()
		var r struct {
			OperationTime bson.Timestamp `bson:"operationTime"`
		}
		check(t, db.RunCommand(ctx, d("insert", coll, "documents", bson.A{d("_id", id)})).Decode(&r))
		return r.OperationTime
	}
	read := func(coll string, at any) (n int, told bson.Timestamp, err error) {
		var r struct {
			Cursor struct {
				At    bson.Timestamp `bson:"atClusterTime"`
				Batch []bson.Raw     `bson:"firstBatch"`
			}
		}
		err = db.RunCommand(ctx, d("find", coll, "readConcern", d("level", "snapshot", "atClusterTime", at))).Decode(&r)
		return len(r.Cursor.Batch), r.Cursor.At, err
	}
	at := insert("a", 10)
	insert("b", 10)
	if n, told, err := read("a", at); n != 4 || told != at || err != nil {
		t.Error(n, told, err)
	}
	_, _, err := read("b", at)
	wantCode(t, err, 239)
	if err == nil || !strings.Contains(err.Error(), "is older than the oldest available timestamp.") {
		t.Error(err)
	}
	insert("a", 11)
	if n, _, err := read("a", at); n != 4 || err != nil { // the state of the first read is kept
		t.Error(n, err)
	}
	_, _, err = read("a", bson.Timestamp{T: at.T + 1000})
	wantCode(t, err, 72)
	_, _, err = read("a", 1)
	wantCode(t, err, 14)
	alone := dial(t, cairntest.Start(t)).Database("db")
	wantCode(t, alone.RunCommand(ctx, d("find", "a", "readConcern", d("level", "snapshot", "atClusterTime", at))).Err(), 123)
}
