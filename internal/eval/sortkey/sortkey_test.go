package sortkey

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	driver "go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cairndb/cairn/internal/bson"
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

// TestGoldenSort sorts 116 values of every type as a real server did.
func TestGoldenSort(t *testing.T) {
	f, err := os.Open("testdata/semantics.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(z)
	sc.Buffer(nil, 1<<20)
	var docs []bson.Raw
	kinds := map[string]int{}
	for sc.Scan() {
		var l struct {
			Kind, IDs string
			Doc, Sort json.RawMessage
			Values    json.RawMessage
			Groups    []struct {
				ID  json.RawMessage `json:"_id"`
				IDs string
			}
		}
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		kinds[l.Kind]++
		switch l.Kind {
		case "value":
			// The server put the current time in place of the empty timestamp.
			s := strings.Replace(string(l.Doc), `"v":{"$timestamp":{"t":0,"i":0}}`, `"v":{"$timestamp":{"t":1795351630,"i":4}}`, 1)
			docs = append(docs, fromJSON(t, s))
		case "sort":
			checkSort(t, docs, fromJSON(t, string(l.Sort)), l.IDs)
		case "group":
			var want []string
			for _, g := range l.Groups {
				want = append(want, g.IDs)
			}
			if got := groups(docs); !slices.Equal(got, want) {
				t.Errorf("groups\n got %q\nwant %q", got, want)
			}
		case "distinct":
			checkDistinct(t, docs, fromJSON(t, `{"values":`+string(l.Values)+`}`))
		}
	}
	if kinds["value"] != 116 || kinds["sort"] != 2 || kinds["group"] != 1 || kinds["distinct"] != 1 {
		t.Errorf("lines: %v", kinds)
	}
}

func checkSort(t *testing.T, docs []bson.Raw, spec bson.Raw, want string) {
	p, err := Parse(spec)
	if err != nil {
		t.Fatal(err)
	}
	sorted := slices.Clone(docs)
	slices.SortStableFunc(sorted, func(a, b bson.Raw) int {
		c, err := p.Compare(a, b)
		if err != nil {
			t.Fatal(err)
		}
		ka, _ := p.Key(nil, a)
		kb, _ := p.Key(nil, b)
		if e := p.CompareEncoded(p.AppendKey(nil, ka), p.AppendKey(nil, kb)); e != c {
			t.Errorf("%s against %s: %d, encoded %d", a, b, c, e)
		}
		return c
	})
	var ids []string
	for _, d := range sorted {
		ids = append(ids, d.Get("_id").String())
	}
	if got := strings.Join(ids, " "); got != want {
		t.Errorf("%s\n got %s\nwant %s", spec, got, want)
	}
}

// groups puts documents with equal values of v together, in order of appearance; a
// missing value groups with null.
func groups(docs []bson.Raw) []string {
	var keys []bson.Value
	var ids []string
docs:
	for _, d := range docs {
		v := d.Get("v")
		if v.IsMissing() {
			v = null
		}
		for i, k := range keys {
			if bson.Equal(k, v) {
				ids[i] += " " + d.Get("_id").String()
				continue docs
			}
		}
		keys, ids = append(keys, v), append(ids, d.Get("_id").String())
	}
	return ids
}

// checkDistinct compares the set of values, arrays expanded, with the server's.
func checkDistinct(t *testing.T, docs []bson.Raw, reply bson.Raw) {
	var all []bson.Value
	for _, d := range docs {
		v := d.Get("v")
		switch {
		case v.IsMissing():
		case v.Type == bson.TypeArray:
			all = slices.AppendSeq(all, bson.Raw(v.Data).Values())
		default:
			all = append(all, v)
		}
	}
	slices.SortStableFunc(all, bson.Compare)
	all = slices.CompactFunc(all, bson.Equal)
	want := slices.Collect(bson.Raw(reply.Get("values").Data).Values())
	if !slices.EqualFunc(all, want, bson.Equal) {
		t.Errorf("distinct\n got %v\nwant %v", all, want)
	}
}

func TestKeys(t *testing.T) {
	for _, c := range []struct{ sort, doc, want string }{
		{`{"a":1}`, `{"a":[3,1,2]}`, `[ 1 ]`},
		{`{"a":-1}`, `{"a":[3,1,2]}`, `[ 3 ]`},
		{`{"a":1}`, `{"a":[]}`, `[ undefined ]`},
		{`{"a":1}`, `{}`, `[ null ]`},
		{`{"a.b":1}`, `{"a":[]}`, `[ null ]`},
		{`{"a.b":1}`, `{"a":5}`, `[ null ]`},
		{`{"a.b":-1}`, `{"a":[{"b":1},{"b":[4,7]},5]}`, `[ 7 ]`},
		{`{"a.b":1}`, `{"a":[{"b":1},{"b":[4,7]},5]}`, `[ null ]`},
		{`{"a.1":1}`, `{"a":[5,3]}`, `[ 3 ]`},
		{`{"a.1.b":1}`, `{"a":[{"b":1},{"b":9}]}`, `[ 9 ]`},
		{`{"a.b":1,"a.c":1}`, `{"a":[{"b":2,"c":1},{"b":1,"c":5},{"b":1,"c":4}]}`, `[ 1, 4 ]`},
		{`{"a.b":1,"a.c":-1}`, `{"a":[{"b":2,"c":1},{"b":1,"c":5},{"b":1,"c":4}]}`, `[ 1, 5 ]`},
		{`{"a":1,"b":1}`, `{"a":[1,2],"b":7}`, `[ 1, 7 ]`},
		{`{"a":1}`, `{"a":[[2],[1]]}`, `[ [ 1 ] ]`},
	} {
		p, err := Parse(fromJSON(t, c.sort))
		if err != nil {
			t.Fatal(err)
		}
		k, err := p.Key(nil, fromJSON(t, c.doc))
		if err != nil {
			t.Errorf("%s of %s: %v", c.sort, c.doc, err)
			continue
		}
		if got := bson.Array(p.AppendKey(nil, k)).Value().String(); got != c.want {
			t.Errorf("%s of %s is %s, want %s", c.sort, c.doc, got, c.want)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		sort string
		code mongoerr.Code
		msg  string
	}{
		{`{"x":2}`, 15975, "$sort key ordering must be 1 (for ascending) or -1 (for descending)"},
		{`{"x":0}`, 15975, "$sort key ordering must be 1 (for ascending) or -1 (for descending)"},
		{`{"x":"a"}`, 15974, `Illegal key in $sort specification: x: "a"`},
		{`{"x":{"$nosuch":1}}`, 17312, "$meta is the only expression supported by $sort right now"},
		{`{"x":{"$meta":"textScore"}}`, 40218, "query requires text score metadata, but it is not available"},
		{`{"x":{"$meta":"nosuch"}}`, 31138, `Illegal $meta sort: $meta: "nosuch"`},
		{`{"":1}`, 40352, "FieldPath cannot be constructed with empty string"},
		{`{"a.":1}`, 40353, "FieldPath must not end with a '.'."},
		{`{"a..b":1}`, 15998, "FieldPath field names may not be empty strings."},
		{`{"$a":1}`, 16410, "FieldPath field names may not start with '$'. Consider using $getField or $setField."},
	} {
		_, err := Parse(fromJSON(t, c.sort))
		e, ok := mongoerr.As(err)
		if !ok || e.Code != c.code || e.Message != c.msg {
			t.Errorf("%s: %v, want %d %s", c.sort, err, c.code, c.msg)
		}
	}
	p, _ := Parse(fromJSON(t, `{"a":1,"b":1}`))
	if _, err := p.Key(nil, fromJSON(t, `{"a":[1],"b":[1]}`)); !mongoerr.Is(err, mongoerr.BadValue) {
		t.Errorf("parallel arrays: %v", err)
	}
	if p, err := Parse(fromJSON(t, `{"a":-1,"s":{"$meta":"randVal"}}`)); err != nil || p.Serialize().String() != `{ a: -1, s: { $meta: "randVal" } }` {
		t.Errorf("%v %v", p, err)
	}
}
