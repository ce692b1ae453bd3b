package bson

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/bits"
	"strconv"

	"github.com/cockroachdb/apd/v3"
	driver "go.mongodb.org/mongo-driver/v2/bson"
)

// Decimal128 is an IEEE 754-2008 decimal in binary integer encoding, high half first.
type Decimal128 struct{ Hi, Lo uint64 }

// Special decimals.
var (
	DecimalNaN    = Decimal128{Hi: 0x7C00000000000000}
	DecimalInf    = Decimal128{Hi: 0x7800000000000000}
	DecimalNegInf = Decimal128{Hi: 0xF800000000000000}
	DecimalZero   = Decimal128{Hi: 0x3040000000000000}
)

const (
	decimalBias   = 6176
	decimalMaxExp = 6111
	decimalDigits = 34
)

var maxCoefficient = new(big.Int).Sub(new(big.Int).Exp(big.NewInt(10), big.NewInt(decimalDigits), nil), big.NewInt(1))

// Decimal128 returns a decimal's value.
func (v Value) Decimal128() Decimal128 {
	if v.Type != TypeDecimal128 {
		return Decimal128{}
	}
	return Decimal128{Lo: binary.LittleEndian.Uint64(v.Data), Hi: binary.LittleEndian.Uint64(v.Data[8:])}
}

// IsNaN reports whether d is not a number.
func (d Decimal128) IsNaN() bool { return d.Hi>>58&0x1F == 0x1F }

// IsInf reports whether d is infinite, of either sign.
func (d Decimal128) IsInf() bool { return d.Hi>>58&0x1F == 0x1E }

// Negative reports whether the sign bit is set.
func (d Decimal128) Negative() bool { return d.Hi>>63 != 0 }

// IsZero reports whether d is a zero of either sign.
func (d Decimal128) IsZero() bool {
	if d.IsNaN() || d.IsInf() {
		return false
	}
	hi, lo, _ := d.parts()
	return hi|lo == 0
}

// parts returns the coefficient and exponent of a finite d; coefficients out of
// range count as zero, as the standard says.
func (d Decimal128) parts() (hi, lo uint64, exp int) {
	if d.Hi>>61&3 == 3 {
		return 0, 0, int(d.Hi>>47&0x3FFF) - decimalBias
	}
	hi, lo, exp = d.Hi&0x1FFFFFFFFFFFF, d.Lo, int(d.Hi>>49&0x3FFF)-decimalBias
	if hi > 0x1ED09BEAD87C0 || (hi == 0x1ED09BEAD87C0 && lo > 0x378D8E63FFFFFFFF) {
		return 0, 0, exp
	}
	return hi, lo, exp
}

// Coefficient returns |d| = c × 10^exp of a finite d.
func (d Decimal128) Coefficient() (c *big.Int, exp int) {
	hi, lo, exp := d.parts()
	c = new(big.Int).SetUint64(hi)
	c.Lsh(c, 64)
	return c.Or(c, new(big.Int).SetUint64(lo)), exp
}

// NewDecimal128 packs ±c × 10^exp; ok is false if c has more than 34 digits or exp
// is out of range.
func NewDecimal128(neg bool, c *big.Int, exp int) (d Decimal128, ok bool) {
	if c.Sign() < 0 || c.Cmp(maxCoefficient) > 0 || exp < -decimalBias || exp > decimalMaxExp {
		return Decimal128{}, false
	}
	var lo, hi big.Int
	lo.And(c, new(big.Int).SetUint64(math.MaxUint64))
	hi.Rsh(c, 64)
	d = Decimal128{Hi: hi.Uint64() | uint64(exp+decimalBias)<<49, Lo: lo.Uint64()}
	if neg {
		d.Hi |= 1 << 63
	}
	return d, true
}

// DecimalFromInt64 converts exactly.
func DecimalFromInt64(i int64) Decimal128 {
	u, neg := uint64(i), i < 0
	if neg {
		u = -u
	}
	d := Decimal128{Hi: uint64(decimalBias) << 49, Lo: u}
	if neg {
		d.Hi |= 1 << 63
	}
	return d
}

// String returns the scientific or plain form that the decimal128 specification gives.
func (d Decimal128) String() string { return driver.NewDecimal128(d.Hi, d.Lo).String() }

// ParseDecimal128 reads the forms that the decimal128 specification allows.
func ParseDecimal128(s string) (Decimal128, error) {
	p, err := driver.ParseDecimal128(s)
	if err != nil {
		return Decimal128{}, err
	}
	h, l := p.GetBytes()
	return Decimal128{Hi: h, Lo: l}, nil
}

// Int64 returns d if it is an integer in range.
func (d Decimal128) Int64() (int64, bool) {
	if d.IsNaN() || d.IsInf() {
		return 0, false
	}
	c, exp := d.Coefficient()
	if c.Sign() == 0 {
		return 0, true
	}
	if exp > 19 {
		return 0, false
	}
	if exp > 0 {
		c.Mul(c, pow10(exp))
	} else if exp < 0 {
		if exp < -decimalDigits {
			return 0, false
		}
		var rem big.Int
		c.QuoRem(c, pow10(-exp), &rem)
		if rem.Sign() != 0 {
			return 0, false
		}
	}
	if d.Negative() {
		c.Neg(c)
	}
	return c.Int64(), c.IsInt64()
}

// Float64 returns the nearest double.
func (d Decimal128) Float64() float64 {
	switch {
	case d.IsNaN():
		return math.NaN()
	case d.IsInf():
		return math.Inf(1 - 2*int(d.Hi>>63))
	}
	hi, lo, exp := d.parts()
	var f float64
	if hi == 0 && exp == 0 && lo < 1<<53 {
		f = float64(lo)
	} else {
		c, e := d.Coefficient()
		f, _ = strconv.ParseFloat(c.String()+"e"+strconv.Itoa(e), 64) // out of range gives ±Inf
	}
	if d.Negative() {
		return -f
	}
	return f
}

