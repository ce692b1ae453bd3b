package bson

import (
	"bytes"
	"cmp"
	"math"
)

func cmpInt(a, b int) int     { return cmp.Compare(a, b) }
func cmpUint(a, b uint64) int { return cmp.Compare(a, b) }

// Compare orders two values as MongoDB does without a collation: by type, numbers
// by value over all numeric types, NaN below all numbers. A missing value equals
// undefined and is below null.
func Compare(a, b Value) int {
	if a.Type != b.Type {
		if oa, ob := a.Type.CanonicalOrder(), b.Type.CanonicalOrder(); oa != ob {
			return cmpInt(oa, ob)
		}
		if a.IsNumber() {
			return CompareNumbers(a, b)
		}
	}
	switch a.Type {
	case TypeDouble:
		return compareDoubles(a.Double(), b.Double())
	case TypeInt32:
		return cmp.Compare(a.Int32(), b.Int32())
	case TypeInt64:
		return cmp.Compare(a.Int64(), b.Int64())
	case TypeDecimal128:
		return CompareDecimal(a.Decimal128(), b.Decimal128())
	case TypeString, TypeSymbol, TypeCode:
		return bytes.Compare(a.StrBytes(), b.StrBytes())
	case TypeDocument:
		return CompareDocs(Raw(a.Data), Raw(b.Data))
	case TypeArray:
		return CompareArrays(Raw(a.Data), Raw(b.Data))
	case TypeBinary:
		if c := cmp.Compare(len(a.Data), len(b.Data)); c != 0 {
			return c
		}
		return bytes.Compare(a.Data[4:], b.Data[4:]) // subtype, then payload
	case TypeObjectID, TypeBool:
		return bytes.Compare(a.Data, b.Data)
	case TypeDate:
		return cmp.Compare(a.Date(), b.Date())
	case TypeTimestamp:
		return cmp.Compare(a.Timestamp(), b.Timestamp())
	case TypeRegex:
		ra, rb := a.Regex(), b.Regex()
		if c := cmp.Compare(ra.Pattern, rb.Pattern); c != 0 {
			return c
		}
		return cmp.Compare(ra.Options, rb.Options)
	case TypeDBPointer:
		if c := cmp.Compare(len(a.Data), len(b.Data)); c != 0 {
			return c
		}
		return bytes.Compare(a.Data[4:], b.Data[4:])
	case TypeCodeWScope:
		if c := bytes.Compare(a.StrBytes(), b.StrBytes()); c != 0 {
			return c
		}
		return CompareDocs(a.Scope(), b.Scope())
	}
	return 0 // types with one value only
}

// CompareDocs orders documents element by element: type, then key, then value;
// what ends first is smaller.
func CompareDocs(a, b Raw) int {
	ia, ib := a.Iter(), b.Iter()
	for {
		na, nb := ia.Next(), ib.Next()
		if !na || !nb {
			return b2i(na) - b2i(nb)
		}
		if oa, ob := ia.val.Type.CanonicalOrder(), ib.val.Type.CanonicalOrder(); oa != ob {
			return cmpInt(oa, ob)
		}
		if c := bytes.Compare(ia.key, ib.key); c != 0 {
			return c
		}
		if c := Compare(ia.val, ib.val); c != 0 {
			return c
		}
	}
}

// CompareArrays orders arrays element by element, keys ignored.
func CompareArrays(a, b Raw) int {
	ia, ib := a.Iter(), b.Iter()
	for {
		na, nb := ia.Next(), ib.Next()
		if !na || !nb {
			return b2i(na) - b2i(nb)
		}
		if c := Compare(ia.val, ib.val); c != 0 {
			return c
		}
	}
}

// Equal reports Compare(a, b) == 0, quickly for identical bytes.
func Equal(a, b Value) bool {
	if a.Type == b.Type && bytes.Equal(a.Data, b.Data) {
		return true
	}
	return Compare(a, b) == 0
}

// CompareNumbers compares two numbers of any numeric types by exact value; NaN is
// below everything and equal to itself; -0 equals 0.
func CompareNumbers(a, b Value) int {
	switch a.Type {
	case TypeInt32, TypeInt64:
		ai, _ := a.AsInt64()
		switch b.Type {
		case TypeInt32, TypeInt64:
			bi, _ := b.AsInt64()
			return cmp.Compare(ai, bi)
		case TypeDouble:
			return compareIntDouble(ai, b.Double())
		default:
			return CompareDecimal(DecimalFromInt64(ai), b.Decimal128())
		}
	case TypeDouble:
		switch b.Type {
		case TypeInt32, TypeInt64:
			bi, _ := b.AsInt64()
			return -compareIntDouble(bi, a.Double())
		case TypeDouble:
			return compareDoubles(a.Double(), b.Double())
		default:
			return -compareDecimalDouble(b.Decimal128(), a.Double())
		}
	default:
		switch b.Type {
		case TypeDouble:
			return compareDecimalDouble(a.Decimal128(), b.Double())
		case TypeInt32, TypeInt64:
			bi, _ := b.AsInt64()
			return CompareDecimal(a.Decimal128(), DecimalFromInt64(bi))
		default:
			return CompareDecimal(a.Decimal128(), b.Decimal128())
		}
	}
}

func compareDoubles(a, b float64) int { return cmp.Compare(a, b) } // orders NaN first, -0 == 0

func compareIntDouble(i int64, f float64) int {
	switch {
	case math.IsNaN(f):
		return 1
	case f >= 1<<63:
		return -1
	case f < -(1 << 63):
		return 1
	}
	t := math.Trunc(f)
	if c := cmp.Compare(i, int64(t)); c != 0 {
		return c
	}
	return cmp.Compare(0, f-t)
}
