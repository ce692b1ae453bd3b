package keystring

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"math/big"
	"os"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

func enc(v bson.Value) []byte { return Append(nil, v, false, nil) }

func show(v bson.Value) string {
	b, err := extjson.MarshalValue(v, extjson.Canonical)
	if err != nil {
		return fmt.Sprintf("%v %x", v.Type, v.Data)
	}
	return string(b)
}

// checkPair fails unless keys order as values do, both ways, and are prefix-free.
func checkPair(t interface{ Fatalf(string, ...any) }, a, b bson.Value) {
	ka, kb := enc(a), enc(b)
	want := bson.Compare(a, b)
	if got := bytes.Compare(ka, kb); got != want {
		t.Fatalf("%s and %s: keys %x, %x order %d, values %d", show(a), show(b), ka, kb, got, want)
	}
	if want != 0 && (bytes.HasPrefix(ka, kb) || bytes.HasPrefix(kb, ka)) {
		t.Fatalf("%s and %s: one of %x, %x is a prefix of the other", show(a), show(b), ka, kb)
	}
	da, db := Append(nil, a, true, nil), Append(nil, b, true, nil)
	if got := bytes.Compare(da, db); got != -want {
		t.Fatalf("%s and %s descending: keys %x, %x order %d, want %d", show(a), show(b), da, db, got, -want)
	}
}

// checkRoundTrip fails unless key and type bits give v back, byte for byte.
func checkRoundTrip(t interface{ Fatalf(string, ...any) }, vals []bson.Value, o Ordering) {
	var tb TypeBits
	key := AppendKey(nil, vals, o, &tb)
	for i := range vals {
		if c := key[0]; i == 0 && (o.Desc(0) && (^c < 0x0A || ^c > 0xF0) || !o.Desc(0) && (c < 0x0A || c > 0xF0)) {
			t.Fatalf("%s begins with %#02x", show(vals[0]), c)
		}
	}
	got, err := Decode(key, o, tb.Bytes())
	if err != nil || len(got) != len(vals) {
		t.Fatalf("%x decodes to %d of %d values: %v", key, len(got), len(vals), err)
	}
	for i, v := range vals {
		if got[i].Type != v.Type || !bytes.Equal(got[i].Data, v.Data) {
			t.Fatalf("%s (%x, type bits %x) came back as %s", show(v), key, tb.Bytes(), show(got[i]))
		}
	}
}