// APD returns d for arithmetic.
func (d Decimal128) APD() *apd.Decimal {
	r := new(apd.Decimal)
	r.Negative = d.Negative()
	switch {
	case d.IsNaN():
		r.Form, r.Negative = apd.NaN, false
	case d.IsInf():
		r.Form = apd.Infinite
	default:
		c, exp := d.Coefficient()
		r.Coeff.SetMathBigInt(c)
		r.Exponent = int32(exp)
	}
	return r
}

// DecimalContext is decimal128's precision, exponent range and rounding for apd.
var DecimalContext = apd.Context{
	Precision: decimalDigits, MaxExponent: 6144, MinExponent: -6143, Rounding: apd.RoundHalfEven,
}

// DecimalFromAPD rounds r to 34 digits; what is too large becomes an infinity, what
// is too small a zero.
func DecimalFromAPD(r *apd.Decimal) Decimal128 {
	switch r.Form {
	case apd.NaN, apd.NaNSignaling:
		return DecimalNaN
	case apd.Infinite:
		if r.Negative {
			return DecimalNegInf
		}
		return DecimalInf
	}
	c, exp := r.Coeff.MathBigInt(), int(r.Exponent)
	c.Abs(c)
	digits := len(c.String())
	drop := max(digits-decimalDigits, -decimalBias-exp, 0)
	if drop > 0 {
		if drop > digits+1 {
			c.SetInt64(0)
		} else {
			c = quoHalfEven(c, pow10(drop))
		}
		exp += drop
		if c.Cmp(maxCoefficient) > 0 { // rounding carried to 35 digits
			c.Quo(c, big.NewInt(10))
			exp++
		}
	}
	if c.Sign() == 0 {
		exp = min(max(exp, -decimalBias), decimalMaxExp)
	}
	for exp > decimalMaxExp && c.Cmp(maxCoefficient) <= 0 {
		c.Mul(c, big.NewInt(10))
		exp--
	}
	d, ok := NewDecimal128(r.Negative, c, exp)
	if !ok {
		if r.Negative {
			return DecimalNegInf
		}
		return DecimalInf
	}
	return d
}

func quoHalfEven(c, div *big.Int) *big.Int {
	var q, rem big.Int
	q.QuoRem(c, div, &rem)
	rem.Lsh(&rem, 1)
	if cmp := rem.Cmp(div); cmp > 0 || (cmp == 0 && q.Bit(0) == 1) {
		q.Add(&q, big.NewInt(1))
	}
	return &q
}

func pow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// CompareDecimal compares two decimals by value; NaN is below everything and equal to itself.
func CompareDecimal(a, b Decimal128) int {
	if a == b {
		return 0
	}
	if an, bn := a.IsNaN(), b.IsNaN(); an || bn {
		return b2i(bn) - b2i(an)
	}
	sa, sb := a.sign(), b.sign()
	if sa != sb || sa == 0 {
		return cmpInt(sa, sb)
	}
	return sa * compareMagnitude(a, b)
}

func (d Decimal128) sign() int {
	if d.IsZero() {
		return 0
	}
	return 1 - 2*int(d.Hi>>63)
}

func compareMagnitude(a, b Decimal128) int {
	if ai, bi := a.IsInf(), b.IsInf(); ai || bi {
		return b2i(ai) - b2i(bi)
	}
	ah, al, ae := a.parts()
	bh, bl, be := b.parts()
	if ae == be {
		if ah != bh {
			return cmpUint(ah, bh)
		}
		return cmpUint(al, bl)
	}
	// The highest digits decide unless the magnitudes are close.
	da, db := digits(ah, al)+ae, digits(bh, bl)+be
	if da != db {
		return cmpInt(da, db)
	}
	ca, _ := a.Coefficient()
	cb, _ := b.Coefficient()
	if ae > be {
		ca.Mul(ca, pow10(ae-be))
	} else {
		cb.Mul(cb, pow10(be-ae))
	}
	return ca.Cmp(cb)
}

// digits counts the decimal digits of a coefficient.
func digits(hi, lo uint64) int {
	if hi == 0 {
		n := 1
		for lo >= 10 {
			lo /= 10
			n++
		}
		return n
	}
	q, r := hi/1e17, hi%1e17
	_ = q // hi is below 2^49 < 1e17, so q is 0
	quo, _ := bits.Div64(r, lo, 1e17)
	return 17 + digits(0, quo)
}

// compareDecimalDouble compares exactly.
func compareDecimalDouble(d Decimal128, f float64) int {
	if dn, fn := d.IsNaN(), math.IsNaN(f); dn || fn {
		return b2i(fn) - b2i(dn)
	}
	// Rounding to the nearest double keeps the order, so only a tie needs exact work.
	if n := d.Float64(); n != f {
		if n < f {
			return -1
		}
		return 1
	}
	if math.IsInf(f, 0) {
		if d.IsInf() {
			return 0
		}
		return -1 + 2*b2i(f < 0) // a finite decimal beyond the range of double
	}
	c, exp := d.Coefficient()
	if d.Negative() {
		c.Neg(c)
	}
	mant, e2 := math.Frexp(f)
	m := big.NewInt(int64(mant * (1 << 53)))
	e2 -= 53
	if exp >= 0 {
		c.Mul(c, pow10(exp))
	} else {
		m.Mul(m, pow10(-exp))
	}
	if e2 >= 0 {
		m.Lsh(m, uint(e2))
	} else {
		c.Lsh(c, uint(-e2))
	}
	return c.Cmp(m)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
