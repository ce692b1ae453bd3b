package expr

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func bitwise(start int64, f func(a, b int64) int64) evalFunc {
	return func(env *Env, c *call, args []bson.Value) (bson.Value, error) {
		acc, long := start, false
		for _, v := range args {
			switch {
			case v.IsNullish():
				return null, nil
			case v.Type == bson.TypeInt64:
				long = true
			case v.Type != bson.TypeInt32:
				return missing, mongoerr.New(mongoerr.TypeMismatch, "%s only supports int and long operands.", c.op.Name)
			}
			i, _ := v.AsInt64()
			acc = f(acc, i)
		}
		if long {
			return env.Int64(acc), nil
		}
		return env.Int32(int32(acc)), nil
	}
}

func evalBitNot(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	switch v := args[0]; {
	case v.IsNullish():
		return null, nil
	case v.Type == bson.TypeInt32:
		return env.Int32(^v.Int32()), nil
	case v.Type == bson.TypeInt64:
		return env.Int64(^v.Int64()), nil
	default:
		return missing, mongoerr.New(28765, "%s only supports int and long, not: %s.", c.op.Name, v.Type)
	}
}
