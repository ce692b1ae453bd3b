package expr

import (
	"math"

	"github.com/cockroachdb/apd/v3"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// work computes transcendental functions with digits to spare, so that rounding to 34
// digits happens once.
var work = apd.Context{Precision: 42, MaxExponent: 7000, MinExponent: -7000, Rounding: apd.RoundHalfEven}

func evalSqrt(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	v := args[0]
	if done, err := numericArg(c, v); done {
		return null, err
	}
	if v.Type == bson.TypeDecimal128 {
		d := v.Decimal128()
		if d.IsNaN() {
			return v, nil
		}
		if d.Negative() && !d.IsZero() {
			return missing, mongoerr.New(28714, "$sqrt's argument must be greater than or equal to 0")
		}
		if d.IsInf() || d.IsZero() {
			return sqrtSpecial(env, d), nil
		}
		var r apd.Decimal
		a := d.APD()
		_, _ = bson.DecimalContext.Sqrt(&r, a)
		return env.apd(preferExponent(&r, floorHalf(a.Exponent))), nil
	}
	f := toDouble(v)
	if f < 0 {
		return missing, mongoerr.New(28714, "$sqrt's argument must be greater than or equal to 0")
	}
	return env.Double(math.Sqrt(f)), nil
}

func floorHalf(e int32) int32 { return e >> 1 }

func sqrtSpecial(env *Env, d bson.Decimal128) bson.Value {
	if d.IsInf() {
		return env.Decimal(d)
	}
	a := d.APD()
	a.Exponent = floorHalf(a.Exponent)
	return env.apd(a)
}

func evalExp(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	v := args[0]
	if done, err := numericArg(c, v); done {
		return null, err
	}
	if v.Type != bson.TypeDecimal128 {
		return env.Double(expDouble(toDouble(v))), nil
	}
	return env.Decimal(expDecimal(v.Decimal128())), nil
}

func expDecimal(d bson.Decimal128) bson.Decimal128 {
	switch {
	case d.IsNaN(), d.IsInf() && !d.Negative():
		return d
	case d.IsInf():
		return bson.DecimalFromInt64(0)
	case d.IsZero():
		return bson.DecimalFromInt64(1)
	}
	if f := d.Float64(); f > 15000 {
		return bson.DecimalInf
	} else if f < -15000 {
		return bson.DecimalFromAPD(apd.New(0, -6176))
	}
	var r apd.Decimal
	if _, err := work.Exp(&r, d.APD()); err != nil {
		return bson.DecimalNaN
	}
	return bson.DecimalFromAPD(&r)
}

func evalLn(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	return logarithm(env, c, args[0], 28766, lnDouble, work.Ln)
}

func evalLog10(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	return logarithm(env, c, args[0], 28761, log10Double, work.Log10)
}

func logarithm(env *Env, c *call, v bson.Value, code mongoerr.Code, f func(float64) float64,
	dec func(d, x *apd.Decimal) (apd.Condition, error)) (bson.Value, error) {
	if done, err := numericArg(c, v); done {
		return null, err
	}
	if v.Type == bson.TypeDecimal128 {
		if d := v.Decimal128(); !d.IsNaN() && !d.IsZero() && !d.Negative() {
			return env.Decimal(logDecimal(d, dec)), nil
		}
	}
	x := toDouble(v)
	if !(x > 0) && !math.IsNaN(x) {
		return missing, mongoerr.New(code, "%s's argument must be a positive number, but is %s", c.op.Name, FormatG(x))
	}
	return env.Double(f(x)), nil
}

// logDecimal computes a logarithm of a positive decimal; exact results (of 1, of powers
// of ten) come out as integers.
func logDecimal(d bson.Decimal128, f func(d, x *apd.Decimal) (apd.Condition, error)) bson.Decimal128 {
	if d.IsInf() {
		return d
	}
	var r apd.Decimal
	if _, err := f(&r, d.APD()); err != nil {
		return bson.DecimalNaN
	}
	return trimInteger(bson.DecimalFromAPD(&r))
}

// trimInteger gives an integral result the exponent 0.
func trimInteger(d bson.Decimal128) bson.Decimal128 {
	if i, ok := d.Int64(); ok {
		return bson.DecimalFromInt64(i)
	}
	return d
}

func evalLog(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	x, base := args[0], args[1]
	if x.IsNullish() || base.IsNullish() {
		return null, nil
	}
	if !x.IsNumber() {
		return missing, mongoerr.New(28756, "$log's argument must be numeric, not %s", x.Type)
	}
	if !base.IsNumber() {
		return missing, mongoerr.New(28757, "$log's base must be numeric, not %s", base.Type)
	}
	if widest(x.Type, base.Type) == bson.TypeDecimal128 {
		dx, db := ToDecimal(x), ToDecimal(base)
		if positive(dx) && positive(db) && bson.CompareDecimal(db, bson.DecimalFromInt64(1)) != 0 {
			lx, lb := logDecimal(dx, work.Ln), logDecimal(db, work.Ln)
			if lx.IsZero() {
				_, exp := db.Coefficient()
				return env.apd(apd.New(0, int32(-exp))), nil
			}
			return env.apd(divideDecimal(lx.APD(), lb.APD())), nil
		}
	}
	fx, fb := toDouble(x), toDouble(base)
	if !(fx > 0) && !math.IsNaN(fx) {
		return missing, mongoerr.New(28758, "$log's argument must be a positive number, but is %s", FormatG(fx))
	}
	if !(fb > 0 && fb != 1) && !math.IsNaN(fb) {
		return missing, mongoerr.New(28759, "$log's base must be a positive number not equal to 1, but is %s", FormatG(fb))
	}
	return env.Double(lnDouble(fx) / lnDouble(fb)), nil
}

func positive(d bson.Decimal128) bool { return !d.IsNaN() && !d.IsZero() && !d.Negative() }

func evalPow(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	base, exp := args[0], args[1]
	if base.IsNullish() || exp.IsNullish() {
		return null, nil
	}
	if !base.IsNumber() {
		return missing, mongoerr.New(28762, "$pow's base must be numeric, not %s", base.Type)
	}
	if !exp.IsNumber() {
		return missing, mongoerr.New(28763, "$pow's exponent must be numeric, not %s", exp.Type)
	}
	typ := widest(base.Type, exp.Type)
	if typ == bson.TypeDecimal128 {
		b, e := ToDecimal(base), ToDecimal(exp)
		if b.IsZero() && e.Negative() {
			return missing, errZeroNegPow()
		}
		return env.Decimal(powDecimal(b, e)), nil
	}
	fb, fe := toDouble(base), toDouble(exp)
	if fb == 0 && fe < 0 {
		return missing, errZeroNegPow()
	}
	if typ == bson.TypeDouble {
		return env.Double(math.Pow(fb, fe)), nil
	}
	b, _ := base.AsInt64()
	e, _ := exp.AsInt64()
	r, ok := powInt(b, e)
	switch {
	case !ok:
		return env.Double(math.Pow(fb, fe)), nil
	case typ == bson.TypeInt64:
		return env.Int64(r), nil
	}
	return env.IntOrLong(r), nil
}

func errZeroNegPow() error {
	return mongoerr.New(28764, "$pow cannot take a base of 0 and a negative exponent")
}

// powInt multiplies repeatedly; false if the result is no long.
func powInt(b, e int64) (int64, bool) {
	switch {
	case b == 1 || e == 0:
		return 1, true
	case b == -1:
		return 1 - 2*(e&1), true
	case e < 0 || b != 0 && e > 63:
		return 0, false
	case b == 0:
		return 0, true
	}
	r, ok := int64(1), true
	for range e {
		if r, ok = mulInt64(r, b); !ok {
			return 0, false
		}
	}
	return r, true
}

// onePadded is how the server's decimal power writes 1: with all 34 digits, as it counts
// its results as rounded.
func onePadded() bson.Decimal128 { return bson.DecimalFromAPD(padDigits(apd.New(1, 0))) }

func powDecimal(b, e bson.Decimal128) bson.Decimal128 {
	one := bson.DecimalFromInt64(1)
	switch {
	case e.IsZero() || bson.CompareDecimal(b, one) == 0:
		return onePadded()
	case b.IsNaN() || e.IsNaN():
		return bson.DecimalNaN
	case e.IsInf():
		mag := b
		mag.Hi &^= 1 << 63
		c := bson.CompareDecimal(mag, one)
		switch {
		case c == 0:
			return onePadded()
		case (c > 0) == !e.Negative():
			return bson.DecimalInf
		}
		return leastZero()
	case b.IsInf() || b.IsZero():
		return powLimit(b, e)
	}
	return powFinite(b, e)
}

// leastZero is the zero that a power comes out as.
func leastZero() bson.Decimal128 { return bson.DecimalFromAPD(apd.New(0, -6176)) }

// powLimit is a power of zero or infinity.
func powLimit(b, e bson.Decimal128) bson.Decimal128 {
	if b.IsInf() == e.Negative() {
		return leastZero()
	}
	r := bson.DecimalInf
	if i, ok := e.Int64(); ok && i&1 != 0 && b.Negative() {
		r.Hi |= 1 << 63
	}
	return r
}

func powFinite(b, e bson.Decimal128) bson.Decimal128 {
	odd := false
	if b.Negative() {
		if !isIntegral(e) {
			return bson.DecimalNaN
		}
		i, _ := e.Int64()
		odd = i&1 != 0
		b.Hi &^= 1 << 63
	}
	wide := work
	wide.Precision = 60
	var r, ln apd.Decimal
	if _, err := wide.Ln(&ln, b.APD()); err != nil {
		return bson.DecimalNaN
	}
	_, _ = wide.Mul(&ln, &ln, e.APD())
	f, _ := ln.Float64()
	_, isInt := e.Int64()
	switch {
	case f > 15000:
		r.Form = apd.Infinite
	case f < -15000:
		return leastZero()
	case isInt && math.Abs(e.Float64()) <= 1e6:
		_, _ = wide.Pow(&r, b.APD(), e.APD())
	default:
		if _, err := wide.Exp(&r, &ln); err != nil {
			return bson.DecimalNaN
		}
	}
	r.Negative = odd
	d := bson.DecimalFromAPD(&r)
	if d.IsInf() {
		return d
	}
	return bson.DecimalFromAPD(padDigits(d.APD()))
}

func isIntegral(d bson.Decimal128) bool {
	if d.IsNaN() || d.IsInf() {
		return false
	}
	return bson.CompareDecimal(d, roundDecimal(d, apd.RoundDown)) == 0
}
