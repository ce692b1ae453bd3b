package expr

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func evalSubstrBytes(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	s, err := coerceString(args[0])
	if err != nil {
		return missing, err
	}
	name := c.op.Name
	if name == "$substr" {
		name = "$substrBytes"
	}
	if !args[1].IsNumber() {
		return missing, mongoerr.New(16034, "%s:  starting index must be a numeric type (is BSON type %s)", name, args[1].Type)
	}
	if !args[2].IsNumber() {
		return missing, mongoerr.New(16035, "%s:  length must be a numeric type (is BSON type %s)", name, args[2].Type)
	}
	lo, err := toLong(args[1])
	if err != nil {
		return missing, err
	}
	n, err := toLong(args[2])
	if err != nil {
		return missing, err
	}
	if lo < 0 {
		return missing, mongoerr.New(50752, "%s:  starting index must be non-negative (got: %d)", name, lo)
	}
	if lo >= int64(len(s)) {
		return emptyStr, nil
	}
	if s[lo]&0xC0 == 0x80 {
		return missing, mongoerr.New(28656, "%s:  Invalid range, starting index is a UTF-8 continuation byte.", name)
	}
	s = s[lo:]
	if n < 0 || n >= int64(len(s)) { // a negative length means the rest
		return env.Str(s), nil
	}
	if s[n]&0xC0 == 0x80 {
		return missing, mongoerr.New(28657, "%s:  Invalid range, ending index is in the middle of a UTF-8 character.", name)
	}
	return env.Str(s[:n]), nil
}

func evalSubstrCP(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	s, err := coerceString(args[0])
	if err != nil {
		return missing, err
	}
	if !args[1].IsNumber() {
		return missing, mongoerr.New(34450, "$substrCP: starting index must be a numeric type (is BSON type %s)", args[1].Type)
	}
	lo, ok := asInt32(args[1])
	if !ok {
		return missing, mongoerr.New(34451, "$substrCP: starting index cannot be represented as a 32-bit integral value: %s", ValueText(args[1]))
	}
	if !args[2].IsNumber() {
		return missing, mongoerr.New(34452, "$substrCP: length must be a numeric type (is BSON type %s)", args[2].Type)
	}
	n, ok := asInt32(args[2])
	if !ok {
		return missing, mongoerr.New(34453, "$substrCP: length cannot be represented as a 32-bit integral value: %s", ValueText(args[2]))
	}
	if n < 0 {
		return missing, mongoerr.New(34454, "$substrCP: length must be a nonnegative integer.")
	}
	if lo < 0 {
		return missing, mongoerr.New(34455, "$substrCP: the starting index must be nonnegative integer.")
	}
	from := offsetCP(s, lo)
	to := offsetCP(s[from:], n)
	return env.Str(s[from : from+to]), nil
}

// offsetCP returns where the n-th code point of s begins, at most len(s).
func offsetCP(s string, n int) int {
	for i := 0; i < len(s); i++ {
		if s[i]&0xC0 == 0x80 {
			continue
		}
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

func evalIndexOfBytes(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	return indexOfString(env, c, args, 40091, func(s string, n int) int { return min(n, len(s)) }, func(s string) int { return len(s) })
}

func evalIndexOfCP(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	return indexOfString(env, c, args, 40093, offsetCP, countCP)
}

// indexOfString searches in units of offset (unit to byte) and count (bytes to units).
func indexOfString(env *Env, c *call, args []bson.Value, code mongoerr.Code,
	offset func(string, int) int, count func(string) int) (bson.Value, error) {
	if args[0].IsNullish() {
		return null, nil
	}
	for i, nth := range []string{"first", "second"} {
		if args[i].Type != bson.TypeString {
			return missing, mongoerr.New(code+mongoerr.Code(i), "%s requires a string as the %s argument, found: %s", c.op.Name, nth, args[i].Type)
		}
	}
	s, sub := args[0].Str(), args[1].Str()
	from, to, err := indexRange(c, args[2:], count(s))
	if err != nil {
		return missing, err
	}
	if from > to || from > count(s) {
		return env.Int32(-1), nil
	}
	begin, end := offset(s, from), offset(s, to)
	i := strings.Index(s[begin:end], sub)
	if i < 0 {
		return env.Int32(-1), nil
	}
	return env.Int32(int32(from + count(s[begin:begin+i]))), nil
}

// indexRange checks the optional start and end of a search; end is at most length.
func indexRange(c *call, args []bson.Value, length int) (from, to int, err error) {
	to = length
	for i, what := range []string{"starting", "ending"} {
		if i >= len(args) {
			break
		}
		n, ok := asInt32(args[i])
		if !ok {
			return 0, 0, mongoerr.New(40096, "%s requires an integral %s index, found a value of type: %s, with value: \"%s\"",
				c.op.Name, what, args[i].Type, ValueText(args[i]))
		}
		if n < 0 {
			return 0, 0, mongoerr.New(40097, "%s requires a nonnegative %s index, found: %d", c.op.Name, what, n)
		}
		if i == 0 {
			from = n
		} else {
			to = min(n, length)
		}
	}
	return from, to, nil
}
