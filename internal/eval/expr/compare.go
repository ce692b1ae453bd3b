package expr

import "github.com/cairndb/cairn/internal/bson"

// comparison makes the evaluation of an operator from what it thinks of the order.
func comparison(ok func(c int) bool) evalFunc {
	return func(_ *Env, c *call, args []bson.Value) (bson.Value, error) {
		return boolValue(ok(c.cmp(args[0], args[1]))), nil
	}
}

func evalCmp(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	return env.Int32(int32(sign(c.cmp(args[0], args[1])))), nil
}

func sign(i int) int {
	switch {
	case i < 0:
		return -1
	case i > 0:
		return 1
	}
	return 0
}
