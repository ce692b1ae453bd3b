package driver

import (
	"fmt"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestProfiledOperations: what system.profile holds after a few commands, each statement of an
// update or delete by itself, the command that switched the profiler on not at all.
func TestProfiledOperations(t *testing.T) {
	ctx := limit(t)
	db := connect(t).Database("t")
	c := db.Collection("c")
	insertN(ctx, t, c, 3, 1)
	check(t, db.RunCommand(ctx, d("profile", 2)).Err())
	check(t, c.FindOne(ctx, d("_id", 1)).Err())
	wantCode(t, db.RunCommand(ctx, d("update", "c", "updates", bson.A{
		d("q", d("_id", 1), "u", d("$inc", d("n", 1)), "hint", "_id_"),
		d("q", d(), "u", d("$inc", d("n", 1)), "multi", true),
		d("q", d("_id", 1), "u", d("$inc", d("pad", 1))),
	}, "comment", "why")).Err(), 14)
	check(t, db.RunCommand(ctx, d("delete", "c", "deletes", bson.A{d("q", d("_id", 1), "limit", 1), d("q", d(), "limit", 0)})).Err())
	n, err := db.Collection("system.profile").CountDocuments(ctx, d())
	check(t, err)
	if n != 6 {
		t.Errorf("%d entries before the count, which comes next", n)
	}
	var entries []struct {
		Op, NS  string
		Command bson.Raw
		N       int `bson:"nMatched"`
		Mod     int `bson:"nModified"`
		Del     int `bson:"ndeleted"`
		Code    int `bson:"errCode"`
	}
	cur, err := db.Collection("system.profile").Find(ctx, d())
	check(t, err)
	check(t, cur.All(ctx, &entries))
	var got []string
	for _, e := range entries {
		shown := e.Op + " " + e.NS
		if e.Op == "update" || e.Op == "remove" {
			shown = fmt.Sprint(e.Op, " ", e.NS, " ", e.Command, " ", e.N, e.Mod, e.Del, e.Code)
		}
		got = append(got, shown)
	}
	want := []string{
		"query t.c",
		`update t.c {"q": {"_id": {"$numberInt":"1"}},"u": {"$inc": {"n": {"$numberInt":"1"}}},"hint": {"$hint": "_id_"},"multi": false,"upsert": false,"comment": "why"} 1 1 0 0`,
		`update t.c {"q": {},"u": {"$inc": {"n": {"$numberInt":"1"}}},"multi": true,"upsert": false,"comment": "why"} 3 3 0 0`,
		`update t.c {"q": {"_id": {"$numberInt":"1"}},"u": {"$inc": {"pad": {"$numberInt":"1"}}},"multi": false,"upsert": false,"comment": "why"} 0 0 0 14`,
		`remove t.c {"q": {"_id": {"$numberInt":"1"}},"limit": {"$numberInt":"1"}} 0 0 1 0`,
		`remove t.c {"q": {},"limit": {"$numberInt":"0"}} 0 0 2 0`,
		"command t.system.profile",
	}
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
