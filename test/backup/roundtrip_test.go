package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
)

// everything puts one of everything into two databases.
func everything(t testing.TB, c *mongo.Client) {
	t.Helper()
	ctx := context.Background()
	db := c.Database("all")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	insert := func(coll string, docs ...any) {
		t.Helper()
		_, err := db.Collection(coll).InsertMany(ctx, docs)
		must(err)
	}
	id, err := bson.ObjectIDFromHex("0123456789abcdef01234567")
	must(err)
	dec, err := bson.ParseDecimal128("1.10E+3")
	must(err)
	values := []any{1.5, math.NaN(), math.Inf(-1), math.Copysign(0, -1), "text ü\x00", bson.D{{Key: "a", Value: bson.A{1, bson.D{}}}}, bson.A{}, bson.Binary{Subtype: 4, Data: make([]byte, 16)},
		bson.Binary{Subtype: 2, Data: []byte("old")}, bson.Undefined{}, id, true, bson.DateTime(-1), nil, bson.Regex{Pattern: "a/b", Options: "im"},
		bson.DBPointer{DB: "x", Pointer: id}, bson.JavaScript("f()"), bson.Symbol("s"), bson.CodeWithScope{Code: "g", Scope: bson.D{{Key: "x", Value: 1}}}, int32(7),
		bson.Timestamp{T: 1, I: 2}, int64(1) << 60, dec, bson.MinKey{}, bson.MaxKey{}}
	for n, v := range values {
		insert("types", bson.D{{Key: "_id", Value: n}, {Key: "v", Value: v}})
	}
	for _, v := range []any{1, "x", id, bson.D{{Key: "b", Value: 1}}, bson.DateTime(5), nil, bson.MinKey{}, 2.5} {
		insert("ids", bson.D{{Key: "_id", Value: v}})
	}
	must(db.CreateCollection(ctx, "capped", options.CreateCollection().SetCapped(true).SetSizeInBytes(1<<16).SetMaxDocuments(10)))
	for n := range 25 {
		insert("capped", bson.D{{Key: "_id", Value: n}})
	}
	must(db.CreateCollection(ctx, "empty"))
	must(db.CreateCollection(ctx, "validated", options.CreateCollection().SetValidator(bson.D{{Key: "$jsonSchema", Value: bson.D{{Key: "required", Value: bson.A{"a"}}}}}).SetValidationLevel("moderate")))
	insert("validated", bson.D{{Key: "_id", Value: 1}, {Key: "a", Value: 1}})
	must(db.CreateCollection(ctx, "collated", options.CreateCollection().SetCollation(&options.Collation{Locale: "de", Strength: 2})))
	must(db.CreateCollection(ctx, "buckets", options.CreateCollection().SetTimeSeriesOptions(options.TimeSeries().SetTimeField("t").SetMetaField("m"))))
	must(db.CreateCollection(ctx, "clustered", options.CreateCollection().SetExpireAfterSeconds(1<<30).
		SetClusteredIndex(bson.D{{Key: "key", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "unique", Value: true}, {Key: "name", Value: "by id"}})))
	insert("clustered", bson.D{{Key: "_id", Value: 2}}, bson.D{{Key: "_id", Value: 1}, {Key: "x", Value: 1}})
	_, err = db.Collection("clustered").Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: "x", Value: 1}}})
	must(err)
	must(db.RunCommand(ctx, bson.D{{Key: "collMod", Value: "clustered"}, {Key: "index", Value: bson.D{{Key: "name", Value: "x_1"}, {Key: "prepareUnique", Value: true}}}}).Err())
	insert("indexed", bson.D{{Key: "_id", Value: 1}, {Key: "a", Value: 1}, {Key: "b", Value: bson.A{1, 2}}, {Key: "t", Value: "some text"}, {Key: "g", Value: bson.A{1.0, 2.0}}})
	keys := func(k ...any) bson.D {
		var d bson.D
		for i := 0; i < len(k); i += 2 {
			d = append(d, bson.E{Key: k[i].(string), Value: k[i+1]})
		}
		return d
	}
	_, err = db.Collection("indexed").Indexes().CreateMany(ctx, []mongo.IndexModel{
		{Keys: keys("a", 1)}, {Keys: keys("a", 1, "b", -1), Options: options.Index().SetUnique(true).SetName("two")}, {Keys: keys("s", 1), Options: options.Index().SetSparse(true)},
		{Keys: keys("p", 1), Options: options.Index().SetPartialFilterExpression(bson.D{{Key: "p", Value: bson.D{{Key: "$gt", Value: 5}}}})},
		{Keys: keys("at", 1), Options: options.Index().SetExpireAfterSeconds(1 << 30)}, {Keys: keys("t", "text"), Options: options.Index().SetDefaultLanguage("german")},
		{Keys: keys("g", "2d")}, {Keys: keys("h", "hashed")}, {Keys: keys("geo", "2dsphere")}, {Keys: keys("w.$**", 1)},
		{Keys: keys("c", 1), Options: options.Index().SetCollation(&options.Collation{Locale: "fr"})}, {Keys: keys("x", 1), Options: options.Index().SetHidden(true)},
	})
	must(err)
	must(db.CreateView(ctx, "view", "types", mongo.Pipeline{bson.D{{Key: "$match", Value: bson.D{{Key: "v", Value: bson.D{{Key: "$gt", Value: 1}}}}}}}))
	for _, name := range []string{"with.dots", "with space", "a/b", "per%25cent", `q?*"<>|`, "ünïcode-集合", strings.Repeat("长", 60), strings.Repeat("n", 230), "system.js"} {
		insert(name, bson.D{{Key: "_id", Value: name}})
	}
	var many []any
	for n := range 3000 {
		many = append(many, bson.D{{Key: "_id", Value: n}, {Key: "pad", Value: strings.Repeat("p", n%300)}})
	}
	_, err = db.Collection("many").InsertMany(ctx, many)
	must(err)
	insert("huge", bson.D{{Key: "_id", Value: 1}, {Key: "x", Value: strings.Repeat("h", 3<<20)}}, bson.D{{Key: "_id", Value: 2}})
	_, err = c.Database("second-one").Collection("c").InsertOne(ctx, bson.D{{Key: "_id", Value: 1}})
	must(err)
	must(c.Database("all").RunCommand(ctx, bson.D{{Key: "createUser", Value: "u"}, {Key: "pwd", Value: "p"}, {Key: "roles", Value: bson.A{"read"}}}).Err())
	must(c.Database("all").RunCommand(ctx, bson.D{{Key: "createRole", Value: "r"}, {Key: "privileges", Value: bson.A{}}, {Key: "roles", Value: bson.A{"read"}}}).Err())
}

