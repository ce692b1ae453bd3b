package expr

import (
	"math"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// push appends the elements of an array to the value stack.
func (env *Env) push(a bson.Value) {
	it := a.Doc().Iter()
	for it.Next() {
		env.stack = append(env.stack, it.Value())
	}
}

// popArray makes an array of the stack above base.
func (env *Env) popArray(base int) bson.Value {
	v := env.Array(env.stack[base:])
	env.stack = env.stack[:base]
	return v
}

func evalSize(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	if args[0].Type != bson.TypeArray {
		return missing, mongoerr.New(17124, "The argument to $size must be an array, but was of type: %s", args[0].Type)
	}
	return env.Int32(int32(args[0].Doc().Len())), nil
}

func evalIsArray(_ *Env, _ *call, args []bson.Value) (bson.Value, error) {
	return boolValue(args[0].Type == bson.TypeArray), nil
}

func evalArrayElemAt(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	a, i := args[0], args[1]
	if a.IsNullish() || i.IsNullish() {
		return null, nil
	}
	if a.Type != bson.TypeArray {
		return missing, mongoerr.New(28689, "$arrayElemAt's first argument must be an array, but is %s", a.Type)
	}
	if !i.IsNumber() {
		return missing, mongoerr.New(28690, "$arrayElemAt's second argument must be a numeric value, but is %s", i.Type)
	}
	n, ok := asInt32(i)
	if !ok {
		return missing, mongoerr.New(28691, "$arrayElemAt's second argument must be representable as a 32-bit integer: %s", ValueText(i))
	}
	return elemAt(a, n), nil
}

// elemAt counts from the end for negative n; missing if there is no such element.
func elemAt(a bson.Value, n int) bson.Value {
	if n < 0 {
		if n += a.Doc().Len(); n < 0 {
			return missing
		}
	}
	it := a.Doc().Iter()
	for it.Next() {
		if n == 0 {
			return it.Value()
		}
		n--
	}
	return missing
}

func evalFirst(_ *Env, c *call, args []bson.Value) (bson.Value, error) { return endOf(c, args[0], 0) }
func evalLast(_ *Env, c *call, args []bson.Value) (bson.Value, error)  { return endOf(c, args[0], -1) }

func endOf(c *call, a bson.Value, n int) (bson.Value, error) {
	if a.IsNullish() {
		return null, nil
	}
	if a.Type != bson.TypeArray {
		return missing, mongoerr.New(28689, "%s's argument must be an array, but is %s", c.op.Name, a.Type)
	}
	return elemAt(a, n), nil
}

func evalConcatArrays(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	for _, v := range args {
		if v.IsNullish() {
			return null, nil
		}
		if v.Type != bson.TypeArray {
			return missing, mongoerr.New(28664, "$concatArrays only supports arrays, not %s", v.Type)
		}
	}
	base := len(env.stack)
	for _, v := range args {
		env.push(v)
	}
	return env.popArray(base), nil
}

func evalReverseArray(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	a := args[0]
	if a.IsNullish() {
		return null, nil
	}
	if a.Type != bson.TypeArray {
		return missing, mongoerr.New(34435, "The argument to $reverseArray must be an array, but was of type: %s", a.Type)
	}
	base := len(env.stack)
	env.push(a)
	vs := env.stack[base:]
	for i, j := 0, len(vs)-1; i < j; i, j = i+1, j-1 {
		vs[i], vs[j] = vs[j], vs[i]
	}
	return env.popArray(base), nil
}

func evalSlice(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	a := args[0]
	for _, v := range args {
		if v.IsNullish() {
			return null, nil
		}
	}
	if a.Type != bson.TypeArray {
		return missing, mongoerr.New(28724, "First argument to $slice must be an array, but is of type: %s", a.Type)
	}
	if !args[1].IsNumber() {
		return missing, mongoerr.New(28725, "Second argument to $slice must be a numeric value, but is of type: %s", args[1].Type)
	}
	start, ok := asInt32(args[1])
	if !ok {
		return missing, mongoerr.New(28726, "Second argument to $slice can't be represented as a 32-bit integer: %s", ValueText(args[1]))
	}
	length := a.Doc().Len()
	end := length
	switch {
	case len(args) == 2 && start >= 0:
		start, end = 0, min(start, length)
	case len(args) == 2:
		start = max(length+start, 0)
	default:
		if !args[2].IsNumber() {
			return missing, mongoerr.New(28727, "Third argument to $slice must be numeric, but is of type: %s", args[2].Type)
		}
		n, ok := asInt32(args[2])
		if !ok {
			return missing, mongoerr.New(28728, "Third argument to $slice can't be represented as a 32-bit integer: %s", ValueText(args[2]))
		}
		if n <= 0 {
			return missing, mongoerr.New(28729, "Third argument to $slice must be positive: %s", ValueText(args[2]))
		}
		if start < 0 {
			start = max(length+start, 0)
		}
		start = min(start, length)
		end = min(start+n, length)
	}
	base := len(env.stack)
	env.push(a)
	v := env.Array(env.stack[base+start : base+end])
	env.stack = env.stack[:base]
	return v, nil
}

func evalIn(_ *Env, c *call, args []bson.Value) (bson.Value, error) {
	if args[1].Type != bson.TypeArray {
		return missing, mongoerr.New(40081, "$in requires an array as a second argument, found: %s", args[1].Type)
	}
	it := args[1].Doc().Iter()
	for it.Next() {
		if c.cmp(args[0], it.Value()) == 0 {
			return valueTrue, nil
		}
	}
	return valueFalse, nil
}

func evalIndexOfArray(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	a := args[0]
	if a.IsNullish() {
		return null, nil
	}
	if a.Type != bson.TypeArray {
		return missing, mongoerr.New(40090, "$indexOfArray requires an array as a first argument, found: %s", a.Type)
	}
	from, to, err := indexRange(c, args[2:], a.Doc().Len())
	if err != nil {
		return missing, err
	}
	i := 0
	it := a.Doc().Iter()
	for it.Next() && i < to {
		if i >= from && c.cmp(it.Value(), args[1]) == 0 {
			return env.Int32(int32(i)), nil
		}
		i++
	}
	return env.Int32(-1), nil
}

func evalRange(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	if !args[0].IsNumber() {
		return missing, mongoerr.New(34443, "$range requires a numeric starting value, found value of type: %s", args[0].Type)
	}
	start, ok := asInt32(args[0])
	if !ok {
		return missing, mongoerr.New(34444, "$range requires a starting value that can be represented as a 32-bit integer, found value: %s", ValueText(args[0]))
	}
	if !args[1].IsNumber() {
		return missing, mongoerr.New(34445, "$range requires a numeric ending value, found value of type: %s", args[1].Type)
	}
	end, ok := asInt32(args[1])
	if !ok {
		return missing, mongoerr.New(34446, "$range requires an ending value that can be represented as a 32-bit integer, found value: %s", ValueText(args[1]))
	}
	step := 1
	if len(args) > 2 {
		if !args[2].IsNumber() {
			return missing, mongoerr.New(34447, "$range requires a numeric step value, found value of type:%s", args[2].Type)
		}
		if step, ok = asInt32(args[2]); !ok {
			return missing, mongoerr.New(34448, "$range requires a step value that can be represented as a 32-bit integer, found value: %s", ValueText(args[2]))
		}
		if step == 0 {
			return missing, mongoerr.New(34449, "$range requires a non-zero step value")
		}
	}
	if n := (int64(end) - int64(start)) / int64(step); n > math.MaxInt32/16 {
		return missing, mongoerr.New(mongoerr.Code(146), "$range would use too much memory (%d bytes) and cannot spill to disk. Memory limit: 104857600 bytes", n*16)
	}
	base := len(env.stack)
	for i := start; step > 0 && i < end || step < 0 && i > end; i += step {
		env.stack = append(env.stack, env.Int32(int32(i)))
	}
	return env.popArray(base), nil
}
