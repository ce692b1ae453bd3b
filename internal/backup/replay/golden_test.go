package replay

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"os"
	"sort"
	"strings"
	"testing"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

// faces runs a test against a Cairn, and against one that is treated as a MongoDB.
func faces(t *testing.T, fn func(t *testing.T, c *mongo.Client, plain bool)) {
	for name, plain := range map[string]bool{"as a Cairn": false, "as a MongoDB": true} {
		t.Run(name, func(t *testing.T) { fn(t, server(t), plain) })
	}
}

// content is all documents of a collection by _id.
func content(t testing.TB, c *mongo.Client, ns string) (docs []string) {
	t.Helper()
	db, coll, _ := strings.Cut(ns, ".")
	cur, err := c.Database(db).Collection(coll).Find(t.Context(), dbson.D{}, options.Find().SetSort(dbson.D{{Key: "_id", Value: 1}}))
	if err != nil {
		t.Fatal(err)
	}
	for cur.Next(t.Context()) {
		docs = append(docs, bson.Raw(cur.Current).String())
	}
	return docs
}

// TestBusyDump replays the oplog of a dump that the original took of a busy MongoDB.
func TestBusyDump(t *testing.T) {
	faces(t, func(t *testing.T, c *mongo.Client, plain bool) {
		for coll, f := range map[string]string{"c": "busy-c.bson.gz", "d": "busy-d.bson"} {
			var docs []any
			for _, d := range file(t, f) {
				docs = append(docs, dbson.Raw(d))
			}
			if _, err := c.Database("busy").Collection(coll).InsertMany(t.Context(), docs); err != nil {
				t.Fatal(err)
			}
		}
		st := replayAll(t, Options{Client: c, plain: plain}, file(t, "busy-oplog.bson"))
		if st.Applied != st.Entries || st.Entries < 20 {
			t.Errorf("%+v", st)
		}
		want := map[string][]string{}
		f, err := os.Open("testdata/busy-state.jsonl.gz")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		sc := bufio.NewScanner(z)
		sc.Buffer(nil, 1<<24)
		for sc.Scan() {
			line := extjson.MustParse(sc.Text())
			if d := line.Get("doc"); !d.IsMissing() {
				ns := line.Get("ns").Str()
				want[ns] = append(want[ns], d.Doc().String())
			}
		}
		for _, ns := range []string{"busy.c", "busy.d"} {
			got := content(t, c, ns)
			if len(got) == 0 || len(got) != len(want[ns]) {
				t.Fatalf("%s has %d documents, want %d", ns, len(got), len(want[ns]))
			}
			for i := range got {
				if got[i] != want[ns][i] {
					t.Fatalf("%s: %s, want %s", ns, got[i], want[ns][i])
				}
			}
		}
	})
}

// TestKinds replays what a real server wrote of every kind, up to several moments.
func TestKinds(t *testing.T) {
	entries := file(t, "kinds.bson")
	for _, tc := range []struct {
		sec, inc uint32
		want     []string
	}{
		{1795348768, 4, []string{`goplog.foo: { _id: 1, x: 1 }`}},
		{1795348768, 12, []string{`goplog.foo: { _id: 10, a: [ 1, 3, 4 ] }`, `goplog.foo: { _id: 11, a: [ { k: 1 }, { k: 2 } ] }`,
			`goplog.foo: { _id: 12, n: 1, d: { e: { f: 1 } } }`, `goplog.foo: { _id: ObjectId('6b02d92006dbaeb6025e99cd'), x: 2, y: 1 }`}},
		{1795348768, 16, []string{`goplog.foo: { _id: 10, a: [ 1, 3, 4 ] }`, `goplog.foo: { _id: 11, a: [ { k: 1 }, { k: 2, v: 9 } ] }`,
			`goplog.foo: { _id: 12, whole: "new" }`, `goplog.foo: { _id: ObjectId('6b02d92006dbaeb6025e99cd'), x: 2, y: 1 }`}},
		{1795348769, 20, []string{`goplog.bar: { _id: 10, a: [ 1, 3, 4 ], all: true, when: new Date(1795348768963) }`, `goplog.bar: { _id: 12, whole: "new", all: true, p: "new!" }`,
			`goplog.bar: { _id: ObjectId('6b02d92006dbaeb6025e99cd'), x: 2, y: 1, all: true }`, `goplog.outcoll: { _id: 10, a: [ 1, 3, 4 ], all: true, when: new Date(1795348768963) }`,
			`goplog.outcoll: { _id: 12, whole: "new", all: true, p: "new!" }`, `goplog.outcoll: { _id: ObjectId('6b02d92006dbaeb6025e99cd'), x: 2, y: 1, all: true }`, `goplog.t2: (empty)`}},
		{1795348769, 21, []string{`goplog.bar: { _id: 10, a: [ 1, 3, 4 ], all: true, when: new Date(1795348768963) }`, `goplog.bar: { _id: 12, whole: "new", all: true, p: "new!" }`,
			`goplog.bar: { _id: ObjectId('6b02d92006dbaeb6025e99cd'), x: 2, y: 1, all: true }`, `goplog.outcoll: { _id: 10, a: [ 1, 3, 4 ], all: true, when: new Date(1795348768963) }`,
			`goplog.outcoll: { _id: 12, whole: "new", all: true, p: "new!" }`, `goplog.outcoll: { _id: ObjectId('6b02d92006dbaeb6025e99cd'), x: 2, y: 1, all: true }`, `goplog.t2: { _id: 1, txn: true, u: 1 }`}},
		{0, 0, nil},
	} {
		t.Run(fmt.Sprintf("%d:%d", tc.sec, tc.inc), func(t *testing.T) {
			faces(t, func(t *testing.T, c *mongo.Client, plain bool) {
				st := replayAll(t, Options{Client: c, Until: bson.NewTimestamp(tc.sec, tc.inc), plain: plain}, entries)
				if tc.sec != 0 && st.Last.TS > bson.NewTimestamp(tc.sec, tc.inc) {
					t.Errorf("went on to %v", st.Last)
				}
				var got []string
				names, err := c.Database("goplog").ListCollectionNames(t.Context(), dbson.D{})
				if err != nil {
					t.Fatal(err)
				}
				sort.Strings(names)
				for _, n := range names {
					if n == "system.views" || n == "cap" || n == "v" {
						continue
					}
					docs := content(t, c, "goplog."+n)
					for _, d := range docs {
						got = append(got, "goplog."+n+": "+d)
					}
					if len(docs) == 0 {
						got = append(got, "goplog."+n+": (empty)")
					}
				}
				sort.Strings(got)
				sort.Strings(tc.want)
				if g, w := strings.Join(got, "\n"), strings.Join(tc.want, "\n"); g != w {
					t.Errorf("got\n%s\nwant\n%s\n%+v", g, w, st)
				}
			})
		})
	}
}
