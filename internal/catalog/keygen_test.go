package catalog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/storage"
)

// TestKeys lists documents and the keys that an index makes of them, as MongoDB does.
func TestKeys(t *testing.T) {
	for _, c := range []struct {
		key, doc string
		sparse   bool
		want     string // keys, then the multikey paths
	}{
		{`{"a":1}`, `{"a":5}`, false, `{ a: 5 } / []`},
		{`{"a":1}`, `{}`, false, `{ a: null } / []`},
		{`{"a":1}`, `{}`, true, ` / []`},
		{`{"a":1}`, `{"a":null}`, true, `{ a: null } / []`},
		{`{"a":1}`, `{"a":[3,1,2,1.0]}`, false, `{ a: 1 } { a: 2 } { a: 3 } / [0]`},
		{`{"a":-1}`, `{"a":[1,2]}`, false, `{ a: 2 } { a: 1 } / [0]`},
		{`{"a":1}`, `{"a":[]}`, false, `{ a: undefined } / [0]`},
		{`{"a":1}`, `{"a":[]}`, true, `{ a: undefined } / [0]`},
		{`{"a":1}`, `{"a":[[1,2],3]}`, false, `{ a: 3 } { a: [ 1, 2 ] } / [0]`},
		{`{"a":1}`, `{"a":{"b":1}}`, false, `{ a: { b: 1 } } / []`},
		{`{"a.b":1}`, `{"a":{"b":1}}`, false, `{ a.b: 1 } / []`},
		{`{"a.b":1}`, `{"a":[{"b":1},{"b":[2,3]},{}]}`, false, `{ a.b: null } { a.b: 1 } { a.b: 2 } { a.b: 3 } / [0 1]`},
		{`{"a.b":1}`, `{"a":[1,{"b":2}]}`, false, `{ a.b: null } { a.b: 2 } / [0]`},
		{`{"a.b":1}`, `{"a":[1,{"b":2}]}`, true, `{ a.b: 2 } / [0]`},
		{`{"a.b":1}`, `{"a":[[{"b":1}]]}`, false, `{ a.b: null } / [0]`},
		{`{"a.b":1}`, `{"a":5}`, false, `{ a.b: null } / []`},
		{`{"a.b":1}`, `{"a":[]}`, false, `{ a.b: null } / [0]`},
		{`{"a.0":1}`, `{"a":[7,8]}`, false, `{ a.0: 7 } / []`},
		{`{"a.0":1}`, `{"a":[[7,8]]}`, false, `{ a.0: 7 } { a.0: 8 } / [1]`},
		{`{"a.5":1}`, `{"a":[7,8]}`, false, `{ a.5: null } / []`},
		{`{"a.0.b":1}`, `{"a":[{"b":1},{"b":2}]}`, false, `{ a.0.b: 1 } / []`},
		{`{"a.0":1}`, `{"a":{"0":4}}`, false, `{ a.0: 4 } / []`},
		{`{"a.0":1}`, `{"a":[{"0":4}]}`, false, `Ambiguous field name found in array (do not use numeric field names in embedded elements in an array), field: '0' for array: [{"0":4}]`},
		{`{"a":1,"b":1}`, `{"a":[1,2],"b":3}`, false, `{ a: 1, b: 3 } { a: 2, b: 3 } / [0] []`},
		{`{"a":1,"b":1}`, `{"a":[1],"b":[2]}`, false, `cannot index parallel arrays [b] [a]`},
		{`{"a.x":1,"a.y":1}`, `{"a":[{"x":1,"y":2},{"x":3}]}`, false, `{ a.x: 1, a.y: 2 } { a.x: 3, a.y: null } / [0] [0]`},
		{`{"a.x":1,"a.y":1}`, `{"a":[{"x":[1,2],"y":[3]}]}`, false, `cannot index parallel arrays [y] [x]`},
		{`{"a":1,"a.x":1}`, `{"a":[{"x":1},{"x":2}]}`, false, `{ a: { x: 1 }, a.x: 1 } { a: { x: 2 }, a.x: 2 } / [0] [0]`},
		{`{"a":1,"b":1}`, `{"b":1}`, true, `{ a: null, b: 1 } / [] []`},
		{`{"a":1,"b":1}`, `{"c":1}`, true, ` / [] []`},
		{`{"a.b.c":1}`, `{"a":[{"b":[{"c":1},{"c":2}]},{"b":{"c":3}}]}`, false, `{ a.b.c: 1 } { a.b.c: 2 } { a.b.c: 3 } / [0 1]`},
	} {
		spec, err := ParseIndexSpec(bson.D("key", extjson.MustParse(c.key), "name", "i", "sparse", c.sparse))
		if err != nil {
			t.Fatal(err)
		}
		cat := &Catalog{}
		cat.opt.ensureDefaults()
		ix, err := cat.newIndex(spec, storage.Table{})
		if err != nil {
			t.Fatal(err)
		}
		if got := describeKeys(ix, extjson.MustParse(c.doc)); got != c.want {
			t.Errorf("index %s sparse %v of %s:\ngot  %s\nwant %s", c.key, c.sparse, c.doc, got, c.want)
		}
	}
}

func describeKeys(ix *Index, doc bson.Raw) string {
	s := &writeScratch{}
	if err := s.addKeys(ix, doc, 0, false); err != nil {
		if e, ok := mongoerr.As(err); ok {
			return e.Message
		}
		return err.Error()
	}
	var keys []string
	for _, op := range s.ops {
		d, err := ix.decodeKey(s.keys.key(op.span), s.keys.bits(op.span))
		if err != nil {
			return err.Error()
		}
		keys = append(keys, d.String())
	}
	return strings.Join(keys, " ") + " / " + describePaths(ix)
}

func describePaths(ix *Index) string {
	var s []string
	for _, p := range ix.MultikeyPaths() {
		s = append(s, fmt.Sprint(p))
	}
	return strings.Join(s, " ")
}
