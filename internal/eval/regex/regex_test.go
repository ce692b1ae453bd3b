package regex

import (
	"fmt"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	for _, c := range []struct{ pattern, options, s, want string }{
		{"abc", "", "xabc", "[[1 4]]"},
		{"abc", "u", "abcabc", "[[0 3] [3 6]]"},
		{"^abc", "", "abcabc", "[[0 3]]"},
		{"^b", "", "ab", "[]"},
		{"", "", "aé", "[[0 0] [1 1] [3 3]]"},
		{"a(b)?", "", "aab", "[[0 1 -1 -1] [1 3 2 3]]"},
		{"c$", "", "abc", "[[2 3]]"},
		{"c$", "", "abc\n", "[[2 3]]"},   // `$` stands before a final newline, which is not matched
		{"c\n$", "", "abc\n", "[[2 4]]"}, // unless the pattern itself does
		{"(b)|(c)$", "", "bc\n", "[[0 1 0 1 -1 -1] [1 2 -1 -1 1 2]]"},
		{"c$", "", "c\n\n", "[]"},
		{"^b$", "m", "a\nb\nc", "[[2 3]]"},
		{`\s`, "", "\v", "[[0 1]]"},
		{`(\w)\1`, "", "éabba", "[[3 5 3 4]]"},
		{"(?=b)", "", "éb", "[[2 2]]"},
		{"(?<=é)b", "", "éébéb", "[[4 5] [7 8]]"},
		{"A # comment", "ix", "ba", "[[1 2]]"},
	} {
		p, err := Compile(c.pattern, c.options)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		all, err := p.All(c.s)
		if err != nil || fmt.Sprint(all) != c.want {
			t.Errorf("All of %q %q in %q: %v, %v, want %s", c.pattern, c.options, c.s, all, err, c.want)
		}
		first, err := p.Find(c.s)
		if err != nil || (first == nil) != (len(all) == 0) || (first != nil && fmt.Sprint(first) != fmt.Sprint(all[0])) {
			t.Errorf("Find of %q in %q: %v, %v, want the first of %v", c.pattern, c.s, first, err, all)
		}
		if ok, err := p.MatchString(c.s); err != nil || ok != (first != nil) {
			t.Errorf("MatchString of %q in %q: %v, %v", c.pattern, c.s, ok, err)
		}
	}
}

func TestSyntaxErrors(t *testing.T) {
	for pattern, want := range map[string]string{"(": "missing closing parenthesis", "[a": "missing terminating ]", "*": "quantifier does not follow", `a\`: `\ at end`} {
		if _, err := Compile(pattern, ""); err == nil || !strings.Contains(Message(err), want) {
			t.Errorf("%q: %v, want %s", pattern, err, want)
		}
	}
}
