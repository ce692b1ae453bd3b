package restore

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// goldenDir unpacks what the original tools wrote of a real MongoDB 4.2.
func goldenDir(t testing.TB) string {
	t.Helper()
	f, err := os.Open("testdata/golden.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else {
			b, rerr := io.ReadAll(r)
			err = errors.Join(rerr, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func connect(t testing.TB, uri string) *mongo.Client {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(uri).SetServerSelectionTimeout(20 * time.Second).SetServerMonitoringMode(options.ServerMonitoringModePoll))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.Disconnect(gone)
	})
	return c
}

// run is one restore of a test.
type run struct {
	original bool
	stdin    io.Reader
	ctx      context.Context
	server   *tool.Server // instead of the one that is there
	prepare  func(r *Restore)
}

// do restores and returns what was logged, without time stamps.
func (x run) do(t testing.TB, uri string, args ...string) (Result, string, error) {
	t.Helper()
	o, err := parse(t, x.original, append([]string{"--uri", uri}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	o.Stdin = x.stdin
	ctx := x.ctx
	if ctx == nil {
		ctx = context.Background()
	}
	var said bytes.Buffer
	log := tool.NewLog(&said, o.LogLevel())
	client, err := o.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		_ = client.Disconnect(gone)
	}()
	server, err := tool.Facts(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	if x.server != nil {
		server = *x.server
	}
	r := New(o, client, server, log, nil)
	if x.prepare != nil {
		x.prepare(r)
	}
	res, err := r.Run(ctx)
	var lines []string
	for _, l := range strings.Split(strings.TrimSpace(said.String()), "\n") {
		_, text, _ := strings.Cut(l, "\t")
		lines = append(lines, text)
	}
	return res, strings.Join(lines, "\n"), err
}

func must(t testing.TB, res Result, said string, err error) Result {
	t.Helper()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return res
}

// dumpOf is a directory with one collection d.c of the given documents.
func dumpOf(t testing.TB, docs []byte, metadata string) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "d", "c.bson"), docs)
	if metadata != "" {
		writeFile(t, filepath.Join(dir, "d", "c.metadata.json"), []byte(metadata))
	}
	return dir
}

func writeFile(t testing.TB, path string, p []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, p, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// documents returns all documents of a collection by their _id, one behind the other.
func documents(t testing.TB, c *mongo.Client, ns string) []byte {
	t.Helper()
	db, coll := tool.SplitNamespace(ns)
	cur, err := c.Database(db).Collection(coll).Find(context.Background(), bson.D{}, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}))
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for cur.Next(context.Background()) {
		out = append(out, cur.Current...)
	}
	if err := cur.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// Documents go in byte by byte, in every form of input, through both names.
func TestRoundTrip(t *testing.T) {
	uri := cairntest.Start(t)
	c := connect(t, uri)
	docs := someDocs(300, 3)
	meta := `{"indexes":[{"v":2,"key":{"_id":1},"name":"_id_"},{"v":2,"key":{"pad":1},"name":"pad_1","sparse":true}],"options":{}}`
	for _, original := range []bool{false, true} {
		dir := dumpOf(t, docs, meta)
		res := func(r Result, said string, err error) { t.Helper(); checkAll(t, c, must(t, r, said, err), docs) }
		x := run{original: original}
		res(x.do(t, uri, "--drop", dir))
		res(x.do(t, uri, "--drop", "-d", "d", filepath.Join(dir, "d")))
		res(x.do(t, uri, "--drop", filepath.Join(dir, "d", "c.bson")))
		x.stdin = bytes.NewReader(docs)
		res(x.do(t, uri, "--drop", "-d", "d", "-c", "c", "-"))
		writeFile(t, filepath.Join(dir, "d", "c.bson.gz"), pack(t, gzipped, docs))
		writeFile(t, filepath.Join(dir, "d", "c.metadata.json.gz"), pack(t, gzipped, []byte(meta)))
		if err := os.Remove(filepath.Join(dir, "d", "c.bson")); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "d", "c.metadata.json")); err != nil {
			t.Fatal(err)
		}
		res(x.do(t, uri, "--drop", "--gzip", dir))
		if !original {
			res(x.do(t, uri, "--drop", dir))
			x.stdin = bytes.NewReader(pack(t, zstandard, docs))
			res(x.do(t, uri, "--drop", "-d", "d", "-c", "c", "-"))
		}
		x.stdin = bytes.NewReader(pack(t, gzipped, docs))
		res(x.do(t, uri, "--drop", "--gzip", "-d", "d", "-c", "c", "-"))
	}
	specs, err := c.Database("d").Collection("c").Indexes().ListSpecifications(context.Background())
	if err != nil || len(specs) != 1 { // from stdin there are no metadata
		t.Errorf("%v, %v", specs, err)
	}
}

