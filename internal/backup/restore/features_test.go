package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/dump"
	"github.com/cairndb/cairn/internal/backup/tool"
	ours "github.com/cairndb/cairn/internal/bson"
)

// dumpTo runs `cairn dump` and returns what it wrote to standard output.
func dumpTo(t testing.TB, uri string, args ...string) []byte {
	t.Helper()
	o, err := dump.ParseOptions(append([]string{"--uri", uri}, args...), false, "test", "")
	if err != nil {
		t.Fatal(err)
	}
	var said, out bytes.Buffer
	if _, err := dump.Run(context.Background(), o, tool.NewLog(&said, 0), nil, &out); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	return out.Bytes()
}

// oneOfEverything fills a server: kinds of collections and indexes, options, names.
func oneOfEverything(t testing.TB, c *mongo.Client) {
	t.Helper()
	ctx := context.Background()
	run := func(db string, cmd bson.D) {
		t.Helper()
		if err := c.Database(db).RunCommand(ctx, cmd).Err(); err != nil {
			t.Fatalf("%v: %v", cmd, err)
		}
	}
	for _, coll := range []string{"plain", "with.dots", "sl/ash", "per%25cent", "sp ace", "ünï-集合", strings.Repeat("長", 60)} {
		var docs []any
		for i := range 50 {
			docs = append(docs, bson.D{{Key: "_id", Value: i}, {Key: "s", Value: strings.Repeat("x", i*10)}, {Key: "a", Value: bson.A{i, bson.D{{Key: "b", Value: i % 7}}}}})
		}
		if _, err := c.Database("all").Collection(coll).InsertMany(ctx, docs); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Database("all").Collection(coll).Indexes().CreateMany(ctx, []mongo.IndexModel{
			{Keys: bson.D{{Key: "a.b", Value: 1}}}, {Keys: bson.D{{Key: "s", Value: -1}}, Options: options.Index().SetUnique(true).SetName("u")},
			{Keys: bson.D{{Key: "x", Value: 1}}, Options: options.Index().SetSparse(true).SetExpireAfterSeconds(1 << 30)},
		}); err != nil {
			t.Fatal(err)
		}
	}
	run("all", bson.D{{Key: "create", Value: "capped"}, {Key: "capped", Value: true}, {Key: "size", Value: 1 << 20}, {Key: "max", Value: 10}})
	run("all", bson.D{{Key: "create", Value: "empty"}})
	run("all", bson.D{{Key: "create", Value: "valid"}, {Key: "validator", Value: bson.D{{Key: "$jsonSchema", Value: bson.D{{Key: "required", Value: bson.A{"a"}}}}}}})
	run("all", bson.D{{Key: "create", Value: "german"}, {Key: "collation", Value: bson.D{{Key: "locale", Value: "de"}, {Key: "strength", Value: 1}}}})
	run("all", bson.D{{Key: "create", Value: "weather"}, {Key: "timeseries", Value: bson.D{{Key: "timeField", Value: "t"}, {Key: "metaField", Value: "m"}}}})
	run("all", bson.D{{Key: "create", Value: "v2"}, {Key: "viewOn", Value: "v1"}, {Key: "pipeline", Value: bson.A{}}})
	run("all", bson.D{{Key: "create", Value: "v1"}, {Key: "viewOn", Value: "plain"}, {Key: "pipeline", Value: bson.A{bson.D{{Key: "$match", Value: bson.D{{Key: "_id", Value: bson.D{{Key: "$lt", Value: 5}}}}}}}}})
	for coll, doc := range map[string]bson.D{
		"valid": {{Key: "_id", Value: 1}, {Key: "a", Value: 1}}, "german": {{Key: "_id", Value: "ä"}, {Key: "n", Value: "ö"}},
		"system.js": {{Key: "_id", Value: "f"}, {Key: "value", Value: bson.JavaScript("function(){}")}},
	} {
		if _, err := c.Database("all").Collection(coll).InsertOne(ctx, doc); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Database("all").Collection("german").Indexes().CreateMany(ctx, []mongo.IndexModel{
		{Keys: bson.D{{Key: "n", Value: 1}}}, {Keys: bson.D{{Key: "n", Value: 1}}, Options: options.Index().SetName("bytes").SetCollation(&options.Collation{Locale: "simple"})},
	}); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if _, err := c.Database("all").Collection("capped").InsertOne(ctx, bson.D{{Key: "_id", Value: 100 - i}}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Database("all").Collection("weather").InsertOne(ctx, bson.D{{Key: "t", Value: time.Unix(int64(1700000000+i*100), 0)}, {Key: "m", Value: i % 3}, {Key: "v", Value: i}}); err != nil {
			t.Fatal(err)
		}
	}
	run("admin", bson.D{{Key: "createRole", Value: "reader"}, {Key: "privileges", Value: bson.A{}}, {Key: "roles", Value: bson.A{bson.D{{Key: "role", Value: "read"}, {Key: "db", Value: "all"}}}}})
	run("all", bson.D{{Key: "createUser", Value: "ann"}, {Key: "pwd", Value: "secret"}, {Key: "roles", Value: bson.A{bson.D{{Key: "role", Value: "reader"}, {Key: "db", Value: "admin"}}}}})
}

// everything reads all of a database back, and the users.
func everything(t testing.TB, c *mongo.Client, db string) string {
	t.Helper()
	names, err := c.Database(db).ListCollectionNames(context.Background(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(names)
	var out []string
	for _, n := range names {
		if n == "system.views" {
			continue
		}
		s := showState(t, c, db+"."+n)
		s.NS = n
		out = append(out, canonical(s, true))
	}
	return strings.Join(out, "\n\n")
}

// One of everything, dumped by `cairn dump` in every form, restores to the same.
func TestEverything(t *testing.T) {
	src := cairntest.Start(t, cairntest.ReplSet("rs"))
	c := connect(t, src)
	oneOfEverything(t, c)
	want := everything(t, c, "all")
	for _, form := range []string{"directory", "gzip", "zstd", "snappy", "archive", "zstd archive", "oplog archive"} {
		t.Run(form, func(t *testing.T) {
			dst := cairntest.Start(t)
			x, args := run{}, []string{filepath.Join(t.TempDir(), "out")}
			switch form {
			case "directory":
				dumpTo(t, src, "--manifest", "--out="+args[0])
			case "gzip":
				dumpTo(t, src, "--manifest", "--gzip", "--out="+args[0])
			case "zstd", "snappy":
				dumpTo(t, src, "--manifest", "--compress="+form, "--out="+args[0])
			case "archive":
				x.stdin, args = bytes.NewReader(dumpTo(t, src, "--archive")), []string{"--archive"}
			case "zstd archive":
				dumpTo(t, src, "--manifest", "--compress=zstd", "--archive="+args[0])
				args = []string{"--archive=" + args[0]}
			case "oplog archive":
				x.stdin, args = bytes.NewReader(dumpTo(t, src, "--oplog", "--archive")), []string{"--archive", "--oplogReplay"}
			}
			res, said, err := x.do(t, dst, args...)
			must(t, res, said, err)
			d := connect(t, dst)
			if got := everything(t, d, "all"); got != want {
				t.Errorf("got\n%s\nwant\n%s\n%s", got, want, said)
			}
			var info struct{ Users []bson.D }
			if err := d.Database("all").RunCommand(context.Background(), bson.D{{Key: "usersInfo", Value: "ann"}}).Decode(&info); err != nil || len(info.Users) != 1 {
				t.Errorf("users %v, %v", info.Users, err)
			}
			// Once more over what is there: nothing but system.js, which cannot be dropped.
			if s, ok := x.stdin.(io.Seeker); ok {
				if _, err := s.Seek(0, io.SeekStart); err != nil {
					t.Fatal(err)
				}
			}
			res, said, err = x.do(t, dst, append([]string{"--drop"}, args...)...)
			if err != nil || res.Failures != 1 {
				t.Errorf("again: %+v, %v\n%s", res, err, said)
			}
			if got := everything(t, d, "all"); got != want {
				t.Errorf("again: got\n%s\nwant\n%s", got, want)
			}
		})
	}
	t.Run("renamed", func(t *testing.T) {
		dst := cairntest.Start(t)
		dir := filepath.Join(t.TempDir(), "out")
		dumpTo(t, src, "-d", "all", "--out="+dir)
		res, said, err := run{}.do(t, dst, "--nsFrom=all.*", "--nsTo=other.*", dir)
		must(t, res, said, err)
		if got := everything(t, connect(t, dst), "other"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// What a manifest says is compared, before and while the dump is restored.
func TestManifest(t *testing.T) {
	src := cairntest.Start(t)
	c := connect(t, src)
	if _, err := c.Database("d").Collection("c").InsertMany(context.Background(), []any{bson.D{{Key: "_id", Value: 1}}, bson.D{{Key: "_id", Value: 2}}}); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name, want string
		damage     func(t *testing.T, dir string)
	}{
		{"whole", "", func(*testing.T, string) {}},
		{"longer", "has 29 bytes, the manifest of the dump says 28", func(t *testing.T, dir string) {
			change(t, dir+"/d/c.bson", func(p []byte) []byte { return append(p, 0) })
		}},
		{"shorter by a document", "bytes, the manifest of the dump says", func(t *testing.T, dir string) { change(t, dir+"/d/c.bson", func(p []byte) []byte { return p[:18] }) }},
		{"flipped", "has the SHA-256", func(t *testing.T, dir string) {
			change(t, dir+"/d/c.bson", func(p []byte) []byte { p[10] ^= 1; return p })
		}},
		{"flipped metadata", "c.metadata.json has the SHA-256", func(t *testing.T, dir string) {
			change(t, dir+"/d/c.metadata.json", func(p []byte) []byte { return bytes.Replace(p, []byte("_id_"), []byte("_id-"), 1) })
		}},
		{"gone", "names `d.c`, which the dump does not hold", func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "d")); err != nil {
				t.Fatal(err)
			}
		}},
		{"no manifest", "cannot be read", func(t *testing.T, dir string) {
			change(t, filepath.Join(dir, manifestName), func(p []byte) []byte { return p[:20] })
		}},
	} {
		dir := filepath.Join(t.TempDir(), "out")
		dumpTo(t, src, "--manifest", "--out="+dir)
		x.damage(t, dir)
		res, said, err := run{}.do(t, src, "--drop", dir)
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%s: %+v, %v\n%s", x.name, res, err, said)
		}
		if x.name != "flipped" && x.want != "" && strings.Contains(said, "dropping") {
			t.Errorf("%s: something was dropped before it was found\n%s", x.name, said)
		}
	}
	arch := filepath.Join(t.TempDir(), "a")
	dumpTo(t, src, "--manifest", "--archive="+arch)
	res, said, err := run{}.do(t, src, "--drop", "--archive="+arch)
	must(t, res, said, err)
	change(t, arch+"."+manifestName, func(p []byte) []byte { return bytes.Replace(p, []byte(`"documents": 2`), []byte(`"documents": 3`), -1) })
	if _, _, err := (run{}).do(t, src, "--drop", "--archive="+arch); err == nil || !strings.Contains(err.Error(), "has 2 documents in the dump, its manifest says 3") {
		t.Errorf("count: %v", err)
	}
	res, said, err = run{}.do(t, src, "--drop", "--noVerify", "--archive="+arch)
	must(t, res, said, err)
}

func change(t testing.TB, path string, f func([]byte) []byte) {
	t.Helper()
	p, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, f(p), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// --preserveUUID keeps the UUIDs.
func TestPreserveUUID(t *testing.T) {
	uri := cairntest.Start(t)
	c := connect(t, uri)
	dir := goldenDir(t)
	id := func() (out string) {
		t.Helper()
		specs, err := c.Database("golden").ListCollectionSpecifications(context.Background(), bson.D{{Key: "name", Value: "indexes"}})
		if err != nil || len(specs) != 1 {
			t.Fatal(specs, err)
		}
		return fmt.Sprintf("%x", specs[0].UUID.Data)
	}
	args := []string{"--nsInclude=golden.indexes", filepath.Join(dir, "dump-dir")}
	text, err := os.ReadFile(filepath.Join(dir, "dump-dir", "golden", "indexes.metadata.json"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseMetadata(text)
	if err != nil {
		t.Fatal(err)
	}
	res, said, err := run{}.do(t, uri, append([]string{"--drop"}, args...)...)
	must(t, res, said, err)
	if id() == m.UUID {
		t.Error("kept without being asked to")
	}
	res, said, err = run{original: true}.do(t, uri, append([]string{"--drop", "--preserveUUID"}, args...)...)
	must(t, res, said, err)
	if id() != m.UUID {
		t.Errorf("is %s, was %s", id(), m.UUID)
	}
}

func oplogEntry(inc uint32, op, ns string, o, o2 bson.D) []byte {
	d := bson.D{{Key: "ts", Value: bson.Timestamp{T: 100, I: inc}}, {Key: "t", Value: int64(1)}, {Key: "v", Value: int64(2)}, {Key: "op", Value: op}, {Key: "ns", Value: ns}, {Key: "o", Value: o}}
	if o2 != nil {
		d = append(d, bson.E{Key: "o2", Value: o2})
	}
	d = append(d, bson.E{Key: "wall", Value: bson.DateTime(100000)})
	b, err := bson.Marshal(d)
	if err != nil {
		panic(err) // these documents can be encoded
	}
	return b
}

// --oplogLimit is exact to the increment; the entry of the limit itself does not count.
func TestOplogLimit(t *testing.T) {
	uri := cairntest.Start(t)
	c := connect(t, uri)
	dir := dumpOf(t, nil, `{"options":{},"indexes":[]}`)
	var log []byte
	for i := range uint32(10) {
		log = append(log, oplogEntry(i+1, "i", "d.c", bson.D{{Key: "_id", Value: int32(i + 1)}}, nil)...)
	}
	writeFile(t, filepath.Join(dir, "oplog.bson"), log)
	for limit, want := range map[string]int64{"": 10, "100:4": 3, "100:1": 0, "100": 0, "101": 10, "100:11": 10, "0:0": 10} {
		args := []string{"--drop", "--oplogReplay"}
		if limit != "" {
			args = append(args, "--oplogLimit="+limit)
		}
		res, said, err := run{original: limit == "100:4"}.do(t, uri, append(args, dir)...)
		must(t, res, said, err)
		if n, err := c.Database("d").Collection("c").CountDocuments(context.Background(), bson.D{}); err != nil || n != want {
			t.Errorf("limit %s: %d documents, want %d, %v\n%s", limit, n, want, err, said)
		}
	}
	// From a file of its own, packed.
	if err := os.Remove(filepath.Join(dir, "oplog.bson")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := (run{}).do(t, uri, "--oplogReplay", dir); err == nil || !strings.Contains(err.Error(), "no oplog file to replay; make sure you run mongodump with --oplog") {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "slice.bson.zst")
	writeFile(t, file, pack(t, zstandard, log))
	res, said, err := run{}.do(t, uri, "--drop", "--oplogReplay", "--oplogFile="+file, dir)
	must(t, res, said, err)
	if n, err := c.Database("d").Collection("c").CountDocuments(context.Background(), bson.D{}); err != nil || n != 10 {
		t.Errorf("%d documents, %v\n%s", n, err, said)
	}
	writeFile(t, filepath.Join(dir, "oplog.bson"), log)
	if _, _, err := (run{}).do(t, uri, "--oplogReplay", "--oplogFile="+file, dir); err == nil || !strings.Contains(err.Error(), "cannot provide both an oplog.bson file and an oplog file with --oplogFile") {
		t.Error(err)
	}
	writeFile(t, filepath.Join(dir, "oplog.bson"), log[:len(log)-3])
	if _, _, err := (run{}).do(t, uri, "--drop", "--oplogReplay", dir); err == nil || !strings.Contains(err.Error(), "error reading oplog bson input") {
		t.Error(err)
	}
}

// With filters and renames only the entries of what is restored are replayed, under the
// new names; indexes follow what the oplog did to them and are built last.
func TestOplogRules(t *testing.T) {
	uri := cairntest.Start(t)
	c := connect(t, uri)
	docs := slices.Concat(ours.D("_id", 1, "u", 1), ours.D("_id", 2, "u", 1)) // doubled until the oplog moves one
	dir := dumpOf(t, docs, `{"options":{},"indexes":[{"v":2,"key":{"_id":1},"name":"_id_"},{"v":2,"unique":true,"key":{"u":1},"name":"u_1"},{"v":2,"key":{"old":1},"name":"old_1"}]}`)
	writeFile(t, filepath.Join(dir, "d", "other.bson"), ours.D("_id", 1))
	d := func(kv ...any) bson.D {
		var out bson.D
		for i := 0; i < len(kv); i += 2 {
			out = append(out, bson.E{Key: kv[i].(string), Value: kv[i+1]})
		}
		return out
	}
	one := int32(1)
	writeFile(t, filepath.Join(dir, "oplog.bson"), slices.Concat(
		oplogEntry(1, "u", "d.c", d("$v", one, "$set", d("u", int32(2))), d("_id", int32(2))),
		oplogEntry(2, "i", "d.other", d("_id", int32(7)), nil),
		oplogEntry(3, "c", "d.$cmd", d("createIndexes", "c", "v", int32(2), "key", d("new", one), "name", "new_1"), nil),
		oplogEntry(4, "c", "d.$cmd", d("dropIndexes", "c", "index", "old_1"), d("v", int32(2), "key", d("old", one), "name", "old_1")),
		oplogEntry(5, "c", "d.$cmd", d("create", "fresh", "idIndex", d("v", int32(2), "key", d("_id", one), "name", "_id_")), nil),
		oplogEntry(6, "i", "d.fresh", d("_id", int32(1), "e", one), nil),
		oplogEntry(7, "c", "d.$cmd", d("createIndexes", "fresh", "v", int32(2), "key", d("e", one), "name", "e_1"), nil),
		oplogEntry(8, "c", "d.$cmd", d("collMod", "c", "index", d("name", "new_1", "hidden", true)), d()),
		oplogEntry(9, "n", "", d("msg", "periodic noop"), nil),
	))
	res, said, err := run{}.do(t, uri, "--oplogReplay", "--nsExclude=d.other", "--nsFrom=d.*", "--nsTo=z.*", dir)
	must(t, res, said, err)
	if got := documents(t, c, "z.c"); !bytes.Equal(got, slices.Concat(ours.D("_id", 1, "u", 1), ours.D("_id", 2, "u", 2))) {
		t.Errorf("z.c: %x\n%s", got, said)
	}
	names, err := c.Database("z").ListCollectionNames(context.Background(), bson.D{})
	sort.Strings(names)
	if dbs, derr := c.ListDatabaseNames(context.Background(), bson.D{}); err != nil || derr != nil || !slices.Equal(names, []string{"c", "fresh"}) || slices.Contains(dbs, "d") {
		t.Errorf("%v, %v, %v, %v", names, dbs, err, derr)
	}
	for coll, want := range map[string]string{"c": "_id_ new_1 u_1", "fresh": "_id_ e_1"} {
		var got []string
		s := showState(t, c, "z."+coll)
		for _, i := range s.Indexes {
			got = append(got, lookup(i, "name").(string))
			if lookup(i, "name") == "new_1" && lookup(i, "hidden") != true {
				t.Errorf("new_1 is %v", i)
			}
		}
		sort.Strings(got)
		if strings.Join(got, " ") != want {
			t.Errorf("indexes of %s: %v, want %s", coll, got, want)
		}
	}
	// The same without filters as mongorestore.
	res, said, err = run{original: true}.do(t, uri, "--oplogReplay", dir)
	must(t, res, said, err)
	if got := documents(t, c, "d.other"); !bytes.Equal(got, slices.Concat(ours.D("_id", 1), ours.D("_id", 7))) {
		t.Errorf("d.other: %x\n%s", got, said)
	}
}

// Indexes that cannot be built are named; the documents are there.
func TestIndexesFail(t *testing.T) {
	uri := cairntest.Start(t)
	c := connect(t, uri)
	docs := slices.Concat(ours.D("_id", 1, "u", 1), ours.D("_id", 2, "u", 1))
	meta := `{"options":{},"indexes":[{"v":2,"key":{"_id":1},"name":"_id_"},{"v":2,"unique":true,"key":{"u":1},"name":"u_1"}]}`
	res, said, err := run{}.do(t, uri, dumpOf(t, docs, meta))
	if err == nil || !strings.Contains(err.Error(), "d.c: error creating indexes for d.c: createIndex error: ") || !strings.Contains(err.Error(), "create the index u_1 by hand") {
		t.Errorf("%v\n%s", err, said)
	}
	checkAll(t, c, res, docs)
	res, said, err = run{}.do(t, uri, "--drop", "--noIndexRestore", dumpOf(t, docs, meta))
	checkAll(t, c, must(t, res, said, err), docs)
	geo := `{"options":{},"indexes":[{"v":2,"key":{"p":"geoHaystack","x":1},"name":"hay","bucketSize":1}]}`
	if _, said, err := (run{}).do(t, uri, "--drop", dumpOf(t, docs, geo)); err == nil || !strings.Contains(err.Error(), "found a geoHaystack index") || strings.Contains(said, "dropping") {
		t.Errorf("%v\n%s", err, said)
	}
}

// A dump with nothing in it, a metadata file that is none, a collection without metadata.
func TestOddDumps(t *testing.T) {
	uri := cairntest.Start(t)
	dir := t.TempDir()
	res, said, err := run{}.do(t, uri, dir)
	if must(t, res, said, err) != (Result{}) {
		t.Error(res)
	}
	writeFile(t, filepath.Join(dir, "d", "c.metadata.json"), []byte(`{"indexes": 1}`))
	if _, _, err := (run{}).do(t, uri, dir); err == nil || !strings.Contains(err.Error(), "restore error: error parsing metadata from "+filepath.Join(dir, "d", "c.metadata.json")) {
		t.Error(err)
	}
	if _, _, err := (run{}).do(t, uri, filepath.Join(dir, "nowhere")); err == nil || !strings.Contains(err.Error(), "mongorestore target '"+dir+"/nowhere' invalid: stat ") {
		t.Error(err)
	}
	if _, _, err := (run{stdin: strings.NewReader("no archive")}).do(t, uri, "--archive"); err == nil || !strings.Contains(err.Error(), "stream or file does not appear to be a mongodump archive") {
		t.Error(err)
	}
	if _, _, err := (run{stdin: strings.NewReader("\x01\x00\x00\x00")}).do(t, uri, "-d", "d", "-c", "c", "-"); err == nil || !strings.Contains(err.Error(), "reading bson input: invalid BSONSize: 1 bytes is less than 5 bytes") {
		t.Error(err)
	}
	if errors.Is(err, io.EOF) {
		t.Error("an end of file is not an error of a restore")
	}
}
