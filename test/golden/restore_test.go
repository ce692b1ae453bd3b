package golden

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/node"
)

// dumped is one collection of testdata/dump, which a real server's mongodump wrote.
type dumped struct {
	db, name string
	meta     bson.Raw
	docs     []bson.Raw
}

func readDump(t *testing.T) (out []dumped) {
	t.Helper()
	files, err := filepath.Glob("testdata/dump/*/*.metadata.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		d := dumped{db: filepath.Base(filepath.Dir(f))}
		if d.meta, err = extjson.Unmarshal(text); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		d.name = d.meta.Get("collectionName").Str()
		data, err := os.ReadFile(strings.TrimSuffix(f, ".metadata.json") + ".bson")
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for len(data) > 0 {
			n := binary.LittleEndian.Uint32(data)
			d.docs, data = append(d.docs, bson.Raw(data[:n])), data[n:]
		}
		out = append(out, d)
	}
	return out
}

// TestRestoreGoldenDump gives a server the dump by the commands that mongorestore sends,
// with new UUIDs and with those of the dump, and compares what it shows with what the
// server of the dump showed.
func TestRestoreGoldenDump(t *testing.T) {
	for _, keepUUID := range []bool{false, true} {
		n := startNode(t)
		uuids := map[string]string{}
		for _, d := range readDump(t) {
			if keepUUID && d.meta.Get("type").Str() != "view" {
				uuids[d.db+"."+d.name] = d.meta.Get("uuid").Str()
			}
			d.restore(t, n, keepUUID)
		}
		checkState(t, n, uuids)
	}
}

func (d *dumped) create() bson.Raw {
	return bson.NewBuilder(nil).Str("create", d.name).AppendElems(d.meta.Get("options").Doc()).Finish()
}

func mustRun(t *testing.T, n *node.Node, db string, cmd bson.Raw) bson.Raw {
	t.Helper()
	reply := run(t, n, db, cmd)
	if !reply.Get("ok").Truthy() || reply.Has("writeErrors") {
		t.Fatalf("%s: %s", cmd, reply)
	}
	return reply
}

func (d *dumped) restore(t *testing.T, n *node.Node, keepUUID bool) {
	t.Helper()
	if keepUUID && d.meta.Get("type").Str() != "view" {
		op := bson.D("ts", bson.Timestamp(0), "t", nil, "v", 0, "op", "c", "ns", d.db+".$cmd", "o", d.create(), "ui", parseUUID(t, d.meta.Get("uuid").Str()))
		mustRun(t, n, "admin", bson.D("applyOps", []bson.Raw{op}))
	} else {
		mustRun(t, n, d.db, d.create())
	}
	if len(d.docs) > 0 {
		mustRun(t, n, d.db, bson.D("insert", d.name, "documents", d.docs, "ordered", false, "bypassDocumentValidation", true))
	}
	_, collated := d.meta.Path("options.collation.locale").Str(), d.meta.Get("options").Doc().Has("collation")
	var specs []bson.Raw
	for v := range d.meta.Get("indexes").Doc().Values() {
		b := bson.NewBuilder(nil)
		for k, e := range v.Doc().Elems() {
			if k != "ns" {
				b.Append(k, e)
			}
		}
		if collated && !v.Doc().Has("collation") {
			b.AppendDoc("collation", bson.D("locale", "simple"))
		}
		if first, _ := v.Doc().Get("key").Doc().First(); first != "_id" {
			specs = append(specs, b.Finish())
		}
	}
	if len(specs) > 0 {
		reply := mustRun(t, n, d.db, bson.D("createIndexes", d.name, "indexes", specs, "ignoreUnknownIndexOptions", true))
		note := reply.Get("note").Str()
		for _, name := range []string{"s_text", "loc_2dsphere", "flat_2d", "a_hashed", "$**_1"} {
			if !strings.Contains(note, name) {
				t.Errorf("the note %q does not name %s, which no query uses", note, name)
			}
		}
	}
}

func parseUUID(t *testing.T, hex string) bson.UUID {
	t.Helper()
	d, err := extjson.Unmarshal([]byte(`{"u":{"$uuid":"` + hex[:8] + "-" + hex[8:12] + "-" + hex[12:16] + "-" + hex[16:20] + "-" + hex[20:] + `"}}`))
	if err != nil {
		t.Fatal(err)
	}
	u, _ := d.Get("u").UUID()
	return u
}

