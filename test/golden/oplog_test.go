package golden

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/node"
)

// must runs a command that has to succeed; cmd is extended JSON.
func must(t *testing.T, n *node.Node, db, cmd string) bson.Raw {
	t.Helper()
	reply := run(t, n, db, extjson.MustParse(cmd))
	if ok, _ := reply.Get("ok").AsFloat64(); ok != 1 || reply.Has("writeErrors") {
		t.Fatalf("%s: %s", cmd, reply)
	}
	return reply
}

// oplog returns the entries that match a filter, oldest first.
func oplog(t *testing.T, n *node.Node, filter string) (out []bson.Raw) {
	t.Helper()
	reply := must(t, n, "local", `{"find": "oplog.rs", "batchSize": 100000, "filter": `+filter+`}`)
	for v := range reply.Path("cursor.firstBatch").Doc().Values() {
		out = append(out, v.Doc())
	}
	return out
}

var session = `"lsid": {"id": {"$binary": {"base64": "mduAxi8ARjiO3MIUiJJffQ==", "subType": "04"}}}, "txnNumber": {"$numberLong": "`

// kinds are the commands behind testdata/oplog-kinds.jsonl. The transaction among them is not
// built yet.
var kinds = []statement{
	{"goplog", `{"dropDatabase": 1}`},
	{"goplog", `{"insert": "foo", "documents": [{"_id": 1, "x": 1}], ` + session + `1"}}`},
	{"goplog", `{"update": "foo", "updates": [{"q": {"x": 1}, "u": {"$set": {"y": 1}}}], ` + session + `2"}}`},
	{"goplog", `{"update": "foo", "updates": [{"q": {"x": 2}, "u": {"$set": {"y": 1}}, "upsert": true}], ` + session + `3"}}`},
	{"goplog", `{"delete": "foo", "deletes": [{"q": {"_id": 1}, "limit": 0}]}`},
	{"goplog", `{"insert": "foo", "documents": [{"_id": 10, "a": [1, 2, 3]}, {"_id": 11, "a": [{"k": 1}, {"k": 2}]}, {"_id": 12, "n": 1, "d": {"e": {"f": 1}}}], ` + session + `4"}}`},
	{"goplog", `{"update": "foo", "updates": [{"q": {"_id": 10}, "u": {"$push": {"a": 4}}}], ` + session + `5"}}`},
	{"goplog", `{"update": "foo", "updates": [{"q": {"_id": 10}, "u": {"$pull": {"a": 2}}}], ` + session + `6"}}`},
	{"goplog", `{"update": "foo", "updates": [{"q": {"_id": 11}, "u": {"$set": {"a.1.v": 9}}}], ` + session + `7"}}`},
	{"goplog", `{"update": "foo", "updates": [{"q": {"_id": 12}, "u": {"$inc": {"n": 5}, "$unset": {"d.e.f": 1}}}], ` + session + `8"}}`},
	{"goplog", `{"update": "foo", "updates": [{"q": {"_id": 12}, "u": {"$rename": {"d": "dd"}}}], ` + session + `9"}}`},
	{"goplog", `{"update": "foo", "updates": [{"q": {"_id": 12}, "u": {"whole": "new"}}], ` + session + `10"}}`},
	{"goplog", `{"update": "foo", "updates": [{"q": {}, "u": {"$set": {"all": true}}, "multi": true}]}`},
	{"goplog", `{"update": "foo", "updates": [{"q": {"_id": 12}, "u": [{"$set": {"p": {"$concat": ["$whole", "!"]}}}]}], ` + session + `11"}}`},
	{"goplog", `{"findAndModify": "foo", "query": {"_id": 10}, "update": {"$currentDate": {"when": true}}, ` + session + `12"}}`},
	{"goplog", `{"findAndModify": "foo", "query": {"_id": 11}, "remove": true, ` + session + `13"}}`},
	{"goplog", `{"createIndexes": "foo", "indexes": [{"key": {"a": 1}, "name": "ia"}]}`},
	{"goplog", `{"createIndexes": "foo", "indexes": [{"key": {"z": 1}, "name": "iz", "sparse": true}]}`},
	{"goplog", `{"dropIndexes": "foo", "index": "iz"}`},
	{"goplog", `{"collMod": "foo", "validator": {"x": {"$exists": true}}, "validationLevel": "off"}`},
	{"admin", `{"renameCollection": "goplog.foo", "to": "goplog.bar"}`},
	{"goplog", `{"create": "cap", "capped": true, "size": 4096}`},
	{"goplog", `{"insert": "cap", "documents": [{"_id": 1}], ` + session + `14"}}`},
	{"goplog", `{"convertToCapped": "bar", "size": 100096}`},
	{"goplog", `{"create": "v", "viewOn": "bar", "pipeline": []}`},
	{"goplog", `{"drop": "v"}`},
	{"goplog", `{"aggregate": "bar", "pipeline": [{"$out": "outcoll"}], "cursor": {}}`},
	{"goplog", `{"drop": "cap"}`},
	{"goplog", `{"create": "t2"}`},
	{"goplog", `{"dropDatabase": 1}`},
}

