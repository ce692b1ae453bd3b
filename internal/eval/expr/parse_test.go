package expr

import (
	"testing"

	"github.com/cairndb/cairn/internal/bson"
)

func TestPaths(t *testing.T) {
	doc := bson.D("a", bson.A(bson.D("b", 1), 5, bson.A(bson.D("b", 9)), bson.D("b", bson.A(2, 3)), bson.D("c", 1)),
		"x", bson.D("y", bson.D("z", "deep")), "n", 7)
	for _, c := range []struct {
		in   any
		want bson.Value
	}{
		{"$n", bson.V(7)},
		{"$a.b", bson.V(bson.A(1, bson.A(2, 3)))},
		{"$x.y.z", bson.V("deep")},
		{"$$ROOT.x.y.z", bson.V("deep")},
		{"$$CURRENT.n", bson.V(7)},
		{"$n.z", bson.Value{}},
		{"$$REMOVE", bson.Value{}},
		{bson.D("p", "$n", "q", "$none", "r", bson.A("$none", "$n")), bson.V(bson.D("p", 7, "r", bson.A(nil, 7)))},
		{bson.D("$literal", "$n"), bson.V("$n")},
	} {
		e, err := Parse(bson.V(c.in), nil)
		if err != nil {
			t.Fatalf("%v: %v", c.in, err)
		}
		env := &Env{}
		env.Reset(doc)
		got, err := e.Eval(env)
		if err != nil {
			t.Fatalf("%v: %v", c.in, err)
		}
		if got.Type != c.want.Type || string(got.Data) != string(c.want.Data) {
			t.Errorf("%v: got %s, want %s", c.in, ToJSON(got), ToJSON(c.want))
		}
	}
}
