package update

import (
	"fmt"
	"strings"
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
	if err := bson.Validate(d, bson.MaxDepth+10); err != nil {
		t.Fatalf("result is not valid: %v", err)
	}
	out, err := driver.MarshalExtJSON(driver.Raw(d), false, false)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

var testInput = Input{Now: 86400000, Timestamp: bson.NewTimestamp(7, 3)}

// run applies an update as a command would: filter, update, arrayFilters.
func runUpdate(t *testing.T, filter, u, filters string, doc bson.Raw) (Result, error) {
	t.Helper()
	o := Options{}
	if filters != "" {
		o.HasArrayFilters = true
		for v := range fromJSON(t, `{"a":`+filters+`}`).Get("a").Doc().Values() {
			o.ArrayFilters = append(o.ArrayFilters, v.Doc())
		}
	}
	up, err := Parse(fromJSON(t, u).Value(), o)
	if err != nil {
		return Result{}, err
	}
	in := testInput
	if filter != "" {
		m, err := match.Compile(fromJSON(t, filter), match.Options{})
		if err != nil {
			t.Fatal(err)
		}
		in.Details = &match.Details{}
		if ok, err := m.MatchDetails(doc, in.Details); !ok || err != nil {
			t.Fatalf("%s does not match %s: %v", filter, doc, err)
		}
	}
	return up.Apply(doc, &in)
}

func TestApply(t *testing.T) {
	for _, c := range []struct{ filter, u, filters, doc, want, diff string }{
		{u: `{"$set":{"a":2}}`, doc: `{"_id":1,"a":1,"b":1}`, want: `{"_id":1,"a":2,"b":1}`, diff: `{"u":{"a":2}}`},
		{u: `{"$set":{"c":2,"b":{"x":1}}}`, doc: `{"_id":1,"a":1}`, want: `{"_id":1,"a":1,"b":{"x":1},"c":2}`, diff: `{"i":{"b":{"x":1},"c":2}}`},
		{u: `{"$set":{"a.10":1,"a.9":2,"a.b":3}}`, doc: `{"_id":1}`, want: `{"_id":1,"a":{"9":2,"10":1,"b":3}}`, diff: `{"i":{"a":{"9":2,"10":1,"b":3}}}`},
		{u: `{"$set":{"a.b.c":1}}`, doc: `{"_id":1,"a":{"x":5}}`, want: `{"_id":1,"a":{"x":5,"b":{"c":1}}}`, diff: `{"sa":{"i":{"b":{"c":1}}}}`},
		{u: `{"$set":{"a":{"x":1,"y":"a text that would be worth a nested diff","z":3}}}`, doc: `{"_id":1,"a":{"x":0,"y":"a text that would be worth a nested diff","z":3}}`, want: `{"_id":1,"a":{"x":1,"y":"a text that would be worth a nested diff","z":3}}`, diff: `{"u":{"a":{"x":1,"y":"a text that would be worth a nested diff","z":3}}}`},
		{u: `{"$pull":{"a":1}}`, doc: `{"_id":1,"a":[2,3,4,5,6,7,1]}`, want: `{"_id":1,"a":[2,3,4,5,6,7]}`, diff: `{"u":{"a":[2,3,4,5,6,7]}}`},
		{u: `{"$set":{"a.b":1}}`, doc: `{"_id":1,"a":{"x":"a long text to make it worth","b":0}}`, want: `{"_id":1,"a":{"x":"a long text to make it worth","b":1}}`, diff: `{"sa":{"u":{"b":1}}}`},
		{u: `{"$set":{"a":1}}`, doc: `{"_id":1,"a":1}`, want: ``},
		{u: `{"$set":{"a.$x":1,"b":{"$y":2}}}`, doc: `{"_id":1}`, want: `{"_id":1,"a":{"$x":1},"b":{"$y":2}}`},
		{u: `{"$inc":{"a.$*.n":1}}`, doc: `{"_id":1,"a":{"$*":{"n":1}}}`, want: `{"_id":1,"a":{"$*":{"n":2}}}`},
		{u: `{"$set":{"$a":1}}`, doc: `{"_id":1,"$a":1}`, want: ``},
		{u: `{"_id":1,"a":1}`, doc: `{"_id":1,"a":1}`, want: ``},
		{u: `{"a":1}`, doc: `{"_id":1,"a":1}`, want: `{"_id":1,"a":1}`},
		{u: `{"$set":{}}`, doc: `{"_id":1,"a":1}`, want: ``},
		{u: `{"$set":{"a":{"$numberDouble":"1.0"}}}`, doc: `{"_id":1,"a":1}`, want: `{"_id":1,"a":1.0}`},
		{u: `{"$set":{"a.1":9}}`, doc: `{"_id":1,"a":[1,2,3]}`, want: `{"_id":1,"a":[1,9,3]}`, diff: `{"sa":{"a":true,"u1":9}}`},
		{u: `{"$set":{"a.4":9}}`, doc: `{"_id":1,"a":[1,2]}`, want: `{"_id":1,"a":[1,2,null,null,9]}`, diff: `{"sa":{"a":true,"u2":null,"u3":null,"u4":9}}`},
		{u: `{"$set":{"a.1.b":9}}`, doc: `{"_id":1,"a":[1]}`, want: `{"_id":1,"a":[1,{"b":9}]}`},
		{u: `{"$unset":{"a":1,"zz":1}}`, doc: `{"_id":1,"a":1,"b":2}`, want: `{"_id":1,"b":2}`, diff: `{"d":{"a":false}}`},
		{u: `{"$unset":{"a.b":""}}`, doc: `{"_id":1,"a":5}`, want: ``},
		{u: `{"$unset":{"a.1":""}}`, doc: `{"_id":1,"a":[1,2,3]}`, want: `{"_id":1,"a":[1,null,3]}`},
		{u: `{"$inc":{"n":1}}`, doc: `{"_id":1}`, want: `{"_id":1,"n":1}`},
		{u: `{"$inc":{"n":1}}`, doc: `{"_id":1,"n":2147483647}`, want: `{"_id":1,"n":2147483648}`},
		{u: `{"$inc":{"n":0}}`, doc: `{"_id":1,"n":5}`, want: ``},
		{u: `{"$inc":{"n":1.5}}`, doc: `{"_id":1,"n":5}`, want: `{"_id":1,"n":6.5}`},
		{u: `{"$inc":{"n":{"$numberDecimal":"0.10"}}}`, doc: `{"_id":1,"n":5}`, want: `{"_id":1,"n":{"$numberDecimal":"5.10"}}`},
		{u: `{"$mul":{"n":3,"m":2}}`, doc: `{"_id":1,"n":5}`, want: `{"_id":1,"n":15,"m":0}`},
		{u: `{"$min":{"n":3},"$max":{"m":3}}`, doc: `{"_id":1,"n":5,"m":4}`, want: `{"_id":1,"n":3,"m":4}`},
		{u: `{"$rename":{"a":"b"}}`, doc: `{"_id":1,"a":5,"c":1}`, want: `{"_id":1,"c":1,"b":5}`, diff: `{"d":{"a":false},"i":{"b":5}}`},
		{u: `{"$rename":{"a":"x.b"}}`, doc: `{"_id":1,"a":5}`, want: `{"_id":1,"x":{"b":5}}`},
		{u: `{"$rename":{"a":"x.b"}}`, doc: `{"_id":1}`, want: ``},
		{u: `{"$rename":{"a":"x.b"}}`, doc: `{"_id":1,"x":3}`, want: ``},
		{u: `{"$rename":{"a":"b"}}`, doc: `{"_id":1,"b":3,"a":5}`, want: `{"_id":1,"b":5}`},
		{u: `{"$setOnInsert":{"a":1}}`, doc: `{"_id":1}`, want: ``},
		{u: `{"$currentDate":{"d":true,"t":{"$type":"timestamp"}}}`, doc: `{"_id":1}`, want: `{"_id":1,"d":{"$date":"1970-01-02T00:00:00Z"},"t":{"$timestamp":{"t":7,"i":3}}}`},
		{u: `{"$push":{"a":4}}`, doc: `{"_id":1,"a":[1]}`, want: `{"_id":1,"a":[1,4]}`, diff: `{"sa":{"a":true,"u1":4}}`},
		{u: `{"$push":{"a":4}}`, doc: `{"_id":1}`, want: `{"_id":1,"a":[4]}`},
		{u: `{"$push":{"a":{"$each":[5,4],"$sort":1,"$slice":-3}}}`, doc: `{"_id":1,"a":[1,2,3]}`, want: `{"_id":1,"a":[3,4,5]}`},
		{u: `{"$push":{"a":{"$each":[7,8],"$position":1}}}`, doc: `{"_id":1,"a":[1,2]}`, want: `{"_id":1,"a":[1,7,8,2]}`},
		{u: `{"$push":{"a":{"$each":[7],"$position":-1}}}`, doc: `{"_id":1,"a":[1,2]}`, want: `{"_id":1,"a":[1,7,2]}`},
		{u: `{"$push":{"a":{"$each":[],"$slice":1}}}`, doc: `{"_id":1,"a":[1,2]}`, want: `{"_id":1,"a":[1]}`, diff: `{"u":{"a":[1]}}`},
		{u: `{"$push":{"a":{"$each":[{"x":1}],"$sort":{"x":-1}}}}`, doc: `{"_id":1,"a":[{"x":0},{"x":5}]}`, want: `{"_id":1,"a":[{"x":5},{"x":1},{"x":0}]}`},
		{u: `{"$addToSet":{"a":{"$each":[1,4,4]}}}`, doc: `{"_id":1,"a":[1.0]}`, want: `{"_id":1,"a":[1.0,4]}`},
		{u: `{"$addToSet":{"a":1}}`, doc: `{"_id":1,"a":[1]}`, want: ``},
		{u: `{"$pop":{"a":1,"b":-1}}`, doc: `{"_id":1,"a":[1,2],"b":[1,2]}`, want: `{"_id":1,"a":[1],"b":[2]}`},
		{u: `{"$pull":{"a":{"$gt":1}}}`, doc: `{"_id":1,"a":[1,2,3]}`, want: `{"_id":1,"a":[1]}`},
		{u: `{"$pull":{"a":{"x":1}}}`, doc: `{"_id":1,"a":[{"x":1,"y":2},{"x":2},1]}`, want: `{"_id":1,"a":[{"x":2},1]}`},
		{u: `{"$pull":{"a":2}}`, doc: `{"_id":1,"a":[1,2,2.0]}`, want: `{"_id":1,"a":[1]}`},
		{u: `{"$pullAll":{"a":[1,3]}}`, doc: `{"_id":1,"a":[1,2,3]}`, want: `{"_id":1,"a":[2]}`},
		{u: `{"$bit":{"a":{"or":8,"and":12}}}`, doc: `{"_id":1,"a":5}`, want: `{"_id":1,"a":12}`},
		{filter: `{"a":2}`, u: `{"$set":{"a.$":9}}`, doc: `{"_id":1,"a":[1,2,3]}`, want: `{"_id":1,"a":[1,9,3]}`},
		{filter: `{"a.x":2}`, u: `{"$inc":{"a.$.n":1}}`, doc: `{"_id":1,"a":[{"x":1},{"x":2}]}`, want: `{"_id":1,"a":[{"x":1},{"x":2,"n":1}]}`, diff: `{"sa":{"a":true,"s1":{"i":{"n":1}}}}`},
		{u: `{"$inc":{"a.$[]":1}}`, doc: `{"_id":1,"a":[1,2]}`, want: `{"_id":1,"a":[2,3]}`},
		{u: `{"$set":{"a.$[].b.$[e]":0}}`, filters: `[{"e":{"$gt":1}}]`, doc: `{"_id":1,"a":[{"b":[1,2]},{"b":[3]}]}`, want: `{"_id":1,"a":[{"b":[1,0]},{"b":[0]}]}`},
		{u: `{"$set":{"a.$[e].b":0}}`, filters: `[{"e.c":1}]`, doc: `{"_id":1,"a":[{"c":1},{"c":2}]}`, want: `{"_id":1,"a":[{"c":1,"b":0},{"c":2}]}`},
		{u: `{"$set":{"a.$[e].b":0,"a.$[f].d":1}}`, filters: `[{"e.c":1},{"f.c":1}]`, doc: `{"_id":1,"a":[{"c":1}]}`, want: `{"_id":1,"a":[{"c":1,"b":0,"d":1}]}`},
		{u: `{"x":1}`, doc: `{"_id":1,"a":5}`, want: `{"_id":1,"x":1}`},
		{u: `{"x":1,"_id":1}`, doc: `{"_id":1,"a":5}`, want: `{"_id":1,"x":1}`},
		{u: `{}`, doc: `{"_id":1,"a":5}`, want: `{"_id":1}`},
		{u: `{"x":{"$timestamp":{"t":0,"i":0}}}`, doc: `{"_id":1,"a":5}`, want: `{"_id":1,"x":{"$timestamp":{"t":7,"i":3}}}`},
	} {
		doc := fromJSON(t, c.doc)
		r, err := runUpdate(t, c.filter, c.u, c.filters, doc)
		if err != nil {
			t.Errorf("%s on %s: %v", c.u, c.doc, err)
			continue
		}
		if c.want == "" {
			if r.Modified || string(r.Doc) != string(doc) || r.Entry != nil {
				t.Errorf("%s on %s: no no-op: %s", c.u, c.doc, r.Doc)
			}
			continue
		}
		if got := toJSON(t, r.Doc); got != c.want || !r.Modified {
			t.Errorf("%s on %s\n got %s\nwant %s", c.u, c.doc, got, c.want)
		}
		if again, err := ApplyEntry(doc, r.Entry); err != nil || string(again) != string(r.Doc) {
			t.Errorf("%s on %s: entry %s gives %s, %v", c.u, c.doc, r.Entry, again, err)
		}
		if diff := r.Entry.Get("diff"); c.diff != "" && toJSON(t, diff.Doc()) != c.diff {
			t.Errorf("%s on %s: diff\n got %s\nwant %s", c.u, c.doc, toJSON(t, diff.Doc()), c.diff)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		u, filters, doc string
		code            mongoerr.Code
		msg             string
	}{
		{u: `{"$set":{"_id":2}}`, code: 66, msg: "Performing an update on the path '_id' would modify the immutable field '_id'"},
		{u: `{"_id":2}`, code: 66, msg: "After applying the update, the (immutable) field '_id' was found to have been altered to _id: 2"},
		{u: `{"$nosuch":{"x":1}}`, code: 9, msg: "Unknown modifier: $nosuch. Expected a valid update modifier or pipeline-style update specified as an array"},
		{u: `{"$set":{"a":1},"$inc":{"a":1}}`, code: 40, msg: "Updating the path 'a' would create a conflict at 'a'"},
		{u: `{"$set":{"a":1,"a.b":1}}`, code: 40, msg: "Updating the path 'a.b' would create a conflict at 'a'"},
		{u: `{"$set":{"a.b":1,"a":1}}`, code: 40, msg: "Updating the path 'a' would create a conflict at 'a'"},
		{u: `{"$push":{"x":1}}`, doc: `{"_id":1,"x":2}`, code: 2, msg: "The field 'x' must be an array but is of type int in document {_id: 1}"},
		{u: `{"a":1,"$set":{"b":1}}`, code: 52, msg: "The dollar ($) prefixed field '$set' in '$set' is not allowed in the context of an update's replacement document. Consider using an aggregation pipeline with $replaceWith."},
		{u: `{"$rename":{"x":"x"}}`, code: 2, msg: `The source and target field for $rename must differ: x: "x"`},
		{u: `{"$rename":{"x":"x.y"}}`, code: 2, msg: `The source and target field for $rename must not be on the same path: x: "x.y"`},
		{u: `{"$rename":{"x.a":"y"}}`, doc: `{"_id":1,"x":[{"a":1}]}`, code: 2, msg: "The source field cannot be an array element, 'x.a' in doc with _id: 1 has an array field called 'x'"},
		{u: `{"$rename":{"x":"y.a"}}`, doc: `{"_id":1,"x":1,"y":[{"a":1}]}`, code: 2, msg: "The destination field cannot be an array element, 'y.a' in doc with _id: 1 has an array field called 'y'"},
		{u: `{"$set":{"a.$":1}}`, doc: `{"_id":1,"a":[1]}`, code: 2, msg: "The positional operator did not find the match needed from the query."},
		{u: `{"$set":{"a.$":1}}`, code: 2, msg: "The positional operator did not find the match needed from the query."},
		{u: `{"$set":{"x.$[e]":1}}`, filters: `[]`, code: 2, msg: "No array filter found for identifier 'e' in path 'x.$[e]'"},
		{u: `{"$set":{"x":1}}`, filters: `[{"e":1}]`, code: 9, msg: "The array filter for identifier 'e' was not used in the update { $set: { x: 1 } }"},
		{u: `{"$set":{"x.$[e]":1}}`, filters: `[{"e":1},{"e":2}]`, code: 9, msg: "Found multiple array filters with the same top-level field name e"},
		{u: `{"$set":{"x.$[e]":1}}`, filters: `[{"e":1,"f":1}]`, code: 9, msg: "Error parsing array filter :: caused by :: Expected a single top-level field name, found 'e' and 'f'"},
		{u: `{"$set":{"x.$[]":1}}`, code: 2, msg: "The path 'x' must exist in the document in order to apply array updates."},
		{u: `{"$set":{"x.$[]":1}}`, doc: `{"_id":1,"x":5}`, code: 2, msg: "Cannot apply array updates to non-array element x: 5"},
		{u: `{"$set":{"x.y":1}}`, doc: `{"_id":1,"x":5}`, code: 28, msg: "Cannot create field 'y' in element {x: 5}"},
		{u: `{"$set":{"x.y":1}}`, doc: `{"_id":1,"x":[1]}`, code: 28, msg: "Cannot create field 'y' in element {x: [ 1 ]}"},
		{u: `{"$inc":{"x":"a"}}`, code: 14, msg: `Cannot increment with non-numeric argument: {x: "a"}`},
		{u: `{"$inc":{"x":1}}`, doc: `{"_id":1,"x":"s"}`, code: 14, msg: "Cannot apply $inc to a value of non-numeric type. {_id: 1} has the field 'x' of non-numeric type string"},
		{u: `{"$inc":{"x":1}}`, doc: `{"_id":1,"x":9223372036854775807}`, code: 2, msg: "Failed to apply $inc operations to current value ((NumberLong)9223372036854775807) for document {_id: 1}"},
		{u: `{"$set":5}`, code: 9, msg: "Modifiers operate on fields but we found type int instead. For example: {$mod: {<field>: ...}} not {$set: 5}"},
		{u: `{"$set":{"":1}}`, code: 56, msg: "An empty update path is not valid."},
		{u: `{"$set":{"a..b":1}}`, code: 56, msg: "The update path 'a..b' contains an empty field name, which is not allowed."},
		{u: `{"$set":{"$a":1}}`, code: 52, msg: "The dollar ($) prefixed field '$a' in '$a' is not valid for storage."},
		{u: `{"$set":{"$a.b":1}}`, code: 52, msg: "The dollar ($) prefixed field '$a' in '$a.b' is not valid for storage."},
		{u: `{"a":1,"$b":1}`, code: 52, msg: "The dollar ($) prefixed field '$b' in '$b' is not allowed in the context of an update's replacement document. Consider using an aggregation pipeline with $replaceWith."},
		{u: `{"$pop":{"a":2}}`, code: 9, msg: "$pop expects 1 or -1, found: 2"},
		{u: `{"$pullAll":{"a":2}}`, code: 2, msg: "$pullAll requires an array argument but was given a int"},
		{u: `{"$set":{"a.2000000":1}}`, doc: `{"_id":1,"a":[]}`, code: mongoerr.CannotBackfillArray, msg: "can't backfill more than 1500000 elements"},
		{u: `{"x":1}`, filters: `[]`, code: 9, msg: "arrayFilters may not be specified for replacement-syle updates"},
	} {
		if c.doc == "" {
			c.doc = `{"_id":1}`
		}
		_, err := runUpdate(t, "", c.u, c.filters, fromJSON(t, c.doc))
		e, ok := mongoerr.As(err)
		if !ok || e.Code != c.code || e.Message != c.msg {
			t.Errorf("%s on %s\n got %v\nwant %d %s", c.u, c.doc, err, c.code, c.msg)
		}
	}
	if _, err := Parse(bson.D("a", 1).Value(), Options{Multi: true}); !mongoerr.Is(err, 9) {
		t.Errorf("multi replacement: %v", err)
	}
	deep := strings.Repeat(`{"a":`, 99) + "1" + strings.Repeat("}", 99)
	if _, err := runUpdate(t, "", `{"$set":{"x.y":`+deep+`}}`, "", bson.D("_id", 1)); !mongoerr.Is(err, mongoerr.Overflow) {
		t.Errorf("too deep: %v", err)
	}
}

func TestUpsert(t *testing.T) {
	for _, c := range []struct {
		filter, u, want string
		code            mongoerr.Code
	}{
		{filter: `{"_id":5}`, u: `{"$set":{"a":1}}`, want: `{"_id":5,"a":1}`},
		{filter: `{"z":1,"_id":5,"b":{"$gt":1},"c":{"$in":[7]}}`, u: `{"$set":{"a":1},"$setOnInsert":{"s":2}}`, want: `{"_id":5,"c":7,"z":1,"a":1,"s":2}`},
		{filter: `{"$and":[{"x.y":1},{"x.z":2}]}`, u: `{"$inc":{"n":1}}`, want: `{"x":{"y":1,"z":2},"n":1}`},
		{filter: `{"x":1,"_id":3}`, u: `{"y":2}`, want: `{"_id":3,"y":2}`},
		{filter: `{"x":1}`, u: `{"y":2,"_id":4}`, want: `{"_id":4,"y":2}`},
		{filter: `{"$or":[{"x":1}]}`, u: `{"$set":{"y":1}}`, want: `{"x":1,"y":1}`},
		{filter: `{"_id":5}`, u: `{"$set":{"$a":1,"$b.$c":2}}`, want: `{"_id":5,"$a":1,"$b":{"$c":2}}`},
		{filter: `{"_id":5}`, u: `{"a":1,"$b":2}`, want: `{"_id":5,"a":1,"$b":2}`},
		{filter: `{"x":1,"x.y":2}`, u: `{"$set":{"y":1}}`, code: 54},
		{filter: `{"$and":[{"x":1},{"x":2}]}`, u: `{"$set":{"y":1}}`, code: 54},
		{filter: `{"_id":1}`, u: `{"$set":{"_id":2}}`, code: 66},
		{filter: `{"_id.x":1}`, u: `{"a":2}`, code: 111},
	} {
		m, err := match.Compile(fromJSON(t, c.filter), match.Options{})
		if err != nil {
			t.Fatal(err)
		}
		u, err := Parse(fromJSON(t, c.u).Value(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		doc, err := u.UpsertDocument(m.Root(), &testInput)
		if c.code != 0 {
			if !mongoerr.Is(err, c.code) {
				t.Errorf("%s, %s: %v, want code %d", c.filter, c.u, err, c.code)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s, %s: %v", c.filter, c.u, err)
		} else if got := toJSON(t, doc); got != c.want {
			t.Errorf("%s, %s\n got %s\nwant %s", c.filter, c.u, got, c.want)
		}
	}
}

// TestManyFields sets more fields than the small bookkeeping of one level holds.
func TestManyFields(t *testing.T) {
	set, doc, want := bson.NewBuilder(nil), bson.NewBuilder(nil).Int32("_id", 1), bson.NewBuilder(nil).Int32("_id", 1)
	for i := range 200 {
		name := fmt.Sprintf("f%03d", i)
		if i%2 == 0 {
			doc.Int32(name, 0)
			want.Int32(name, int32(i))
		}
		set.Int32(name, int32(i))
	}
	for i := 1; i < 200; i += 2 {
		want.Int32(fmt.Sprintf("f%03d", i), int32(i))
	}
	u, err := Parse(bson.D("$set", set.Finish()).Value(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	old := doc.Finish()
	r, err := u.Apply(old, &testInput)
	if err != nil {
		t.Fatal(err)
	}
	// f000 has its value already and is no part of the diff.
	if got, w := toJSON(t, r.Doc), toJSON(t, want.Finish()); got != w {
		t.Errorf("got %s\nwant %s", got, w)
	}
	if again, err := ApplyEntry(old, r.Entry); err != nil || string(again) != string(r.Doc) {
		t.Errorf("entry %s: %v", r.Entry, err)
	}
}

func TestTable(t *testing.T) {
	rows := Table()
	for i := 1; i < len(rows); i++ {
		if rows[i-1].Name >= rows[i].Name {
			t.Errorf("%s and %s are out of order or doubled", rows[i-1].Name, rows[i].Name)
		}
	}
}
