package expr

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// coerceString turns a value into text as $toLower, $substr and their like do: null is
// empty.
func coerceString(v bson.Value) (string, error) {
	switch v.Type {
	case bson.TypeMissing, bson.TypeNull, bson.TypeUndefined:
		return "", nil
	case bson.TypeString, bson.TypeSymbol, bson.TypeCode:
		return v.Str(), nil
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDecimal128:
		return ValueText(v), nil
	case bson.TypeDouble:
		return FormatG(v.Double()), nil
	case bson.TypeDate:
		return isoDate(v.Date())
	case bson.TypeTimestamp:
		return timestampString(v.Timestamp()), nil
	}
	return "", mongoerr.New(16007, "can't convert from BSON type %s to String", v.Type)
}

func evalConcat(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	n := 0
	for _, v := range args {
		if v.IsNullish() {
			return null, nil
		}
		if v.Type != bson.TypeString {
			return missing, mongoerr.New(16702, "$concat only supports strings, not %s", v.Type)
		}
		n += len(v.Data) - 5
	}
	out := env.newStr(n)
	p := 4
	for _, v := range args {
		p += copy(out.Data[p:], v.StrBytes())
	}
	return out, nil
}

// newStr makes a string of n bytes to be filled in behind the first four.
func (env *Env) newStr(n int) bson.Value {
	d := env.alloc(n + 5)
	n++
	d[0], d[1], d[2], d[3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
	d[len(d)-1] = 0
	return bson.Value{Type: bson.TypeString, Data: d}
}

func evalToLower(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	return mapASCII(env, args[0], 'A', 'Z', 'a'-'A')
}

func evalToUpper(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	return mapASCII(env, args[0], 'a', 'z', -('a' - 'A'))
}

// mapASCII shifts the letters from lo to hi; MongoDB leaves all but ASCII as it is.
func mapASCII(env *Env, v bson.Value, lo, hi byte, by int) (bson.Value, error) {
	s, err := coerceString(v)
	if err != nil {
		return missing, err
	}
	out := env.newStr(len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= lo && c <= hi {
			c = byte(int(c) + by)
		}
		out.Data[4+i] = c
	}
	return out, nil
}

func evalStrcasecmp(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	a, err := coerceString(args[0])
	if err != nil {
		return missing, err
	}
	b, err := coerceString(args[1])
	if err != nil {
		return missing, err
	}
	return env.Int32(int32(strings.Compare(upperASCII(a), upperASCII(b)))), nil
}

func upperASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - ('a' - 'A')
		}
		return r
	}, s)
}

func evalStrLenBytes(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	if args[0].Type != bson.TypeString {
		return missing, mongoerr.New(34473, "%s requires a string argument, found: %s", c.op.Name, args[0].Type)
	}
	return env.Int32(int32(len(args[0].StrBytes()))), nil
}

func evalStrLenCP(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	if args[0].Type != bson.TypeString {
		return missing, mongoerr.New(34471, "%s requires a string argument, found: %s", c.op.Name, args[0].Type)
	}
	return env.Int32(int32(countCP(args[0].Str()))), nil
}

// countCP counts code points: all bytes but continuations.
func countCP(s string) int {
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i]&0xC0 != 0x80 {
			n++
		}
	}
	return n
}

func evalSplit(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	s, sep := args[0], args[1]
	if s.IsNullish() || sep.IsNullish() {
		return null, nil
	}
	if s.Type != bson.TypeString {
		return missing, mongoerr.New(40085, "$split requires an expression that evaluates to a string as a first argument, found: %s", s.Type)
	}
	if sep.Type != bson.TypeString {
		return missing, mongoerr.New(40086, "$split requires an expression that evaluates to a string as a second argument, found: %s", sep.Type)
	}
	if sep.Str() == "" {
		return missing, mongoerr.New(40087, "$split requires a non-empty separator")
	}
	base := len(env.stack)
	for part := range strings.SplitSeq(s.Str(), sep.Str()) {
		env.stack = append(env.stack, env.Str(part))
	}
	v := env.Array(env.stack[base:])
	env.stack = env.stack[:base]
	return v, nil
}

var trimSpec = namedSpec{
	names: []string{"input", "chars"}, required: 1,
	notObject: func(op *Op, v bson.Value) error {
		return mongoerr.New(50696, "%s only supports an object as an argument, found %s", op.Name, v.Type)
	},
	unknown: func(op *Op, k string) error {
		return mongoerr.New(50694, "%s found an unknown argument: %s", op.Name, k)
	},
	absent: func(op *Op, _ int, _ string) error {
		return mongoerr.New(50695, "%s requires an 'input' field", op.Name)
	},
	eval: evalTrim,
}

// trimSpace is what $trim takes off when no characters are given.
const trimSpace = "\x00 \t\n\v\f\r\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"

func evalTrim(env *Env, n *named, args []bson.Value) (bson.Value, error) {
	in, chars := args[0], args[1]
	if in.IsNullish() {
		return null, nil
	}
	if in.Type != bson.TypeString {
		return missing, mongoerr.New(50699, "%s requires its input to be a string, got %s (of type %s) instead.",
			n.op.Name, ValueText(in), in.Type)
	}
	cut := trimSpace
	if n.given(1) {
		if chars.IsNullish() {
			return null, nil
		}
		if chars.Type != bson.TypeString {
			return missing, mongoerr.New(50700, "%s requires 'chars' to be a string, got %s (of type %s) instead.",
				n.op.Name, ValueText(chars), chars.Type)
		}
		cut = chars.Str()
	}
	s := in.Str()
	if n.op.Name != "$rtrim" {
		s = strings.TrimLeft(s, cut)
	}
	if n.op.Name != "$ltrim" {
		s = strings.TrimRight(s, cut)
	}
	return env.Str(s), nil
}

var replaceSpec = namedSpec{
	names: []string{"input", "find", "replacement"}, required: 3,
	notObject: func(op *Op, v bson.Value) error {
		return mongoerr.New(51751, "%s requires an object as an argument, found: %s", op.Name, v.Type)
	},
	unknown: func(op *Op, k string) error {
		return mongoerr.New(51750, "%s found an unknown argument: %s", op.Name, k)
	},
	absent: func(op *Op, i int, k string) error {
		return mongoerr.New([]mongoerr.Code{51749, 51748, 51747}[i], "%s requires '%s' to be specified", op.Name, k)
	},
	eval: evalReplace,
}

func evalReplace(env *Env, n *named, args []bson.Value) (bson.Value, error) {
	isNull := false
	for i, v := range args {
		if v.IsNullish() {
			isNull = true
		} else if v.Type != bson.TypeString {
			return missing, mongoerr.New(mongoerr.Code(51746-i), "%s requires that '%s' be a string, found: %s",
				n.op.Name, n.spec.names[i], ValueText(v))
		}
	}
	if isNull {
		return null, nil
	}
	times := -1
	if n.op.Name == "$replaceOne" {
		times = 1
	}
	return env.Str(strings.Replace(args[0].Str(), args[1].Str(), args[2].Str(), times)), nil
}