func golden(t *testing.T) (vals map[int]bson.Value, ascending []int, groups [][]int) {
	f, err := os.Open("testdata/values.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	vals = map[int]bson.Value{}
	numbers := func(s string) (ns []int) {
		for _, w := range strings.Fields(s) {
			n, err := strconv.Atoi(w)
			if err != nil {
				t.Fatal(err)
			}
			ns = append(ns, n)
		}
		return ns
	}
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		d, err := extjson.Unmarshal(sc.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		switch d.Get("kind").Str() {
		case "value":
			v := d.Path("doc.v")
			if v.IsMissing() {
				v = bson.V(nil) // an index holds null for what is not there
			}
			if v.Type == bson.TypeTimestamp && v.Timestamp() == 0 {
				v = bson.V(bson.Timestamp(math.MaxUint64)) // a server replaces it by its time when it is inserted
			}
			vals[int(d.Path("doc._id").Int32())] = v
		case "sort":
			if d.Path("sort.v").Int32() == 1 {
				ascending = numbers(d.Get("ids").Str())
			}
		case "group":
			for v := range d.Get("groups").Doc().Values() {
				groups = append(groups, numbers(v.Doc().Get("ids").Str()))
			}
		}
	}
	return vals, ascending, groups
}

// TestGolden compares with the order and the groups that a real server made of
// the same values.
func TestGolden(t *testing.T) {
	vals, ascending, groups := golden(t)
	if len(vals) != 116 || len(ascending) != 116 || len(groups) == 0 {
		t.Fatalf("golden file: %d values, %d in order, %d groups", len(vals), len(ascending), len(groups))
	}
	sortValue := func(v bson.Value) bson.Value { // an array sorts by its least element, an empty one as undefined
		if v.Type != bson.TypeArray {
			return v
		}
		least := bson.Value{}
		for e := range v.Doc().Values() {
			if least.IsMissing() || bson.Compare(e, least) < 0 {
				least = e
			}
		}
		return least
	}
	for i := 1; i < len(ascending); i++ {
		a, b := vals[ascending[i-1]], vals[ascending[i]]
		if bytes.Compare(enc(sortValue(a)), enc(sortValue(b))) > 0 {
			t.Errorf("%s comes before %s on a real server", show(a), show(b))
		}
	}
	group := map[int]int{}
	for g, ids := range groups {
		for _, id := range ids {
			group[id] = g
		}
	}
	for i, a := range vals {
		for j, b := range vals {
			checkPair(t, a, b)
			if same := bytes.Equal(enc(a), enc(b)); same != (group[i] == group[j]) {
				t.Errorf("%s and %s: equal keys %v, one group on a real server %v", show(a), show(b), same, !same)
			}
		}
		checkRoundTrip(t, []bson.Value{a}, 0)
		checkRoundTrip(t, []bson.Value{a, a}, 2)
	}
}

func mustDecimal(s string) bson.Decimal128 {
	d, err := bson.ParseDecimal128(s)
	if err != nil {
		panic(err)
	}
	return d
}

// edges are the numbers around which encodings change.
func edges() (vs []bson.Value) {
	ints := []int64{0, 1, 2, 63, 64, 127, 128, 1<<15 - 1, 1 << 15, 1 << 31, 1<<53 - 1, 1 << 53, 1<<53 + 1, 1<<62 + 1, math.MaxInt64}
	for _, i := range ints {
		for _, n := range []int64{i, -i} {
			vs = append(vs, bson.V(n), bson.V(float64(n)), bson.V(bson.DecimalFromInt64(n)))
			if n == int64(int32(n)) {
				vs = append(vs, bson.V(int32(n)))
			}
		}
	}
	floats := []float64{0.1, 0.5, 1.5, 1e-300, math.SmallestNonzeroFloat64, 2.2250738585072014e-308, math.MaxFloat64, 1 << 63, 1e300, math.Inf(1), 1 - 1.0/(1<<53), 1 + 1.0/(1<<52), 4503599627370497.5}
	for _, f := range floats {
		vs = append(vs, bson.V(f), bson.V(-f))
	}
	for _, s := range []string{"0.1", "0.10", "0.5", "1.5", "1.50", "1E-6176", "9.999999999999999999999999999999999E6144", "1E309", "1E-400", "9223372036854775808", "9223372036854775807.5",
		"1.000000000000000000000000000000001", "0.9999999999999999999999999999999999", "Infinity", "0E-6176", "0E+6111", "5E-324", "4.940656458412465441765687928682214E-324", "1.7976931348623157E308",
		"1.797693134862315708145274237317044E308", "0.1000000000000000055511151231257827", "0.100000000000000005551115123125783"} {
		vs = append(vs, bson.V(mustDecimal(s)), bson.V(mustDecimal("-"+s)))
	}
	return append(vs, bson.V(math.NaN()), bson.V(math.Float64frombits(0xFFF8000000000001)), bson.V(bson.DecimalNaN), bson.V(int64(math.MinInt64)), bson.V(math.Copysign(0, -1)),
		bson.V(bson.Decimal128{Hi: 0x6C00000000000000, Lo: 5}))
}

func TestNumberEdges(t *testing.T) {
	vs := edges()
	for _, a := range vs {
		for _, b := range vs {
			checkPair(t, a, b)
		}
		checkRoundTrip(t, []bson.Value{a}, 0)
		checkRoundTrip(t, []bson.Value{bson.V("x"), a, a}, 6)
	}
}

// genNumber draws numbers that lie close to each other in different types.
func genNumber() *rapid.Generator[bson.Value] {
	return rapid.Custom(func(t *rapid.T) bson.Value {
		var f float64
		switch rapid.IntRange(0, 3).Draw(t, "shape") {
		case 0:
			f = float64(rapid.Int64().Draw(t, "whole"))
		case 1:
			f = rapid.Float64().Draw(t, "double")
		case 2:
			f = float64(rapid.IntRange(-300, 300).Draw(t, "quarter")) / 4
		default:
			return rapid.SampledFrom(edges()).Draw(t, "edge")
		}
		switch rapid.IntRange(0, 4).Draw(t, "as") {
		case 0:
			return bson.V(f)
		case 1:
			return bson.V(int32(f))
		case 2:
			return bson.V(int64(f))
		case 3:
			if d, err := bson.ParseDecimal128(strconv.FormatFloat(f, 'e', rapid.IntRange(0, 33).Draw(t, "digits"), 64)); err == nil {
				return bson.V(d)
			}
		}
		c := new(big.Int).SetUint64(rapid.Uint64().Draw(t, "coefficient"))
		c.Mul(c, big.NewInt(int64(rapid.IntRange(1, 1e15).Draw(t, "factor"))))
		d, _ := bson.NewDecimal128(rapid.Bool().Draw(t, "neg"), c, rapid.IntRange(-60, 20).Draw(t, "exp"))
		return bson.V(d)
	})
}

func genText() *rapid.Generator[string] {
	return rapid.StringOfN(rapid.SampledFrom([]rune{0, 1, 2, 'a', 'b', 0xFF, 'é'}), 0, 5, -1)
}

func genName() *rapid.Generator[string] { return rapid.StringMatching(`[ab\x01]{0,3}`) }

func genDoc(depth int) *rapid.Generator[bson.Raw] {
	return rapid.Custom(func(t *rapid.T) bson.Raw {
		b := bson.NewBuilder(nil)
		for n := rapid.IntRange(0, 3).Draw(t, "n"); n > 0; n-- {
			b.Append(genName().Draw(t, "name"), genValue(depth-1).Draw(t, "v"))
		}
		return b.Finish()
	})
}

func withText(typ bson.Type, s string) bson.Value {
	return bson.Value{Type: typ, Data: lengthPrefixed([]byte(s))}
}

// genValue draws values of every type.
func genValue(depth int) *rapid.Generator[bson.Value] {
	return rapid.Custom(func(t *rapid.T) bson.Value {
		n := 20
		if depth <= 0 {
			n = 16
		}
		switch rapid.IntRange(0, n).Draw(t, "type") {
		case 0:
			return bson.V(genText().Draw(t, "text"))
		case 1:
			return withText(bson.TypeSymbol, genText().Draw(t, "text"))
		case 2:
			return bson.V(nil)
		case 3:
			return bson.Value{Type: bson.TypeUndefined}
		case 4:
			return bson.V(rapid.Bool().Draw(t, "bool"))
		case 5:
			return bson.V(bson.DateTime(rapid.Int64().Draw(t, "date")))
		case 6:
			return bson.V(bson.Timestamp(rapid.Uint64().Draw(t, "ts")))
		case 7:
			return bson.V(bson.ObjectID(rapid.SliceOfN(rapid.ByteRange(0, 2), 12, 12).Draw(t, "oid")))
		case 8:
			data := rapid.SliceOfN(rapid.ByteRange(0, 255), 0, 4).Draw(t, "bin")
			if rapid.IntRange(0, 5).Draw(t, "long") == 0 {
				data = make([]byte, rapid.IntRange(250, 260).Draw(t, "len"))
			}
			return bson.NewBuilder(nil).Binary("", rapid.SampledFrom([]byte{0, 4, 0x80}).Draw(t, "subtype"), data).Finish().Get("")
		case 9:
			return bson.V(bson.Regex{Pattern: genName().Draw(t, "pattern"), Options: genName().Draw(t, "options")})
		case 10:
			d := withText(bson.TypeDBPointer, genName().Draw(t, "ns"))
			d.Data = append(d.Data, make([]byte, 12)...)
			return d
		case 11:
			return withText(bson.TypeCode, genText().Draw(t, "code"))
		case 12:
			return rapid.SampledFrom([]bson.Value{{Type: bson.TypeMinKey}, {Type: bson.TypeMaxKey}}).Draw(t, "end")
		case 17:
			data := append([]byte{0, 0, 0, 0}, lengthPrefixed([]byte(genText().Draw(t, "code")))...)
			data = append(data, genDoc(depth).Draw(t, "scope")...)
			data[0] = byte(len(data))
			data[1] = byte(len(data) >> 8)
			return bson.Value{Type: bson.TypeCodeWScope, Data: data}
		case 18:
			return genDoc(depth).Draw(t, "doc").Value()
		case 19, 20:
			vs := rapid.SliceOfN(genValue(depth-1), 0, 3).Draw(t, "array")
			return bson.V(vs)
		}
		return genNumber().Draw(t, "number")
	})
}

func TestOrderProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := genValue(3).Draw(t, "a")
		checkPair(t, a, genValue(3).Draw(t, "b"))
		checkPair(t, a, a)
	})
	rapid.Check(t, func(t *rapid.T) { checkPair(t, genNumber().Draw(t, "a"), genNumber().Draw(t, "b")) })
}

func TestRoundTripProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkRoundTrip(t, rapid.SliceOfN(genValue(3), 1, 4).Draw(t, "fields"), Ordering(rapid.Uint32Range(0, 15).Draw(t, "ordering")))
	})
}

// TestPrefixBounds: a prefix of fields, alone and with Above, encloses exactly the
// entries that begin with it.
func TestPrefixBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Ordering(rapid.Uint32Range(0, 3).Draw(t, "ordering"))
		p, q := genValue(2).Draw(t, "prefix"), genValue(2).Draw(t, "other")
		lower := AppendKey(nil, []bson.Value{p}, o, nil)
		upper := append(AppendKey(nil, []bson.Value{p}, o, nil), Above)
		id := rapid.Int64Range(1, math.MaxInt64).Draw(t, "rid")
		entry := AppendRecordID(AppendKey(nil, []bson.Value{q, genValue(2).Draw(t, "second")}, o, nil), id)
		inside := bytes.Compare(entry, lower) >= 0 && bytes.Compare(entry, upper) < 0
		if inside != (bson.Compare(p, q) == 0) {
			t.Fatalf("entry of %s in the bounds of %s: %v", show(q), show(p), inside)
		}
		if _, got, ok := SplitRecordID(entry); !ok || got != id {
			t.Fatalf("RecordId %d came back as %d", id, got)
		}
	})
}

