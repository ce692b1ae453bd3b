package indexes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

var n uint32

func command(t *testing.T, o bson.Raw) *entry.Entry {
	t.Helper()
	n++
	e, err := entry.Parse(bson.D("ts", bson.NewTimestamp(n, 1), "t", int64(1), "v", int64(2), "op", "c", "ns", "d.$cmd", "o", o))
	if err != nil {
		t.Fatal(err)
	}
	return &e
}

func (s *Set) text() string {
	var all []string
	for _, ns := range s.Namespaces() {
		for _, spec := range s.Of(ns) {
			text := ns + "/" + spec.Get("name").Str()
			for _, f := range []string{"unique", "expireAfterSeconds", "hidden"} {
				if spec.Has(f) {
					text += fmt.Sprintf(" %s=%v", f, spec.Get(f))
				}
			}
			all = append(all, text)
		}
	}
	return strings.Join(all, "; ")
}

func TestApply(t *testing.T) {
	key := bson.D("a", 1)
	var s Set
	s.Add("d.c", bson.D("v", 2, "key", bson.D("_id", 1), "name", "_id_", "ns", "d.c"))
	s.Add("d.c", bson.D("v", 2, "key", bson.D("b", 1), "name", "b_1", "ns", "d.c"))
	if s.Of("d.c")[0].Has("ns") {
		t.Error("the old place is kept")
	}
	for _, step := range []struct {
		o     bson.Raw
		taken Taken
		want  string
	}{
		{bson.D("createIndexes", "c", "v", 2, "key", key, "name", "a_1", "unique", true), Whole, "d.c/b_1; d.c/a_1 unique=true"},
		{bson.D("createIndexes", "c", "v", 2, "key", key, "name", "a_1"), Whole, "d.c/b_1; d.c/a_1"},
		{bson.D("collMod", "c", "index", bson.D("name", "a_1", "expireAfterSeconds", 5)), Whole, "d.c/b_1; d.c/a_1 expireAfterSeconds=5"},
		{bson.D("collMod", "c", "index", bson.D("keyPattern", key, "expireAfterSeconds", 9)), Whole, "d.c/b_1; d.c/a_1 expireAfterSeconds=9"},
		{bson.D("collMod", "c", "index", bson.D("name", "b_1", "hidden", true), "validationLevel", "off"), Part, "d.c/b_1 hidden=true; d.c/a_1 expireAfterSeconds=9"},
		{bson.D("collMod", "c", "index", bson.D("name", "b_1", "hidden", false)), Whole, "d.c/b_1; d.c/a_1 expireAfterSeconds=9"},
		{bson.D("collMod", "c", "validationLevel", "off"), Nothing, "d.c/b_1; d.c/a_1 expireAfterSeconds=9"},
		{bson.D("startIndexBuild", "c", "indexes", bson.A(bson.D("name", "x"))), Whole, "d.c/b_1; d.c/a_1 expireAfterSeconds=9"},
		{bson.D("commitIndexBuild", "c", "indexes", bson.A(bson.D("v", 2, "key", bson.D("x", 1), "name", "x_1"))), Whole, "d.c/b_1; d.c/a_1 expireAfterSeconds=9; d.c/x_1"},
		{bson.D("dropIndexes", "c", "index", "a_1"), Whole, "d.c/b_1; d.c/x_1"},
		{bson.D("dropIndexes", "c", "index", "unknown"), Nothing, "d.c/b_1; d.c/x_1"},
		{bson.D("dropIndexes", "c", "index", bson.D("x", 1)), Whole, "d.c/b_1"},
		{bson.D("renameCollection", "d.c", "to", "d.e"), Nothing, "d.e/b_1"},
		{bson.D("createIndexes", "c", "v", 2, "key", key, "name", "a_1"), Whole, "d.c/a_1; d.e/b_1"},
		{bson.D("renameCollection", "d.c", "to", "d.e", "dropTarget", true), Nothing, "d.e/a_1"},
		{bson.D("applyOps", bson.A(bson.D("op", "c", "ns", "d.$cmd", "o", bson.D("drop", "e")))), Nothing, ""},
		{bson.D("createIndexes", "c", "v", 2, "key", key, "name", "a_1"), Whole, "d.c/a_1"},
		{bson.D("convertToCapped", "c", "size", 4096), Nothing, ""},
		{bson.D("createIndexes", "c", "v", 2, "key", key, "name", "a_1"), Whole, "d.c/a_1"},
		{bson.D("dropDatabase", 1), Nothing, ""},
	} {
		e := command(t, step.o)
		taken, err := s.Apply(e)
		if err != nil || taken != step.taken || s.text() != step.want {
			t.Errorf("%v: taken %v, %q, %v; want %v, %q", step.o, taken, s.text(), err, step.taken, step.want)
		}
	}
}

func TestRest(t *testing.T) {
	e := command(t, bson.D("collMod", "c", "index", bson.D("name", "b_1", "hidden", true), "validationLevel", "off"))
	if rest := Rest(e); rest == nil || rest.Path("o.validationLevel").Str() != "off" || rest.Get("o").Doc().Has("index") || rest.Get("ts").IsMissing() {
		t.Errorf("%v", rest)
	}
}
