// Package regex compiles and runs MongoDB's regular expressions for filters and for
// aggregation expressions.
//
// It owns the choice of the engine: plain comparison for literals, the standard library's
// linear engine where its syntax and meaning suffice or can be made to, else a backtracking
// one whose time is bounded. It promises PCRE's meaning of `$`, \s and the options "imsxu".
// It must not know which operator asks, nor its errors: callers word them.
package regex

import (
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// timeout bounds one match of a backtracking pattern.
const timeout = 2 * time.Second

// Options are the letters that options may consist of; "u" says what holds anyway.
const Options = "imsxu"

// Program is a compiled pattern; it may be used by many goroutines. One of its forms is set.
type Program struct {
	re     *regexp.Regexp
	dollar bool // re's last group is the newline before the end, which is no part of the match
	slow   *regexp2.Regexp
	prefix []byte
	simple bool // anchored literal prefix
	sub    []byte
	plain  bool // literal substring
}

// Compile compiles a pattern. It does not check that options are of Options and pattern
// holds no zero byte.
func Compile(pattern, options string) (*Program, error) {
	p := &Program{}
	if strings.Trim(options, "u") == "" && p.literal(pattern) {
		return p, nil
	}
	if src, dollar, ok := stdlibPattern(pattern, options); ok {
		if re, err := regexp.Compile(src); err == nil {
			p.re, p.dollar = re, dollar
			return p, nil
		}
	}
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
		return nil, err
	}
	re.MatchTimeout = timeout
	p.slow = re
	return p, nil
}

// stdlibPattern rewrites a PCRE pattern so that the standard library's engine matches
// the same strings, if that is plain: `$` also stands before a final newline, \s
// includes the vertical tab. Look-around, back references and the like are left to the
// other engine, as they do not compile here.
func stdlibPattern(pattern, options string) (src string, dollar, ok bool) {
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
				return "", false, false
			}
			switch e := pattern[i]; {
			case e == 's' && class:
				b.WriteString(`\s\v`)
			case e == 's':
				b.WriteString(`[\s\v]`)
			case strings.IndexByte(`.\+*?()[]{}^$|/-dDwWbBnrtf`, e) < 0 || (class && (e == 'b' || e == 'B')):
				return "", false, false
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
				return "", false, false // flags may change what `$` means
			}
		case c == '$' && !multiline:
			if i != len(pattern)-1 {
				return "", false, false
			}
			dollar = true
			b.WriteString(`(\n?)\z`) // a group, so that Find can leave the newline out
			continue
		}
		b.WriteByte(c)
	}
	return b.String(), dollar, !strings.Contains(options, "x")
}

// keepFlags keeps the options that the standard library has too.
func keepFlags(r rune) rune {
	if strings.ContainsRune("ims", r) {
		return r
	}
	return -1
}

// literal recognises patterns without any special character, optionally behind ^.
func (p *Program) literal(pattern string) bool {
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

// MatchString reports whether s holds a match. An error means that the search took too long.
func (p *Program) MatchString(s string) (bool, error) {
	switch {
	case p.simple:
		return strings.HasPrefix(s, string(p.prefix)), nil
	case p.plain:
		return strings.Contains(s, string(p.sub)), nil
	case p.re != nil:
		return p.re.MatchString(s), nil
	}
	return p.slow.MatchString(s)
}

// Find returns the first match: pairs of byte offsets of the match and its groups, -1
// for groups that took no part; nil for no match.
func (p *Program) Find(s string) ([]int, error) {
	switch {
	case p.simple:
		if strings.HasPrefix(s, string(p.prefix)) {
			return []int{0, len(p.prefix)}, nil
		}
		return nil, nil
	case p.plain:
		if i := strings.Index(s, string(p.sub)); i >= 0 {
			return []int{i, i + len(p.sub)}, nil
		}
		return nil, nil
	case p.re != nil:
		return p.trim(p.re.FindStringSubmatchIndex(s)), nil
	}
	m, err := p.slow.FindStringMatch(s)
	if err != nil || m == nil {
		return nil, err
	}
	return (&offsets{s: s}).groups(m), nil
}

// All returns all matches that do not overlap, in order, each as Find does.
func (p *Program) All(s string) ([][]int, error) {
	switch {
	case p.simple:
		m, err := p.Find(s)
		if m == nil {
			return nil, err
		}
		return [][]int{m}, nil
	case p.plain && len(p.sub) > 0:
		var out [][]int
		for from := 0; ; {
			i := strings.Index(s[from:], string(p.sub))
			if i < 0 {
				return out, nil
			}
			out = append(out, []int{from + i, from + i + len(p.sub)})
			from += i + len(p.sub)
		}
	case p.plain:
		var out [][]int
		for i := range s {
			out = append(out, []int{i, i})
		}
		return append(out, []int{len(s), len(s)}), nil
	case p.re != nil && !p.dollar:
		return p.re.FindAllStringSubmatchIndex(s, -1), nil
	case p.re != nil:
		var out [][]int
		for _, m := range p.re.FindAllStringSubmatchIndex(s, -1) {
			out = append(out, p.trim(m))
		}
		return out, nil
	}
	var out [][]int
	at := &offsets{s: s}
	m, err := p.slow.FindStringMatch(s)
	for err == nil && m != nil {
		out = append(out, at.groups(m))
		m, err = p.slow.FindNextMatch(m)
	}
	return out, err
}

// trim takes the newline that stands for `$` off a match.
func (p *Program) trim(m []int) []int {
	if m == nil || !p.dollar {
		return m
	}
	n := len(m) - 2
	if m[n] >= 0 {
		m[1] = m[n]
	}
	return m[:n]
}

// offsets turns the code point offsets of the backtracking engine into byte offsets. It
// goes on from the last one asked for, as matches come in order.
type offsets struct {
	s          string
	runes, pos int
}

func (o *offsets) at(rune int) int {
	if rune < o.runes {
		o.runes, o.pos = 0, 0
	}
	for ; o.runes < rune && o.pos < len(o.s); o.runes++ {
		_, n := utf8.DecodeRuneInString(o.s[o.pos:])
		o.pos += n
	}
	return o.pos
}

func (o *offsets) groups(m *regexp2.Match) []int {
	var out []int
	for _, g := range m.Groups() {
		if len(g.Captures) == 0 {
			out = append(out, -1, -1)
			continue
		}
		b := o.at(g.Index)
		out = append(out, b, o.at(g.Index+g.Length))
	}
	return out
}

// Message words a syntax error of Compile as PCRE2 does where the cause is plain.
func Message(err error) string {
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
