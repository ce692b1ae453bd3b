package plan

import (
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/match"
)

func parse(t *testing.T, f bson.Raw) match.Node {
	t.Helper()
	n, err := match.Parse(f, match.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return match.Optimize(n)
}

func text(l Intervals) string {
	s := ""
	for _, iv := range l {
		s += iv.String()
	}
	return s
}

func TestIntervals(t *testing.T) {
	v := func(i int) bson.Value { return bson.V(i) }
	a := Normalize(Intervals{{v(5), v(9), true, false}, {v(1), v(3), true, true}, {v(3), v(4), false, true}, {v(8), v(8), false, true}})
	b := Intervals{{v(2), v(6), false, true}, Point(v(9))}
	for _, c := range []struct{ name, got, want string }{
		{"normalized", text(a), "[1, 4][5, 9)"},
		{"intersection", text(Intersect(a, b)), "(2, 4][5, 6]"},
		{"union", text(Union(a, b)), "[1, 9]"},
		{"complement", text(Complement(a)), "[MinKey, 1)(4, 5)[9, MaxKey]"},
		{"complement of all", text(Complement(AllValues())), ""},
		{"complement of nothing", text(Complement(nil)), "[MinKey, MaxKey]"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, c.got, c.want)
		}
	}
}

func TestBounds(t *testing.T) {
	id := bson.ObjectID{1}
	for _, c := range []struct {
		pred bson.Raw
		want string
		how  Tightness
	}{
		{bson.D("$eq", 1), "[1, 1]", Exact},
		{bson.D("$eq", nil), "[null, null]", InexactFetch},
		{bson.D("$lt", 5), "[-inf.0, 5)", Exact},
		{bson.D("$gte", "a"), `["a", {})`, Exact},
		{bson.D("$gt", bson.DateTime(7)), "(new Date(7), new Date(9223372036854775807)]", Exact},
		{bson.D("$lte", id), "[ObjectId('000000000000000000000000'), ObjectId('010000000000000000000000')]", Exact},
		{bson.D("$gt", false), "(false, true]", Exact},
		{bson.D("$lt", bson.D("a", 1)), "[{}, { a: 1 })", Exact},
		{bson.D("$gt", bson.Timestamp(1)), "(Timestamp(0, 1), Timestamp(4294967295, 4294967295)]", Exact},
		{bson.D("$in", []any{3, 1, 1, "x"}), `[1, 1][3, 3]["x", "x"]`, Exact},
		{bson.D("$exists", true), "[MinKey, MaxKey]", InexactFetch},
		{bson.D("$exists", false), "[null, null]", InexactFetch},
		{bson.D("$type", "string"), `["", {})`, InexactFetch},
		{bson.D("$mod", []any{2, 0}), "[nan.0, inf.0]", InexactCovered},
		{bson.D("$ne", 1), "[MinKey, 1)(1, MaxKey]", Exact},
		{bson.D("$nin", []any{1, 2}), "[MinKey, 1)(1, 2)(2, MaxKey]", Exact},
		{bson.D("$not", bson.D("$gt", 1)), "[MinKey, 1](inf.0, MaxKey]", Exact},
		{bson.D("$eq", []any{1, 2}), "[1, 1][[ 1, 2 ], [ 1, 2 ]]", InexactFetch},
		{bson.D("$elemMatch", bson.D("$gt", 1, "$lt", 4)), "(1, 4)", InexactFetch},
	} {
		preds := predicates(conjuncts(parse(t, bson.D("a", c.pred))))
		if len(preds) != 1 {
			t.Errorf("%s: %d predicates", Text(c.pred.Value()), len(preds))
			continue
		}
		b, how, ok := translate(preds[0].leaf, &Index{Parts: []KeyPart{{Path: "a"}}}, 0)
		if !ok || text(b) != c.want || how != c.how {
			t.Errorf("%s: got %s %d %v, want %s %d", Text(c.pred.Value()), text(b), how, ok, c.want, c.how)
		}
	}
}