type statement struct{ db, cmd string }

func (s statement) String() string { return s.db + " " + s.cmd }

// temporary are names that each server makes up.
var temporary = regexp.MustCompile(`tmp\w{5}\.convertToCapped|tmp\.agg_out\.\w+`)

// names gives what each server makes up for itself (UUIDs, ObjectIds, times) names by the order
// in which it first appears, so that the same thing has the same name.
type names struct {
	seen  map[string]string
	count map[string]int
}

func (n *names) of(kind, value string) string {
	if n.seen[value] == "" {
		n.count[kind]++
		n.seen[value] = fmt.Sprintf("%s %d", kind, n.count[kind])
	}
	return n.seen[value]
}

func (n *names) value(v bson.Value) bson.Value {
	switch v.Type {
	case bson.TypeDocument:
		return n.doc(v.Doc()).Value()
	case bson.TypeArray:
		return bson.Value{Type: bson.TypeArray, Data: n.doc(bson.Raw(v.Data))}
	case bson.TypeObjectID:
		return bson.V(n.of("oid", text(v)))
	case bson.TypeDate:
		return bson.V("date")
	case bson.TypeTimestamp:
		return bson.V(n.of("time", text(v)))
	case bson.TypeString:
		return bson.V(temporary.ReplaceAllString(v.Str(), "tmp"))
	}
	if u, ok := v.UUID(); ok {
		return bson.V(n.of("uuid", u.String()))
	}
	return v
}

func (n *names) doc(d bson.Raw) bson.Raw {
	b := bson.NewBuilder(nil)
	for key, v := range d.Elems() {
		if key == "indexBuildUUID" {
			v = bson.V("build")
		}
		b.Append(key, n.value(v))
	}
	return b.Finish()
}

func named(entries []bson.Raw) (out []bson.Raw) {
	n := &names{seen: map[string]string{}, count: map[string]int{}}
	for _, e := range entries {
		out = append(out, n.doc(e))
	}
	return out
}

// sortDrops puts the drops before a dropDatabase in order: a database's collections have none.
func sortDrops(entries []bson.Raw) {
	isDrop := func(e bson.Raw) bool { return e.Path("o.drop").Type == bson.TypeString }
	for i := 0; i < len(entries); i++ {
		j := i
		for j < len(entries) && isDrop(entries[j]) {
			j++
		}
		if j < len(entries) && entries[j].Path("o").Doc().Has("dropDatabase") {
			slices.SortFunc(entries[i:j], func(a, b bson.Raw) int { return bson.Compare(a.Path("o.drop"), b.Path("o.drop")) })
		}
		i = j
	}
}

// asBuilds writes the index entries of 4.2 as 8.0 does, in two entries.
func asBuilds(entries []bson.Raw) (out []bson.Raw) {
	for _, e := range entries {
		o := e.Get("o").Doc()
		coll := o.Get("createIndexes")
		if coll.IsMissing() {
			out = append(out, e)
			continue
		}
		spec := bson.NewBuilder(nil)
		for key, v := range o.Elems() {
			if key != "createIndexes" {
				spec.Append(key, v)
			}
		}
		specs := bson.A(spec.Finish())
		for _, op := range []string{"startIndexBuild", "commitIndexBuild"} {
			b := bson.NewBuilder(nil)
			for key, v := range e.Elems() {
				if key == "o" {
					v = bson.D(op, coll, "indexes", specs).Value()
				}
				b.Append(key, v)
			}
			out = append(out, b.Finish())
		}
	}
	return out
}

func TestOplogKinds(t *testing.T) {
	const file = "testdata/oplog-differences.txt"
	table := readDifferences(t, file)
	n := startNode(t)
	must(t, n, "goplog", `{"insert": "foo", "documents": [{}, {}, {}, {}]}`)
	for _, c := range kinds {
		must(t, n, c.db, c.cmd)
	}
	have := oplog(t, n, `{"ns": {"$regex": "^goplog[.]"}}`)[5:] // without what the first line made
	want := slices.DeleteFunc(lines(t, "testdata/oplog-kinds.jsonl")[1:], func(e bson.Raw) bool { return e.Get("o").Doc().Has("applyOps") })
	want = asBuilds(want)
	sortDrops(have)
	sortDrops(want)
	if len(have) != len(want) {
		t.Errorf("%d entries, want %d", len(have), len(want))
	}
	have, want = named(have), named(want)
	for i := range min(len(have), len(want)) {
		judge(t, table, i+1, want[i], compare("", want[i], have[i]))
	}
	unused(t, file, table)
}

