package query

import (
	"context"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
)

// TestFindExpected: what was expected is answered as Find does, unless the catalog is another by then,
// or what was expected is not one document by its _id.
func TestFindExpected(t *testing.T) {
	s := newServer(t)
	s.insert(js(t, `{"_id": 1, "a": 1}`), js(t, `{"_id": "x"}`))
	answer := func(x Expected) (bson.Raw, bool) {
		t.Helper()
		out := bson.NewBuilder(nil)
		done, err := s.FindExpected(newOp(), &x, out)
		if err != nil {
			t.Fatal(err)
		}
		return out.Finish(), done
	}
	for _, f := range []string{`{"_id": 1}`, `{"_id": "x"}`, `{"_id": 3}`, `{"_id": {"$oid": "000000000000000000000001"}}`} {
		out := bson.NewBuilder(nil)
		if err := s.Find(newOp(), &FindRequest{NS: testNS, Filter: js(t, f)}, out); err != nil {
			t.Fatal(err)
		}
		want := out.Finish()
		if got, done := answer(s.Expect(testNS, js(t, f))); !done || string(got) != string(want) {
			t.Errorf("%s: %v, done %t; Find says %v", f, got, done, want)
		}
	}
	for _, f := range []string{`{}`, `{"a": 1}`, `{"_id": 1, "a": 1}`, `{"_id": {"$gt": 1}}`, `{"_id": null}`} {
		if x := s.Expect(testNS, js(t, f)); x.Known() {
			t.Errorf("%s is expected", f)
		} else if got, done := answer(x); done {
			t.Errorf("%s: answered by %v", f, got)
		}
	}
	x := s.Expect(testNS, js(t, `{"_id": 1}`))
	if _, err := s.cat.Drop(context.Background(), testNS); err != nil {
		t.Fatal(err)
	}
	s.insert(js(t, `{"_id": 1, "new": true}`))
	if got, done := answer(x); done {
		t.Errorf("what was expected before the collection was dropped is answered by %v", got)
	}
}
