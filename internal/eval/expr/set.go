package expr

import (
	"slices"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// sortedSet pushes the elements of an array to the stack, sorted and without doubles.
func sortedSet(env *Env, c *call, a bson.Value) []bson.Value {
	base := len(env.stack)
	env.push(a)
	s := env.stack[base:]
	slices.SortStableFunc(s, c.cmp)
	n := len(slices.CompactFunc(s, func(a, b bson.Value) bool { return c.cmp(a, b) == 0 }))
	env.stack = env.stack[:base+n]
	return env.stack[base : base+n : base+n]
}

func contains(c *call, set []bson.Value, v bson.Value) bool {
	_, ok := slices.BinarySearchFunc(set, v, c.cmp)
	return ok
}

func evalSetUnion(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	base := len(env.stack)
	for _, v := range args {
		if v.IsNullish() {
			env.stack = env.stack[:base]
			return null, nil
		}
		if v.Type != bson.TypeArray {
			return missing, mongoerr.New(17043, "All operands of $setUnion must be arrays. One argument is of type: %s", v.Type)
		}
		env.push(v)
	}
	s := env.stack[base:]
	slices.SortStableFunc(s, c.cmp)
	s = slices.CompactFunc(s, func(a, b bson.Value) bool { return c.cmp(a, b) == 0 })
	v := env.Array(s)
	env.stack = env.stack[:base]
	return v, nil
}

func evalSetIntersection(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	for _, v := range args {
		if v.IsNullish() {
			return null, nil
		}
		if v.Type != bson.TypeArray {
			return missing, mongoerr.New(17047, "All operands of $setIntersection must be arrays. One argument is of type: %s", v.Type)
		}
	}
	if len(args) == 0 {
		return emptyArray, nil
	}
	base := len(env.stack)
	cur := sortedSet(env, c, args[0])
	for _, a := range args[1:] {
		other := sortedSet(env, c, a)
		cur = slices.DeleteFunc(cur, func(v bson.Value) bool { return !contains(c, other, v) })
	}
	v := env.Array(cur)
	env.stack = env.stack[:base]
	return v, nil
}

// evalSetDifference keeps the order of the first array.
func evalSetDifference(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	if args[0].IsNullish() || args[1].IsNullish() {
		return null, nil
	}
	for i, nth := range []string{"First", "Second"} {
		if args[i].Type != bson.TypeArray {
			return missing, mongoerr.New(mongoerr.Code(17048+i), "both operands of $setDifference must be arrays. %s argument is of type: %s", nth, args[i].Type)
		}
	}
	base := len(env.stack)
	other := sortedSet(env, c, args[1])
	from := len(env.stack)
	it := args[0].Doc().Iter()
	for it.Next() {
		v := it.Value()
		if contains(c, other, v) {
			continue
		}
		if !slices.ContainsFunc(env.stack[from:], func(x bson.Value) bool { return c.cmp(x, v) == 0 }) {
			env.stack = append(env.stack, v)
		}
	}
	v := env.Array(env.stack[from:])
	env.stack = env.stack[:base]
	return v, nil
}

func evalSetEquals(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	for _, v := range args {
		if v.Type != bson.TypeArray {
			return missing, mongoerr.New(17044, "All operands of $setEquals must be arrays. One argument is of type: %s", v.Type)
		}
	}
	base := len(env.stack)
	first := sortedSet(env, c, args[0])
	equal := true
	for _, a := range args[1:] {
		o := sortedSet(env, c, a)
		if len(o) != len(first) || !slices.EqualFunc(first, o, func(a, b bson.Value) bool { return c.cmp(a, b) == 0 }) {
			equal = false
			break
		}
	}
	env.stack = env.stack[:base]
	return boolValue(equal), nil
}

func evalSetIsSubset(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	if args[0].Type != bson.TypeArray {
		return missing, mongoerr.New(17046, "both operands of $setIsSubset must be arrays. First argument is of type: %s", args[0].Type)
	}
	if args[1].Type != bson.TypeArray {
		return missing, mongoerr.New(17042, "both operands of $setIsSubset must be arrays. Second argument is of type: %s", args[1].Type)
	}
	base := len(env.stack)
	super := sortedSet(env, c, args[1])
	subset := true
	for v := range args[0].Doc().Values() {
		if !contains(c, super, v) {
			subset = false
			break
		}
	}
	env.stack = env.stack[:base]
	return boolValue(subset), nil
}

func evalAnyElementTrue(_ *Env, _ *call, args []bson.Value) (bson.Value, error) {
	if args[0].Type != bson.TypeArray {
		return missing, mongoerr.New(17041, "$anyElementTrue's argument must be an array, but is %s", args[0].Type)
	}
	for v := range args[0].Doc().Values() {
		if v.Truthy() {
			return valueTrue, nil
		}
	}
	return valueFalse, nil
}

func evalAllElementsTrue(_ *Env, _ *call, args []bson.Value) (bson.Value, error) {
	if args[0].Type != bson.TypeArray {
		return missing, mongoerr.New(17040, "$allElementsTrue's argument must be an array, but is %s", args[0].Type)
	}
	for v := range args[0].Doc().Values() {
		if !v.Truthy() {
			return valueFalse, nil
		}
	}
	return valueTrue, nil
}
