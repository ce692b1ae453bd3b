package bson

import (
	"math"
	"strings"
	"testing"

	driver "go.mongodb.org/mongo-driver/v2/bson"
)

func dec(s string) Decimal128 {
	d, err := ParseDecimal128(s)
	if err != nil {
		panic(err)
	}
	return d
}

// ascending lists values in MongoDB's order; the members of one row are equal.
var ascending = [][]Value{
	{{TypeMinKey, nil}},
	{V(nil)},
	{V(math.NaN()), V(DecimalNaN)},
	{V(math.Inf(-1)), V(DecimalNegInf)},
	{V(dec("-1E6144"))},
	{V(-math.MaxFloat64)},
	{V(int64(math.MinInt64)), V(-float64(1 << 63)), V(dec("-9223372036854775808"))},
	{V(-1.5), V(dec("-1.50"))},
	{V(int32(0)), V(math.Copysign(0, -1)), V(int64(0)), V(dec("0E+10")), V(dec("-0"))},
	{V(dec("1E-6176"))},
	{V(math.SmallestNonzeroFloat64)},
	{V(dec("0.1"))},
	{V(0.1)},
	{V(int32(1)), V(1.0), V(int64(1)), V(dec("1.000"))},
	{V(int64(1 << 53)), V(float64(1 << 53))},
	{V(int64(1<<53 + 1)), V(dec("9007199254740993"))},
	{V(int64(math.MaxInt64)), V(dec("9223372036854775807"))},
	{V(float64(1 << 63)), V(dec("9223372036854775808"))},
	{V(math.MaxFloat64)},
	{V(dec("1E309"))},
	{V(math.Inf(1)), V(dec("Infinity"))},
	{V("")}, {V("a")}, {V("a\x00")}, {V("b")},
	{V(D())}, {V(D("a", 1)), V(D("a", 1.0))}, {V(D("a", 1, "b", 0))}, {V(D("b", 0))}, {V(D("a", "x"))},
	{V(A())}, {V(A(1))}, {V(A(1, 2))}, {V(A(2))},
	{V([]byte{})}, {V([]byte{9})}, {V([]byte{1, 1})},
	{V(ObjectID{1})}, {V(false)}, {V(true)}, {V(DateTime(-1))}, {V(DateTime(1))},
	{V(NewTimestamp(0, 1))}, {V(NewTimestamp(1<<31, 0))}, {V(Regex{"a", ""})}, {V(Regex{"a", "i"})},
	{{TypeMaxKey, nil}},
}

func TestCompareOrder(t *testing.T) {
	for i, ra := range ascending {
		for j, rb := range ascending {
			for _, a := range ra {
				for _, b := range rb {
					if got, want := Compare(a, b), cmpInt(i, j); got != want {
						t.Errorf("Compare(%v %x, %v %x) = %d, want %d", a.Type, a.Data, b.Type, b.Data, got, want)
					}
				}
			}
		}
	}
}

func TestBuilderMatchesDriver(t *testing.T) {
	got := D("a", 1, "s", "x", "d", D("n", nil), "l", A(1, "two", 3.5), "b", true, "t", NewTimestamp(7, 9), "dec", dec("1.5"))
	h, l := dec("1.5").Hi, dec("1.5").Lo
	want, err := driver.Marshal(driver.D{{Key: "a", Value: int32(1)}, {Key: "s", Value: "x"}, {Key: "d", Value: driver.D{{Key: "n", Value: nil}}},
		{Key: "l", Value: driver.A{int32(1), "two", 3.5}}, {Key: "b", Value: true}, {Key: "t", Value: driver.Timestamp{T: 7, I: 9}}, {Key: "dec", Value: driver.NewDecimal128(h, l)}})
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Fatalf("got  %x\nwant %x", []byte(got), want)
	}
	if err := Validate(got, MaxDepth); err != nil {
		t.Fatal(err)
	}
	if v := got.Path("l.1"); v.Str() != "two" {
		t.Fatalf("Path: %v", v)
	}
}

// TestBuilderJoin: a joined string is the string of the parts.
func TestBuilderJoin(t *testing.T) {
	for _, parts := range [][]string{nil, {""}, {"a"}, {"db", ".", "coll.ä"}, {"", "x", ""}} {
		got := NewBuilder(nil).Join("ns", parts...).Int32("z", 1).Finish()
		want := NewBuilder(nil).Str("ns", strings.Join(parts, "")).Int32("z", 1).Finish()
		if string(got) != string(want) {
			t.Errorf("%q: got %x, want %x", parts, []byte(got), []byte(want))
		}
	}
}

func TestDecimalConversions(t *testing.T) {
	for _, s := range []string{"0", "-0", "1.5", "1E+3", "9.999999999999999999999999999999999E+6144", "1E-6176", "NaN", "Infinity", "-Infinity", "1.0E-10"} {
		d := dec(s)
		if back := DecimalFromAPD(d.APD()); back != d {
			t.Errorf("%s: through apd %s", s, back)
		}
		if d.String() != s {
			t.Errorf("%s: String %s", s, d)
		}
	}
	if i, ok := dec("1.50E+2").Int64(); !ok || i != 150 {
		t.Errorf("Int64: %d %v", i, ok)
	}
	if _, ok := dec("1.5").Int64(); ok {
		t.Error("1.5 is not an integer")
	}
}

func FuzzValidate(f *testing.F) {
	f.Add([]byte(D("a", 1, "b", A(D("c", "x")))))
	f.Add([]byte(Empty))
	f.Fuzz(func(t *testing.T, b []byte) {
		if Validate(b, MaxDepth) != nil {
			return
		}
		var walk func(r Raw)
		n := 0
		walk = func(r Raw) {
			it := r.Iter()
			for it.Next() {
				n++
				v := it.Value()
				_, _, _, _ = v.Str(), v.Regex(), v.Scope(), v.Truthy()
				v.AsFloat64()
				v.DBPointer()
				if Compare(v, v) != 0 {
					t.Fatalf("%v %x is not equal to itself", v.Type, v.Data)
				}
				if d := v.Doc(); d != nil {
					walk(d)
				}
			}
			if it.Err() != nil {
				t.Fatal("Validate accepted what the iterator refuses")
			}
		}
		walk(Raw(b))
		if err := driver.Raw(b).Validate(); err != nil && n > 0 {
			t.Logf("driver is stricter: %v", err)
		}
	})
}
