package keystring

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/bits"

	"github.com/cairndb/cairn/internal/bson"
)

// The tags of numbers, by value. The payload of negative ones is complemented.
//
//	NaN, -Inf, zero, +Inf   no payload
//	integer of n bytes      1 ≤ |x| < 2^63: (integer part << 1 | more) in n bytes, and if more
//	                        (fraction in 2^-63, truncated) << 1 | inexact in 8 bytes
//	small                   0 < |x| < 1: (double, truncated) << 1 | inexact in 8 bytes
//	large                   2^63 ≤ |x| < Inf: the same
//
// Behind "inexact", which only decimals need, stands the decimal itself: exponent
// and coefficient with exactly 34 digits. Truncation keeps the order, and of two
// numbers with the same truncation the exact one is the smaller (in magnitude).
const (
	numNaN      = 0x1E
	numNegInf   = 0x1F
	numNegLarge = 0x20
	numNegInt   = 0x29 // minus n
	numNegSmall = 0x29
	numZero     = 0x2A
	numSmall    = 0x2B
	numInt      = 0x2B // plus n
	numLarge    = 0x34
	numInf      = 0x35
)

const (
	expBias  = 8192 // of the exponent in a decimal continuation
	contLen  = 2 + 15
	fullDig  = 34
	twoTo63f = float64(1 << 63)
)

func appendNumber(dst []byte, v bson.Value, tb *TypeBits) []byte {
	switch v.Type {
	case bson.TypeInt32:
		tb.add(false, 0)
		return appendInt(dst, int64(v.Int32()))
	case bson.TypeInt64:
		i := v.Int64()
		tb.add(i == int64(int32(i)), bitsInt64)
		return appendInt(dst, i)
	case bson.TypeDouble:
		return appendDouble(dst, v.Double(), tb)
	}
	return appendDecimal(dst, v, tb)
}

func appendInt(dst []byte, i int64) []byte {
	switch {
	case i == 0:
		return append(dst, numZero)
	case i > 0:
		return appendIntPart(dst, false, uint64(i)<<1)
	case i == math.MinInt64:
		return appendWord(append(dst, numNegLarge), true, math.Float64bits(twoTo63f)<<1)
	}
	return appendIntPart(dst, true, uint64(-i)<<1)
}

// appendIntPart writes tag and payload of an integer part, already shifted.
func appendIntPart(dst []byte, neg bool, u uint64) []byte {
	n := (bits.Len64(u) + 7) / 8
	var b [8]byte
	if neg {
		binary.BigEndian.PutUint64(b[:], ^u)
		dst = append(dst, numNegInt-byte(n))
	} else {
		binary.BigEndian.PutUint64(b[:], u)
		dst = append(dst, numInt+byte(n))
	}
	return append(dst, b[8-n:]...)
}

func appendWord(dst []byte, neg bool, u uint64) []byte {
	if neg {
		u = ^u
	}
	return binary.BigEndian.AppendUint64(dst, u)
}

// appendEdge writes a number of the classes small or large.
func appendEdge(dst []byte, neg, large bool, word uint64) []byte {
	tag := byte(numSmall)
	switch {
	case neg && large:
		tag = numNegLarge
	case neg:
		tag = numNegSmall
	case large:
		tag = numLarge
	}
	return appendWord(append(dst, tag), neg, word)
}

func appendDouble(dst []byte, f float64, tb *TypeBits) []byte {
	neg, a := f < 0, math.Abs(f)
	switch {
	case f != f:
		if b := math.Float64bits(f); b == canonicalNaN {
			tb.add(false, 0)
		} else {
			tb.addWord(bitsDoubleRaw, b)
		}
		return append(dst, numNaN)
	case f == 0:
		if math.Signbit(f) {
			tb.add(true, bitsNegZero)
		} else {
			tb.add(true, bitsDouble)
		}
		return append(dst, numZero)
	case a < 1:
		tb.add(false, 0)
		return appendEdge(dst, neg, false, math.Float64bits(a)<<1)
	case a < twoTo63f:
		i := uint64(a)
		if frac := a - float64(i); frac != 0 {
			tb.add(false, 0)
			dst = appendIntPart(dst, neg, i<<1|1)
			return appendWord(dst, neg, uint64(frac*twoTo63f)<<1)
		}
		tb.add(true, bitsDouble)
		return appendIntPart(dst, neg, i<<1)
	case math.IsInf(a, 0):
		tb.add(false, 0)
		return append(dst, infTag(neg))
	}
	tb.add(f == -twoTo63f, bitsDouble) // the one that is also a long
	return appendEdge(dst, neg, true, math.Float64bits(a)<<1)
}

