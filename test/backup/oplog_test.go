package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn"
	"github.com/cairndb/cairn/cairntest"
)

// during runs act once, while the dump writes its first collection.
func during(t *testing.T, act func() error) func(string) {
	done := false
	return func(line string) {
		if !done && strings.Contains(line, "writing `d.") {
			done = true
			if err := act(); err != nil {
				t.Error(err)
			}
		}
	}
}

func rename(c *mongo.Client, from, to string) error {
	return c.Database("admin").RunCommand(context.Background(), bson.D{{Key: "renameCollection", Value: from}, {Key: "to", Value: to}, {Key: "dropTarget", Value: true}}).Err()
}

// DDL in the middle of a dump is handled; the original's way refuses what the original refuses.
func TestDDLDuringDump(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		act    func(c *mongo.Client) error
		strict string // what --strict-oplog says; "": it succeeds
		plain  bool   // mongorestore can replay it
	}{
		"rename": {act: func(c *mongo.Client) error { return rename(c, "d.z", "d.y") }, strict: "cannot dump with oplog while renames occur"},
		"swap": {act: func(c *mongo.Client) error {
			for _, p := range [][2]string{{"d.z", "d.tmp"}, {"d.a", "d.z"}, {"d.tmp", "d.a"}} {
				if err := rename(c, p[0], p[1]); err != nil {
					return err
				}
			}
			return nil
		}, strict: "cannot dump with oplog while renames occur"},
		"drop": {act: func(c *mongo.Client) error { return c.Database("d").Collection("z").Drop(context.Background()) }, plain: true},
		"recreate": {act: func(c *mongo.Client) error {
			z := c.Database("d").Collection("z")
			if err := z.Drop(context.Background()); err != nil {
				return err
			}
			_, err := z.InsertOne(context.Background(), bson.D{{Key: "_id", Value: "new"}})
			return err
		}, plain: true},
		"out": {act: func(c *mongo.Client) error {
			_, err := c.Database("d").Collection("a").Aggregate(context.Background(), mongo.Pipeline{bson.D{{Key: "$out", Value: "z"}}})
			return err
		}, strict: "cannot dump with oplog while renames occur"},
		"drop database": {act: func(c *mongo.Client) error { return c.Database("d").Drop(context.Background()) }, plain: true},
		"index": {act: func(c *mongo.Client) error {
			_, err := c.Database("d").Collection("z").Indexes().CreateOne(context.Background(), mongo.IndexModel{Keys: bson.D{{Key: "pad", Value: 1}}})
			return err
		}, plain: true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, form := range [][]string{{"-o"}, {"--archive"}, {"--strict-oplog", "-o"}} {
				uri := cairntest.Start(t, cairntest.ReplSet("rs"))
				cl := connect(t, uri)
				fill(t, cl, "d", "a", 30)
				fill(t, cl, "d", "z", 20)
				path := filepath.Join(t.TempDir(), "dump")
				args := append([]string{"--oplog", "-j", "1", "--manifest"}, form[:len(form)-1]...)
				args = append(args, form[len(form)-1]+"="+path)
				res, log, err := dumpWatched(uri, args, during(t, func() error { return c.act(cl) }))
				if form[0] == "--strict-oplog" {
					if got := fmt.Sprint(err); c.strict != "" && !strings.Contains(got, c.strict) || c.strict == "" && err != nil && name != "drop" {
						t.Errorf("strict: %v", err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%q: %v\n%s", args, err, log)
				}
				if plain := len(res.NotReplayable) == 0; plain != c.plain {
					t.Errorf("%q: not replayable: %q", args, res.NotReplayable)
				}
				if strings.Contains(log, "mongorestore could not replay") == c.plain {
					t.Errorf("%q says wrongly what mongorestore can:\n%s", args, log)
				}
				target := cairntest.Start(t, cairntest.ReplSet("rs"))
				from := "--dir"
				if form[0] == "--archive" {
					from = "--archive"
				}
				mustRestore(t, target, "--oplogReplay", from+"="+path)
				compare(t, fmt.Sprint(name, form), state(t, cl, "d"), state(t, connect(t, target), "d"))
			}
		})
	}
}

