package find

import (
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

func TestFilter(t *testing.T) {
	doc := extjson.MustParse(`{"_id": 1, "name": "lisi", "n": 5, "a": {"b": [1, {"c": 2}]}, "tags": ["x", "y"], "z": null}`)
	for _, tc := range []struct {
		filter string
		want   bool
	}{
		{`{}`, true}, {`{"_id": 1}`, true}, {`{"_id": 2}`, false}, {`{"_id": {"$numberLong": "1"}}`, true},
		{`{"name": "lisi", "n": {"$gte": 5, "$lt": 6}}`, true}, {`{"n": {"$gt": "a"}}`, false}, {`{"n": {"$ne": 5}}`, false},
		{`{"a.b": 1}`, true}, {`{"a.b.c": 2}`, true}, {`{"a.b.1.c": 2}`, true}, {`{"a.b.c": 3}`, false}, {`{"tags": "y"}`, true},
		{`{"tags": ["x", "y"]}`, true}, {`{"z": null}`, true}, {`{"missing": null}`, true}, {`{"missing": {"$exists": true}}`, false},
		{`{"n": {"$in": [4, 5]}}`, true}, {`{"n": {"$nin": [4, 5]}}`, false}, {`{"$and": [{"n": 5}, {"name": "no"}]}`, false},
	} {
		f, err := Compile(extjson.MustParse(tc.filter))
		if err != nil || f.Match(doc) != tc.want {
			t.Errorf("%s: %v, %v", tc.filter, !tc.want, err)
		}
	}
	for _, bad := range []string{`{"$or": [{"a": 1}]}`, `{"a": {"$regex": "x"}}`, `{"a": {"$in": 1}}`} {
		if _, err := Compile(extjson.MustParse(bad)); err == nil || !strings.Contains(err.Error(), "$") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for filter, only := range map[string]bool{`{"_id": 1}`: true, `{"_id": {"$in": [1]}}`: true, `{"_id": {"$gt": 1}}`: false, `{"_id": 1, "a": 1}`: false, `{}`: false} {
		if f, _ := Compile(extjson.MustParse(filter)); f.OnlyID != only {
			t.Errorf("%s: OnlyID %v", filter, f.OnlyID)
		}
	}
}

func unit(t *testing.T, op, ns, o, o2 string) *entry.Unit {
	t.Helper()
	b := bson.NewBuilder(nil)
	b.Timestamp("ts", bson.NewTimestamp(9, 1)).Int64("t", 1).Str("op", op).Str("ns", ns).AppendDoc("o", extjson.MustParse(o))
	if o2 != "" {
		b.AppendDoc("o2", extjson.MustParse(o2))
	}
	e, err := entry.Parse(b.Finish())
	if err != nil {
		t.Fatal(err)
	}
	return &entry.Unit{OpTime: e.OpTime, Entries: []entry.Entry{e}}
}

func TestFinderFollowsADocument(t *testing.T) {
	f, err := Compile(extjson.MustParse(`{"name": "lisi"}`))
	if err != nil {
		t.Fatal(err)
	}
	fd := Finder{NS: "d.c", Filter: f}
	fd.Know(extjson.MustParse(`{"_id": 50, "name": "lisi"}`))
	for _, step := range []struct{ op, ns, o, o2, want string }{
		{"i", "d.c", `{"_id": 1, "name": "lisi"}`, "", `insert 1 {"_id":1,"name":"lisi"}`},
		{"i", "d.c", `{"_id": 2, "name": "other"}`, "", ""},
		{"i", "d.x", `{"_id": 1, "name": "lisi"}`, "", ""},
		{"u", "d.c", `{"$v": 2, "diff": {"d": {"k": false}, "u": {"age": 21}, "i": {"new": "x"}, "ssub": {"u": {"p": 1}, "sarr": {"a": true, "l": 2, "u0": 7}}}}`, `{"_id": 1}`,
			`update 1 unset k, set age = 21, add new = "x", set sub.p = 1, cut sub.arr to length 2, set sub.arr.0 = 7`},
		{"u", "d.c", `{"$v": 1, "$set": {"name": "else"}, "$unset": {"k": true}}`, `{"_id": 1}`, `update 1 set name = "else", unset k`},
		{"u", "d.c", `{"$v": 1, "$set": {"name": "lisi"}}`, `{"_id": 2}`, `update 2 set name = "lisi"`},
		{"u", "d.c", `{"_id": 50, "name": "gone"}`, `{"_id": 50}`, `replace 50 {"_id":50,"name":"gone"}`},
		{"d", "d.c", `{"_id": 50}`, "", `delete 50 `},
		{"d", "d.c", `{"_id": 51}`, "", ""},
		{"c", "d.$cmd", `{"applyOps": [{"op": "u", "ns": "d.c", "o": {"$v": 2, "diff": {"u": {"a": 1}}}, "o2": {"_id": 1}}, {"op": "d", "ns": "d.c", "o": {"_id": 77}}]}`, "", `update 1 set a = 1`},
		{"c", "d.$cmd", `{"drop": "c"}`, "", `drop  {"drop":"c"}`},
		{"c", "d.$cmd", `{"drop": "x"}`, "", ""},
		{"c", "d.$cmd", `{"dropDatabase": 1}`, "", `dropDatabase  {"dropDatabase":1}`},
		{"c", "d.$cmd", `{"renameCollection": "d.y", "to": "d.c"}`, "", `renameCollection  {"renameCollection":"d.y","to":"d.c"}`},
		{"n", "", `{"msg": "periodic noop"}`, "", ""},
	} {
		cs, err := fd.Unit(unit(t, step.op, step.ns, step.o, step.o2))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, c := range cs {
			got += c.Op + " " + c.ID + " " + c.Effect
			if c.OpTime.TS != bson.NewTimestamp(9, 1) {
				t.Errorf("optime %v", c.OpTime)
			}
		}
		if got != step.want {
			t.Errorf("%s %s:\n got %q\nwant %q", step.op, step.o, got, step.want)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(`{"a": {"$in": [1]}}`)
	f.Fuzz(func(t *testing.T, s string) {
		raw, err := extjson.Unmarshal([]byte(s))
		if err != nil {
			return
		}
		if c, err := Compile(raw); err == nil {
			c.Match(raw)
		}
	})
}
