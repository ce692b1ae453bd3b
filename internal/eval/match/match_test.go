package match

import (
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		filter, doc string
		want        bool
	}{
		{`{}`, `{"a":1}`, true},
		{`{"a":1}`, `{"a":1.0}`, true},
		{`{"a":1,"b":2}`, `{"a":1}`, false},
		// Arrays are entered at the end of a path, once.
		{`{"a":1}`, `{"a":[2,1]}`, true},
		{`{"a":1}`, `{"a":[[1]]}`, false},
		{`{"a":[1]}`, `{"a":[[1]]}`, true},
		{`{"a":[1]}`, `{"a":[1]}`, true},
		{`{"a":{"$gt":1,"$lt":3}}`, `{"a":[0,5]}`, true},
		{`{"a":{"$elemMatch":{"$gt":1,"$lt":3}}}`, `{"a":[0,5]}`, false},
		// Inside a path, only documents in arrays are entered.
		{`{"a.b":1}`, `{"a":[{"b":2},{"b":1}]}`, true},
		{`{"a.b":1}`, `{"a":[[{"b":1}]]}`, false},
		{`{"a.b.c":1}`, `{"a":[{"b":[{"c":1}]}]}`, true},
		{`{"a.0":1}`, `{"a":[1,2]}`, true},
		{`{"a.1":1}`, `{"a":[1,2]}`, false},
		{`{"a.0":1}`, `{"a":{"0":1}}`, true},
		{`{"a.0":1}`, `{"a":[{"0":1}]}`, true},
		{`{"a.0.b":1}`, `{"a":[{"b":1}]}`, true},
		{`{"a.0.b":1}`, `{"a":[[{"b":1}]]}`, true},
		{`{"a.0.0":1}`, `{"a":[[1]]}`, true},
		// null and missing
		{`{"a":null}`, `{}`, true},
		{`{"a":null}`, `{"a":null}`, true},
		{`{"a":null}`, `{"a":{"$undefined":true}}`, false},
		{`{"a.b":null}`, `{"a":1}`, true},
		{`{"a.b":null}`, `{"a":[]}`, false},
		{`{"a.b":null}`, `{"a":[1,2]}`, false},
		{`{"a.b":null}`, `{"a":[{"c":1}]}`, true},
		{`{"a":{"$ne":null}}`, `{}`, false},
		{`{"a":{"$in":[null,1]}}`, `{}`, true},
		{`{"a":{"$lte":null}}`, `{}`, true},
		{`{"a":{"$exists":true}}`, `{"a":null}`, true},
		{`{"a.b":{"$exists":false}}`, `{"a":[]}`, true},
		{`{"a":{"$exists":0}}`, `{"a":1}`, false},
		// $not, $ne and $nin are true unless some element says otherwise.
		{`{"a":{"$ne":1}}`, `{"a":[1,2]}`, false},
		{`{"a":{"$nin":[3]}}`, `{"a":[1,2]}`, true},
		{`{"a":{"$not":{"$gt":1}}}`, `{"a":[0,5]}`, false},
		{`{"a":{"$not":{"$gt":1}}}`, `{}`, true},
		{`{"a":{"$not":{"$regularExpression":{"pattern":"^x","options":""}}}}`, `{"a":"y"}`, true},
		// NaN
		{`{"a":{"$numberDouble":"NaN"}}`, `{"a":{"$numberDecimal":"NaN"}}`, true},
		{`{"a":{"$lt":5}}`, `{"a":{"$numberDouble":"NaN"}}`, false},
		{`{"a":{"$gte":{"$numberDouble":"NaN"}}}`, `{"a":1}`, false},
		// $all, $size, $elemMatch
		{`{"a":{"$all":[1,2]}}`, `{"a":[2,3,1]}`, true},
		{`{"a":{"$all":[1]}}`, `{"a":1}`, true},
		{`{"a":{"$all":[[1]]}}`, `{"a":[1]}`, true},
		{`{"a":{"$all":[]}}`, `{"a":[]}`, false},
		{`{"a":{"$all":[{"$elemMatch":{"x":1}},{"$elemMatch":{"x":2}}]}}`, `{"a":[{"x":1},{"x":2}]}`, true},
		{`{"a":{"$size":2}}`, `{"a":[[1,2]]}`, false},
		{`{"a.b":{"$size":2}}`, `{"a":[{"b":[1]},{"b":[1,2]}]}`, true},
		{`{"a":{"$elemMatch":{"x":1,"y":1}}}`, `{"a":[{"x":1},{"y":1}]}`, false},
		{`{"a":{"$elemMatch":{"0":1}}}`, `{"a":[[1]]}`, true},
		{`{"a":{"$elemMatch":{"$elemMatch":{"$gt":1}}}}`, `{"a":[[1,2]]}`, true},
		{`{"a":{"$elemMatch":{"$or":[{"x":1},{"y":1}]}}}`, `{"a":[{"y":1}]}`, true},
		{`{"a":{"$elemMatch":{"$not":{"$gt":1}}}}`, `{"a":[2,1]}`, true},
		{`{"a":{"$elemMatch":{"$in":[2,7]}}}`, `{"a":[2,1]}`, true},
		// $type
		{`{"a":{"$type":"number"}}`, `{"a":{"$numberDecimal":"1"}}`, true},
		{`{"a":{"$type":"array"}}`, `{"a":[1]}`, true},
		{`{"a":{"$type":["string",4]}}`, `{"a":1}`, false},
		// regular expressions
		{`{"a":{"$regex":"^ab"}}`, `{"a":"abc"}`, true},
		{`{"a":{"$regex":"^AB","$options":"i"}}`, `{"a":["x","abc"]}`, true},
		{`{"a":{"$regex":"c$"}}`, `{"a":"abc\n"}`, true},
		{`{"a":{"$regex":"c$"}}`, `{"a":"abc\n\n"}`, false},
		{`{"a":{"$regex":"^b$","$options":"m"}}`, `{"a":"a\nb\nc"}`, true},
		{`{"a":{"$regex":"a.c","$options":"s"}}`, `{"a":"a\nc"}`, true},
		{`{"a":{"$regex":"a b # c","$options":"x"}}`, `{"a":"ab"}`, true},
		{`{"a":{"$regex":"(\\w)\\1"}}`, `{"a":"abba"}`, true},
		{`{"a":{"$regex":"a(?=b)"}}`, `{"a":"ac"}`, false},
		{`{"a":{"$regex":"\\sx"}}`, `{"a":"\u000bx"}`, true},
		{`{"a":{"$regex":"[]x]"}}`, `{"a":"]"}`, true},
		{`{"a":{"$in":[{"$regularExpression":{"pattern":"b","options":""}},3]}}`, `{"a":"abc"}`, true},
		// bits, mod
		{`{"a":{"$bitsAllSet":[63,200]}}`, `{"a":-1}`, true},
		{`{"a":{"$bitsAnyClear":5}}`, `{"a":4}`, true},
		{`{"a":{"$bitsAllClear":3}}`, `{"a":{"$binary":{"base64":"BA==","subType":"00"}}}`, true},
		{`{"a":{"$bitsAnySet":3}}`, `{"a":1.5}`, false},
		{`{"a":{"$mod":[4,-1]}}`, `{"a":-5}`, true},
		// logic
		{`{"$or":[{"a":1},{"b":1}]}`, `{"b":1}`, true},
		{`{"$nor":[{"a":1},{"b":1}]}`, `{"b":1}`, false},
		{`{"$and":[{"a":1},{"$or":[{"b":2},{"b":3}]}],"$comment":"x"}`, `{"a":1,"b":3}`, true},
		{`{"$expr":{"$eq":["$a","$b"]}}`, `{"a":1,"b":1}`, true},
		// references and odd names
		{`{"a":{"$ref":"c","$id":1}}`, `{"a":{"$ref":"c","$id":1}}`, true},
		{`{"a":{"$elemMatch":{"$id":1}}}`, `{"a":[{"$ref":"c","$id":1}]}`, true},
		{`{"a":{"$elemMatch":{"$ref":"d","b":1}}}`, `{"a":[{"$ref":"c","$id":1,"b":1}]}`, false},
		{`{"":1}`, `{"":1}`, true},
		{`{"a":{}}`, `{"a":{}}`, true},
	} {
		o := Options{Expr: ExprIn(nil, &expr.Env{})}
		filter, doc := fromJSON(t, c.filter), fromJSON(t, c.doc)
		n, err := Parse(filter, o)
		if err != nil {
			if c.filter[2:7] == "$expr" {
				continue // the expression room may not have the operator yet
			}
			t.Errorf("%s: %v", c.filter, err)
			continue
		}
		for name, m := range map[string]*Matcher{"parsed": New(n), "optimised": New(Optimize(n))} {
			if got, err := m.Match(doc); got != c.want || err != nil {
				t.Errorf("%s (%s) on %s: %v, %v", c.filter, name, c.doc, got, err)
			}
		}
		// What explain shows means the same.
		again, err := Compile(Serialize(Optimize(n)), o)
		if err != nil {
			t.Errorf("%s is shown as %s: %v", c.filter, Serialize(Optimize(n)), err)
		} else if got, _ := again.Match(doc); got != c.want {
			t.Errorf("%s is shown as %s, which gives %v on %s", c.filter, Serialize(Optimize(n)), got, c.doc)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		filter string
		code   mongoerr.Code
		msg    string
	}{
		{`{"x":{"$nosuch":1}}`, 2, "unknown operator: $nosuch"},
		{`{"x":{"$gt":1,"y":1}}`, 2, "unknown operator: y"},
		{`{"$nosuch":1}`, 2, "unknown top level operator: $nosuch. If you have a field name that starts with a '$' symbol, consider using $getField or $setField."},
		{`{"x":{"$in":1}}`, 2, "$in needs an array"},
		{`{"x":{"$in":[{"$gt":1}]}}`, 2, "cannot nest $ under $in"},
		{`{"x":{"$regex":"("}}`, 51091, "Regular expression is invalid: missing closing parenthesis"},
		{`{"x":{"$regex":"a","$options":"q"}}`, 51108, "invalid flag in regex options: q"},
		{`{"x":{"$options":"i"}}`, 2, "$options needs a $regex"},
		{`{"$and":[]}`, 2, "$and/$or/$nor must be a nonempty array"},
		{`{"$and":1}`, 2, "$and must be an array"},
		{`{"$or":[{},1]}`, 2, "$or/$and/$nor entries need to be full objects"},
		{`{"x":{"$size":"a"}}`, 2, `Failed to parse $size. Expected a number in: $size: "a"`},
		{`{"x":{"$mod":[0,1]}}`, 2, "divisor cannot be 0"},
		{`{"x":{"$mod":[1]}}`, 2, "malformed mod, not enough elements"},
		{`{"x":{"$mod":[1,2,3]}}`, 2, "malformed mod, too many elements"},
		{`{"x":{"$type":99}}`, 2, "Invalid numerical type code: 99"},
		{`{"x":{"$not":1}}`, 2, "$not needs a regex or a document"},
		{`{"x":{"$elemMatch":1}}`, 2, "$elemMatch needs an Object"},
		{`{"x":{"$all":1}}`, 2, "$all needs an array"},
		{`{"x":{"$all":[{"$gt":1}]}}`, 2, "no $ expressions in $all"},
		{`{"x":{"$undefined":true}}`, 2, "cannot compare to undefined"},
		{`{"x":{"$elemMatch":{"$expr":true}}}`, 2, "unknown operator: $expr"},
		{`{"$where":"true"}`, 115, "$where is not supported by this server"},
		{`{"x":{"$near":[1,2]}}`, 291, "error processing query: planner returned error :: caused by :: unable to find index for $geoNear query"},
		{`{"x":{"$nearSphere":[1,2]}}`, 291, "error processing query: planner returned error :: caused by :: unable to find index for $geoNear query"},
		{`{"x":{"$geoWithin":{"$center":[[1,2],3]}}}`, 115, "$geoWithin is not supported by this server"},
		{`{"$text":{"$search":"a"}}`, 27, "text index required for $text query"},
		{`{"$text":1}`, 2, "$text expects an object"},
		{`{"$text":{}}`, 4, "Missing expected field \"$search\""},
		{`{"$text":{"$search":1}}`, 14, "\"$search\" had the wrong type. Expected string, found int"},
		{`{"$text":{"$search":"a","x":1}}`, 2, "extra fields in $text"},
		{`{"$expr":1}`, 224, "$expr is not allowed in this context"},
	} {
		_, err := Compile(fromJSON(t, c.filter), Options{})
		e, ok := mongoerr.As(err)
		if !ok || e.Code != c.code || e.Message != c.msg {
			t.Errorf("%s: %v, want %d %s", c.filter, err, c.code, c.msg)
		}
	}
}

