package pitr

import (
	"testing"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/internal/backup/pitr/chain"
)

// The seed's session: full, many more, incremental, one more, incremental, drop, restore.
func TestSeedStory(t *testing.T) {
	ctx, e := t.Context(), newEnv(t)
	coll := e.Client.Database("mydb").Collection("mycol")
	must(coll.InsertMany(ctx, docs(2000, 0)))(t)
	must(coll.InsertOne(ctx, dbson.D{{Key: "_id", Value: 2000}, {Key: "name", Value: "itwye"}, {Key: "gender", Value: "male"}, {Key: "age", Value: 18}}))(t)
	must(coll.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: dbson.D{{Key: "age", Value: 1}}}))(t)
	must(e.Full(ctx, FullOptions{}))(t)
	must(coll.InsertMany(ctx, docs(20000, 2001)))(t)
	must(e.Incr(ctx, IncrOptions{}))(t)
	must(coll.InsertOne(ctx, dbson.D{{Key: "_id", Value: 22001}, {Key: "name", Value: "lisi"}, {Key: "gender", Value: "male"}, {Key: "age", Value: 21}}))(t)
	must(e.Incr(ctx, IncrOptions{}))(t)
	if err := e.Client.Database("mydb").Drop(ctx); err != nil {
		t.Fatal(err)
	}
	o := RestoreOptions{To: chain.Moment{Latest: true}, Verify: true, Resumable: true}
	p := must(e.PlanRestore(ctx, o))(t)
	if len(p.Overwritten) != 0 || p.Documents != 2001 || p.OplogEntries < 20001 {
		t.Errorf("%+v", p)
	}
	out := must(e.Restore(ctx, p, o))(t)
	t.Logf("%+v %+v", out, out.Verified)
	if n := must(coll.CountDocuments(ctx, dbson.D{}))(t); n != 22002 {
		t.Errorf("%d documents", n)
	}
	var last struct {
		Name, Gender string
		Age          int
	}
	if err := coll.FindOne(ctx, dbson.D{}, options.FindOne().SetSort(dbson.D{{Key: "_id", Value: -1}})).Decode(&last); err != nil || last.Name != "lisi" || last.Age != 21 {
		t.Errorf("%+v, %v", last, err)
	}
	if specs := must(coll.Indexes().ListSpecifications(ctx))(t); len(specs) != 2 {
		t.Errorf("%v", specs)
	}
}
