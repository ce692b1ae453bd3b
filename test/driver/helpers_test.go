package driver

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn"
	"github.com/cairndb/cairn/cairntest"
)

// d builds a document from alternating keys and values.
func d(kv ...any) bson.D {
	out := bson.D{}
	for i := 0; i < len(kv); i += 2 {
		out = append(out, bson.E{Key: kv[i].(string), Value: kv[i+1]})
	}
	return out
}

func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func dial(t *testing.T, uri string) *mongo.Client {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(uri).SetServerSelectionTimeout(10 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond) // its server may be gone
		defer cancel()
		_ = c.Disconnect(ctx)
	})
	return c
}

// connect starts a replica set of one member and connects.
func connect(t *testing.T, opts ...cairntest.Option) *mongo.Client {
	t.Helper()
	return dial(t, cairntest.Start(t, append([]cairntest.Option{cairntest.ReplSet("rs0")}, opts...)...))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// insertN inserts n documents {_id: i, n: 0, pad}.
func insertN(ctx context.Context, t *testing.T, c *mongo.Collection, n, pad int) {
	t.Helper()
	docs := make([]any, 0, n)
	for i := range n {
		docs = append(docs, d("_id", i, "n", 0, "pad", strings.Repeat("p", pad)))
	}
	_, err := c.InsertMany(ctx, docs)
	check(t, err)
}

func wantCode(t *testing.T, err error, codes ...int) {
	t.Helper()
	var se mongo.ServerError
	if !errors.As(err, &se) {
		t.Errorf("error %v, want one of the codes %v", err, codes)
		return
	}
	for _, c := range codes {
		if se.HasErrorCode(c) {
			return
		}
	}
	t.Errorf("error %v, want one of the codes %v", err, codes)
}

func valid(ctx context.Context, t *testing.T, c *mongo.Collection) {
	t.Helper()
	var r struct {
		Valid  bool  `bson:"valid"`
		Errors []any `bson:"errors"`
	}
	check(t, c.Database().RunCommand(ctx, d("validate", c.Name(), "full", true)).Decode(&r))
	if !r.Valid {
		t.Errorf("validate %s: %v", c.Name(), r.Errors)
	}
}

// entries returns the log's entries of a namespace that match the filter.
func entries(ctx context.Context, t *testing.T, client *mongo.Client, filter bson.D) (list []bson.Raw) {
	t.Helper()
	cur, err := client.Database("local").Collection("oplog.rs").Find(ctx, filter)
	check(t, err)
	check(t, cur.All(ctx, &list))
	return list
}

func open(t *testing.T, o cairn.Options) *cairn.DB {
	t.Helper()
	db, err := cairn.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}
