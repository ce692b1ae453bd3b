package collate

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func mustParse(t testing.TB, kv ...any) *Collator {
	t.Helper()
	c, err := Parse(bson.D(kv...))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestOrder sorts strings; what is equal stands in one word with = between.
func TestOrder(t *testing.T) {
	for _, c := range []struct {
		spec []any
		want string
	}{
		{[]any{"locale", "en"}, "a A á Á b B c"},
		{[]any{"locale", "en", "strength", 1}, "a=A=á=Á b=B c"},
		{[]any{"locale", "en", "strength", 2}, "a=A á=Á b=B c"},
		{[]any{"locale", "en", "strength", 1, "caseLevel", true}, "a=á A=Á b B c"},
		{[]any{"locale", "en", "caseFirst", "upper"}, "A a Á á B b c"},
		{[]any{"locale", "da"}, "A a B b z Æ æ Ø ø Å å"},
		{[]any{"locale", "sv"}, "a z å ä Ä ö"},
		{[]any{"locale", "de"}, "a ä ae af z"},
		{[]any{"locale", "de@collation=phonebook", "strength", 1}, "a ae=ä=Ä af z"},
		{[]any{"locale", "fr"}, "cote coté côte côté"},
		{[]any{"locale", "fr_CA"}, "cote côte coté côté"},
		{[]any{"locale", "es"}, "n ñ o"},
		{[]any{"locale", "en", "numericOrdering", true}, "x x2=x02 x10=x010 x100"},
		{[]any{"locale", "en"}, "x x10 x100 x2"},
		{[]any{"locale", "en", "alternate", "shifted"}, "ab=a-b=a.b ac"},
		{[]any{"locale", "en", "alternate", "shifted", "strength", 4}, "a-b a.b ab ac"},
		{[]any{"locale", "en", "strength", 5}, "a ａ A"},
		{[]any{"locale", "tr"}, "h ı i j"},
		{[]any{"locale", "en_US_POSIX"}, "A B Z a b z"},
		{nil, "A B a b á"},
	} {
		col := mustParse(t, c.spec...)
		var strs []string
		for w := range strings.FieldsSeq(c.want) {
			strs = append(strs, strings.Split(w, "=")...)
		}
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(strs), func(i, j int) { strs[i], strs[j] = strs[j], strs[i] })
		// Among equals the order of the line.
		place := strings.NewReplacer("=", " ").Replace(c.want)
		slices.SortFunc(strs, func(a, b string) int {
			if d := col.Compare(bson.V(a), bson.V(b)); d != 0 {
				return d
			}
			return slices.Index(strings.Fields(place), a) - slices.Index(strings.Fields(place), b)
		})
		var got strings.Builder
		for i, s := range strs {
			switch {
			case i == 0:
			case col.Compare(bson.V(strs[i-1]), bson.V(s)) == 0:
				got.WriteByte('=')
			default:
				got.WriteByte(' ')
			}
			got.WriteString(s)
		}
		if got.String() != c.want {
			t.Errorf("%s\n got %s\nwant %s", bson.D(c.spec...), got.String(), c.want)
		}
	}
}

// TestKeysStayTheSame holds keys that are on disks: a change of them needs all indexes with
// a collation built anew.
func TestKeysStayTheSame(t *testing.T) {
	for _, c := range []struct {
		spec    []any
		s, want string
	}{
		{[]any{"locale", "en"}, "Äb", "15ef160500000020004700200000080202"},
		{[]any{"locale", "en", "strength", 1}, "Äb1", "15ef160514e7"},
		{[]any{"locale", "de", "strength", 2}, "straße", "17f3181617bd15ef17f317f3164c000000200020002000200020013900200020"},
		{[]any{"locale", "fr_CA"}, "coté", "161d17711816164c00000032002000200020002000000202020202"},
		{[]any{"locale", "da"}, "Aa", "15ef15ef00000020002000000208"},
		{[]any{"locale", "en", "numericOrdering", true}, "x10", "187b14f0000214e714e600000020002000200020002000000202020202"},
		{[]any{"locale", "zh"}, "中文", "969bc19678bd00000020002000000202"},
		{[]any{"locale", "ru"}, "Мир", "1a541a0a1a9400000020002000200000080202"},
	} {
		got := fmt.Sprintf("%x", mustParse(t, c.spec...).AppendKey(nil, []byte(c.s)))
		if got != c.want {
			t.Errorf("%s %q: key %s, want %s", bson.D(c.spec...), c.s, got, c.want)
		}
	}
}

