// Command embed runs a Cairn server inside its own process and talks to it with the
// official driver.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn"
)

func main() {
	dir, err := os.MkdirTemp("", "cairn-embed-*")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := run(context.Background(), dir); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir string) (err error) {
	db, err := cairn.Open(cairn.Options{Dir: dir, ReplSet: "rs0"})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := db.Close(); err == nil {
			err = cerr
		}
	}()
	client, err := mongo.Connect(options.Client().ApplyURI(db.URI()))
	if err != nil {
		return err
	}
	defer client.Disconnect(ctx)
	stones := client.Database("hills").Collection("stones")
	if _, err := stones.InsertOne(ctx, bson.D{{Key: "_id", Value: 1}, {Key: "shape", Value: "flat"}}); err != nil {
		return err
	}
	var found bson.D
	if err := stones.FindOne(ctx, bson.D{{Key: "shape", Value: "flat"}}).Decode(&found); err != nil {
		return err
	}
	fmt.Println("connected to", db.URI(), "and found", found)
	return nil
}
