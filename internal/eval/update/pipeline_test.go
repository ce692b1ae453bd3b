package update

import (
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func TestPipeline(t *testing.T) {
	stages := bson.A(bson.D("$set", bson.D("x", 1)))
	if _, err := Parse(stages.Value(), Options{HasArrayFilters: true}); !mongoerr.Is(err, mongoerr.FailedToParse) {
		t.Errorf("with array filters: %v", err)
	}
	old := bson.D("_id", 1, "pad", "a text that is long enough to make a diff the shorter entry", "x", 0)
	for _, c := range []struct {
		name    string
		next    bson.Raw
		want    bson.Raw
		isDiff  bool
		changed bool
	}{
		{"same", old, old, false, false},
		{"small", bson.D("_id", 1, "pad", "a text that is long enough to make a diff the shorter entry", "x", 1),
			bson.D("_id", 1, "pad", "a text that is long enough to make a diff the shorter entry", "x", 1), true, true},
		{"all", bson.D("y", 1), bson.D("_id", 1, "y", 1), false, true},
	} {
		u, err := Parse(stages.Value(), Options{Pipeline: func(a bson.Array) (func(bson.Raw) (bson.Raw, error), error) {
			return func(bson.Raw) (bson.Raw, error) { return c.next, nil }, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := u.Apply(old, &testInput)
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Doc) != string(c.want) || r.Modified != c.changed || r.Entry.Has("diff") != c.isDiff {
			t.Errorf("%s: %s, modified %v, entry %s", c.name, r.Doc, r.Modified, r.Entry)
		}
		if c.changed {
			if again, err := ApplyEntry(old, r.Entry); err != nil || string(again) != string(r.Doc) {
				t.Errorf("%s: entry %s gives %s, %v", c.name, r.Entry, again, err)
			}
		}
	}
}