// checkState compares what the server shows with state.jsonl.
func checkState(t *testing.T, n *node.Node, uuids map[string]string) {
	t.Helper()
	for _, want := range lines(t, "testdata/state.jsonl") {
		ns := want.Get("ns").Str()
		db, coll, _ := strings.Cut(ns, ".")
		info := batch(mustRun(t, n, db, bson.D("listCollections", 1, "filter", bson.D("name", coll))))
		if len(info) != 1 {
			t.Errorf("%s is not there", ns)
			continue
		}
		if got := info[0].Get("type").Str(); got != want.Get("type").Str() {
			t.Errorf("%s is a %s", ns, got)
		}
		same(t, ns+" options", info[0].Get("options").Doc(), want.Get("options").Doc())
		if u := uuids[ns]; u != "" {
			if got, _ := info[0].Path("info.uuid").UUID(); got != parseUUID(t, u) {
				t.Errorf("%s has the UUID %s, not %s", ns, got, u)
			}
		}
		if want.Get("indexes").Type == bson.TypeArray {
			got := batch(mustRun(t, n, db, bson.D("listIndexes", coll)))
			var list []bson.Raw
			for v := range want.Get("indexes").Doc().Values() {
				list = append(list, v.Doc())
			}
			if len(got) != len(list) {
				t.Errorf("%s has %d indexes, not %d", ns, len(got), len(list))
				continue
			}
			for i := range got {
				same(t, ns+" index", byName(got[i]), byName(list[i]))
			}
		}
		var docs []bson.Raw
		for v := range want.Get("docs").Doc().Values() {
			docs = append(docs, v.Doc())
		}
		got := batch(mustRun(t, n, db, bson.D("find", coll, "batchSize", 1000)))
		if len(got) != len(docs) {
			t.Errorf("%s has %d documents, not %d", ns, len(got), len(docs))
			continue
		}
		for i := range got {
			same(t, ns, got[i], docs[i])
		}
	}
}

func same(t *testing.T, what string, got, want bson.Raw) {
	t.Helper()
	if bson.CompareDocs(got, want) != 0 {
		t.Errorf("%s\n got %s\nwant %s", what, got, want)
	}
}

// byName is an index specification without v and ns, its options by name: their order says nothing.
func byName(spec bson.Raw) bson.Raw {
	names := []string{"key", "name", "unique", "sparse", "expireAfterSeconds", "partialFilterExpression", "collation", "weights", "default_language",
		"language_override", "textIndexVersion", "2dsphereIndexVersion", "bits", "min", "max", "wildcardProjection"}
	b := bson.NewBuilder(nil)
	for _, k := range names {
		if v := spec.Get(k); !v.IsMissing() {
			b.Append(k, v)
		}
	}
	for k, v := range spec.Elems() {
		known := k == "v" || k == "ns"
		for _, name := range names {
			known = known || k == name
		}
		if !known {
			b.Append(k, v)
		}
	}
	return b.Finish()
}

func batch(reply bson.Raw) (docs []bson.Raw) {
	for v := range reply.Path("cursor.firstBatch").Doc().Values() {
		docs = append(docs, v.Doc())
	}
	return docs
}