func infTag(neg bool) byte {
	if neg {
		return numNegInf
	}
	return numInf
}

// canonicalNaN is the NaN that drivers send and the server makes.
const canonicalNaN = 0x7FF8000000000000

func appendDecimal(dst []byte, v bson.Value, tb *TypeBits) []byte {
	d := v.Decimal128()
	neg := d.Negative()
	switch {
	case d.IsNaN():
		tb.addRaw(bitsDecimalRaw, v.Data)
		return append(dst, numNaN)
	case d.IsInf():
		tb.addRaw(bitsDecimalRaw, v.Data)
		return append(dst, infTag(neg))
	case d.IsZero(): // sign and coefficients out of range are kept by the raw form
		tb.addRaw(bitsDecimalRaw, v.Data)
		return append(dst, numZero)
	}
	c, exp := d.Coefficient()
	tb.addExp(bitsDecimal, exp)
	return appendDecimalMagnitude(dst, neg, c, exp)
}

func appendDecimalMagnitude(dst []byte, neg bool, c *big.Int, exp int) []byte {
	digits := len(c.Text(10))
	switch mag := digits + exp; { // 10^(mag-1) ≤ |x| < 10^mag
	case mag < -330:
		return appendContinuation(appendEdge(dst, neg, false, 1), neg, c, exp, digits)
	case mag > 310:
		return appendContinuation(appendEdge(dst, neg, true, math.Float64bits(math.MaxFloat64)<<1|1), neg, c, exp, digits)
	}
	num, den := new(big.Int).Set(c), big.NewInt(1)
	if exp >= 0 {
		num.Mul(num, pow10(exp))
	} else {
		den = pow10(-exp)
	}
	ip, rem := new(big.Int).QuoRem(num, den, new(big.Int))
	if ip.Sign() == 0 || ip.BitLen() > 63 {
		b, exact := truncateToDouble(num, den)
		dst = appendEdge(dst, neg, ip.Sign() != 0, b<<1|b2u(!exact))
		if !exact {
			dst = appendContinuation(dst, neg, c, exp, digits)
		}
		return dst
	}
	if rem.Sign() == 0 {
		return appendIntPart(dst, neg, ip.Uint64()<<1)
	}
	dst = appendIntPart(dst, neg, ip.Uint64()<<1|1)
	frac, rest := rem.QuoRem(rem.Lsh(rem, 63), den, new(big.Int))
	dst = appendWord(dst, neg, frac.Uint64()<<1|b2u(rest.Sign() != 0))
	if rest.Sign() != 0 {
		dst = appendContinuation(dst, neg, c, exp, digits)
	}
	return dst
}

// appendContinuation writes c × 10^exp as exponent and 34-digit coefficient.
func appendContinuation(dst []byte, neg bool, c *big.Int, exp, digits int) []byte {
	full := new(big.Int).Mul(c, pow10(fullDig-digits))
	var b [contLen]byte
	binary.BigEndian.PutUint16(b[:], uint16(exp-(fullDig-digits)+expBias))
	full.FillBytes(b[2:])
	if neg {
		invert(b[:])
	}
	return append(dst, b[:]...)
}

// truncateToDouble rounds num/den > 0 toward zero; what is beyond the largest
// double becomes it.
func truncateToDouble(num, den *big.Int) (word uint64, exact bool) {
	k := max(num.BitLen()-den.BitLen()-53, -1074) // num/den ≈ q × 2^k, q of 53 or 54 bits
	n, d := num, den
	if k >= 0 {
		d = new(big.Int).Lsh(den, uint(k))
	} else {
		n = new(big.Int).Lsh(num, uint(-k))
	}
	quo, rem := new(big.Int).QuoRem(n, d, new(big.Int))
	q, exact := quo.Uint64(), rem.Sign() == 0
	if q>>53 != 0 {
		exact = exact && q&1 == 0
		q >>= 1
		k++
	}
	if q>>52 == 0 { // subnormal
		return q, exact
	}
	e := k + 1075
	if e > 2046 {
		return math.Float64bits(math.MaxFloat64), false
	}
	return uint64(e)<<52 | q&(1<<52-1), exact
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func pow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }
