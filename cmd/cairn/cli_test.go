package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
)

// TestMain lets the scripts call this program under each of its names.
func TestMain(m *testing.M) {
	commands := map[string]func(){}
	for _, name := range []string{"cairn", "mongodump", "mongorestore", "bsondump"} {
		commands[name] = func() { os.Exit(run(os.Args)) }
	}
	testscript.Main(m, commands)
}

// TestScripts runs the scripts of testdata: flags, errors, exit codes, what goes to
// standard output and what does not. $URI is a server with a little data.
func TestScripts(t *testing.T) {
	uri := cairntest.Start(t, cairntest.ReplSet("rs"))
	uri, _, _ = strings.Cut(uri, "?")
	loadShop(t, uri)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("URI", uri)
			return nil
		},
	})
}

// loadShop puts the data of the scripts on the server.
func loadShop(t *testing.T, uri string) {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(uri).SetDirect(true))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Disconnect(context.Background())
	db := c.Database("shop")
	for n, name := range []string{"orders", "items", "odd/name"} {
		for id := range 3 + n {
			if _, err := db.Collection(name).InsertOne(context.Background(), bson.D{{Key: "_id", Value: id}, {Key: "x", Value: fmt.Sprint("v", id)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.CreateView(context.Background(), "view", "orders", mongo.Pipeline{}); err != nil {
		t.Fatal(err)
	}
}