func TestOptimize(t *testing.T) {
	for _, c := range []struct{ filter, want string }{
		{`{}`, `{}`},
		{`{"a":1}`, `{ a: { $eq: 1 } }`},
		{`{"b":1,"a":1}`, `{ $and: [ { a: { $eq: 1 } }, { b: { $eq: 1 } } ] }`},
		{`{"$and":[{"a":1},{"$and":[{"b":1},{"c":1}]}]}`, `{ $and: [ { a: { $eq: 1 } }, { b: { $eq: 1 } }, { c: { $eq: 1 } } ] }`},
		{`{"$or":[{"x":1},{"_id":2}]}`, `{ $or: [ { _id: { $eq: 2 } }, { x: { $eq: 1 } } ] }`},
		{`{"$or":[{"x":2},{"x":1},{"x":2}]}`, `{ x: { $in: [ 1, 2 ] } }`},
		{`{"$or":[{"x":2}]}`, `{ x: { $eq: 2 } }`},
		{`{"a":{"$in":[1]}}`, `{ a: { $eq: 1 } }`},
		{`{"a":{"$in":[]},"b":1}`, `{ $alwaysFalse: 1 }`},
		{`{"a":{"$in":[3,1,3]}}`, `{ a: { $in: [ 1, 3 ] } }`},
		{`{"a":{"$ne":1}}`, `{ a: { $not: { $eq: 1 } } }`},
		{`{"a":{"$nin":[1,2]}}`, `{ a: { $not: { $in: [ 1, 2 ] } } }`},
		{`{"a":{"$not":{"$gt":1,"$lt":5}}}`, `{ a: { $not: { $lt: 5, $gt: 1 } } }`},
		{`{"a":{"$gt":1,"$lt":5}}`, `{ $and: [ { a: { $lt: 5 } }, { a: { $gt: 1 } } ] }`},
		{`{"a":{"$exists":false}}`, `{ a: { $not: { $exists: true } } }`},
		{`{"a":{"$elemMatch":{"b":1,"c":{"$gt":2}}}}`, `{ a: { $elemMatch: { $and: [ { b: { $eq: 1 } }, { c: { $gt: 2 } } ] } } }`},
		{`{"a":{"$elemMatch":{"$gt":1,"$lt":5}}}`, `{ a: { $elemMatch: { $lt: 5, $gt: 1 } } }`},
		{`{"a":{"$regex":"^x","$options":"i"}}`, `{ a: { $regex: "^x", $options: "i" } }`},
	} {
		m, err := Compile(fromJSON(t, c.filter), Options{})
		if err != nil {
			t.Errorf("%s: %v", c.filter, err)
		} else if got := Serialize(m.Root()).String(); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.filter, got, c.want)
		}
	}
}

