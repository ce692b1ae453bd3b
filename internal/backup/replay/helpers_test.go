package replay

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/source"
	"github.com/cairndb/cairn/internal/bson"
)

func connect(t testing.TB, uri string) *mongo.Client {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(uri).SetServerMonitoringMode(options.ServerMonitoringModePoll))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect(context.Background()) }) // the server may be gone before
	return c
}

func server(t testing.TB, opts ...cairntest.Option) *mongo.Client {
	t.Helper()
	return connect(t, cairntest.Start(t, opts...))
}

func run(t testing.TB, c *mongo.Client, db string, cmd any) bson.Raw {
	t.Helper()
	if d, ok := cmd.(bson.Raw); ok {
		cmd = dbson.Raw(d)
	}
	res, err := c.Database(db).RunCommand(t.Context(), cmd).Raw()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return bson.Raw(res)
}

// file reads documents, gunzipped if the name says so.
func file(t testing.TB, name string) []bson.Raw {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	all, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return documents(t, all)
}

func documents(t testing.TB, all []byte) (docs []bson.Raw) {
	t.Helper()
	for len(all) > 0 {
		n := int(all[0]) | int(all[1])<<8 | int(all[2])<<16 | int(all[3])<<24
		docs = append(docs, bson.Raw(all[:n]))
		all = all[n:]
	}
	return docs
}

// oplog reads the whole oplog of a server.
func oplogOf(t testing.TB, c *mongo.Client) (entries []bson.Raw) {
	t.Helper()
	s, err := source.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	oldest, err := s.Oldest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	newest, err := s.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = s.Read(t.Context(), oldest.TS, newest.TS, func(raw bson.Raw) error {
		entries = append(entries, raw.Clone())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func replayAll(t testing.TB, o Options, entries []bson.Raw) Stats {
	t.Helper()
	st, err := tryReplay(t, o, entries)
	if err != nil {
		t.Fatalf("%v (%+v)", err, st)
	}
	return st
}

func tryReplay(t testing.TB, o Options, entries []bson.Raw) (Stats, error) {
	t.Helper()
	r, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range entries {
		if err := r.Add(raw); err != nil {
			break
		}
	}
	return r.Close()
}

// tryReplayIn is tryReplay for other goroutines than the test's.
func tryReplayIn(o Options, entries []bson.Raw) (Stats, error) {
	r, err := New(context.Background(), o)
	if err != nil {
		return Stats{}, err
	}
	for _, raw := range entries {
		if err := r.Add(raw); err != nil {
			break
		}
	}
	return r.Close()
}

// state is what a server has, database by database: options, indexes and hashes.
func state(t testing.TB, c *mongo.Client, dbs ...string) string {
	t.Helper()
	var b strings.Builder
	for _, db := range dbs {
		hashes := run(t, c, db, bson.D("dbHash", 1)).Get("collections").Doc()
		cur, err := c.Database(db).ListCollections(t.Context(), dbson.D{})
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for cur.Next(t.Context()) {
			d := bson.Raw(cur.Current)
			name := d.Get("name").Str()
			line := fmt.Sprintf("%s.%s %s %s %s", db, name, d.Get("type").Str(), d.Get("options"), hashes.Get(name))
			if d.Get("type").Str() == "collection" {
				line += fmt.Sprintf(" n=%d %s", count(t, c, db, name), strings.Join(indexes(t, c, db, name), " "))
			}
			lines = append(lines, line)
		}
		sort.Strings(lines)
		b.WriteString(strings.Join(lines, "\n") + "\n")
	}
	return b.String()
}

func count(t testing.TB, c *mongo.Client, db, coll string) int64 {
	t.Helper()
	n, err := c.Database(db).Collection(coll).CountDocuments(t.Context(), dbson.D{})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func indexes(t testing.TB, c *mongo.Client, db, coll string) (all []string) {
	t.Helper()
	for v := range run(t, c, db, bson.D("listIndexes", coll)).Path("cursor.firstBatch").Doc().Values() {
		all = append(all, v.String())
	}
	sort.Strings(all)
	return all
}

// optime is the place of an entry.
func optime(t testing.TB, raw bson.Raw) entry.OpTime {
	t.Helper()
	e, err := entry.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return e.OpTime
}

// differ shows the lines in which two states differ.
func differ(got, want string) string {
	var out []string
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for _, l := range g {
		if !slices.Contains(w, l) {
			out = append(out, "got  "+l)
		}
	}
	for _, l := range w {
		if !slices.Contains(g, l) {
			out = append(out, "want "+l)
		}
	}
	return strings.Join(out, "\n")
}
