package entry

import (
	"fmt"
	"regexp"
	"strings"
)

// bucketsPrefix is how the collection behind a time-series collection is called.
const bucketsPrefix = "system.buckets."

// Pattern is a namespace pattern of nsInclude and nsExclude: * stands for any text, a
// backslash takes the meaning from a * or a backslash.
type Pattern struct {
	src string
	re  *regexp.Regexp
}

// ParsePattern reads a pattern.
func ParsePattern(s string) (Pattern, error) {
	if strings.Contains(s, "$") {
		return Pattern{}, fmt.Errorf("the namespace pattern %q has a '$', which only renames may have", s)
	}
	p, err := parseTokens(s, true)
	if err != nil {
		return Pattern{}, err
	}
	re, _ := p.regexp()
	return Pattern{s, re}, nil
}

// ExactPattern matches one namespace, whatever characters it has.
func ExactPattern(ns string) Pattern {
	return Pattern{ns, regexp.MustCompile("(?s)^" + regexp.QuoteMeta(ns) + "$")}
}

// Match reports whether the whole of ns matches.
func (p Pattern) Match(ns string) bool { return p.re.MatchString(ns) }

// String is the pattern as it was given.
func (p Pattern) String() string { return p.src }

// Rename is one pair of nsFrom and nsTo. Either both have the same number of *, which
// stand for the same texts in order, or From has $name$ variables, each once, that To may
// use in any order; then a * stands for itself.
type Rename struct {
	From, To string

	from, back *regexp.Regexp // back is nil if To does not tell what From was
	to, backTo tokens
}

// ParseRename reads a pair.
func ParseRename(from, to string) (Rename, error) {
	r := Rename{From: from, To: to}
	wild := !strings.Contains(from, "$")
	f, err := parseTokens(from, wild)
	if err != nil {
		return r, err
	}
	if r.to, err = parseTokens(to, wild); err != nil {
		return r, err
	}
	if wild && f.vars() != r.to.vars() {
		return r, fmt.Errorf("the rename from %q to %q has different numbers of asterisks", from, to)
	}
	seen := map[string]bool{}
	for _, t := range f {
		if t.variable {
			if seen[t.text] {
				return r, fmt.Errorf("the rename from %q uses the variable %q more than once", from, t.text)
			}
			seen[t.text] = true
		}
	}
	used := map[string]bool{}
	for _, t := range r.to {
		if t.variable {
			if !seen[t.text] {
				return r, fmt.Errorf("the rename to %q uses the variable %q, which %q does not have", to, t.text, from)
			}
			used[t.text] = true
		}
	}
	r.from, _ = f.regexp()
	if re, once := r.to.regexp(); once && len(used) == len(seen) {
		r.back, r.backTo = re, f
	}
	return r, nil
}

// ExactRename renames one namespace, whatever characters it has.
func ExactRename(from, to string) Rename {
	lit := func(s string) tokens { return tokens{{text: s}} }
	f, t := lit(from), lit(to)
	fr, _ := f.regexp()
	tr, _ := t.regexp()
	return Rename{From: from, To: to, from: fr, back: tr, to: t, backTo: f}
}

// apply renames ns if it matches.
func (r *Rename) apply(ns string) (string, bool) { return substitute(r.from, r.to, ns) }

// source is the namespace that apply made ns of.
func (r *Rename) source(ns string) (string, bool) {
	if r.back == nil {
		return "", false
	}
	return substitute(r.back, r.backTo, ns)
}

func substitute(re *regexp.Regexp, to tokens, ns string) (string, bool) {
	m := re.FindStringSubmatch(ns)
	if m == nil {
		return "", false
	}
	var b strings.Builder
	for _, t := range to {
		if !t.variable {
			b.WriteString(t.text)
			continue
		}
		b.WriteString(m[re.SubexpIndex(group(t.text))])
	}
	return b.String(), true
}

// token is a piece of a pattern: text, or a variable of that name.
type token struct {
	text     string
	variable bool
}

type tokens []token

// group is the name of a variable's group in a regular expression; any name may be used
// for a variable, so that it is spelt in hex.
func group(name string) string { return fmt.Sprintf("v%x", name) }

func (ts tokens) vars() (n int) {
	for _, t := range ts {
		if t.variable {
			n++
		}
	}
	return n
}

// regexp matches the whole of a text against ts; once is false if a variable is there
// more than once, of which only the first names its group.
func (ts tokens) regexp() (re *regexp.Regexp, once bool) {
	var b strings.Builder
	b.WriteString("(?s)^")
	seen := map[string]bool{}
	once = true
	for _, t := range ts {
		switch {
		case !t.variable:
			b.WriteString(regexp.QuoteMeta(t.text))
		case seen[t.text]:
			once = false
			b.WriteString("(?:.*?)")
		default:
			seen[t.text] = true
			b.WriteString("(?P<" + group(t.text) + ">.*?)")
		}
	}
	b.WriteString("$")
	return regexp.MustCompile(b.String()), once
}

// parseTokens cuts a pattern: with wild, each * is a variable with its number as name;
// otherwise $name$ are variables.
func parseTokens(s string, wild bool) (tokens, error) {
	var ts tokens
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			ts = append(ts, token{text: lit.String()})
			lit.Reset()
		}
	}
	n := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case wild && c == '\\' && i+1 < len(s) && (s[i+1] == '*' || s[i+1] == '\\'):
			i++
			lit.WriteByte(s[i])
		case wild && c == '\\':
			// as the original: a lone backslash is dropped
		case wild && c == '*':
			flush()
			n++
			ts = append(ts, token{text: fmt.Sprint(n), variable: true})
		case !wild && c == '$':
			end := strings.IndexByte(s[i+1:], '$')
			if end < 0 {
				return nil, fmt.Errorf("the namespace pattern %q has an odd number of '$'", s)
			}
			flush()
			ts = append(ts, token{text: s[i+1 : i+1+end], variable: true})
			i += end + 1
		case c == '$':
			return nil, fmt.Errorf("the namespace pattern %q has a '$' where the one to rename from has none", s)
		default:
			lit.WriteByte(c)
		}
	}
	flush()
	return ts, nil
}