func TestDetails(t *testing.T) {
	for _, c := range []struct {
		filter, doc string
		want        int
	}{
		{`{"a":2}`, `{"a":[1,2]}`, 1},
		{`{"a":2}`, `{"a":2}`, -1},
		{`{"a.b":2}`, `{"a":[{"b":[1]},{"b":[1,2]}]}`, 1},
		{`{"a.b":2}`, `{"a":{"b":[1,2]}}`, 1},
		{`{"a.1.b":2}`, `{"a":[{"b":2},{"b":[5,2,1]}]}`, 1},
		{`{"a":{"$elemMatch":{"x":1}}}`, `{"a":[{"x":0},{"x":1}]}`, 1},
		{`{"a.b":{"$elemMatch":{"x":1}}}`, `{"a":[{"b":[]},{"b":[{"x":0},{"x":1}]}]}`, 1},
		{`{"a":1,"b":2}`, `{"a":[1],"b":[0,0,2]}`, 2},
		{`{"$or":[{"a":5},{"b":2}]}`, `{"a":[1],"b":[0,0,2]}`, 2},
		{`{"a":{"$ne":5}}`, `{"a":[1]}`, -1},
	} {
		m, err := Compile(fromJSON(t, c.filter), Options{})
		if err != nil {
			t.Fatal(err)
		}
		var d Details
		ok, err := m.MatchDetails(fromJSON(t, c.doc), &d)
		got, has := d.Index()
		if !has {
			got = -1
		}
		if !ok || err != nil || got != c.want {
			t.Errorf("%s on %s: index %d, %v, %v", c.filter, c.doc, got, ok, err)
		}
	}
}