var everyDB = []string{"all", "second-one"}

func wipe(t testing.TB, c *mongo.Client) {
	t.Helper()
	for _, db := range everyDB {
		if err := c.Database(db).Drop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	for _, cmd := range []string{"dropAllUsersFromDatabase", "dropAllRolesFromDatabase"} {
		if err := c.Database("all").RunCommand(context.Background(), bson.D{{Key: cmd, Value: 1}}).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	uri := cairntest.Start(t, cairntest.ReplSet("rs"))
	c := connect(t, uri)
	everything(t, c)
	want := state(t, c, everyDB...)
	users := documentsOf(t, c, "system.users") + documentsOf(t, c, "system.roles")
	if len(want) < 20 || users == "" {
		t.Fatalf("there is not one of everything: %v", want)
	}
	for name, form := range map[string]struct{ dump, restore []string }{
		"directory": {},
		"gzip":      {dump: []string{"--gzip"}, restore: []string{"--gzip"}},
		"zstd":      {dump: []string{"--compress", "zstd", "--manifest"}},
		"snappy":    {dump: []string{"--compress", "snappy"}},
		"ranges":    {dump: []string{"--parallelInCollection", "4", "-j", "1"}},
		"oplog":     {dump: []string{"--oplog", "--manifest"}, restore: []string{"--oplogReplay"}},
		"resumable": {dump: []string{"--resume", "--oplog"}, restore: []string{"--oplogReplay"}},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		mustDump(t, uri, append(form.dump, "-o", dir)...)
		wipe(t, c)
		mustRestore(t, uri, append(form.restore, "--dir", dir)...)
		compare(t, name, want, state(t, c, everyDB...))
		if got := documentsOf(t, c, "system.users") + documentsOf(t, c, "system.roles"); got != users {
			t.Errorf("%s: users and roles are %s, want %s", name, got, users)
		}
		for _, db := range append(everyDB, ".") {
			for _, f := range files(t, filepath.Join(dir, db)) {
				if strings.HasPrefix(f, ".") {
					t.Errorf("%s: %s is left in %s", name, f, db)
				}
			}
		}
	}
	for name, form := range map[string][]string{"archive": nil, "archive gzip": {"--gzip"}, "archive zstd": {"--compress", "zstd"}, "archive oplog": {"--oplog"}} {
		file := filepath.Join(t.TempDir(), "a")
		mustDump(t, uri, append(form, "--archive="+file)...)
		wipe(t, c)
		args := []string{"--archive=" + file}
		if strings.Contains(name, "gzip") {
			args = append(args, "--gzip")
		}
		if strings.Contains(name, "oplog") {
			args = append(args, "--oplogReplay")
		}
		mustRestore(t, uri, args...)
		compare(t, name, want, state(t, c, everyDB...))
	}

	// Over a pipe, from one server into another, at the same time.
	other := cairntest.Start(t)
	r, w := io.Pipe()
	go func() {
		_, log, err := runDump(context.Background(), uri, w, "--archive")
		if err != nil {
			err = errors.New(err.Error() + "\n" + log)
		}
		w.CloseWithError(err)
	}()
	if log, err := runRestore(context.Background(), other, r, "--archive"); err != nil {
		t.Fatalf("restore from a pipe: %v\n%s", err, log)
	}
	compare(t, "pipe", want, state(t, connect(t, other), everyDB...))
}

func documentsOf(t testing.TB, c *mongo.Client, coll string) string {
	t.Helper()
	var l []string
	cur, err := c.Database("admin").Collection(coll).Find(context.Background(), bson.D{{Key: "db", Value: "all"}})
	if err != nil {
		t.Fatal(err)
	}
	for cur.Next(context.Background()) {
		l = append(l, cur.Current.String())
	}
	return strings.Join(l, "\n")
}

// The files are what the standard tools make of them.
func TestStandardToolsRead(t *testing.T) {
	t.Parallel()
	uri := cairntest.Start(t)
	c := connect(t, uri)
	var docs []any
	for n := range 20_000 {
		docs = append(docs, bson.D{{Key: "_id", Value: n}, {Key: "pad", Value: strings.Repeat("p", n%300)}})
	}
	if _, err := c.Database("d").Collection("c").InsertMany(context.Background(), docs); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	mustDump(t, uri, "-o", filepath.Join(dir, "plain"))
	want, err := os.ReadFile(filepath.Join(dir, "plain", "d", "c.bson"))
	if err != nil || len(want) < 3<<20 {
		t.Fatalf("%d bytes, %v", len(want), err)
	}
	for method, cmd := range map[string][]string{"gzip": {"gunzip", "-c"}, "zstd": {"zstd", "-dc"}} {
		if _, err := exec.LookPath(cmd[0]); err != nil {
			t.Logf("%s is not installed here", cmd[0])
			continue
		}
		mustDump(t, uri, "-o", filepath.Join(dir, method), "--compress", method)
		suffix := map[string]string{"gzip": ".gz", "zstd": ".zst"}[method]
		got, err := exec.Command(cmd[0], append(cmd[1:], filepath.Join(dir, method, "d", "c.bson"+suffix))...).Output()
		if err != nil || string(got) != string(want) {
			t.Errorf("%s reads %d bytes, %v; want %d", cmd[0], len(got), err, len(want))
		}
	}
}

// A collection of local without an index on _id comes back without one; elsewhere it would
// be made with one, which the option then says.
func TestRoundTripWithoutIDIndex(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, set := range []string{"", "rs"} {
		uri := cairntest.Start(t, cairntest.ReplSet(set))
		c := connect(t, uri)
		local := c.Database("local")
		if err := local.RunCommand(ctx, bson.D{{Key: "create", Value: "plain"}, {Key: "autoIndexId", Value: false}}).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := local.Collection("plain").InsertMany(ctx, []any{bson.D{{Key: "_id", Value: 1}}, bson.D{{Key: "_id", Value: 1}}, bson.D{{Key: "_id", Value: 2}}}); err != nil {
			t.Fatal(err)
		}
		want := state(t, c, "local")["local.plain"]
		dir := filepath.Join(t.TempDir(), "d")
		mustDump(t, uri, "-d", "local", "-c", "plain", "-o", dir)
		for _, restore := range [][]string{{"--drop"}, {"--drop", "--preserveUUID"}} {
			mustRestore(t, uri, append(restore, "--dir", dir, "--nsInclude", "local.*")...)
			if got := state(t, c, "local")["local.plain"]; got != want {
				t.Errorf("face %q, %v: %s, want %s", set, restore, got, want)
			}
		}
		if got := indexes(t, local.Collection("plain")); len(got) != 0 {
			t.Error(got)
		}
		if _, err := local.Collection("plain").DeleteMany(ctx, bson.D{{Key: "_id", Value: 1}}); err != nil {
			t.Fatal(err)
		}
		mustDump(t, uri, "-d", "local", "-c", "plain", "-o", dir)
		mustRestore(t, uri, "--nsFrom", "local.plain", "--nsTo", "db.plain", "--dir", dir)
		if got := indexes(t, c.Database("db").Collection("plain")); len(got) != 1 {
			t.Error(got)
		}
		info, err := c.Database("db").ListCollectionSpecifications(ctx, bson.D{{Key: "name", Value: "plain"}})
		if err != nil || len(info) != 1 || !info[0].Options.Lookup("autoIndexId").Boolean() {
			t.Error(info, err)
		}
	}
}

// TestSeriesThroughAView is the way of docs/BACKUP.md for a time-series collection whose buckets the
// target cannot read: its measurements, through a view, into a time-series collection made before.
func TestSeriesThroughAView(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	series := options.CreateCollection().SetTimeSeriesOptions(options.TimeSeries().SetTimeField("t").SetMetaField("m"))
	from, to := cairntest.Start(t), cairntest.Start(t)
	src, dst := connect(t, from).Database("shop"), connect(t, to).Database("shop")
	for _, db := range []*mongo.Database{src, dst} {
		if err := db.CreateCollection(ctx, "weather", series); err != nil {
			t.Fatal(err)
		}
	}
	var points []any
	for n := range 3000 {
		points = append(points, bson.D{{Key: "_id", Value: n}, {Key: "t", Value: bson.DateTime(n * 60_000)}, {Key: "m", Value: n % 7}, {Key: "v", Value: float64(n)}})
	}
	if _, err := src.Collection("weather").InsertMany(ctx, points); err != nil {
		t.Fatal(err)
	}
	if err := src.CreateView(ctx, "weather_all", "weather", mongo.Pipeline{}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	mustDump(t, from, "-d", "shop", "-c", "weather_all", "--viewsAsCollections", "-o", dir)
	mustRestore(t, to, "--nsFrom", "shop.weather_all", "--nsTo", "shop.weather", dir)
	var want, got bytes.Buffer
	if n := documents(t, src.Collection("weather"), &want); n != len(points) {
		t.Fatalf("the source has %d measurements", n)
	}
	documents(t, dst.Collection("weather"), &got)
	if !bytes.Equal(want.Bytes(), got.Bytes()) {
		t.Errorf("%d bytes of measurements came back, of %d", got.Len(), want.Len())
	}
	if kinds, err := dst.ListCollectionNames(ctx, bson.D{{Key: "type", Value: "timeseries"}}); err != nil || len(kinds) != 1 {
		t.Errorf("time-series collections: %q %v", kinds, err)
	}
}
