package match

import (
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/dlclark/regexp2"
)

// regexTimeout bounds one match of a backtracking pattern.
const regexTimeout = 2 * time.Second

// Regex matches strings that fit a pattern, and the same regular expression stored as
// a value.
type Regex struct {
	Path             *Path
	Pattern, Options string

	prog program
}

// program is a compiled pattern: re where the standard library's syntax and meaning
// suffice, else slow; prefix instead of both for ^literal.
type program struct {
	re     *regexp.Regexp
	slow   *regexp2.Regexp
	prefix []byte
	simple bool // anchored literal prefix
	sub    []byte
	plain  bool // literal substring
}

func newRegex(path *Path, r bson.Regex) (*Regex, error) {
	// Clone: programs outlive the command's buffer, patterns are small.
	n := &Regex{Path: path, Pattern: strings.Clone(r.Pattern), Options: strings.Clone(r.Options)}
	p, err := CompileRegex(n.Pattern, n.Options)
	if err != nil {
		return nil, err
	}
	n.prog = p.program
	return n, nil
}

// CompiledRegex is a regular expression with MongoDB's syntax and options.
type CompiledRegex struct{ program }

// CompileRegex compiles a pattern with options out of "imsxu".
func CompileRegex(pattern, options string) (*CompiledRegex, error) {
	if strings.IndexByte(pattern, 0) >= 0 {
		return nil, badValue("Regular expression cannot contain an embedded null byte")
	}
	if strings.IndexByte(options, 0) >= 0 {
		return nil, badValue("Regular expression options string cannot contain an embedded null byte")
	}
	for _, c := range options {
		if !strings.ContainsRune("imsxu", c) {
			return nil, mongoerr.New(51108, "invalid flag in regex options: %c", c)
		}
	}
	c := &CompiledRegex{}
	if options == "" && c.literal(pattern) {
		return c, nil
	}
	if src, ok := stdlibPattern(pattern, options); ok {
		if re, err := regexp.Compile(src); err == nil {
			c.re = re
			return c, nil
		}
	}
	return c, c.compileSlow(pattern, options)
}

func (p *program) compileSlow(pattern, options string) error {
	opt := regexp2.None
	for _, f := range options {
		switch f {
		case 'i':
			opt |= regexp2.IgnoreCase
		case 'm':
			opt |= regexp2.Multiline
		case 's':
			opt |= regexp2.Singleline
		case 'x':
			opt |= regexp2.IgnorePatternWhitespace
		}
	}
	re, err := regexp2.Compile(pattern, opt)
	if err != nil {
		return mongoerr.New(51091, "Regular expression is invalid: %s", pcreMessage(err))
	}
	re.MatchTimeout = regexTimeout
	p.slow = re
	return nil
}

// stdlibPattern rewrites a PCRE pattern so that the standard library's engine matches
// the same strings, if that is plain: `$` also stands before a final newline, \s
// includes the vertical tab. Look-around, back references and the like are left to the
// other engine, as they do not compile here.
func stdlibPattern(pattern, options string) (string, bool) {
	var b strings.Builder
	if flags := strings.Map(keepFlags, options); flags != "" {
		b.WriteString("(?" + flags + ")")
	}
	multiline := strings.Contains(options, "m")
	class := false
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		switch {
		case c == '\\':
			if i++; i >= len(pattern) {
				return "", false
			}
			switch e := pattern[i]; {
			case e == 's' && class:
				b.WriteString(`\s\v`)
			case e == 's':
				b.WriteString(`[\s\v]`)
			case strings.IndexByte(`.\+*?()[]{}^$|/-dDwWbBnrtf`, e) < 0 || (class && (e == 'b' || e == 'B')):
				return "", false
			default:
				b.WriteByte('\\')
				b.WriteByte(e)
			}
			continue
		case class:
			class = c != ']'
		case c == '[':
			class = true
			// A bracket right behind the opening one is literal.
			for i+1 < len(pattern) && (pattern[i+1] == '^' || pattern[i+1] == ']') {
				b.WriteByte(c)
				i++
				if c = pattern[i]; c == ']' {
					break
				}
			}
		case c == '(' && i+1 < len(pattern) && pattern[i+1] == '?' && strings.Contains(pattern, "$"):
			if !strings.HasPrefix(pattern[i:], "(?:") {
				return "", false // flags may change what `$` means
			}
		case c == '$' && !multiline:
			if i != len(pattern)-1 {
				return "", false
			}
			b.WriteString(`(?:\n?\z)`)
			continue
		}
		b.WriteByte(c)
	}
	return b.String(), !strings.Contains(options, "x")
}

// keepFlags keeps the options that the standard library has too.
func keepFlags(r rune) rune {
	if strings.ContainsRune("ims", r) {
		return r
	}
	return -1
}

// literal recognises patterns without any special character, optionally behind ^.
func (p *program) literal(pattern string) bool {
	anchored := strings.HasPrefix(pattern, "^")
	body := strings.TrimPrefix(pattern, "^")
	if strings.ContainsAny(body, `\.+*?()[]{}^$|`) {
		return false
	}
	if anchored {
		p.prefix, p.simple = []byte(body), true
	} else {
		p.sub, p.plain = []byte(body), true
	}
	return true
}

// MatchString reports whether s holds a match.
func (p *program) MatchString(s string) (bool, error) {
	switch {
	case p.simple:
		return strings.HasPrefix(s, string(p.prefix)), nil
	case p.plain:
		return strings.Contains(s, string(p.sub)), nil
	case p.re != nil:
		return p.re.MatchString(s), nil
	}
	ok, err := p.slow.MatchString(s)
	if err != nil {
		return false, mongoerr.New(51156, "Error occurred while executing regular expression. Result code: match limit exceeded")
	}
	return ok, nil
}

// pcreMessage words a syntax error as PCRE2 does where the cause is plain.
func pcreMessage(err error) string {
	msg := err.Error()
	for _, m := range [][2]string{
		{"missing closing )", "missing closing parenthesis"},
		{"unexpected )", "unmatched closing parenthesis"},
		{"unterminated [] set", "missing terminating ] for character class"},
		{"missing argument to repetition", "quantifier does not follow a repeatable item"},
		{"nested repetition", "quantifier does not follow a repeatable item"},
		{`illegal \ at end`, `\ at end of pattern`},
		{"reverse order", "range out of order in character class"},
	} {
		if strings.Contains(msg, m[0]) {
			return m[1]
		}
	}
	return msg
}

func parseRegex(_ *parser, _ string, path *Path, arg bson.Value, all bson.Raw) (Node, error) {
	opts := all.Get("$options")
	var r bson.Regex
	switch arg.Type {
	case bson.TypeString:
		r.Pattern = arg.Str()
	case bson.TypeRegex:
		r = arg.Regex()
	default:
		return nil, badValue("$regex has to be a string")
	}
	if !opts.IsMissing() {
		if opts.Type != bson.TypeString {
			return nil, badValue("$options has to be a string")
		}
		if r.Options != "" {
			return nil, mongoerr.New(51075, "options set in both $regex and $options")
		}
		r.Options = opts.Str()
	}
	return newRegex(path, r)
}

func parseOptions(_ *parser, _ string, _ *Path, _ bson.Value, all bson.Raw) (Node, error) {
	if all.Has("$regex") {
		return nil, nil // read together with $regex
	}
	return nil, badValue("$options needs a $regex")
}

func typeMismatch(format string, args ...any) error {
	return mongoerr.New(mongoerr.TypeMismatch, format, args...)
}

// message returns the text of an error without its code name.
func message(err error) string {
	var e *mongoerr.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}
