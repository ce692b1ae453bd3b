// Command seed-story plays an old story again: a collection is backed up in full, grows, is backed
// up incrementally twice, its database is dropped by accident, and comes back whole.
//
//	make build
//	go run ./examples/seed-story                                        # against a server of its own
//	go run ./examples/seed-story -uri mongodb://localhost:27017/?replicaSet=rs0   # against any MongoDB
//
// In the story, told with mongodump, mongorestore and two scripts, 200,058 oplog entries were
// replayed in 132 s: 1,515 a second. The program prints its own figure beside that.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn"
)

// then is how many entries a second the story's own restore replayed.
const then = 1515

var (
	binary = flag.String("cairn", "bin/cairn", "the cairn binary")
	uri    = flag.String("uri", "", "connection string; a server is started if there is none")
	first  = flag.Int("first", 20_000, "documents before the full backup")
	second = flag.Int("second", 200_000, "documents between the full and the incremental backup")
)

func main() {
	flag.Parse()
	if err := story(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "seed-story:", err)
		os.Exit(1)
	}
}

func story(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "seed-story-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if *uri == "" {
		db, err := cairn.Open(cairn.Options{Dir: dir + "/data", ReplSet: "rs0", OplogBytes: 1 << 30})
		if err != nil {
			return err
		}
		defer func() { _ = db.Close() }()
		*uri = db.URI()
	}
	os.Setenv("CAIRN_URI", *uri)
	os.Setenv("CAIRN_REPO", "file://"+dir+"/repo")
	client, err := mongo.Connect(options.Client().ApplyURI(*uri))
	if err != nil {
		return err
	}
	defer func() { _ = client.Disconnect(ctx) }()
	db := client.Database("mydb")
	coll := db.Collection("mycol")
	if err := db.Drop(ctx); err != nil {
		return err
	}
	steps := []struct {
		what string
		do   func() error
	}{
		{"init", func() error { return backup("init") }},
		{fmt.Sprintf("write %d documents and one more", *first), func() error {
			return errors.Join(batch(ctx, coll, *first), one(ctx, coll, "itwye", 18))
		}},
		{"full backup", func() error { return backup("full") }},
		{fmt.Sprintf("write %d documents", *second), func() error { return batch(ctx, coll, *second) }},
		{"incremental backup", func() error { return backup("incr") }},
		{"write one document", func() error { return one(ctx, coll, "lisi", 21) }},
		{"incremental backup", func() error { return backup("incr") }},
		{"count", func() error { return check(ctx, coll) }},
		{"drop the database", func() error { return db.Drop(ctx) }},
		{"restore", restore},
		{"count again", func() error { return check(ctx, coll) }},
	}
	for i, s := range steps {
		began := time.Now()
		fmt.Printf("(%d) %s\n", i, s.what)
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
		fmt.Printf("    %.2f s\n", time.Since(began).Seconds())
	}
	return nil
}

// backup runs cairn backup.
func backup(args ...string) error {
	c := exec.Command(*binary, append([]string{"backup"}, args...)...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c.Run()
}

// restore restores the newest moment and says how fast the oplog went.
func restore() error {
	c := exec.Command(*binary, "backup", "restore", "--to", "latest", "--yes", "--verify", "--json")
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	var r struct {
		Documents     int64   `json:"documents"`
		Entries       int64   `json:"oplogEntries"`
		ReplaySeconds float64 `json:"replaySeconds"`
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return err
	}
	rate := float64(r.Entries) / r.ReplaySeconds
	fmt.Printf("%d documents, then %d oplog entries in %.2f s: %.0f a second, %.0f times the %d of the story\n", r.Documents, r.Entries, r.ReplaySeconds, rate, rate/then, then)
	return nil
}

// batch writes documents as the story's script does.
func batch(ctx context.Context, coll *mongo.Collection, n int) error {
	for n > 0 {
		docs := make([]any, min(n, 10_000))
		for i := range docs {
			docs[i] = bson.D{{Key: "name", Value: fmt.Sprint("name", i)}, {Key: "gender", Value: "male"}, {Key: "age", Value: i % 100}}
		}
		if _, err := coll.InsertMany(ctx, docs); err != nil {
			return err
		}
		n -= len(docs)
	}
	return nil
}

func one(ctx context.Context, coll *mongo.Collection, name string, age int) error {
	_, err := coll.InsertOne(ctx, bson.D{{Key: "name", Value: name}, {Key: "gender", Value: "male"}, {Key: "age", Value: age}})
	return err
}

// check counts the documents and looks at the last one.
func check(ctx context.Context, coll *mongo.Collection) error {
	n, err := coll.CountDocuments(ctx, bson.D{})
	if err != nil {
		return err
	}
	var last struct {
		Name, Gender string
		Age          int
	}
	if err := coll.FindOne(ctx, bson.D{}, options.FindOne().SetSort(bson.D{{Key: "_id", Value: -1}})).Decode(&last); err != nil {
		return err
	}
	fmt.Printf("%d documents, the last %+v\n", n, last)
	if want := int64(*first + *second + 2); n != want || last.Name != "lisi" || last.Gender != "male" || last.Age != 21 {
		return fmt.Errorf("it should be %d, the last {lisi male 21}", want)
	}
	return nil
}
