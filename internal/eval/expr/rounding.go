package expr

import (
	"math"

	"github.com/cockroachdb/apd/v3"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// numericArg checks the operand of an operator on one number; done is set for null.
func numericArg(c *call, v bson.Value) (done bool, err error) {
	if v.IsNullish() {
		return true, nil
	}
	if !v.IsNumber() {
		return true, mongoerr.New(28765, "%s only supports numeric types, not %s", c.op.Name, v.Type)
	}
	return false, nil
}

func evalAbs(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	v := args[0]
	if done, err := numericArg(c, v); done {
		return null, err
	}
	switch v.Type {
	case bson.TypeDouble:
		return env.Double(math.Abs(v.Double())), nil
	case bson.TypeDecimal128:
		d := v.Decimal128()
		d.Hi &^= 1 << 63
		return env.Decimal(d), nil
	case bson.TypeInt64:
		i := v.Int64()
		if i == math.MinInt64 {
			return missing, mongoerr.New(28680, "can't take $abs of long long min")
		}
		return env.Int64(max(i, -i)), nil
	}
	i := int64(v.Int32())
	return env.IntOrLong(max(i, -i)), nil
}

func evalCeil(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	return floorOrCeil(env, c, args[0], math.Ceil, apd.RoundCeiling)
}

func evalFloor(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	return floorOrCeil(env, c, args[0], math.Floor, apd.RoundFloor)
}

func floorOrCeil(env *Env, c *call, v bson.Value, f func(float64) float64, mode apd.Rounder) (bson.Value, error) {
	if done, err := numericArg(c, v); done {
		return null, err
	}
	switch v.Type {
	case bson.TypeDouble:
		return env.Double(f(v.Double())), nil
	case bson.TypeDecimal128:
		// The exponent becomes 0: what needs more than 34 digits for that is NaN.
		d := v.Decimal128()
		if d.IsInf() {
			d = bson.DecimalNaN
		}
		return env.Decimal(quantize(d, 0, mode)), nil
	}
	return v, nil
}

func evalRound(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	return roundTo(env, c, args, apd.RoundHalfEven, math.RoundToEven)
}

func evalTrunc(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	return roundTo(env, c, args, apd.RoundDown, math.Trunc)
}

func roundTo(env *Env, c *call, args []bson.Value, mode apd.Rounder, whole func(float64) float64) (bson.Value, error) {
	v, place := args[0], 0
	if v.IsNullish() {
		return null, nil
	}
	if !v.IsNumber() {
		return missing, mongoerr.New(51081, "%s only supports numeric types, not %s", c.op.Name, v.Type)
	}
	if len(args) > 1 {
		if args[1].IsNullish() {
			return null, nil
		}
		p, ok := asInt32(args[1])
		if !ok {
			return missing, mongoerr.New(51082, "precision argument to  %s must be a integral value", c.op.Name)
		}
		if p < -20 || p > 100 {
			return missing, mongoerr.New(51083, "cannot apply %s with precision value %d value must be in [-20, 100]", c.op.Name, p)
		}
		place = p
	}
	switch v.Type {
	case bson.TypeDouble:
		f := v.Double()
		if place == 0 || math.IsNaN(f) || math.IsInf(f, 0) {
			return env.Double(whole(f)), nil
		}
		d := quantize(DecimalFromDouble(f), int32(-place), mode)
		if d.IsNaN() {
			return v, nil // more digits are asked for than the double has
		}
		return env.Double(d.Float64()), nil
	case bson.TypeDecimal128:
		return env.Decimal(roundDecimalTo(v.Decimal128(), place, mode)), nil
	}
	return roundInteger(env, c, v, place, mode)
}

func roundDecimalTo(d bson.Decimal128, place int, mode apd.Rounder) bson.Decimal128 {
	if d.IsNaN() || d.IsInf() {
		return d
	}
	if _, exp := d.Coefficient(); exp >= -place {
		return d
	}
	return quantize(d, int32(-place), mode)
}

func roundInteger(env *Env, c *call, v bson.Value, place int, mode apd.Rounder) (bson.Value, error) {
	if place >= 0 {
		return v, nil
	}
	i, _ := v.AsInt64()
	d := quantize(bson.DecimalFromInt64(i), int32(-place), mode)
	r, ok := d.Int64()
	if !ok {
		return missing, mongoerr.New(51080, "invalid conversion from Decimal128 result in %s resulting from arguments: [%s, %d]",
			c.op.Name, ValueText(v), place)
	}
	if v.Type == bson.TypeInt64 {
		return env.Int64(r), nil
	}
	return env.IntOrLong(r), nil
}
