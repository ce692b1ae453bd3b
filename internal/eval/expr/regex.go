package expr

import (
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// regexTimeout bounds one match of a pattern that needs backtracking.
const regexTimeout = 5 * time.Second

// program is a compiled regular expression: of the linear engine where the pattern
// allows it, else of the backtracking one.
type program struct {
	linear *regexp.Regexp
	back   *regexp2.Regexp
}

func compileRegex(pattern, options string) (*program, error) {
	flags := ""
	for _, o := range options {
		if o != 'u' {
			flags += string(o)
		}
	}
	if !strings.Contains(flags, "x") {
		p := pattern
		if flags != "" {
			p = "(?" + flags + ")" + pattern
		}
		if re, err := regexp.Compile(p); err == nil {
			return &program{linear: re}, nil
		}
	}
	var o regexp2.RegexOptions
	for _, f := range flags {
		switch f {
		case 'i':
			o |= regexp2.IgnoreCase
		case 'm':
			o |= regexp2.Multiline
		case 's':
			o |= regexp2.Singleline
		case 'x':
			o |= regexp2.IgnorePatternWhitespace
		}
	}
	re, err := regexp2.Compile(pattern, o)
	if err != nil {
		return nil, err
	}
	re.MatchTimeout = regexTimeout
	return &program{back: re}, nil
}

// match finds the first match at or behind the byte offset from: pairs of byte offsets
// of the match and its groups, -1 for groups that took no part; nil for no match.
func (p *program) match(s string, from int) ([]int, error) {
	if p.linear != nil {
		// Matching the whole string keeps ^ and \b right behind from.
		for _, m := range p.linear.FindAllStringSubmatchIndex(s, -1) {
			if m[0] >= from {
				return m, nil
			}
		}
		return nil, nil
	}
	m, err := p.back.FindStringMatchStartingAt(s, utf8.RuneCountInString(s[:from]))
	if err != nil || m == nil {
		return nil, err
	}
	var out []int
	for _, g := range m.Groups() {
		if len(g.Captures) == 0 {
			out = append(out, -1, -1)
			continue
		}
		b := offsetCP(s, g.Index)
		out = append(out, b, b+len(g.String()))
	}
	return out, nil
}

func (p *program) all(s string) ([][]int, error) {
	if p.linear != nil {
		return p.linear.FindAllStringSubmatchIndex(s, -1), nil
	}
	var out [][]int
	for from := 0; from <= len(s); {
		m, err := p.match(s, from)
		if err != nil || m == nil {
			return out, err
		}
		out = append(out, m)
		if from = m[1]; m[0] == m[1] {
			_, n := utf8.DecodeRuneInString(s[from:])
			from += max(n, 1)
		}
	}
	return out, nil
}

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
func regexOf(op string, pattern, options bson.Value) (*program, error) {
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
		if !strings.ContainsRune("imsxu", f) {
			return nil, mongoerr.New(51108, "%s invalid flag in regex options: %s", op, flags)
		}
	}
	p, err := compileRegex(text, flags)
	if err != nil {
		return nil, mongoerr.New(51111, "Invalid Regex in %s: %s", op, err)
	}
	return p, nil
}

func evalRegex(env *Env, n *named, args []bson.Value) (bson.Value, error) {
	if !args[0].IsNullish() && args[0].Type != bson.TypeString {
		return missing, mongoerr.New(51104, "%s needs 'input' to be of type string", n.op.Name)
	}
	prog, _ := n.data.(*program)
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
		m, err := prog.match(s, 0)
		return boolValue(m != nil), regexError(n, err)
	case "$regexFind":
		if none {
			return null, nil
		}
		m, err := prog.match(s, 0)
		if err != nil || m == nil {
			return null, regexError(n, err)
		}
		return matchDoc(env, s, m), nil
	}
	if none {
		return emptyArray, nil
	}
	ms, err := prog.all(s)
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