// TestTranscript is the session that every introduction to the oplog shows: an insert, an
// update, an upsert and a remove, and the kinds of entries they leave.
func TestTranscript(t *testing.T) {
	n := startNode(t)
	must(t, n, "test", `{"insert": "foo", "documents": [{"x": 1}]}`)
	must(t, n, "test", `{"update": "foo", "updates": [{"q": {"x": 1}, "u": {"$set": {"y": 1}}}]}`)
	must(t, n, "test", `{"update": "foo", "updates": [{"q": {"x": 2}, "u": {"$set": {"y": 1}}, "upsert": true}]}`)
	must(t, n, "test", `{"delete": "foo", "deletes": [{"q": {"x": 1}, "limit": 0}]}`)
	var got []string
	for _, e := range named(oplog(t, n, `{"ns": {"$not": {"$regex": "^admin[.]"}}}`)) { // without what admin.system.version is made of
		b := bson.NewBuilder(nil)
		for _, key := range []string{"op", "ns", "o2", "o"} {
			if v := e.Get(key); !v.IsMissing() {
				b.Append(key, v)
			}
		}
		got = append(got, b.Finish().String())
	}
	want := []string{
		`{ op: "n", ns: "", o: { msg: "initiating set" } }`,
		`{ op: "c", ns: "test.$cmd", o: { create: "foo", idIndex: { v: 2, key: { _id: 1 }, name: "_id_" } } }`,
		`{ op: "i", ns: "test.foo", o: { _id: "oid 1", x: 1 } }`,
		`{ op: "u", ns: "test.foo", o2: { _id: "oid 1" }, o: { $v: 2, diff: { i: { y: 1 } } } }`,
		`{ op: "i", ns: "test.foo", o: { _id: "oid 2", x: 2, y: 1 } }`,
		`{ op: "d", ns: "test.foo", o: { _id: "oid 1" } }`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("entries:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestReplayKinds replays what the real server wrote, entry by entry, and looks in between.
func TestReplayKinds(t *testing.T) {
	n := startNode(t)
	entries := lines(t, "testdata/oplog-kinds.jsonl")
	at := 0
	// through replays up to and with the first entry that is so.
	through := func(is func(o bson.Raw) bool) {
		t.Helper()
		for ; at < len(entries); at++ {
			e := entries[at]
			reply := run(t, n, "admin", bson.D("applyOps", bson.A(e)))
			if ok, _ := reply.Get("ok").AsFloat64(); ok != 1 {
				t.Fatalf("entry %d: %s: %s", at+1, e, reply)
			}
			if is(e.Get("o").Doc()) {
				break
			}
		}
		at++
	}
	show := func(coll string) (out []string) {
		reply := must(t, n, "goplog", `{"find": "`+coll+`", "sort": {"$natural": 1}}`)
		for v := range reply.Path("cursor.firstBatch").Doc().Values() {
			out = append(out, v.String())
		}
		return out
	}
	check := func(coll string, want ...string) {
		t.Helper()
		if got := show(coll); !slices.Equal(got, want) {
			t.Errorf("%s holds\n  %s\nwant\n  %s", coll, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	}
	field := func(name, value string) func(bson.Raw) bool {
		return func(o bson.Raw) bool { return o.Get(name).Str() == value }
	}

	through(field("whole", "new"))
	check("foo",
		`{ _id: ObjectId('6b02d92006dbaeb6025e99cd'), x: 2, y: 1 }`, `{ _id: 10, a: [ 1, 3, 4 ] }`,
		`{ _id: 11, a: [ { k: 1 }, { k: 2, v: 9 } ] }`, `{ _id: 12, whole: "new" }`)
	through(field("dropIndexes", "foo"))
	rest := []string{
		`{ _id: ObjectId('6b02d92006dbaeb6025e99cd'), x: 2, y: 1, all: true }`,
		`{ _id: 10, a: [ 1, 3, 4 ], all: true, when: new Date(1795348768963) }`,
		`{ _id: 12, whole: "new", all: true, p: "new!" }`,
	}
	check("foo", rest...)
	var indexes []string
	for v := range must(t, n, "goplog", `{"listIndexes": "foo"}`).Path("cursor.firstBatch").Doc().Values() {
		indexes = append(indexes, v.Doc().Get("name").Str())
	}
	if !slices.Equal(indexes, []string{"_id_", "ia"}) {
		t.Errorf("indexes %v", indexes)
	}
	through(field("to", "goplog.bar")) // the rename
	check("foo")
	check("bar", rest...)
	through(field("to", "goplog.bar")) // convertToCapped
	check("bar", rest...)
	check("cap", `{ _id: 1 }`)
	for range 2 {
		through(field("_id", "goplog.v")) // the view, then its drop
	}
	through(field("to", "goplog.outcoll"))
	check("outcoll", rest...)
	through(func(o bson.Raw) bool { return o.Has("applyOps") }) // the transaction
	check("t2", `{ _id: 1, txn: true, u: 1 }`)
	through(func(o bson.Raw) bool { return o.Has("dropDatabase") })
	if at != len(entries) {
		t.Errorf("%d of %d entries replayed", at, len(entries))
	}
	list := must(t, n, "goplog", `{"listCollections": 1}`).Path("cursor.firstBatch").Doc()
	if !list.IsEmpty() {
		t.Errorf("left: %s", list)
	}
}
