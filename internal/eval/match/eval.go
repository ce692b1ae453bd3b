package match

import (
	"bytes"
	"math"
	"math/big"
	"slices"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
)

func (n *And) matchDoc(doc bson.Raw, d *Details) (bool, error) {
	for _, k := range n.Kids {
		if ok, err := k.matchDoc(doc, d); !ok || err != nil {
			d.clear()
			return false, err
		}
	}
	return true, nil
}

func (n *And) matchElem(v bson.Value) (bool, error) {
	for _, k := range n.Kids {
		if ok, err := k.matchElem(v); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (n *Or) matchDoc(doc bson.Raw, d *Details) (bool, error) {
	for _, k := range n.Kids {
		if ok, err := k.matchDoc(doc, d); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (n *Or) matchElem(v bson.Value) (bool, error) {
	for _, k := range n.Kids {
		if ok, err := k.matchElem(v); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (n *Nor) matchDoc(doc bson.Raw, _ *Details) (bool, error) {
	for _, k := range n.Kids {
		if ok, err := k.matchDoc(doc, nil); ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (n *Nor) matchElem(v bson.Value) (bool, error) {
	for _, k := range n.Kids {
		if ok, err := k.matchElem(v); ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (n *Not) matchDoc(doc bson.Raw, _ *Details) (bool, error) {
	ok, err := n.Kid.matchDoc(doc, nil)
	return !ok && err == nil, err
}

func (n *Not) matchElem(v bson.Value) (bool, error) {
	ok, err := n.Kid.matchElem(v)
	return !ok && err == nil, err
}

func (AlwaysTrue) matchDoc(bson.Raw, *Details) (bool, error)  { return true, nil }
func (AlwaysTrue) matchElem(bson.Value) (bool, error)         { return true, nil }
func (AlwaysFalse) matchDoc(bson.Raw, *Details) (bool, error) { return false, nil }
func (AlwaysFalse) matchElem(bson.Value) (bool, error)        { return false, nil }

func (n *Expr) matchDoc(doc bson.Raw, _ *Details) (bool, error) {
	v, err := n.fn(doc)
	return err == nil && v.Truthy(), err
}

func (n *Expr) matchElem(v bson.Value) (bool, error) {
	if d := v.Doc(); d != nil {
		return n.matchDoc(d, nil)
	}
	return false, nil
}

func (n *Comparison) matchDoc(doc bson.Raw, d *Details) (bool, error) {
	return n.Path.walk(doc, elemsAndArray, n, d)
}

func (n *Comparison) matchElem(v bson.Value) (bool, error) {
	return compareOp(n.Op, v, n.Value, n.Collation), nil
}

// compareOp tests `v op rhs` within the type bracket of rhs.
func compareOp(op Op, v, rhs bson.Value, coll *collate.Collator) bool {
	if v.Type != rhs.Type {
		if a, b := v.Type.CanonicalOrder(), rhs.Type.CanonicalOrder(); a != b {
			switch {
			case v.IsMissing() && rhs.Type == bson.TypeNull:
				return op == Eq || op == Lte || op == Gte
			case rhs.Type == bson.TypeMaxKey:
				return op == Lt || op == Lte
			case rhs.Type == bson.TypeMinKey:
				return op == Gt || op == Gte
			}
			return false
		}
	} else if op == Eq && coll == nil && sameBytesMeansEqual(v.Type) {
		return bytes.Equal(v.Data, rhs.Data)
	}
	if vn, rn := isNaN(v), isNaN(rhs); vn || rn {
		return vn && rn && (op == Eq || op == Lte || op == Gte)
	}
	c := coll.Compare(v, rhs)
	switch op {
	case Eq:
		return c == 0
	case Lt:
		return c < 0
	case Lte:
		return c <= 0
	case Gt:
		return c > 0
	}
	return c >= 0
}

// sameBytesMeansEqual holds for types whose equal values of the same type have equal bytes.
func sameBytesMeansEqual(t bson.Type) bool {
	switch t {
	case bson.TypeString, bson.TypeObjectID, bson.TypeInt32, bson.TypeInt64, bson.TypeDate,
		bson.TypeTimestamp, bson.TypeBool, bson.TypeBinary, bson.TypeSymbol:
		return true
	}
	return false
}

func isNaN(v bson.Value) bool {
	switch v.Type {
	case bson.TypeDouble:
		f := v.Double()
		return f != f
	case bson.TypeDecimal128:
		return v.Decimal128().IsNaN()
	}
	return false
}

// manyValues is from how many values on an In keeps a hash set beside the sorted list.
const manyValues = 16

// prepare sorts Values, drops duplicates and builds the set.
func (n *In) prepare() {
	slices.SortStableFunc(n.Values, n.Collation.Compare)
	n.Values = slices.CompactFunc(n.Values, func(a, b bson.Value) bool { return n.Collation.Compare(a, b) == 0 })
	n.hasNull = slices.ContainsFunc(n.Values, func(v bson.Value) bool { return v.Type == bson.TypeNull })
	if len(n.Values) < manyValues || n.Collation != nil {
		return
	}
	n.keys = make(map[string]struct{})
	for _, v := range n.Values {
		if v.Type != bson.TypeString && v.Type != bson.TypeObjectID {
			continue
		}
		n.keys[string(v.Data)] = struct{}{}
	}
}

func (n *In) matchDoc(doc bson.Raw, d *Details) (bool, error) {
	return n.Path.walk(doc, elemsAndArray, n, d)
}

func (n *In) matchElem(v bson.Value) (bool, error) {
	if v.IsMissing() {
		return n.hasNull, nil
	}
	if n.contains(v) {
		return true, nil
	}
	for _, r := range n.Regexes {
		if ok, err := r.matchElem(v); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (n *In) contains(v bson.Value) bool {
	if n.keys != nil && (v.Type == bson.TypeObjectID || v.Type == bson.TypeString) {
		if _, ok := n.keys[string(v.Data)]; ok {
			return true
		}
		if v.Type == bson.TypeObjectID {
			return false
		}
	}
	lo, hi := 0, len(n.Values)
	for lo < hi {
		m := int(uint(lo+hi) / 2)
		switch c := n.Collation.Compare(n.Values[m], v); {
		case c == 0:
			return true
		case c < 0:
			lo = m + 1
		default:
			hi = m
		}
	}
	return false
}

func (n *Exists) matchDoc(doc bson.Raw, d *Details) (bool, error) {
	return n.Path.walk(doc, elemsAndArray, n, d)
}

func (n *Exists) matchElem(v bson.Value) (bool, error) { return !v.IsMissing(), nil }

func (n *TypeOp) matchDoc(doc bson.Raw, d *Details) (bool, error) {
	return n.Path.walk(doc, elemsAndArray, n, d)
}

func (n *TypeOp) matchElem(v bson.Value) (bool, error) {
	return !v.IsMissing() && n.Types.Has(v.Type), nil
}

func (n *Regex) matchDoc(doc bson.Raw, d *Details) (bool, error) {
	return n.Path.walk(doc, elemsAndArray, n, d)
}

func (n *Regex) matchElem(v bson.Value) (bool, error) {
	switch v.Type {
	case bson.TypeString, bson.TypeSymbol:
		return n.matchString(v.Str())
	case bson.TypeRegex:
		r := v.Regex()
		return r.Pattern == n.Pattern && r.Options == n.Options, nil
	}
	return false, nil
}

func (n *Mod) matchDoc(doc bson.Raw, d *Details) (bool, error) {
	return n.Path.walk(doc, elemsAndArray, n, d)
}

func (n *Mod) matchElem(v bson.Value) (bool, error) {
	if !v.IsNumber() {
		return false, nil
	}
	i, ok, _ := truncate(v)
	return ok && i%n.Divisor == n.Remainder, nil
}

func (n *Size) matchDoc(doc bson.Raw, d *Details) (bool, error) {
	return n.Path.walk(doc, arrayOnly, n, d)
}

func (n *Size) matchElem(v bson.Value) (bool, error) {
	return v.Type == bson.TypeArray && int64(bson.Raw(v.Data).Len()) == n.N, nil
}

func (n *ElemMatchObject) matchDoc(doc bson.Raw, d *Details) (bool, error) {
	return walkElems(n.Path, doc, n, d)
}

func (n *ElemMatchObject) matchElem(v bson.Value) (bool, error) {
	i, err := n.findElem(v)
	return i >= 0, err
}

func (n *ElemMatchObject) findElem(v bson.Value) (int, error) {
	if v.Type != bson.TypeArray {
		return -1, nil
	}
	it := bson.Raw(v.Data).Iter()
	for i := 0; it.Next(); i++ {
		if d := it.Value().Doc(); d != nil {
			if ok, err := n.Kid.matchDoc(d, nil); ok || err != nil {
				return i, err
			}
		}
	}
	return -1, nil
}

func (n *ElemMatchValue) matchDoc(doc bson.Raw, d *Details) (bool, error) {
	return walkElems(n.Path, doc, n, d)
}

func (n *ElemMatchValue) matchElem(v bson.Value) (bool, error) {
	i, err := n.findElem(v)
	return i >= 0, err
}

func (n *ElemMatchValue) findElem(v bson.Value) (int, error) {
	if v.Type != bson.TypeArray {
		return -1, nil
	}
	it := bson.Raw(v.Data).Iter()
elems:
	for i := 0; it.Next(); i++ {
		for _, k := range n.Kids {
			ok, err := k.matchElem(it.Value())
			if err != nil {
				return -1, err
			}
			if !ok {
				continue elems
			}
		}
		return i, nil
	}
	return -1, nil
}

// elemFinder is an $elemMatch: it finds the first element of an array that matches.
type elemFinder interface {
	valueTest
	findElem(v bson.Value) (int, error)
}

// walkElems runs an $elemMatch and records the element it found, unless an array was
// entered on the way there, whose index then counts.
func walkElems(p *Path, doc bson.Raw, f elemFinder, d *Details) (bool, error) {
	if d == nil {
		return p.walk(doc, arrayOnly, f, nil)
	}
	inner := elemRecorder{elemFinder: f, found: -1}
	var outer Details
	ok, err := p.walk(doc, arrayOnly, &inner, &outer)
	if ok {
		if i, entered := outer.Index(); entered {
			d.set(i)
		} else {
			d.set(inner.found)
		}
	}
	return ok, err
}

type elemRecorder struct {
	elemFinder
	found int
}

func (r *elemRecorder) matchElem(v bson.Value) (ok bool, err error) {
	r.found, err = r.findElem(v)
	return r.found >= 0, err
}

func (n *BitTest) matchDoc(doc bson.Raw, d *Details) (bool, error) {
	return n.Path.walk(doc, elemsAndArray, n, d)
}

func (n *BitTest) matchElem(v bson.Value) (bool, error) {
	if v.Type == bson.TypeBinary {
		_, data := v.Binary()
		return n.test(func(p uint32) bool { return int(p/8) < len(data) && data[p/8]>>(p%8)&1 != 0 }), nil
	}
	i, ok := v.AsInt64()
	if v.Type == bson.TypeDecimal128 && !ok {
		// Unlike doubles, decimals are rounded, and what fits no long is the smallest one.
		i, ok = roundDecimal(v.Decimal128()), true
	}
	if !ok {
		return false, nil
	}
	// Positions past the sign bit read the sign, as two's complement extends it.
	return n.test(func(p uint32) bool { return i>>min(p, 63)&1 != 0 }), nil
}

func (n *BitTest) test(bit func(uint32) bool) bool {
	wantAll := n.Test == BitsAllSet || n.Test == BitsAllClear
	want := n.Test == BitsAllSet || n.Test == BitsAnySet
	for _, p := range n.Positions {
		if (bit(p) == want) != wantAll {
			return !wantAll
		}
	}
	return wantAll
}

func truncateDecimal(d bson.Decimal128) (int64, bool) {
	c, exp := d.Coefficient()
	switch {
	case c.Sign() == 0 || exp < -40:
		return 0, true
	case exp > 19:
		return 0, false
	case exp < 0:
		c.Quo(c, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(-exp)), nil))
	default:
		c.Mul(c, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(exp)), nil))
	}
	if d.Negative() {
		c.Neg(c)
	}
	return c.Int64(), c.IsInt64()
}

// roundDecimal rounds to the nearest integer, ties to even; what fits no long is the
// smallest long, as the decimal library of the server has it.
func roundDecimal(d bson.Decimal128) int64 {
	if d.IsNaN() || d.IsInf() {
		return math.MinInt64
	}
	c, exp := d.Coefficient()
	switch {
	case exp < -40:
		return 0
	case exp > 19 && c.Sign() != 0:
		return math.MinInt64
	case exp >= 0:
		c.Mul(c, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(min(exp, 20))), nil))
	default:
		div := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(-exp)), nil)
		var rem big.Int
		c.QuoRem(c, div, &rem)
		if half := rem.Lsh(&rem, 1).Cmp(div); half > 0 || (half == 0 && c.Bit(0) == 1) {
			c.Add(c, big.NewInt(1))
		}
	}
	if d.Negative() {
		c.Neg(c)
	}
	if !c.IsInt64() {
		return math.MinInt64
	}
	return c.Int64()
}