// TestSeriesGoTwoWays takes a time-series collection to another server as dump and restore do,
// and as the log of the first replayed with applyOps, and compares.
func TestSeriesGoTwoWays(t *testing.T) {
	a, b, c := startNode(t), startNode(t), startNode(t)
	date := func(min int64) bson.DateTime { return bson.DateTime(1714557600000 + min*60000) }
	mustRun(t, a, "d", bson.D("create", "s", "timeseries", bson.D("timeField", "ts", "metaField", "m", "granularity", "minutes"), "expireAfterSeconds", 86400))
	mustRun(t, a, "d", bson.D("createIndexes", "s", "indexes", []bson.Raw{
		bson.D("key", bson.D("ts", -1), "name", "ts_-1"), bson.D("key", bson.D("m.k", 1, "v", 1), "name", "m.k_1_v_1"),
	}))
	for i := range int64(30) {
		mustRun(t, a, "d", bson.D("insert", "s", "documents", []bson.Raw{
			bson.D("_id", i, "ts", date(i*50), "m", bson.D("k", i%3), "v", i*i),
			bson.D("_id", i+100, "ts", date(i), "m", bson.D("k", 7), "w", "x"),
		}))
	}
	info := batch(mustRun(t, a, "d", bson.D("listCollections", 1, "filter", bson.D("name", "s"))))[0]
	if info.Get("type").Str() != "timeseries" {
		t.Fatalf("listed as %s", info)
	}
	// A restore: the collection by its own name, the buckets as they are, its indexes.
	mustRun(t, b, "d", bson.NewBuilder(nil).Str("create", "s").AppendElems(info.Get("options").Doc()).Finish())
	mustRun(t, b, "d", bson.D("insert", "system.buckets.s", "documents", batch(mustRun(t, a, "d", bson.D("find", "system.buckets.s"))), "bypassDocumentValidation", true))
	mustRun(t, b, "d", bson.D("createIndexes", "s", "indexes", batch(mustRun(t, a, "d", bson.D("listIndexes", "s")))))
	// The log.
	ops := batch(mustRun(t, a, "local", bson.D("find", "oplog.rs", "filter", bson.D("ns", bson.D("$regex", "^d\\.")), "batchSize", 10000)))
	mustRun(t, c, "admin", bson.D("applyOps", ops))
	show := func(n *node.Node) (out []bson.Raw) {
		for _, cmd := range []bson.Raw{
			bson.D("listIndexes", "s"), bson.D("listIndexes", "system.buckets.s"), bson.D("find", "s", "sort", bson.D("_id", 1), "batchSize", 1000), bson.D("find", "system.buckets.s"),
		} {
			out = append(out, batch(mustRun(t, n, "d", cmd))...)
		}
		for _, i := range batch(mustRun(t, n, "d", bson.D("listCollections", 1))) {
			out = append(out, bson.D("name", i.Get("name"), "type", i.Get("type"), "options", i.Get("options")))
		}
		return append(out, bson.D("n", mustRun(t, n, "d", bson.D("count", "s")).Get("n")))
	}
	want := show(a)
	if len(want) < 70 {
		t.Fatalf("only %d things to compare", len(want))
	}
	for name, n := range map[string]*node.Node{"restored": b, "replayed": c} {
		got := show(n)
		if len(got) != len(want) {
			t.Errorf("%s shows %d things, not %d", name, len(got), len(want))
			continue
		}
		for i := range got {
			same(t, name, got[i], want[i])
		}
	}
	mustRun(t, b, "d", bson.D("drop", "s"))
	for _, i := range batch(mustRun(t, b, "d", bson.D("listCollections", 1))) {
		if i.Get("name").Str() != "system.views" {
			t.Errorf("left after the drop: %s", i)
		}
	}
}

// TestSeriesInsertsAreRetryable: a statement that is sent again is not done again, whether its
// measurement began a bucket or joined one.
func TestSeriesInsertsAreRetryable(t *testing.T) {
	n := startNode(t)
	mustRun(t, n, "d", bson.D("create", "s", "timeseries", bson.D("timeField", "t", "metaField", "m")))
	lsid := bson.D("id", bson.UUID{1, 2, 3})
	for txn := range int64(3) {
		docs := []bson.Raw{
			bson.D("_id", 10*txn, "t", bson.DateTime(1714557600000), "m", "a"),
			bson.D("_id", 10*txn+1, "t", bson.DateTime(1714557601000), "m", "a"),
			bson.D("_id", 10*txn+2, "t", bson.DateTime(1714557601000), "m", "b"),
		}
		cmd := bson.D("insert", "s", "documents", docs, "lsid", lsid, "txnNumber", txn)
		for range 3 {
			if got, _ := mustRun(t, n, "d", cmd).Get("n").AsInt64(); got != 3 {
				t.Errorf("n is %d", got)
			}
		}
	}
	if got, _ := mustRun(t, n, "d", bson.D("count", "s")).Get("n").AsInt64(); got != 9 {
		t.Errorf("%d measurements, not 9", got)
	}
	if got, _ := mustRun(t, n, "d", bson.D("count", "system.buckets.s")).Get("n").AsInt64(); got != 2 {
		t.Errorf("%d buckets, not 2", got)
	}
}
