package command

import (
	"testing"

	"github.com/cairndb/cairn/internal/bson"
)

// TestFilterKnownEarly: the filter that a command will look by is found in every form in which it may
// come, and nothing is made of what is malformed: its types have not been checked yet.
func TestFilterKnownEarly(t *testing.T) {
	q := bson.D("_id", 7)
	statement := bson.D("q", q, "u", bson.D("$set", bson.D("a", 1)))
	for _, tc := range []struct {
		name string
		body bson.Raw
		seq  []Sequence
		want bson.Raw
	}{
		{"find", bson.D("find", "c", "filter", q), nil, q},
		{"find without one", bson.D("find", "c"), nil, nil},
		{"find by no document", bson.D("find", "c", "filter", 3), nil, nil},
		{"findAndModify", bson.D("findAndModify", "c", "query", q), nil, q},
		{"update in the body", bson.D("update", "c", "updates", bson.A(statement)), nil, q},
		{"update behind it", bson.D("update", "c"), []Sequence{{Name: "updates", Docs: []bson.Raw{statement, bson.D("q", 1)}}}, q},
		{"delete", bson.D("delete", "c", "deletes", bson.A(statement)), nil, q},
		{"delete behind it", bson.D("delete", "c"), []Sequence{{Name: "deletes", Docs: []bson.Raw{statement}}}, q},
		{"another sequence", bson.D("delete", "c"), []Sequence{{Name: "updates", Docs: []bson.Raw{statement}}}, nil},
		{"no statement", bson.D("update", "c", "updates", bson.A()), nil, nil},
		{"no statement behind it", bson.D("update", "c"), []Sequence{{Name: "updates"}}, nil},
		{"a statement that is none", bson.D("update", "c", "updates", bson.A(5)), nil, nil},
		{"statements that are none", bson.D("update", "c", "updates", "x"), nil, nil},
		{"a filter that is none", bson.D("update", "c", "updates", bson.A(bson.D("q", "x"))), nil, nil},
	} {
		c := &Ctx{Request: Request{Body: tc.body, Sequences: tc.seq}}
		name, _ := tc.body.First()
		c.args.fill(c.Body)
		c.Command = NewTable(All()...).Lookup(name)
		got := c.Command.Filter(c)
		switch {
		case tc.want == nil && got.Type == bson.TypeDocument:
			t.Errorf("%s: got %v, want none", tc.name, got)
		case tc.want != nil && (got.Type != bson.TypeDocument || string(got.Doc()) != string(tc.want)):
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

// TestAsksForOne: the short way is taken by what drivers send for a findOne, and by nothing that asks for
// more than the document.
func TestAsksForOne(t *testing.T) {
	find := func(more ...any) bson.Raw {
		return bson.D(append([]any{"find", "c", "filter", bson.D("_id", 7)}, more...)...)
	}
	for _, tc := range []struct {
		body bson.Raw
		want bool
	}{
		{find("limit", 1, "singleBatch", true, "lsid", bson.D("id", bson.UUID{1}), "$db", "x"), true},
		{find("limit", int64(0), "comment", "x", "maxTimeMS", 5), true},
		{find("limit", -1), false},
		{find("limit", nil), false},
		{find("skip", 1), false},
		{find("projection", bson.D("a", 1)), false},
		{find("let", bson.D("a", 1)), false},
		{find("a", 1, "b", 1, "c", 1, "d", 1, "e", 1, "f", 1, "g", 1, "h", 1, "i", 1, "j", 1), false}, // more than the index has room for
	} {
		c := &Ctx{Request: Request{Body: tc.body}}
		c.args.fill(c.Body)
		if got := c.asksForOne(); got != tc.want {
			t.Errorf("%v: %t, want %t", tc.body, got, tc.want)
		}
		if c.Generic.ReadConcern.Given = true; c.asksForOne() {
			t.Errorf("%v: asks for one with a readConcern", tc.body)
		}
	}
}
