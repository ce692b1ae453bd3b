package project

import (
	"testing"

	driver "go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func fromJSON(t testing.TB, s string) bson.Raw {
	t.Helper()
	var r driver.Raw
	if err := driver.UnmarshalExtJSON([]byte(s), false, &r); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return bson.Raw(r)
}

func toJSON(t testing.TB, d bson.Raw) string {
	t.Helper()
	if err := bson.Validate(d, bson.MaxDepth); err != nil {
		t.Fatalf("result is not valid: %v", err)
	}
	out, err := driver.MarshalExtJSON(driver.Raw(d), false, false)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestFind(t *testing.T) {
	for _, c := range []struct{ spec, doc, want string }{
		{`{}`, `{"_id":1,"a":2}`, `{"_id":1,"a":2}`},
		{`{"a":1}`, `{"_id":1,"a":2,"b":3}`, `{"_id":1,"a":2}`},
		{`{"a":true,"_id":0}`, `{"_id":1,"a":2,"b":3}`, `{"a":2}`},
		{`{"_id":0}`, `{"_id":1,"a":2}`, `{"a":2}`},
		{`{"_id":1}`, `{"_id":1,"a":2}`, `{"_id":1}`},
		{`{"a":0}`, `{"_id":1,"a":2,"b":3}`, `{"_id":1,"b":3}`},
		{`{"a":0,"_id":1}`, `{"_id":1,"a":2,"b":3}`, `{"_id":1,"b":3}`},
		{`{"b":1,"a":1}`, `{"a":2,"_id":1,"b":3}`, `{"a":2,"_id":1,"b":3}`},
		{`{"a.b":1}`, `{"_id":1,"a":{"b":1,"c":2}}`, `{"_id":1,"a":{"b":1}}`},
		{`{"a":{"b":1}}`, `{"_id":1,"a":{"b":1,"c":2}}`, `{"_id":1,"a":{"b":1}}`},
		{`{"a.b":1}`, `{"_id":1,"a":[{"b":1,"c":2},5,[{"b":3,"c":4}],{"c":1}]}`, `{"_id":1,"a":[{"b":1},[{"b":3}],{}]}`},
		{`{"a.b":0}`, `{"_id":1,"a":[{"b":1,"c":2},5,[{"b":3,"c":4}]]}`, `{"_id":1,"a":[{"c":2},5,[{"c":4}]]}`},
		{`{"a.b":1}`, `{"_id":1,"a":5}`, `{"_id":1}`},
		{`{"a.b":0}`, `{"_id":1,"a":5}`, `{"_id":1,"a":5}`},
		{`{"a":{"$slice":2}}`, `{"_id":1,"a":[1,2,3],"b":1}`, `{"_id":1,"a":[1,2],"b":1}`},
		{`{"a":{"$slice":-2}}`, `{"_id":1,"a":[1,2,3],"b":1}`, `{"_id":1,"a":[2,3],"b":1}`},
		{`{"a":{"$slice":[1,1]}}`, `{"_id":1,"a":[1,2,3]}`, `{"_id":1,"a":[2]}`},
		{`{"a":{"$slice":[-2,5]}}`, `{"_id":1,"a":[1,2,3]}`, `{"_id":1,"a":[2,3]}`},
		{`{"a":{"$slice":[9,5]}}`, `{"_id":1,"a":[1,2,3]}`, `{"_id":1,"a":[]}`},
		{`{"a":{"$slice":1},"b":1}`, `{"_id":1,"a":[1,2,3],"b":1,"c":1}`, `{"_id":1,"a":[1],"b":1}`},
		{`{"a":{"$slice":1},"b":0}`, `{"_id":1,"a":[1,2,3],"b":1,"c":1}`, `{"_id":1,"a":[1],"c":1}`},
		{`{"a":{"$slice":1}}`, `{"_id":1,"a":7}`, `{"_id":1,"a":7}`},
		{`{"a":{"$elemMatch":{"x":2}}}`, `{"_id":1,"a":[{"x":1},{"x":2,"y":1},{"x":2}],"b":1}`, `{"_id":1,"a":[{"x":2,"y":1}]}`},
		{`{"a":{"$elemMatch":{"$gt":1}},"b":1}`, `{"_id":1,"a":[1,2,3],"b":1}`, `{"_id":1,"b":1,"a":[2]}`},
		{`{"a":{"$elemMatch":{"$gt":9}}}`, `{"_id":1,"a":[1,2,3],"b":1}`, `{"_id":1}`},
		{`{"b":"$a"}`, `{"_id":1,"a":2}`, `{"_id":1,"b":2}`},
		{`{"a":1,"z":{"$literal":9},"b":1}`, `{"_id":1,"a":2,"b":3,"z":1}`, `{"_id":1,"a":2,"b":3,"z":9}`},
		{`{"a.z":"$_id"}`, `{"_id":1,"a":[{"b":1}]}`, `{"_id":1,"a":[{"z":1}]}`},
		{`{"a.z":"$_id"}`, `{"_id":1,"a":5,"b":1}`, `{"_id":1,"a":{"z":1}}`},
		{`{"a":"x","b":["$_id",null]}`, `{"_id":1}`, `{"_id":1,"a":"x","b":[1,null]}`},
	} {
		p, err := Parse(fromJSON(t, c.spec), Options{})
		if err != nil {
			t.Errorf("%s: %v", c.spec, err)
			continue
		}
		out, err := p.Apply(fromJSON(t, c.doc), nil)
		if err != nil {
			t.Errorf("%s of %s: %v", c.spec, c.doc, err)
		} else if got := toJSON(t, out); got != c.want {
			t.Errorf("%s of %s\n got %s\nwant %s", c.spec, c.doc, got, c.want)
		}
	}
}

func TestPositional(t *testing.T) {
	for _, c := range []struct{ filter, spec, doc, want string }{
		{`{"a":2}`, `{"a.$":1}`, `{"_id":1,"a":[1,2,3],"b":1}`, `{"_id":1,"a":[2]}`},
		{`{"a.x":{"$gt":1}}`, `{"a.$":1}`, `{"_id":1,"a":[{"x":1},{"x":2,"y":0}]}`, `{"_id":1,"a":[{"x":2,"y":0}]}`},
		{`{"a.x":{"$gt":1}}`, `{"a.x.$":1}`, `{"_id":1,"a":[{"x":1},{"x":2,"y":0}]}`, `{"_id":1,"a":[{"x":2}]}`},
		{`{"a":{"$elemMatch":{"x":2,"y":1}}}`, `{"a.$":1}`, `{"_id":1,"a":[{"x":2},{"x":2,"y":1}]}`, `{"_id":1,"a":[{"x":2,"y":1}]}`},
		{`{"o.a":2}`, `{"o.a.$":1}`, `{"_id":1,"o":{"a":[1,2],"b":1}}`, `{"_id":1,"o":{"a":[2]}}`},
	} {
		m, err := match.Compile(fromJSON(t, c.filter), match.Options{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := Parse(fromJSON(t, c.spec), Options{Filter: m.Root()})
		if err != nil {
			t.Errorf("%s: %v", c.spec, err)
			continue
		}
		doc := fromJSON(t, c.doc)
		var d match.Details
		if ok, err := m.MatchDetails(doc, &d); !ok || err != nil {
			t.Fatalf("%s does not match %s: %v", c.filter, c.doc, err)
		}
		out, err := p.Apply(doc, &Extra{Details: &d})
		if err != nil {
			t.Errorf("%s of %s: %v", c.spec, c.doc, err)
		} else if got := toJSON(t, out); got != c.want {
			t.Errorf("%s of %s\n got %s\nwant %s", c.spec, c.doc, got, c.want)
		}
		if _, err := p.Apply(doc, nil); !mongoerr.Is(err, 51246) {
			t.Errorf("%s without a match: %v", c.spec, err)
		}
	}
}

func TestStages(t *testing.T) {
	for _, c := range []struct{ stage, spec, doc, want string }{
		{"$project", `{"x":1,"y":"$z"}`, `{"_id":1,"z":3,"x":2}`, `{"_id":1,"x":2,"y":3}`},
		{"$project", `{"x":0}`, `{"_id":1,"z":3,"x":2}`, `{"_id":1,"z":3}`},
		{"$addFields", `{"x":1,"y":"$z"}`, `{"x":5,"z":3}`, `{"x":1,"z":3,"y":3}`},
		{"$addFields", `{"a.b":7}`, `{"a":5,"z":3}`, `{"a":{"b":7},"z":3}`},
		{"$addFields", `{"a.b":7}`, `{"a":[1,{"b":2,"c":3},[4]]}`, `{"a":[{"b":7},{"b":7,"c":3},[{"b":7}]]}`},
		{"$addFields", `{"a":{"b":7,"c":"$z"}}`, `{"z":3}`, `{"z":3,"a":{"b":7,"c":3}}`},
		{"$addFields", `{"a":"$$REMOVE"}`, `{"a":5,"z":3}`, `{"z":3}`},
		{"$addFields", `{"a":"$nosuch"}`, `{"a":5,"z":3}`, `{"z":3}`},
		{"$unset", `{"":["a","b.c"]}`, `{"a":5,"b":{"c":1,"d":2}}`, `{"b":{"d":2}}`},
	} {
		p, err := parseStage(c.stage, fromJSON(t, c.spec))
		if err != nil {
			t.Errorf("%s %s: %v", c.stage, c.spec, err)
			continue
		}
		out, err := p.Apply(fromJSON(t, c.doc), nil)
		if err != nil {
			t.Errorf("%s %s of %s: %v", c.stage, c.spec, c.doc, err)
		} else if got := toJSON(t, out); got != c.want {
			t.Errorf("%s %s of %s\n got %s\nwant %s", c.stage, c.spec, c.doc, got, c.want)
		}
	}
}

func parseStage(stage string, spec bson.Raw) (*Projection, error) {
	switch stage {
	case "find":
		return Parse(spec, Options{})
	case "$project":
		return ParseProject(spec.Value(), Options{})
	case "$unset":
		return ParseUnset(spec.Get(""))
	}
	return ParseAddFields(stage, spec.Value(), Options{})
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		stage, spec string
		code        mongoerr.Code
		msg         string
	}{
		{"find", `{"a":1,"b":0}`, 31254, "Cannot do exclusion on field b in inclusion projection"},
		{"find", `{"a":0,"b":1}`, 31253, "Cannot do inclusion on field b in exclusion projection"},
		{"find", `{"a":0,"b":{"$literal":1}}`, 31252, "Cannot use expression other than $meta in exclusion projection"},
		{"find", `{"a":0,"b":"$c"}`, 31310, `Cannot use an expression b: "$c" in an exclusion projection`},
		{"$project", `{"a":{"$elemMatch":{"x":1}}}`, 168, "Invalid $project :: caused by :: Cannot use $elemMatch in this context"},
		{"find", `{"a":1,"a.b":1}`, 31249, "Path collision at a.b remaining portion b"},
		{"find", `{"a.b":1,"a":1}`, 31250, "Path collision at a"},
		{"find", `{"a":{}}`, 51270, "Invalid empty sub-projection: a"},
		{"find", `{"a.$":1}`, 51050, "Projections with a positional operator require a matcher"},
		{"find", `{"a.$":0}`, 31395, "positional projection cannot be used with exclusion"},
		{"find", `{"a.b":{"$elemMatch":{"x":1}}}`, 31275, "Cannot use $elemMatch projection on a nested field."},
		{"find", `{"a":{"$elemMatch":1}}`, 31274, "elemMatch: Invalid argument, object required, but got int"},
		{"find", `{"":1}`, 40352, "FieldPath cannot be constructed with empty string"},
		{"find", `{"a..b":1}`, 15998, "FieldPath field names may not be empty strings."},
		{"find", `{"$a":1}`, 16410, "FieldPath field names may not start with '$'. Consider using $getField or $setField."},
		{"find", `{"a":{"$slice":"x"}}`, 28667, `Invalid $slice syntax. The given syntax { $slice: "x" } did not match the find() syntax because :: Location31273: $slice only supports numbers and [skip, limit] arrays :: The given syntax did not match the expression $slice syntax. :: caused by :: Expression $slice takes at least 2 arguments, and at most 3, but 1 were passed in.`},
		{"find", `{"a":{"$nosuch":1}}`, 31325, "Unknown expression $nosuch"},
		{"$project", `{}`, 51272, "Invalid $project :: caused by :: projection specification must have at least one field"},
		{"$project", `{"a":1,"b":0}`, 31254, "Invalid $project :: caused by :: Cannot do exclusion on field b in inclusion projection"},
		{"$addFields", `{"a":{}}`, 40180, "Invalid $addFields :: caused by :: an empty object is not a valid value. Found empty object at path a"},
		{"$unset", `{"":5}`, 31002, "$unset specification must be a string or an array"},
		{"$unset", `{"":[]}`, 31119, "$unset specification must be a string or an array with at least one field"},
		{"$unset", `{"":[1]}`, 31120, "$unset specification must be a string or an array containing only string values"},
	} {
		_, err := parseStage(c.stage, fromJSON(t, c.spec))
		e, ok := mongoerr.As(err)
		if !ok || e.Code != c.code || e.Message != c.msg {
			t.Errorf("%s %s: %v, want %d %s", c.stage, c.spec, err, c.code, c.msg)
		}
	}
}

func TestCovered(t *testing.T) {
	for _, c := range []struct {
		spec, keys string
		want       bool
	}{
		{`{"a":1,"_id":0}`, `{"a":1}`, true},
		{`{"a":1}`, `{"a":1}`, false},
		{`{"a":1}`, `{"a":1,"_id":1}`, true},
		{`{"a.b":1,"_id":0}`, `{"a.b":1}`, true},
		{`{"a":1,"_id":0}`, `{"a.b":1}`, false},
		{`{"_id":0}`, `{"a":1}`, false},
		{`{"a":{"$slice":1},"b":1,"_id":0}`, `{"a":1,"b":1}`, false},
	} {
		p, err := Parse(fromJSON(t, c.spec), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Covered(fromJSON(t, c.keys)); got != c.want {
			t.Errorf("%s by %s: %v", c.spec, c.keys, got)
		}
	}
}

func BenchmarkInclusion(b *testing.B) {
	doc := fromJSON(b, `{"_id":1,"a":"some text here","b":2,"c":{"d":1,"e":"x"},"f":[1,2,3],"g":3.5,"h":"more text in the document","i":1,"j":2}`)
	p, err := Parse(fromJSON(b, `{"b":1,"c.d":1,"g":1}`), Options{})
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		if buf, err = p.Append(buf[:0], doc, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzProject: no specification makes parsing or evaluation panic, and results are
// valid documents.
func FuzzProject(f *testing.F) {
	doc := fromJSON(f, `{"_id":1,"a":[1,{"b":[2,3],"c":{"d":1}},[{"b":4}]],"s":"text","o":{"p":1}}`)
	for _, s := range []string{
		`{"a.b":1,"o":{"p":1}}`, `{"a.c.d":0}`, `{"a":{"$slice":[1,2]},"s":0}`, `{"a":{"$elemMatch":{"b":2}},"x":"$s"}`, `{"a.z":{"$literal":1},"_id":0}`,
	} {
		f.Add([]byte(fromJSON(f, s)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 || bson.Validate(b, 50) != nil {
			return
		}
		p1, err1 := Parse(b, Options{})
		p2, err2 := ParseAddFields("$set", bson.Raw(b).Value(), Options{})
		p3, err3 := ParseProject(bson.Raw(b).Value(), Options{})
		for i, p := range []*Projection{p1, p2, p3} {
			if []error{err1, err2, err3}[i] != nil {
				continue
			}
			out, err := p.Apply(doc, nil)
			if err != nil {
				continue
			}
			if err := bson.Validate(out, bson.MaxDepth); err != nil {
				t.Fatalf("%s: %v", bson.Raw(b), err)
			}
			p.Serialize()
			p.DependsOn()
		}
	})
}
