package restore

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// goldenState is one collection as the dumped server showed it.
type goldenState struct {
	NS      string     `bson:"ns"`
	Type    string     `bson:"type"`
	Options bson.D     `bson:"options"`
	Indexes []bson.D   `bson:"indexes"`
	Docs    []bson.Raw `bson:"docs"`
}

func readStates(t testing.TB, path string) []goldenState {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []goldenState
	for _, line := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		var s goldenState
		if err := bson.UnmarshalExtJSON(line, true, &s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

// showState reads a collection back as goldenState has it.
func showState(t testing.TB, c *mongo.Client, ns string) goldenState {
	t.Helper()
	ctx := context.Background()
	db, coll := tool.SplitNamespace(ns)
	specs, err := c.Database(db).ListCollectionSpecifications(ctx, bson.D{{Key: "name", Value: coll}})
	if err != nil || len(specs) != 1 {
		t.Fatalf("%s: %v, %v", ns, specs, err)
	}
	s := goldenState{NS: ns, Type: specs[0].Type}
	if err := bson.Unmarshal(specs[0].Options, &s.Options); err != nil {
		t.Fatal(err)
	}
	if s.Type != "view" {
		cur, err := c.Database(db).Collection(coll).Indexes().List(ctx)
		if err == nil {
			err = cur.All(ctx, &s.Indexes)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cur, err := c.Database(db).Collection(coll).Find(ctx, bson.D{})
	if err == nil {
		err = cur.All(ctx, &s.Docs)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// canonical makes what may differ equal: index `ns`, `v` and order, and the order of documents of
// collections that have none.
func canonical(s goldenState, docs bool) string {
	var b strings.Builder
	b.WriteString(s.NS + " " + s.Type + "\n" + optionsText(s.Options) + "\n")
	var lines []string
	for _, i := range s.Indexes {
		lines = append(lines, optionsText(without(i, "ns", "v")))
	}
	sort.Strings(lines)
	b.WriteString(strings.Join(lines, "\n") + "\n")
	if docs {
		lines = nil
		for _, d := range s.Docs {
			j, err := bson.MarshalExtJSON(d, true, false)
			if err != nil {
				j = []byte(err.Error())
			}
			lines = append(lines, string(j))
		}
		if lookup(s.Options, "capped") != true {
			sort.Strings(lines)
		}
		b.WriteString(strings.Join(lines, "\n"))
	}
	return b.String()
}

// optionsText sorts fields and writes integral numbers as ints, as state.jsonl does.
func optionsText(d bson.D) string {
	d = slices.Clone(d)
	// A collation is listed with the version of the library that the server has.
	if c, ok := lookup(d, "collation").(bson.D); ok {
		d = with(d, "collation", without(c, "version"))
	}
	slices.SortFunc(d, func(a, b bson.E) int { return strings.Compare(a.Key, b.Key) })
	return jsonText(d)
}

// compareStates checks that a server shows what the dumped one did. Only databases and
// namespaces that pick says are looked at.
func compareStates(t *testing.T, c *mongo.Client, want []goldenState, pick func(ns string) bool, indexes bool) {
	t.Helper()
	for _, w := range want {
		if !pick(w.NS) {
			continue
		}
		got := showState(t, c, w.NS)
		if !indexes {
			got.Indexes, w.Indexes = nil, nil
		}
		if g, w := canonical(got, true), canonical(w, true); g != w {
			t.Errorf("got\n%s\nwant\n%s", g, w)
		}
	}
}

// Every form of a dump that the original tools wrote of a real server restores to what
// that server showed.
func TestGolden(t *testing.T) {
	dir := goldenDir(t)
	want := readStates(t, filepath.Join(dir, "state.jsonl"))
	every := func(string) bool { return true }
	users := func(t *testing.T, c *mongo.Client, want bool) {
		t.Helper()
		var info struct{ Users []bson.D }
		err := c.Database("golden").RunCommand(context.Background(), bson.D{{Key: "usersInfo", Value: bson.D{{Key: "forAllDBs", Value: true}}}}).Decode(&info)
		if err != nil || (len(info.Users) > 0) != want {
			t.Errorf("%d users, %v", len(info.Users), err)
		}
		names, err := c.Database("admin").ListCollectionNames(context.Background(), bson.D{})
		if err != nil || slices.Contains(names, "tempusers") || slices.Contains(names, "temproles") {
			t.Errorf("collections of admin: %v, %v", names, err)
		}
	}
	gz, err := os.ReadFile(filepath.Join(dir, "dump.archive.gz"))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name     string
		original bool
		stdin    io.Reader
		args     []string
		dir      string
	}{
		{"directory", false, nil, nil, "dump-dir"},
		{"directory as mongorestore", true, nil, nil, "dump-dir"},
		{"gzip", true, nil, []string{"--gzip"}, "dump-gzip"},
		{"gzip, told by itself", false, nil, nil, "dump-gzip"},
		{"archive", false, nil, []string{"--archive=dump.archive"}, ""},
		{"archive as mongorestore", true, nil, []string{"--archive=dump.archive"}, ""},
		{"packed archive", true, nil, []string{"--gzip", "--archive=dump.archive.gz"}, ""},
		{"packed archive, told by itself", false, bytes.NewReader(gz), []string{"--archive"}, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			uri := cairntest.Start(t)
			c := connect(t, uri)
			args := slices.Clone(x.args)
			for i, a := range args {
				if name, ok := strings.CutPrefix(a, "--archive="); ok {
					args[i] = "--archive=" + filepath.Join(dir, name)
				}
			}
			if x.dir != "" {
				args = append(args, filepath.Join(dir, x.dir))
			}
			res, said, err := run{original: x.original, stdin: x.stdin}.do(t, uri, args...)
			must(t, res, said, err)
			if res.Failures != 0 || res.Successes != res.Read || res.Read < 90 {
				t.Errorf("%+v", res)
			}
			compareStates(t, c, want, every, true)
			users(t, c, true)
		})
	}
	t.Run("users of one database", func(t *testing.T) {
		uri := cairntest.Start(t)
		c := connect(t, uri)
		res, said, err := run{}.do(t, uri, "-d", "golden", filepath.Join(dir, "dump-db-users", "golden"))
		must(t, res, said, err)
		users(t, c, false)
		res, said, err = run{original: true}.do(t, uri, "--drop", "--restoreDbUsersAndRoles", "-d", "golden", filepath.Join(dir, "dump-db-users", "golden"))
		must(t, res, said, err)
		users(t, c, true)
		compareStates(t, c, want, func(ns string) bool { return strings.HasPrefix(ns, "golden.") && ns != "golden.system.js" }, true)
	})
	t.Run("view as collection", func(t *testing.T) {
		uri := cairntest.Start(t)
		c := connect(t, uri)
		res, said, err := run{}.do(t, uri, filepath.Join(dir, "dump-views"))
		must(t, res, said, err)
		got := showState(t, c, "golden.view")
		i := slices.IndexFunc(want, func(s goldenState) bool { return s.NS == "golden.view" })
		if got.Type != "collection" || len(got.Docs) != len(want[i].Docs) {
			t.Errorf("type %s, %d documents, want %d", got.Type, len(got.Docs), len(want[i].Docs))
		}
	})
}

// A dump with its oplog, taken while the server was written to, restores to the state at
// its end.
func TestGoldenOplog(t *testing.T) {
	dir := goldenDir(t)
	f, err := os.Open(filepath.Join(dir, "dump-oplog-busy.state.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var x struct {
			NS  string   `bson:"ns"`
			Doc bson.Raw `bson:"doc"`
		}
		if err := bson.UnmarshalExtJSON(lines.Bytes(), true, &x); err != nil {
			t.Fatal(err)
		}
		want[x.NS] = append(want[x.NS], jsonText(x.Doc))
	}
	if err := errors.Join(lines.Err(), f.Close()); err != nil {
		t.Fatal(err)
	}
	for _, original := range []bool{false, true} {
		uri := cairntest.Start(t)
		c := connect(t, uri)
		res, said, err := run{original: original}.do(t, uri, "--oplogReplay", filepath.Join(dir, "dump-oplog-busy"))
		must(t, res, said, err)
		for ns, w := range want {
			db, coll := tool.SplitNamespace(ns)
			cur, err := c.Database(db).Collection(coll).Find(context.Background(), bson.D{}, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for cur.Next(context.Background()) {
				got = append(got, jsonText(cur.Current))
			}
			sort.Strings(got)
			sort.Strings(w)
			if err := cur.Err(); err != nil || !slices.Equal(got, w) {
				t.Errorf("%s: %d documents, want %d, %v", ns, len(got), len(w), err)
			}
		}
	}
}