func TestRegexPrefix(t *testing.T) {
	for _, c := range []struct {
		pattern, options, prefix string
		exact                    bool
	}{
		{"^abc", "", "abc", true}, {"^abc", "i", "", false}, {"^abc", "m", "", false}, {"abc", "", "", false},
		{"^ab*c", "", "a", false}, {"^ab+c", "", "ab", false}, {"^a|b", "", "", false}, {`^a\.b`, "", "a.b", true},
		{`^a\d`, "", "a", false}, {"^ab?", "", "a", false}, {"^é*", "", "", false}, {"^a.*", "s", "a", true}, {"^a.*", "", "a", false},
		{"^", "", "", true}, {"^a$", "", "a", false}, {`\Aab`, "", "ab", true}, {"^a b", "x", "a", false},
	} {
		if p, exact := RegexPrefix(c.pattern, c.options); p != c.prefix || exact != c.exact {
			t.Errorf("/%s/%s: got %q %v, want %q %v", c.pattern, c.options, p, exact, c.prefix, c.exact)
		}
	}
}

func TestImplies(t *testing.T) {
	for _, c := range []struct {
		q, p bson.Raw
		want bool
	}{
		{bson.D("a", 5), bson.D("a", bson.D("$gt", 3)), true},
		{bson.D("a", 3), bson.D("a", bson.D("$gt", 3)), false},
		{bson.D("a", "x"), bson.D("a", bson.D("$gt", 3)), false},
		{bson.D("a", bson.D("$gt", 3)), bson.D("a", bson.D("$gte", 3)), true},
		{bson.D("a", bson.D("$gte", 3)), bson.D("a", bson.D("$gt", 3)), false},
		{bson.D("a", 5, "b", 1), bson.D("b", bson.D("$exists", true)), true},
		{bson.D("b", nil), bson.D("b", bson.D("$exists", true)), false},
		{bson.D("a", bson.D("$in", []any{4, 5})), bson.D("a", bson.D("$gt", 3)), true},
		{bson.D("a", bson.D("$in", []any{2, 5})), bson.D("a", bson.D("$gt", 3)), false},
		{bson.D("$or", []bson.Raw{bson.D("a", 5), bson.D("a", 6, "b", 1)}), bson.D("a", bson.D("$gt", 3)), true},
		{bson.D("$or", []bson.Raw{bson.D("a", 5), bson.D("b", 1)}), bson.D("a", bson.D("$gt", 3)), false},
		{bson.D("a", 5), bson.D("$or", []bson.Raw{bson.D("a", bson.D("$gt", 3)), bson.D("b", 1)}), true},
		{bson.D("a", 5), bson.D("a", bson.D("$gt", 3), "b", 1), false},
		{bson.D("a", 5), bson.D("a", bson.D("$type", "number")), true},
		{bson.Empty, bson.D("a", 1), false},
		{bson.D("a", 1), bson.Empty, true},
	} {
		if got := Implies(parse(t, c.q), parse(t, c.p)); got != c.want {
			t.Errorf("%s implies %s: %v", Text(c.q.Value()), Text(c.p.Value()), got)
		}
	}
}

func TestCacheForgets(t *testing.T) {
	var c Cache
	c.Put("k", 1, "a", 5)
	if _, _, ok := c.Lookup("k", 1); ok {
		t.Error("a shape is active after one trial")
	}
	c.Put("k", 1, "a", 7)
	if w, budget, ok := c.Lookup("k", 1); !ok || w != "a" || budget != 70 {
		t.Errorf("got %s %d %v", w, budget, ok)
	}
	c.Evict("k")
	if _, _, ok := c.Lookup("k", 1); ok {
		t.Error("an evicted shape is active")
	}
	for i := range cacheSize + 10 {
		c.Put(string(rune(i+100)), 1, "a", 1)
	}
	if c.Len() != cacheSize {
		t.Errorf("%d shapes are kept", c.Len())
	}
	if c.Lookup("x", 2); c.Len() != 0 {
		t.Error("another version of the catalog keeps shapes")
	}
}
