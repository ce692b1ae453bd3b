package expr

import (
	"math"
	"math/bits"

	"github.com/cockroachdb/apd/v3"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func evalAdd(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	if len(args) == 2 && args[0].Type == bson.TypeInt32 && args[1].Type == bson.TypeInt32 {
		return env.IntOrLong(int64(args[0].Int32()) + int64(args[1].Int32())), nil
	}
	var s Sum
	haveDate := false
	for _, v := range args {
		switch {
		case s.Add(v):
		case v.Type == bson.TypeDate:
			if haveDate {
				return missing, mongoerr.New(16612, "only one date allowed in an $add expression")
			}
			haveDate = true
			s.addInt(int64(v.Date()))
		case v.IsNullish():
			return null, nil
		default:
			return missing, mongoerr.New(mongoerr.TypeMismatch, "$add only supports numeric or date types, not %s", v.Type)
		}
	}
	if !haveDate {
		return s.Value(env), nil
	}
	if s.hasDec {
		return env.Date(bson.DateTime(decimalToLong(bson.DecimalFromAPD(s.Decimal())))), nil
	}
	ms, ok := s.fitsLong()
	if !ok {
		return missing, mongoerr.New(mongoerr.Overflow, "date overflow in $add")
	}
	return env.Date(bson.DateTime(ms)), nil
}

func evalSubtract(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	l, r := args[0], args[1]
	switch {
	case l.IsNumber() && r.IsNumber():
		return subtractNumbers(env, l, r)
	case l.IsNullish() || r.IsNullish():
		return null, nil
	case l.Type == bson.TypeDate:
		return subtractFromDate(env, l, r)
	}
	return missing, mongoerr.New(mongoerr.TypeMismatch, "can't $subtract %s from %s", r.Type, l.Type)
}

func subtractNumbers(env *Env, l, r bson.Value) (bson.Value, error) {
	switch widest(l.Type, r.Type) {
	case bson.TypeDecimal128:
		var d apd.Decimal
		_, _ = bson.DecimalContext.Sub(&d, toAPD(l), toAPD(r))
		return env.apd(&d), nil
	case bson.TypeDouble:
		return env.Double(toDouble(l) - toDouble(r)), nil
	case bson.TypeInt64:
		a, _ := l.AsInt64()
		b, _ := r.AsInt64()
		if d := a - b; (d < a) == (b > 0) {
			return env.Int64(d), nil
		}
		return env.Double(float64(a) - float64(b)), nil
	}
	return env.IntOrLong(int64(l.Int32()) - int64(r.Int32())), nil
}

func subtractFromDate(env *Env, l, r bson.Value) (bson.Value, error) {
	a := int64(l.Date())
	if r.Type == bson.TypeDate {
		b := int64(r.Date())
		d := a - b
		if (d < a) != (b > 0) {
			return missing, mongoerr.New(159, "Overflow while subtracting %dms from %dms", b, a)
		}
		return env.Int64(d), nil
	}
	if !r.IsNumber() {
		return missing, mongoerr.New(mongoerr.TypeMismatch, "can't $subtract %s from %s", r.Type, l.Type)
	}
	b, err := toLong(r)
	if err != nil {
		return missing, err
	}
	if b == math.MinInt64 {
		return missing, mongoerr.New(159, "Cannot negate the minimum duration")
	}
	d := a - b
	if (d < a) != (b > 0) {
		// The server names the sum that wrapped around.
		return missing, mongoerr.New(159, "Overflow while adding %dms to %dms", -b, d)
	}
	return env.Date(bson.DateTime(d)), nil
}

func evalMultiply(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	typ := bson.TypeInt32
	long, double := int64(1), 1.0
	var dec apd.Decimal
	for _, v := range args {
		if !v.IsNumber() {
			if v.IsNullish() {
				return null, nil
			}
			return missing, mongoerr.New(mongoerr.TypeMismatch, "$multiply only supports numeric types, not %s", v.Type)
		}
		old := typ
		typ = widest(typ, v.Type)
		if typ == bson.TypeDecimal128 {
			switch old {
			case bson.TypeDouble:
				dec.Set(decimalFrom15(double).APD())
			case bson.TypeInt32, bson.TypeInt64:
				dec.SetInt64(long)
			}
			_, _ = bson.DecimalContext.Mul(&dec, &dec, toAPD(v))
			continue
		}
		double *= toDouble(v)
		if typ != bson.TypeDouble {
			i, _ := v.AsInt64()
			var ok bool
			if long, ok = mulInt64(long, i); !ok {
				typ = bson.TypeDouble
			}
		}
	}
	switch typ {
	case bson.TypeDecimal128:
		return env.apd(&dec), nil
	case bson.TypeDouble:
		return env.Double(double), nil
	case bson.TypeInt64:
		return env.Int64(long), nil
	}
	return env.IntOrLong(long), nil
}

func mulInt64(a, b int64) (int64, bool) {
	ua, ub := uint64(a), uint64(b)
	if a < 0 {
		ua = -ua
	}
	if b < 0 {
		ub = -ub
	}
	hi, lo := bits.Mul64(ua, ub)
	if hi != 0 {
		return 0, false
	}
	if (a < 0) != (b < 0) {
		return int64(-lo), lo <= 1<<63
	}
	return int64(lo), lo < 1<<63
}

func evalDivide(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	l, r := args[0], args[1]
	if !l.IsNumber() || !r.IsNumber() {
		if l.IsNullish() || r.IsNullish() {
			return null, nil
		}
		return missing, mongoerr.New(mongoerr.TypeMismatch, "$divide only supports numeric types, not %s and %s", l.Type, r.Type)
	}
	if isZero(r) {
		return missing, mongoerr.New(mongoerr.BadValue, "can't $divide by zero")
	}
	if widest(l.Type, r.Type) == bson.TypeDecimal128 {
		return env.apd(divideDecimal(toAPD(l), toAPD(r))), nil
	}
	return env.Double(toDouble(l) / toDouble(r)), nil
}

// divideDecimal divides with IEEE 754's preferred exponent: apd leaves the quotient's
// trailing zeros as the operands' digits had them, the standard wants the exponent
// nearest to the difference of the operands' exponents.
func divideDecimal(a, b *apd.Decimal) *apd.Decimal {
	var q apd.Decimal
	cond, _ := bson.DecimalContext.Quo(&q, a, b)
	if q.Form != apd.Finite || a.Form != apd.Finite || b.Form != apd.Finite {
		return &q
	}
	if cond.Inexact() {
		return padDigits(&q)
	}
	return preferExponent(&q, a.Exponent-b.Exponent)
}

// padDigits gives an inexact result all 34 digits.
func padDigits(q *apd.Decimal) *apd.Decimal {
	if n := 34 - q.NumDigits(); n > 0 && !q.IsZero() && int64(q.Exponent)-n >= -6176 {
		q.Coeff.Mul(&q.Coeff, apdPow10(n))
		q.Exponent -= int32(n)
	}
	return q
}

// preferExponent moves an exact result's exponent as near to want as its digits allow.
func preferExponent(q *apd.Decimal, want int32) *apd.Decimal {
	if q.IsZero() {
		q.Exponent = want
		return q
	}
	neg := q.Negative
	ten := apd.NewBigInt(10)
	for q.Exponent < want {
		var quo, rem apd.BigInt
		quo.QuoRem(&q.Coeff, ten, &rem)
		if rem.Sign() != 0 {
			break
		}
		q.Coeff.Set(&quo)
		q.Exponent++
	}
	for q.Exponent > want && q.NumDigits() < 34 {
		q.Coeff.Mul(&q.Coeff, ten)
		q.Exponent--
	}
	q.Negative = neg
	return q
}

func isZero(v bson.Value) bool {
	switch v.Type {
	case bson.TypeInt32:
		return v.Int32() == 0
	case bson.TypeInt64:
		return v.Int64() == 0
	case bson.TypeDouble:
		return v.Double() == 0
	}
	return v.Decimal128().IsZero()
}

func evalMod(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	l, r := args[0], args[1]
	if !l.IsNumber() || !r.IsNumber() {
		if l.IsNullish() || r.IsNullish() {
			return null, nil
		}
		return missing, mongoerr.New(16611, "$mod only supports numeric types, not %s and %s", l.Type, r.Type)
	}
	if isZero(r) {
		return missing, mongoerr.New(16610, "can't $mod by zero")
	}
	if widest(l.Type, r.Type) == bson.TypeDecimal128 {
		return env.Decimal(moduloDecimal(ToDecimal(l), ToDecimal(r))), nil
	}
	_, small := asInt32(r)
	if l.Type == bson.TypeDouble || r.Type == bson.TypeDouble && !small {
		return env.Double(math.Mod(toDouble(l), toDouble(r))), nil
	}
	a, _ := l.AsInt64()
	b, _ := r.AsInt64()
	if b == -1 {
		a = 0 // the least long by -1 would overflow
	} else {
		a %= b
	}
	if l.Type == bson.TypeInt64 || r.Type == bson.TypeInt64 {
		return env.Int64(a), nil
	}
	return env.Int32(int32(a)), nil
}

// moduloDecimal is the remainder of a division cut towards zero. The quotient may have
// thousands of digits, so it is computed on integers.
func moduloDecimal(a, b bson.Decimal128) bson.Decimal128 {
	switch {
	case a.IsNaN() || b.IsNaN() || a.IsInf():
		return bson.DecimalNaN
	case b.IsInf():
		return a
	}
	ctx := apd.Context{Precision: 13000, MaxExponent: apd.MaxExponent, MinExponent: apd.MinExponent, Rounding: apd.RoundHalfEven}
	var r apd.Decimal
	_, _ = ctx.Rem(&r, a.APD(), b.APD())
	return bson.DecimalFromAPD(&r)
}
