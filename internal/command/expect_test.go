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
