package expr

import (
	"math"
	"math/big"
	"strconv"

	"github.com/cockroachdb/apd/v3"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// widest returns the wider of two numeric types: int, long, double, decimal.
func widest(a, b bson.Type) bson.Type {
	if numericRank(a) >= numericRank(b) {
		return a
	}
	return b
}

func numericRank(t bson.Type) int {
	switch t {
	case bson.TypeInt32:
		return 1
	case bson.TypeInt64:
		return 2
	case bson.TypeDouble:
		return 3
	case bson.TypeDecimal128:
		return 4
	}
	return 0
}

// DecimalFromDouble converts a double with as many digits as decimal128 holds.
func DecimalFromDouble(f float64) bson.Decimal128 {
	switch {
	case math.IsNaN(f):
		return bson.DecimalNaN
	case math.IsInf(f, 1):
		return bson.DecimalInf
	case math.IsInf(f, -1):
		return bson.DecimalNegInf
	}
	if f == math.Trunc(f) && math.Abs(f) < 1<<63 {
		d := bson.DecimalFromInt64(int64(f))
		if f == 0 && math.Signbit(f) {
			d.Hi |= 1 << 63
		}
		return d
	}
	var d apd.Decimal
	if _, _, err := d.SetString(new(big.Float).SetFloat64(f).Text('e', 800)); err != nil {
		return bson.DecimalNaN
	}
	d.Negative = math.Signbit(f)
	d.Reduce(&d)
	if d.Exponent > 0 { // integers keep the exponent 0 as far as the digits go
		pad := min(int64(d.Exponent), 34-d.NumDigits())
		if pad > 0 {
			d.Coeff.Mul(&d.Coeff, apdPow10(pad))
			d.Exponent -= int32(pad)
		}
	}
	return bson.DecimalFromAPD(&d)
}

func apdPow10(n int64) *apd.BigInt {
	return new(apd.BigInt).Exp(apd.NewBigInt(10), apd.NewBigInt(n), nil)
}

// decimalFrom15 converts a double to exactly 15 significant digits, as MongoDB does
// when a double meets a decimal.
func decimalFrom15(f float64) bson.Decimal128 {
	if f == 0 || math.IsNaN(f) || math.IsInf(f, 0) {
		return DecimalFromDouble(f)
	}
	d, err := bson.ParseDecimal128(strconv.FormatFloat(f, 'e', 14, 64))
	if err != nil {
		return DecimalFromDouble(f)
	}
	return d
}

// ToDecimal coerces a number to a decimal.
func ToDecimal(v bson.Value) bson.Decimal128 {
	switch v.Type {
	case bson.TypeInt32:
		return bson.DecimalFromInt64(int64(v.Int32()))
	case bson.TypeInt64:
		return bson.DecimalFromInt64(v.Int64())
	case bson.TypeDouble:
		return decimalFrom15(v.Double())
	}
	return v.Decimal128()
}

func toAPD(v bson.Value) *apd.Decimal { return ToDecimal(v).APD() }

func toDouble(v bson.Value) float64 {
	f, _ := v.AsFloat64()
	return f
}

// toLong coerces a number to a long: doubles are cut, decimals rounded to even.
func toLong(v bson.Value) (int64, error) {
	switch v.Type {
	case bson.TypeInt32:
		return int64(v.Int32()), nil
	case bson.TypeInt64:
		return v.Int64(), nil
	case bson.TypeDouble:
		f := v.Double()
		if !(f < 1<<63 && f >= -(1<<63)) {
			return 0, mongoerr.New(31109, "Can't coerce out of range value %s to long", FormatG(f))
		}
		return int64(f), nil
	}
	return decimalToLong(v.Decimal128()), nil
}

// decimalToLong rounds half to even; what is out of range becomes the least long.
func decimalToLong(d bson.Decimal128) int64 {
	if d.IsNaN() || d.IsInf() {
		return math.MinInt64
	}
	r := roundDecimal(d, apd.RoundHalfEven)
	if i, ok := r.Int64(); ok {
		return i
	}
	return math.MinInt64
}

// roundDecimal rounds a finite decimal to an integer.
func roundDecimal(d bson.Decimal128, mode apd.Rounder) bson.Decimal128 {
	if _, exp := d.Coefficient(); exp >= 0 {
		return d
	}
	return quantize(d, 0, mode)
}

// quantize gives d the exponent exp; a result of more than 34 digits is NaN.
func quantize(d bson.Decimal128, exp int32, mode apd.Rounder) bson.Decimal128 {
	if d.IsNaN() || d.IsInf() {
		return d
	}
	ctx := apd.Context{Precision: 7000, MaxExponent: apd.MaxExponent, MinExponent: apd.MinExponent, Rounding: mode}
	var r apd.Decimal
	ctx.Quantize(&r, d.APD(), exp)
	if r.Form != apd.Finite || r.NumDigits() > 34 {
		return bson.DecimalNaN
	}
	return bson.DecimalFromAPD(&r)
}

// FormatG writes a double with six digits, as C's %g does.
func FormatG(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case math.IsNaN(f):
		return "nan"
	}
	return strconv.FormatFloat(f, 'g', 6, 64)
}

// asInt32 returns a number that is an integer in the range of an int.
func asInt32(v bson.Value) (int, bool) {
	i, ok := v.AsInt64()
	if !ok || i < math.MinInt32 || i > math.MaxInt32 {
		return 0, false
	}
	return int(i), true
}

// number makes a value of a numeric type from a decimal result.
func (env *Env) apd(d *apd.Decimal) bson.Value { return env.Decimal(bson.DecimalFromAPD(d)) }