func TestEachLeaf(t *testing.T) {
	for _, c := range []struct{ path, doc, want string }{
		{"a", `{"a":1}`, "[ 1 ]"},
		{"a", `{"a":[1,[2],3]}`, "[ 1, [ 2 ], 3 ]"},
		{"a", `{"a":[]}`, "[]"},
		{"a", `{}`, "[]"},
		{"a.b", `{"a":[{"b":1},{"b":[2,3]},4,{}]}`, "[ 1, 2, 3 ]"},
		{"a.1", `{"a":[5,6]}`, "[ 6 ]"},
		{"a.0.b", `{"a":[{"b":1},{"b":2}]}`, "[ 1 ]"},
	} {
		b := bson.NewArrayBuilder(nil)
		NewPath(c.path).EachLeaf(fromJSON(t, c.doc), func(v bson.Value) { b.Append("", v) })
		if got := bson.Array(b.Finish()).Value().String(); got != c.want {
			t.Errorf("%s of %s: %s, want %s", c.path, c.doc, got, c.want)
		}
	}
}

func TestTable(t *testing.T) {
	rows := Table()
	for i := 1; i < len(rows); i++ {
		a, b := rows[i-1], rows[i]
		if a.Name > b.Name || (a.Name == b.Name && (a.Top || !b.Top)) {
			t.Errorf("%s and %s are out of order or doubled", a.Name, b.Name)
		}
	}
	for _, r := range rows {
		if built := r.parseField != nil || r.parseTop != nil; built != (r.Status == Supported) {
			t.Errorf("%s: status %d", r.Name, r.Status)
		}
	}
}

