package driver

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The server's own dropDatabase entry, applied again over what came later, changes nothing.
func TestApplyOwnDropDatabase(t *testing.T) {
	ctx := limit(t)
	client := connect(t)
	db := client.Database("db")
	insertN(ctx, t, db.Collection("c"), 3, 1)
	check(t, db.Drop(ctx))
	insertN(ctx, t, db.Collection("c"), 2, 1)
	all := entries(ctx, t, client, d("ns", "db.$cmd", "o.dropDatabase", 1))
	if len(all) != 1 {
		t.Fatal(all)
	}
	admin := client.Database("admin")
	check(t, admin.RunCommand(ctx, d("applyOps", bson.A{all[0]})).Err())
	if n, err := db.Collection("c").CountDocuments(ctx, d()); n != 2 || err != nil {
		t.Error(n, err)
	}
	var foreign bson.D
	check(t, bson.Unmarshal(all[0], &foreign))
	for i := range foreign {
		if foreign[i].Key == "ts" {
			foreign[i].Value = bson.Timestamp{T: 1, I: 1}
		}
	}
	check(t, admin.RunCommand(ctx, d("applyOps", bson.A{foreign})).Err())
	if n, err := db.Collection("c").CountDocuments(ctx, d()); n != 0 || err != nil {
		t.Error(n, err)
	}
}