// A dump may take longer than the oplog's window; the original's way overflows.
func TestLongerThanTheWindow(t *testing.T) {
	t.Parallel()
	db, err := cairn.Open(cairn.Options{InMemory: true, ReplSet: "rs", OplogBytes: 1 << 20, CacheBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c := connect(t, db.URI())
	oplog := c.Database("local").Collection("oplog.rs")
	edge := func(n int) bson.Timestamp {
		raw, err := oplog.FindOne(context.Background(), bson.D{}, options.FindOne().SetSort(bson.D{{Key: "$natural", Value: n}})).Raw()
		if err != nil {
			t.Fatal(err)
		}
		sec, inc := raw.Lookup("ts").Timestamp()
		return bson.Timestamp{T: sec, I: inc}
	}
	// overflow writes until the entry that is newest now is gone.
	round := 0
	overflow := func() error {
		start := edge(-1)
		for range 1500 {
			round++
			var docs []any
			for n := range 200 {
				docs = append(docs, bson.D{{Key: "_id", Value: round*1000 + n}, {Key: "pad", Value: strings.Repeat("x", 2000)}})
			}
			if _, err := c.Database("d").Collection("w").InsertMany(context.Background(), docs); err != nil {
				return err
			}
			if edge(1).After(start) {
				return nil
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-t.Context().Done():
			}
		}
		return errors.New("the server did not truncate its oplog")
	}
	fill(t, c, "d", "a", 100)
	dir := t.TempDir()
	// One dump within the other: the oplog is truncated every ten seconds only.
	_, _, err = dumpWatched(db.URI(), []string{"--oplog", "--strict-oplog", "-j", "1", "-o", filepath.Join(dir, "strict")}, during(t, func() error {
		_, log, err := dumpWatched(db.URI(), []string{"--oplog", "-j", "1", "-o", filepath.Join(dir, "ours")}, during(t, overflow))
		if err != nil {
			return fmt.Errorf("%w\n%s", err, log)
		}
		return nil
	}))
	if err == nil || !strings.Contains(err.Error(), "oplog overflow: mongodump was unable to capture all new oplog entries during execution") {
		t.Errorf("strict: %v", err)
	}
	target := cairntest.Start(t, cairntest.ReplSet("rs"))
	mustRestore(t, target, "--oplogReplay", "--dir", filepath.Join(dir, "ours"))
	compare(t, "longer than the window", state(t, c, "d"), state(t, connect(t, target), "d"))
}

// --db and --collection with --oplog keep what belongs to them.
func TestPartWithOplog(t *testing.T) {
	t.Parallel()
	uri := cairntest.Start(t, cairntest.ReplSet("rs"))
	c := connect(t, uri)
	fill(t, c, "d", "a", 20)
	fill(t, c, "d", "b", 20)
	fill(t, c, "other", "o", 20)
	act := func() error {
		for _, coll := range []string{"a", "b"} {
			if _, err := c.Database("d").Collection(coll).InsertOne(context.Background(), bson.D{{Key: "_id", Value: "later"}}); err != nil {
				return err
			}
		}
		_, err := c.Database("other").Collection("o").InsertOne(context.Background(), bson.D{{Key: "_id", Value: "not ours"}})
		return err
	}
	dir := filepath.Join(t.TempDir(), "dump")
	_, log, err := dumpWatched(uri, []string{"--oplog", "--manifest", "-d", "d", "-j", "1", "-o", dir}, during(t, act))
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	var m struct {
		Notes []string `json:"notes"`
		Oplog struct {
			Entries int  `json:"entries"`
			Replays bool `json:"replayableByMongorestore"`
		} `json:"oplog"`
		Files []struct {
			Path, SHA256 string
			Size         int64
		} `json:"files"`
	}
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil || len(m.Notes) != 0 || !m.Oplog.Replays || m.Oplog.Entries != 2 || len(m.Files) < 5 || len(m.Files[0].SHA256) != 64 {
		t.Errorf("manifest: %v\n%s", err, text)
	}
	target := cairntest.Start(t, cairntest.ReplSet("rs"))
	mustRestore(t, target, "--oplogReplay", "--dir", dir)
	got := connect(t, target)
	compare(t, "d", state(t, c, "d"), state(t, got, "d"))
	if s := state(t, got, "other"); len(s) != 0 {
		t.Errorf("the other database came along: %v", s)
	}

	dir = filepath.Join(t.TempDir(), "one")
	if _, err := c.Database("d").Collection("a").DeleteOne(context.Background(), bson.D{{Key: "_id", Value: "later"}}); err != nil {
		t.Fatal(err)
	}
	_, log, err = dumpWatched(uri, []string{"--oplog", "-d", "d", "-c", "a", "-o", dir}, during(t, func() error {
		fill(t, c, "d", "unrelated", 5)
		_, err := c.Database("d").Collection("a").DeleteOne(context.Background(), bson.D{{Key: "_id", Value: 3}})
		return err
	}))
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	target = cairntest.Start(t, cairntest.ReplSet("rs"))
	mustRestore(t, target, "--oplogReplay", "--dir", dir)
	want := map[string]string{"d.a": state(t, c, "d")["d.a"]}
	compare(t, "d.a", want, state(t, connect(t, target), "d"))
}
