package expr

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/regex"
	"github.com/cairndb/cairn/internal/mongoerr"
)

var regexSpec = namedSpec{
	names: []string{"input", "regex", "options"}, required: 2,
	notObject: func(op *Op, v bson.Value) error {
		return mongoerr.New(51103, "%s expects an object of named arguments but found: %s", op.Name, v.Type)
	},
	unknown: func(op *Op, k string) error {
		return mongoerr.New(31024, "%s found an unknown argument: %s", op.Name, k)
	},
	absent: func(op *Op, i int, k string) error {
		return mongoerr.New(mongoerr.Code(31022+i), "%s requires '%s' parameter", op.Name, k)
	},
	prepare: func(n *named) error {
		var pattern, options bson.Value
		for i, p := range []*bson.Value{&pattern, &options} {
			if e := n.args[1+i]; e != nil {
				v, ok := ConstantValue(e)
				if !ok {
					return nil
				}
				*p = v
			}
		}
		prog, err := regexOf(n.op.Name, pattern, options)
		if err == nil && prog != nil {
			n.data = prog
		}
		return err
	},
	eval: evalRegex,
}

// regexOf compiles the pattern operand; nil for a null pattern.
func regexOf(op string, pattern, options bson.Value) (*regex.Program, error) {
	if pattern.IsNullish() {
		return nil, nil
	}
	flags := ""
	if !options.IsNullish() {
		if options.Type != bson.TypeString {
			return nil, mongoerr.New(51106, "%s needs 'options' to be of type string", op)
		}
		flags = options.Str()
	}
	var text string
	switch pattern.Type {
	case bson.TypeString:
		text = pattern.Str()
	case bson.TypeRegex:
		r := pattern.Regex()
		if r.Options != "" && flags != "" {
			return nil, mongoerr.New(51107, "%s found regex option(s) specified in both 'regex' and 'option' fields", op)
		}
		text = r.Pattern
		if r.Options != "" {
			flags = r.Options
		}
	default:
		return nil, mongoerr.New(51105, "%s needs 'regex' to be of type string or regex", op)
	}
	if strings.IndexByte(text, 0) >= 0 {
		return nil, mongoerr.New(51109, "%s: regular expression cannot contain an embedded null byte", op)
	}
	for _, f := range flags {
		if !strings.ContainsRune(regex.Options, f) {
			return nil, mongoerr.New(51108, "%s invalid flag in regex options: %s", op, flags)
		}
	}
	p, err := regex.Compile(text, flags)
	if err != nil {
		return nil, mongoerr.New(51111, "Invalid Regex in %s: %s", op, regex.Message(err))
	}
	return p, nil
}

func evalRegex(env *Env, n *named, args []bson.Value) (bson.Value, error) {
	if !args[0].IsNullish() && args[0].Type != bson.TypeString {
		return missing, mongoerr.New(51104, "%s needs 'input' to be of type string", n.op.Name)
	}
	prog, _ := n.data.(*regex.Program)
	if prog == nil {
		var err error
		if prog, err = regexOf(n.op.Name, args[1], args[2]); err != nil {
			return missing, err
		}
	}
	none := args[0].IsNullish() || prog == nil
	s := args[0].Str()
	switch n.op.Name {
	case "$regexMatch":
		if none {
			return valueFalse, nil
		}
		ok, err := prog.MatchString(s)
		return boolValue(ok), regexError(n, err)
	case "$regexFind":
		if none {
			return null, nil
		}
		m, err := prog.Find(s)
		if err != nil || m == nil {
			return null, regexError(n, err)
		}
		return matchDoc(env, s, m), nil
	}
	if none {
		return emptyArray, nil
	}
	ms, err := prog.All(s)
	if err != nil {
		return missing, regexError(n, err)
	}
	base := len(env.stack)
	for _, m := range ms {
		env.stack = append(env.stack, matchDoc(env, s, m))
	}
	return env.popArray(base), nil
}

func regexError(n *named, err error) error {
	if err == nil {
		return nil
	}
	return mongoerr.New(51156, "Error occurred while executing the regular expression in %s. Result code: %s", n.op.Name, err)
}

func matchDoc(env *Env, s string, m []int) bson.Value {
	base := len(env.stack)
	for i := 2; i < len(m); i += 2 {
		v := null
		if m[i] >= 0 {
			v = env.Str(s[m[i]:m[i+1]])
		}
		env.stack = append(env.stack, v)
	}
	caps := env.popArray(base)
	return env.Doc([]Field{{"match", env.Str(s[m[0]:m[1]])}, {"idx", env.Int32(int32(countCP(s[:m[0]])))}, {"captures", caps}})
}