func TestCommonFormHasNoTypeBits(t *testing.T) {
	vals := []bson.Value{bson.V(5), bson.V(-1), bson.V(int64(1) << 40), bson.V(1.5), bson.V("x"), bson.V(bson.ObjectID{1}), bson.V(bson.DateTime(7)), bson.V(nil), bson.V(1e300)}
	var tb TypeBits
	AppendKey(nil, vals, 0, &tb)
	if len(tb.Bytes()) != 0 {
		t.Errorf("type bits %x", tb.Bytes())
	}
}

func TestFieldLen(t *testing.T) {
	a, b := enc(bson.V("abc")), Append(nil, bson.V(7), true, nil)
	if n, err := FieldLen(append(a, b...), false); err != nil || n != len(a) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := FieldLen(append(b, a...), true); err != nil || n != len(b) {
		t.Errorf("%d, %v", n, err)
	}
}

func TestMissing(t *testing.T) {
	var tb TypeBits
	key := AppendKey(nil, []bson.Value{{}, bson.V(1)}, 0, &tb)
	d := NewDecoder(key, 0, tb.Bytes())
	b := bson.NewBuilder(nil)
	for _, name := range []string{"a", "b"} {
		if err := d.Next(b, name); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.Finish(); !bytes.Equal(got, bson.D("b", 1)) {
		t.Errorf("got %s", extjson.String(got))
	}
}

func FuzzOrder(f *testing.F) {
	f.Add([]byte(bson.D("a", 1)), []byte(bson.D("a", 1.5)))
	f.Add([]byte(bson.D("a", bson.A(1, "x"))), []byte(bson.D("a", bson.A(1))))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if bson.Validate(a, bson.MaxDepth) != nil || bson.Validate(b, bson.MaxDepth) != nil {
			return
		}
		checkPair(t, bson.Raw(a).Value(), bson.Raw(b).Value())
		// Arrays come back with their keys numbered, so compare the encodings of what came back.
		var tb, again TypeBits
		key := AppendKey(nil, []bson.Value{bson.Raw(a).Value(), bson.Raw(b).Value()}, 2, &tb)
		vals, err := Decode(key, 2, tb.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if k := AppendKey(nil, vals, 2, &again); !bytes.Equal(k, key) || !bytes.Equal(tb.Bytes(), again.Bytes()) {
			t.Fatalf("%x %x became %x %x", key, tb.Bytes(), k, again.Bytes())
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(enc(bson.V(bson.D("a", bson.A(1.5, "x"), "b", mustDecimal("0.1")))), uint32(0), []byte{0x04, 0x20, 0x01})
	f.Fuzz(func(t *testing.T, key []byte, o uint32, tb []byte) {
		vals, err := Decode(key, Ordering(o), tb) // no panic; what decodes is well-formed
		for _, v := range vals {
			if e := bson.Validate(bson.NewBuilder(nil).Append("", v).Finish(), 0xFFFF); err == nil && e != nil {
				t.Fatalf("%x decodes to malformed %x: %v", key, v.Data, e)
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for name, v := range map[string]bson.Value{"int": bson.V(123456), "double": bson.V(1234.5), "string": bson.V("some ordinary text"), "objectId": bson.V(bson.ObjectID{5}), "decimal": bson.V(mustDecimal("19.99"))} {
		b.Run(name, func(b *testing.B) {
			var tb TypeBits
			buf := make([]byte, 0, 64)
			b.ReportAllocs()
			for b.Loop() {
				tb.Reset()
				buf = Append(buf[:0], v, false, &tb)
			}
		})
	}
}

func TestNoAllocation(t *testing.T) {
	var tb TypeBits
	buf := make([]byte, 0, 64)
	for _, v := range []bson.Value{bson.V(1), bson.V(int64(1) << 40), bson.V(2.0), bson.V("text"), bson.V(bson.ObjectID{1}), bson.V(bson.DateTime(1))} {
		Append(buf, v, true, &tb)
		if n := testing.AllocsPerRun(10, func() { tb.Reset(); Append(buf[:0], v, true, &tb) }); n != 0 {
			t.Errorf("%v: %v allocations", v.Type, n)
		}
	}
}
