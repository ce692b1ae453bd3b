package golden

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

// absent stands for a value that is not there.
const absent = "absent"

// diff is one place at which two documents differ.
type diff struct {
	path       string
	want, have string // canonical extended JSON, or absent
}

// compare returns where have differs from want: values at their dotted paths, types included,
// and "path order" where the fields that both have stand in another order.
func compare(path string, want, have bson.Raw) (out []diff) {
	join := func(key string) string {
		if path == "" {
			return key
		}
		return path + "." + key
	}
	var order, haveOrder []string
	for key, w := range want.Elems() {
		h := have.Get(key)
		if h.IsMissing() {
			out = append(out, diff{join(key), text(w), absent})
			continue
		}
		order = append(order, key)
		if w.Type == h.Type && (w.Type == bson.TypeDocument || w.Type == bson.TypeArray) {
			out = append(out, compare(join(key), bson.Raw(w.Data), bson.Raw(h.Data))...)
		} else if a, b := text(w), text(h); a != b {
			out = append(out, diff{join(key), a, b})
		}
	}
	for key, h := range have.Elems() {
		if want.Has(key) {
			haveOrder = append(haveOrder, key)
		} else {
			out = append(out, diff{join(key), absent, text(h)})
		}
	}
	if !slices.Equal(order, haveOrder) {
		out = append(out, diff{strings.TrimSpace(path + " order"), strings.Join(order, " "), strings.Join(haveOrder, " ")})
	}
	return out
}

func text(v bson.Value) string {
	b, err := extjson.MarshalValue(v, extjson.Canonical)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// known is one line of a table of differences: `lines | path | what Cairn has | reason`.
// Lines are numbers, ranges and commas, or * for all. In path and value a * stands for anything.
type known struct {
	lines        string
	path, have   string
	reason       string
	at           int // line of the table
	used         int
	first, final []int
}

func readDifferences(t *testing.T, file string) []*known {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []*known
	s := bufio.NewScanner(f)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		parts := strings.Split(line, " | ")
		if len(parts) != 4 || parts[3] == "" {
			t.Fatalf("%s:%d: not `lines | path | value | reason`", file, n)
		}
		k := &known{lines: parts[0], path: parts[1], have: parts[2], reason: parts[3], at: n}
		if err := k.parseLines(); err != nil {
			t.Fatalf("%s:%d: %v", file, n, err)
		}
		out = append(out, k)
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func (k *known) parseLines() error {
	if k.lines == "*" {
		return nil
	}
	for _, part := range strings.Split(k.lines, ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		if !isRange {
			hi = lo
		}
		a, err := strconv.Atoi(lo)
		if err != nil {
			return err
		}
		b, err := strconv.Atoi(hi)
		if err != nil {
			return err
		}
		k.first, k.final = append(k.first, a), append(k.final, b)
	}
	return nil
}

func (k *known) covers(line int, d diff) bool {
	in := k.lines == "*"
	for i := range k.first {
		in = in || (line >= k.first[i] && line <= k.final[i])
	}
	return in && glob(k.path, d.path) && glob(k.have, d.have)
}

// glob matches s against a pattern in which * stands for any text.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	if !strings.HasPrefix(s, parts[0]) {
		return false
	}
	s = s[len(parts[0]):]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}

// judge reports the differences that no row covers.
func judge(t *testing.T, table []*known, line int, what fmt.Stringer, diffs []diff) {
	t.Helper()
	var bad []string
	for _, d := range diffs {
		i := slices.IndexFunc(table, func(k *known) bool { return k.covers(line, d) })
		if i < 0 {
			bad = append(bad, fmt.Sprintf("  %s\n    want %s\n    have %s", d.path, d.want, d.have))
			continue
		}
		table[i].used++
	}
	if len(bad) > 0 {
		t.Errorf("line %d: %s\n%s", line, what, strings.Join(bad, "\n"))
	}
}

// unused reports the rows that covered nothing: a difference that is gone leaves the table. Times
// may be the same by chance.
func unused(t *testing.T, file string, table []*known) {
	t.Helper()
	for _, k := range table {
		if k.used == 0 && k.reason != "time" {
			t.Errorf("%s:%d covers nothing any more: %s | %s", file, k.at, k.lines, k.path)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"a.b", "a.b", true}, {"a.b", "a.bc", false}, {"*", "", true}, {"a*", "ab", true}, {"a*c", "abc", true}, {"a*c", "abd", false},
		{"*.ns", "x.ns", true}, {"a*b*c", "a1b2c", true}, {"a*b*c", "a1c", false},
	} {
		if got := glob(c.pattern, c.s); got != c.want {
			t.Errorf("glob(%q, %q) = %v", c.pattern, c.s, got)
		}
	}
}

func TestCompare(t *testing.T) {
	want := bson.D("a", 1, "b", bson.D("c", "x", "d", int64(1)), "e", 2)
	have := bson.D("b", bson.D("c", "x", "d", 1), "a", 1, "f", true)
	var got []string
	for _, d := range compare("", want, have) {
		got = append(got, d.path)
	}
	if s := strings.Join(got, ","); s != "b.d,e,f,order" {
		t.Errorf("differences at %s", s)
	}
}