// TestOneOrder checks that Compare, Value and index keys agree on random values.
func TestOneOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	words := []string{"", "a", "A", "ä", "Ä", "ab", "a b", "z", "1", "10", "2", "ß", "ss", "\x00", "é", "\xff"}
	var value func(depth int) bson.Value
	value = func(depth int) bson.Value {
		switch k := r.IntN(8); {
		case k < 4 || depth == 0:
			return bson.V(words[r.IntN(len(words))] + words[r.IntN(len(words))])
		case k == 4:
			return bson.V(int32(r.IntN(3)))
		case k == 5:
			return bson.D("v", []bson.Value{value(depth - 1), value(depth - 1)}).Get("v")
		case k == 6:
			return bson.V(bson.D("a", value(depth-1)))
		}
		return bson.V(bson.D("a", value(depth-1), "b", value(depth-1)))
	}
	for _, spec := range [][]any{{"locale", "de"}, {"locale", "de", "strength", 1}, {"locale", "en", "numericOrdering", true}, {"locale", "da"}} {
		col := mustParse(t, spec...)
		for range 2000 {
			a, b := value(2), value(2)
			want := sign(col.Compare(a, b))
			if got := sign(bson.Compare(col.Value(a), col.Value(b))); got != want {
				t.Fatalf("%s against %s: %d, by Value %d", a, b, want, got)
			}
			ka, kb := keystring.Append(nil, col.Value(a), false, nil), keystring.Append(nil, col.Value(b), false, nil)
			if got := bytes.Compare(ka, kb); got != want {
				t.Fatalf("%s against %s: %d, by index key %d", a, b, want, got)
			}
			if col.Equal(a, b) != (want == 0) {
				t.Fatalf("%s equals %s: %v", a, b, want != 0)
			}
		}
	}
}

func sign(n int) int { return min(1, max(-1, n)) }

func TestSpec(t *testing.T) {
	for _, c := range []struct {
		doc  bson.Raw
		want string
	}{
		{bson.D("locale", "de"), `{ locale: "de", caseLevel: false, caseFirst: "off", strength: 3, numericOrdering: false, alternate: "non-ignorable", maxVariable: "punct", normalization: false, backwards: false, version: "57.1" }`},
		{bson.D("strength", 1.0, "locale", "fr_CA", "backwards", false), `{ locale: "fr_CA", caseLevel: false, caseFirst: "off", strength: 1, numericOrdering: false, alternate: "non-ignorable", maxVariable: "punct", normalization: false, backwards: false, version: "57.1" }`},
		{bson.D("locale", "da", "version", "57.1"), `{ locale: "da", caseLevel: false, caseFirst: "upper", strength: 3, numericOrdering: false, alternate: "non-ignorable", maxVariable: "punct", normalization: false, backwards: false, version: "57.1" }`},
		{bson.D("locale", "simple"), "{}"},
		{bson.Empty, "{}"},
	} {
		col, err := Parse(c.doc)
		if err != nil {
			t.Fatal(err)
		}
		got := "{}"
		if col != nil {
			got = fmt.Sprint(col.Spec())
		}
		if got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.doc, got, c.want)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		doc  bson.Raw
		code mongoerr.Code
		text string
	}{
		{bson.D("locale", "xx-nosuch"), 2, `Field 'locale' is invalid in: { locale: "xx-nosuch" }`},
		{bson.D("locale", "de@collation=nosuch"), 2, "Field 'locale' is invalid"},
		{bson.D("locale", "en\xff"), 2, "Field 'locale' is invalid"},
		{bson.D("locale", 1), 14, "collation.locale"},
		{bson.D("strength", 1), 40414, "collation.locale"},
		{bson.D("arndom", "wrdo"), 40415, "collation.arndom"},
		{bson.D("locale", "simple", "strength", 1), 2, "no other fields"},
		{bson.D("locale", "en", "strength", 6), 51024, "strength"},
		{bson.D("locale", "en", "strength", "x"), 14, "strength"},
		{bson.D("locale", "en", "caseFirst", "x"), 2, "caseFirst"},
		{bson.D("locale", "en", "caseLevel", 1), 14, "caseLevel"},
		{bson.D("locale", "en", "version", "58"), 161, "57.1"},
		{bson.D("locale", "en", "nosuch", 1), 40415, "nosuch"},
		{bson.D("locale", "en", "strength", 1, "backwards", true), 2, "backwards"},
	} {
		_, err := Parse(c.doc)
		if e, ok := mongoerr.As(err); !ok || e.Code != c.code || !strings.Contains(e.Message, c.text) {
			t.Errorf("%s: %v", c.doc, err)
		}
	}
}

// TestKeptOnly are collations that are valid but have no keys.
func TestKeptOnly(t *testing.T) {
	for _, d := range []bson.Raw{
		bson.D("locale", "hsb"), bson.D("locale", "ko@collation=searchjl"), bson.D("locale", "en", "alternate", "shifted", "maxVariable", "space"),
	} {
		c, err := Parse(d)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := mongoerr.As(c.Err()); !ok || e.Code != mongoerr.CommandNotSupported {
			t.Errorf("%s: %v", d, c.Err())
		}
	}
}

// TestConcurrent makes keys from many goroutines.
func TestConcurrent(t *testing.T) {
	c := mustParse(t, "locale", "de", "strength", 2)
	want := c.AppendKey(nil, []byte("Straße"))
	done := make(chan bool)
	for range 4 {
		go func() {
			ok := true
			for range 200 {
				ok = ok && bytes.Equal(c.AppendKey(nil, []byte("Straße")), want)
			}
			done <- ok
		}()
	}
	for range 4 {
		if !<-done {
			t.Error("another key")
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(bson.D("locale", "de", "strength", 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if bson.Validate(b, bson.MaxDepth) != nil {
			return
		}
		if c, err := Parse(bson.Raw(b)); err == nil && c != nil {
			c.AppendKey(nil, b)
		}
	})
}