// FuzzParse: no filter makes the parser or the matcher panic, and the optimised tree
// answers as the parsed one.
func FuzzParse(f *testing.F) {
	doc := fromJSON(f, `{"_id":1,"a":[1,{"b":[2,3]},[4]],"s":"text","n":5}`)
	for _, s := range []string{
		`{"a.b":{"$gt":1,"$not":{"$in":[1,2]}}}`, `{"$or":[{"a":1},{"a":{"$regex":"^x"}}]}`, `{"a":{"$elemMatch":{"b":{"$all":[2,3]}}}}`,
		`{"n":{"$mod":[2,1],"$bitsAnySet":[0,70],"$type":["int"],"$exists":1}}`, `{"$nor":[{"a":{"$size":3}}],"$alwaysTrue":1}`,
	} {
		f.Add([]byte(fromJSON(f, s)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 || bson.Validate(b, bson.MaxDepth) != nil {
			return
		}
		n, err := Parse(b, Options{})
		if err != nil {
			return
		}
		want, err := New(n).Match(doc)
		if err != nil {
			return
		}
		got, err := New(Optimize(n)).Match(doc)
		if err != nil || got != want {
			t.Fatalf("%s: %v, optimised %v (%v)", bson.Raw(b), want, got, err)
		}
	})
}
