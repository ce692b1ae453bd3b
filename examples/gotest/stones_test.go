// Package gotest shows a Go test with a database of its own.
package gotest

import (
	"context"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
)

func TestCountStones(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	client, err := mongo.Connect(options.Client().ApplyURI(cairntest.Start(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(ctx)
	stones := client.Database("hills").Collection("stones")
	if _, err := stones.InsertMany(ctx, []any{bson.D{{Key: "x", Value: 1}}, bson.D{{Key: "x", Value: 2}}}); err != nil {
		t.Fatal(err)
	}
	n, err := stones.CountDocuments(ctx, bson.D{{Key: "x", Value: bson.D{{Key: "$gt", Value: 1}}}})
	if err != nil {
		t.Fatal(err)
	}
	if n != 1 {
		t.Fatalf("%d stones, want 1", n)
	}
}
