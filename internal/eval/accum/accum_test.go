package accum

import (
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/eval/expr"
)

func key(dst []byte, v bson.Value) []byte { return keystring.Append(dst, v, false, nil) }

func decimal(t *testing.T, s string) bson.Decimal128 {
	t.Helper()
	d, err := bson.ParseDecimal128(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestStates(t *testing.T) {
	missing := bson.Value{}
	for _, c := range []struct {
		name string
		op   string
		in   []any
		want any
	}{
		{"ints stay int", "$sum", []any{1, 2, "x", nil}, 3},
		{"overflow of int is long", "$sum", []any{int32(1<<31 - 1), 1}, int64(1 << 31)},
		{"long stays long", "$sum", []any{int64(1), 2}, int64(3)},
		{"overflow of long is double", "$sum", []any{int64(1<<63 - 1), int64(1)}, float64(1 << 63)},
		{"back from overflow", "$sum", []any{int64(1<<63 - 1), int64(1), int64(-5)}, int64(1<<63 - 5)},
		{"compensated", "$sum", []any{1e100, 1.0, -1e100}, 1.0},
		{"nothing", "$sum", nil, 0},
		{"decimal", "$sum", []any{decimal(t, "0.1"), 1}, decimal(t, "1.1")},
		{"average", "$avg", []any{1, 2, nil}, 1.5},
		{"average of decimals", "$avg", []any{decimal(t, "1"), decimal(t, "2")}, decimal(t, "1.5")},
		{"average of nothing", "$avg", []any{"a"}, nil},
		{"min ignores null", "$min", []any{nil, 3, 2.0, missing}, 2.0},
		{"max over types", "$max", []any{nil, 3, "a"}, "a"},
		{"max of nothing", "$max", []any{nil}, nil},
		{"first", "$first", []any{1, 2}, 1},
		{"first missing", "$first", []any{missing, 2}, nil},
		{"last", "$last", []any{1, 2}, 2},
		{"push", "$push", []any{1, missing, nil, "a"}, bson.A(1, nil, "a")},
		{"push nothing", "$push", nil, bson.A()},
		{"set", "$addToSet", []any{1, 1.0, int64(1), "1", missing, nil, nil}, bson.A(1, "1", nil)},
		{"merge", "$mergeObjects", []any{bson.D("a", 1, "b", 1), nil, bson.D("a", 2, "c", 3)}, bson.D("a", 2, "b", 1, "c", 3)},
		{"deviation", "$stdDevPop", []any{1, 3}, 1.0},
		{"deviation of one", "$stdDevSamp", []any{1}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Parse("x", bson.D(c.op, "$v").Value(), Options{Key: key})
			if err != nil {
				t.Fatal(err)
			}
			// In one go, and split at each place with the second part saved and merged.
			for cut := 0; cut <= len(c.in); cut++ {
				a, b := f.New(), f.New()
				for i, v := range c.in {
					s := a
					if i >= cut {
						s = b
					}
					val, ok := v.(bson.Value)
					if !ok {
						val = bson.V(v)
					}
					if err := s.Add(val); err != nil {
						t.Fatal(err)
					}
				}
				bu := bson.NewBuilder(nil)
				b.Save(bu, "s")
				if err := a.Merge(bu.Finish().Get("s")); err != nil {
					t.Fatal(err)
				}
				got, want := a.Value(&expr.Env{}), bson.V(c.want)
				if got.Type != want.Type || string(got.Data) != string(want.Data) {
					t.Errorf("cut at %d: got %s %s, want %s %s", cut, got.Type, expr.ValueText(got), want.Type, expr.ValueText(want))
				}
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct {
		field string
		spec  any
		want  string
	}{
		{"a.b", bson.D("$sum", 1), "The field name 'a.b' cannot contain '.' (Location40235)"},
		{"$a", bson.D("$sum", 1), "The field name '$a' cannot be an operator name (Location40236)"},
		{"a", 1, "The field 'a' must be an accumulator object (Location40234)"},
		{"a", bson.D("$sum", 1, "$avg", 1), "The field 'a' must specify one accumulator (Location40238)"},
		{"a", bson.D("$nope", 1), "unknown group operator '$nope' (Location15952)"},
		{"a", bson.D("$topN", bson.D()), "unknown group operator '$topN' (Location15952)"},
		{"a", bson.D("$sum", bson.A(1, 2)), "The $sum accumulator is a unary operator (Location40237)"},
		{"a", bson.D("$count", 1), "$count takes no arguments, i.e. $count:{} (TypeMismatch)"},
	} {
		_, err := Parse(c.field, bson.V(c.spec), Options{})
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", c.field, err, c.want)
		}
	}
}

func TestTable(t *testing.T) {
	prev := ""
	for _, op := range Table() {
		if op.Name <= prev {
			t.Errorf("%s does not follow %s", op.Name, prev)
		}
		prev = op.Name
		if (op.Status == expr.Implemented) != (op.newState != nil) {
			t.Errorf("%s: status and implementation disagree", op.Name)
		}
	}
}