func checkAll(t testing.TB, c *mongo.Client, res Result, docs []byte) {
	t.Helper()
	n := int64(0)
	for rest := docs; len(rest) > 0; rest = rest[docSize(rest):] {
		n++
	}
	if res != (Result{n, n, 0}) {
		t.Errorf("result %+v, want %d documents", res, n)
	}
	if got := documents(t, c, "d.c"); !bytes.Equal(got, docs) {
		t.Errorf("%d bytes of documents, want %d", len(got), len(docs))
	}
}

// Refused documents are counted and named; the rest goes in.
func TestFailures(t *testing.T) {
	uri := cairntest.Start(t)
	c := connect(t, uri)
	coll := c.Database("d").Collection("c")
	if _, err := coll.InsertMany(context.Background(), []any{bson.D{{Key: "_id", Value: int32(3)}}, bson.D{{Key: "_id", Value: int32(5)}}}); err != nil {
		t.Fatal(err)
	}
	docs := someDocs(100, 4)
	dir := dumpOf(t, docs, "")
	res, said, err := run{}.do(t, uri, dir)
	if err != nil || res != (Result{100, 98, 2}) {
		t.Errorf("%+v, %v", res, err)
	}
	for _, want := range []string{"finished restoring `d.c` (98 documents, 2 failures)", "d.c: 2 documents were refused because of a duplicate key", "d.c: _id 3: E11000", "d.c: _id 5: E11000"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said in\n%s", want, said)
		}
	}
	res, said, err = run{original: true}.do(t, uri, dir)
	if err != nil || res != (Result{100, 0, 100}) || strings.Count(said, "continuing through error: E11000") != 100 {
		t.Errorf("again: %+v, %v\n%s", res, err, said)
	}
	_, said, err = run{original: true}.do(t, uri, "--stopOnError", dir)
	if err == nil || !strings.Contains(err.Error(), "bulk write exception: write errors: [E11000") || !strings.Contains(err.Error(), "d.c: error restoring from "+dir) {
		t.Errorf("stop on error: %v\n%s", err, said)
	}
	if err := coll.Drop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := coll.InsertOne(context.Background(), bson.D{{Key: "_id", Value: int32(50)}}); err != nil {
		t.Fatal(err)
	}
	res, _, err = run{}.do(t, uri, "--maintainInsertionOrder", dir)
	n, cerr := coll.CountDocuments(context.Background(), bson.D{})
	if err == nil || res.Successes != 50 || n != 51 || cerr != nil {
		t.Errorf("in order: %+v, %d documents there, %v, %v", res, n, err, cerr)
	}
}

// A validator refuses, is passed where told, and is named.
func TestValidation(t *testing.T) {
	uri := cairntest.Start(t)
	c := connect(t, uri)
	docs := someDocs(20, 5)
	dir := dumpOf(t, docs, `{"options":{"validator":{"_id":{"$lt":15}}},"indexes":[]}`)
	res, said, err := run{}.do(t, uri, "--drop", dir)
	if err != nil || res != (Result{20, 15, 5}) || !strings.Contains(said, "d.c: 5 documents were refused because of the validator") {
		t.Errorf("%+v, %v\n%s", res, err, said)
	}
	res, said, err = run{}.do(t, uri, "--drop", "--bypassDocumentValidation", dir)
	checkAll(t, c, must(t, res, said, err), docs)
	res, said, err = run{}.do(t, uri, "--drop", "--noOptionsRestore", dir)
	checkAll(t, c, must(t, res, said, err), docs)
}

