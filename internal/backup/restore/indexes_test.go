package restore

import (
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func spec(t testing.TB, json string) bson.D {
	t.Helper()
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(json), false, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestParseMetadata(t *testing.T) {
	m, err := ParseMetadata([]byte(`{"options":{"capped":true,"size":{"$numberLong":"4096"}},"indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"}],"uuid":"00ff","collectionName":"c","type":"collection"}`))
	if err != nil || lookup(m.Options, "size") != int64(4096) || m.UUID != "00ff" || m.CollectionName != "c" || !isDefaultID(m.Indexes[0]) {
		t.Fatalf("%+v, %v", m, err)
	}
	if m, err := ParseMetadata(nil); m != nil || err != nil {
		t.Errorf("empty: %v, %v", m, err)
	}
	for _, bad := range []string{`{`, `[]`, `{"indexes":[{"key":{"a":1}}]}`, `{"indexes":[{"name":"x"}]}`, `{"indexes":[{"name":"x","key":{}}]}`, `{"options":1}`, `{} x`, `{"unknown":{"x":1`} {
		if m, err := ParseMetadata([]byte(bad)); err == nil {
			t.Errorf("%s is accepted: %+v", bad, m)
		}
	}
	for text, want := range map[string][3]bool{ // time series, view, simple collation
		`{}`: {false, false, true},
		`{"options":{"timeseries":{"timeField":"t"}}}`:  {true, false, true},
		`{"options":{"viewOn":"c","pipeline":[]}}`:      {false, true, true},
		`{"options":{"collation":{"locale":"de"}}}`:     {false, false, false},
		`{"options":{"collation":{"locale":"simple"}}}`: {false, false, true},
	} {
		m, err := ParseMetadata([]byte(text))
		if got := [3]bool{m.timeseries(), m.view(), m.simpleCollation()}; err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// Whatever a metadata file holds, it is read or refused; what is read can be used.
func FuzzMetadata(f *testing.F) {
	f.Add([]byte(`{"options":{"viewOn":"c","collation":{"locale":"de"}},"indexes":[{"v":{"$numberInt":"1"},"key":{"a.b":"hashed","c":{"$numberDecimal":"0"}},"name":"x","collation":{"locale":"simple"}}],"uuid":""}`))
	f.Add([]byte(`{"indexes":[{"key":{"_id":""},"name":"_id_"}]}`))
	f.Add([]byte(`{"options":{"timeseries":1}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseMetadata(text)
		if err != nil || m == nil {
			return
		}
		c := newIndexCatalog()
		c.set("d.c", m.Indexes, m.simpleCollation())
		for _, s := range c.specs("d.c") {
			isDefaultID(s)
			plainV1(s)
			inferVersions(s)
			if _, err := bson.Marshal(s); err != nil {
				t.Fatalf("%v: %v", s, err)
			}
		}
		convertLegacy(c.specs("d.c"), "d.c", true, func(string, ...any) {})
		fixDottedHash(c.specs("d.c"))
		orderViews([]*task{{src: "d.c", db: "d", coll: "c", typ: "view", meta: m}})
	})
}

func names(specs []bson.D) string {
	var out []string
	for _, s := range specs {
		out = append(out, fmt.Sprint(lookup(s, "name")))
	}
	return strings.Join(out, " ")
}

// The catalog follows what an oplog does to indexes.
func TestIndexCatalog(t *testing.T) {
	c := newIndexCatalog()
	c.set("d.c", []bson.D{spec(t, `{"name":"_id_","key":{"_id":1}}`), spec(t, `{"name":"a_1","key":{"a":1}}`), spec(t, `{"name":"b_1","key":{"b":1}}`)}, true)
	c.add("d.c", spec(t, `{"name":"c_1","key":{"c":1}}`))
	c.add("d.c", spec(t, `{"name":"a_1","key":{"a":1},"unique":true}`))
	if got := names(c.specs("d.c")); got != "_id_ a_1 b_1 c_1" || lookup(c.byName("d.c", "a_1"), "unique") != true {
		t.Errorf("after adding: %s", got)
	}
	if err := c.drop("d.c", "b_1"); err != nil {
		t.Error(err)
	}
	if err := c.drop("d.c", spec(t, `{"c":{"$numberDouble":"1.0"}}`)); err != nil {
		t.Error(err)
	}
	if got := names(c.specs("d.c")); got != "_id_ a_1" {
		t.Errorf("after dropping: %s", got)
	}
	if err := c.modify("d.c", spec(t, `{"keyPattern":{"a":1},"expireAfterSeconds":5}`)); err != nil || lookup(c.byName("d.c", "a_1"), "expireAfterSeconds") != int32(5) {
		t.Errorf("collMod: %v", err)
	}
	for _, bad := range []string{`{"name":"zz"}`, `{}`, `{"name":"a_1","keyPattern":{"a":1}}`} {
		if c.modify("d.c", spec(t, bad)) == nil {
			t.Errorf("collMod %s is accepted", bad)
		}
	}
	c.rename("d.c", "d.e")
	if len(c.specs("d.c")) != 0 || names(c.specs("d.e")) != "_id_ a_1" {
		t.Error("rename")
	}
	if err := c.drop("d.e", "*"); err != nil || names(c.specs("d.e")) != "_id_" {
		t.Errorf("dropping all leaves %s, %v", names(c.specs("d.e")), err)
	}
	if c.drop("d.e", 1) == nil {
		t.Error("dropping a number is accepted")
	}
	c.add("d.f", spec(t, `{"name":"x","key":{"x":1}}`))
	c.add("other.f", spec(t, `{"name":"x","key":{"x":1}}`))
	c.dropCollection("d.f")
	c.add("d.g", spec(t, `{"name":"x","key":{"x":1}}`))
	c.dropDatabase("d")
	if got := fmt.Sprint(c.namespaces()); got != "[other.f]" {
		t.Error(got)
	}
}

// An index without a collation of a collection that has one is told to be simple.
func TestSimpleCollation(t *testing.T) {
	c := newIndexCatalog()
	c.set("d.c", []bson.D{spec(t, `{"name":"a","key":{"a":1}}`), spec(t, `{"name":"b","key":{"b":1},"collation":{"locale":"de"}}`)}, false)
	s := c.specs("d.c")
	if jsonText(lookup(s[0], "collation")) != `{"locale":"simple"}` || jsonText(lookup(s[1], "collation")) != `{"locale":"de"}` {
		t.Error(s)
	}
	if v1 := plainV1(spec(t, `{"v":1,"collation":{"locale":"simple"}}`)); lookup(v1, "collation") != nil {
		t.Error(v1)
	}
	if v2 := plainV1(spec(t, `{"v":2,"collation":{"locale":"simple"}}`)); lookup(v2, "collation") == nil {
		t.Error(v2)
	}
}

func TestLegacyIndexes(t *testing.T) {
	var said []string
	say := func(f string, a ...any) { said = append(said, fmt.Sprintf(f, a...)) }
	in := []bson.D{
		spec(t, `{"name":"t","key":{"a":true,"b":""},"dropDups":true}`), spec(t, `{"name":"z","key":{"a":0,"b":{"$numberDouble":"1e-12"}}}`),
		spec(t, `{"name":"s","key":{"s":"2dsphere"}}`), spec(t, `{"name":"n","key":{"n":{"$numberDouble":"-0.5"}}}`),
	}
	out := convertLegacy(in, "d.c", true, say)
	if names(out) != "t s n" || jsonText(lookup(out[0], "key")) != `{"a":1,"b":1}` || lookup(out[0], "dropDups") != nil {
		t.Errorf("%s, %v", names(out), out[0])
	}
	if len(said) != 4 || !strings.Contains(said[0], "converted index values `{\"a\":true,\"b\":\"\"}` to `{\"a\":1,\"b\":1}` on collection `d.c`") ||
		!strings.Contains(said[3], "index z contains duplicate key with an existing index") {
		t.Error(strings.Join(said, "\n"))
	}
	if jsonText(lookup(in[0], "key")) != `{"a":true,"b":""}` {
		t.Error("the input was changed")
	}
	fixed := fixDottedHash([]bson.D{spec(t, `{"name":"h","key":{"a.b":"hashed"}}`), spec(t, `{"name":"i","key":{"a":"hashed"}}`)})
	if jsonText(lookup(fixed[0], "key")) != `{"a.b":1}` || jsonText(lookup(fixed[1], "key")) != `{"a":"hashed"}` {
		t.Error(fixed)
	}
	if s, ok := inferVersions(spec(t, `{"name":"s","key":{"s":"2dsphere"}}`)); !ok || lookup(s, "2dsphereIndexVersion") != int32(1) {
		t.Error(s)
	}
	for text, want := range map[string]bool{`{"key":{"_id":1}}`: true, `{"key":{"_id":""}}`: true, `{"key":{"_id":{"$numberLong":"1"}}}`: true,
		`{"key":{"_id":-1}}`: false, `{"key":{"_id":"hashed"}}`: false, `{"key":{"_id":1,"a":1}}`: false, `{"key":{"_id":1},"partialFilterExpression":{}}`: false} {
		if got := isDefaultID(spec(t, text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