// An oplog's documents are held to validators as a dump's are, here as by the original.
func TestOplogValidation(t *testing.T) {
	uri := cairntest.Start(t)
	c := connect(t, uri)
	dir := dumpOf(t, nil, `{"options":{"validator":{"n":{"$gt":0}}},"indexes":[]}`)
	var log []byte
	for i := range int32(3) {
		log = append(log, oplogEntry(uint32(i+1), "i", "d.c", bson.D{{Key: "_id", Value: i}, {Key: "n", Value: i}}, nil)...)
	}
	writeFile(t, filepath.Join(dir, "oplog.bson"), log)
	for _, original := range []bool{false, true} {
		_, said, err := run{original: original}.do(t, uri, "--drop", "--oplogReplay", dir)
		if err == nil || !strings.Contains(err.Error(), "Document failed validation") {
			t.Errorf("%v\n%s", err, said)
		}
		res, said, err := run{original: original}.do(t, uri, "--drop", "--oplogReplay", "--bypassDocumentValidation", dir)
		must(t, res, said, err)
		if n, err := c.Database("d").Collection("c").CountDocuments(context.Background(), bson.D{}); err != nil || n != 3 {
			t.Errorf("%d documents, %v", n, err)
		}
	}
}

// --drop drops what is restored and nothing else.
func TestDrop(t *testing.T) {
	uri := cairntest.Start(t)
	c := connect(t, uri)
	for _, ns := range []string{"d.c", "d.other", "e.c"} {
		db, coll := tool.SplitNamespace(ns)
		if _, err := c.Database(db).Collection(coll).InsertOne(context.Background(), bson.D{{Key: "_id", Value: "old"}}); err != nil {
			t.Fatal(err)
		}
	}
	docs := someDocs(10, 6)
	dir := dumpOf(t, docs, "")
	writeFile(t, filepath.Join(dir, "d", "other.bson"), docs)
	res, said, err := run{}.do(t, uri, "--drop", "--nsInclude", "d.c", dir)
	checkAll(t, c, must(t, res, said, err), docs)
	for _, ns := range []string{"d.other", "e.c"} {
		if got := documents(t, c, ns); !bytes.Contains(got, []byte("old")) || len(got) > 100 {
			t.Errorf("%s holds %d bytes", ns, len(got))
		}
	}
	_, said, err = run{}.do(t, uri, "--dryRun", "--drop", dir)
	for _, want := range []string{"would drop and create collection d.c: ", "would drop and create collection d.other: ", "2 to create, 2 to drop before, 0 to add to; ", "dry run completed"} {
		if err != nil || !strings.Contains(said, want) {
			t.Errorf("%v: %q is not said in\n%s", err, want, said)
		}
	}
	checkAll(t, c, res, docs)
	_, said, err = run{original: true}.do(t, uri, "--dryRun", "--drop", dir)
	if err != nil || said != "preparing collections to restore from\ndry run completed" {
		t.Errorf("%v\n%s", err, said)
	}
}

// --objcheck finds what is well-formed outside only.
func TestObjcheck(t *testing.T) {
	uri := cairntest.Start(t)
	bad := someDocs(1, 7)
	bad = append(bad, "\x0f\x00\x00\x00\x08b\x00\x02\x10i\x00\x01\x00\x00\x00\x00"[:15]...)
	bad[len(bad)-15] = 15
	bad[len(bad)-1] = 0
	dir := dumpOf(t, bad, "")
	res, _, err := run{}.do(t, uri, "--objcheck", dir)
	if err == nil || !strings.Contains(err.Error(), "bool is 2") {
		t.Errorf("%+v, %v", res, err)
	}
}

// A stopped restore says so and ends soon.
func TestStopped(t *testing.T) {
	uri := cairntest.Start(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write(someDocs(100, 8))
		cancel(tool.ErrTerminated)
		_ = w.Close()
	}()
	_, said, err := run{ctx: ctx, stdin: r}.do(t, uri, "-d", "d", "-c", "c", "-")
	if !errors.Is(err, tool.ErrTerminated) {
		t.Errorf("%v\n%s", err, said)
	}
}

// Empty timestamps stay empty, on a server that is told so and, by an update behind the
// insert, on an older one.
func TestEmptyTimestamps(t *testing.T) {
	uri := cairntest.Start(t)
	c := connect(t, uri)
	var docs []byte
	for i := range 3 {
		d, err := bson.Marshal(bson.D{{Key: "_id", Value: int32(i)}, {Key: "t", Value: bson.Timestamp{}}, {Key: "x", Value: bson.D{{Key: "t", Value: bson.Timestamp{}}}}})
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, d...)
	}
	dir := dumpOf(t, docs, "")
	for _, v := range [][3]int{{8, 0, 4}, {4, 4, 0}} {
		server := &tool.Server{Version: v, VersionString: fmt.Sprint(v)}
		res, said, err := run{server: server}.do(t, uri, "--drop", dir)
		checkAll(t, c, must(t, res, said, err), docs)
	}
}
