// Package collate orders and compares strings in the order of a language, as a
// collation document of MongoDB asks for it.
//
// It owns the checking of collation documents with MongoDB's errors, the defaults that
// fill them in, and the collation keys: byte strings whose order is that of the strings
// and that are equal where the collation says the strings are. Everything else (comparing
// values, index keys, grouping) is made from those keys, so that all of them agree.
//
// It promises that keys of one collation stay the same from one release to the next:
// they are in indexes on disk, and a test holds some of them. A Collator may be used by
// many goroutines. A nil *Collator is the simple collation: strings compare by their bytes.
//
// It must not know filters, sort patterns, indexes or commands.
package collate

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	xcollate "golang.org/x/text/collate"
	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Collator makes the keys of one collation.
type Collator struct {
	spec        bson.Raw
	unsupported string // what of the collation no keys can be made of; "" for nothing
	tag         language.Tag
	strength    int
	caseLevel   bool
	upperFirst  bool
	numeric     bool
	shifted     bool
	pool        sync.Pool
}

// Spec is the collation as listCollections shows it: every field, in MongoDB's order,
// with its version. The simple collation is nil.
func (c *Collator) Spec() bson.Raw {
	if c == nil {
		return nil
	}
	return c.spec
}

// Same reports whether two collations order all strings alike.
func Same(a, b *Collator) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a == b || bytes.Equal(a.spec, b.spec)
}

// Err is the error of an operation that needs keys of a collation that this package can
// keep but not compute; nil otherwise.
func (c *Collator) Err() error {
	if c == nil || c.unsupported == "" {
		return nil
	}
	return mongoerr.New(mongoerr.CommandNotSupported, "strings cannot be compared under the collation %s: %s is not supported by this version of Cairn", c.spec, c.unsupported)
}

// engine is what makes keys; it belongs to one goroutine at a time.
type engine struct {
	full    *xcollate.Collator
	buf     xcollate.Buffer
	scratch []byte
}

func (c *Collator) engine() *engine {
	if e, ok := c.pool.Get().(*engine); ok {
		return e
	}
	return &engine{full: xcollate.New(c.tag)}
}

// maxKeptKey bounds the buffers that are kept for reuse.
const maxKeptKey = 64 << 10

// AppendKey appends the key of s.
func (c *Collator) AppendKey(dst []byte, s []byte) []byte {
	e := c.engine()
	e.buf.Reset()
	text := s
	if c.upperFirst {
		text = []byte(strings.Map(otherCase, string(text)))
	}
	if c.numeric {
		text = trimZeros(text)
	}
	key := e.full.Key(&e.buf, text)
	dst = append(dst, key...)
	if c.caseLevel && c.strength < 3 {
		e.scratch = norm.NFKD.Append(e.scratch[:0], text...)
		dst = c.appendCases(append(dst, 0, 0), e.scratch)
	}
	if c.strength == 5 {
		dst = append(dst, 0, 0)
		dst = norm.NFD.Append(dst, s...)
	}
	if len(key) <= maxKeptKey && cap(e.scratch) <= maxKeptKey {
		c.pool.Put(e)
	}
	return dst
}

// appendCases appends the case of each letter: what the third level has beside it (width,
// the kind of kana) says nothing at a case level. Marks and what the collation ignores
// have none.
func (c *Collator) appendCases(dst, text []byte) []byte {
	for _, r := range string(text) {
		switch {
		case unicode.Is(unicode.M, r) || unicode.Is(unicode.C, r):
		case c.shifted && (unicode.IsPunct(r) || unicode.IsSpace(r)):
		case unicode.IsUpper(r) || unicode.IsTitle(r):
			dst = append(dst, 2)
		default:
			dst = append(dst, 1)
		}
	}
	return dst
}

// otherCase makes upper case of lower case letters and the reverse: the tables order lower
// case first, so that of swapped text upper case comes first.
func otherCase(r rune) rune {
	if u := unicode.ToUpper(r); u != r && unicode.ToLower(u) == r {
		return u
	}
	if l := unicode.ToLower(r); l != r && unicode.ToUpper(l) == r {
		return l
	}
	return r
}

// trimZeros drops leading zeros of the numbers in s, which say nothing at any level.
func trimZeros(s []byte) []byte {
	var out []byte
	inNumber, from := false, 0
	for i, b := range s {
		digit := b >= '0' && b <= '9'
		if b == '0' && !inNumber && i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9' {
			out, from = append(out, s[from:i]...), i+1
			continue
		}
		inNumber = digit
	}
	if from == 0 {
		return s
	}
	return append(out, s[from:]...)
}

// Value returns a value whose plain order is v's order under the collation: strings
// become their keys, also within documents and arrays. A value without strings is
// returned as it is.
func (c *Collator) Value(v bson.Value) bson.Value {
	if c == nil || !HasString(v) {
		return v
	}
	switch v.Type {
	case bson.TypeString, bson.TypeSymbol:
		key := c.AppendKey(nil, v.StrBytes())
		return bson.V(string(key))
	}
	b := bson.NewBuilder(nil)
	for k, e := range v.Doc().Elems() {
		b.Append(k, c.Value(e))
	}
	return bson.Value{Type: v.Type, Data: b.Finish()}
}

// Shown is what people see of a value that Value made: keys in hexadecimal digits.
func Shown(v bson.Value) bson.Value {
	switch v.Type {
	case bson.TypeString:
		return bson.V(fmt.Sprintf("CollationKey(0x%x)", v.Str()))
	case bson.TypeDocument, bson.TypeArray:
		b := bson.NewBuilder(nil)
		for k, e := range v.Doc().Elems() {
			b.Append(k, Shown(e))
		}
		return bson.Value{Type: v.Type, Data: b.Finish()}
	}
	return v
}

// HasString reports whether a collation can make a difference to v: it is a string, or
// a document or array with one in it.
func HasString(v bson.Value) bool {
	switch v.Type {
	case bson.TypeString, bson.TypeSymbol:
		return true
	case bson.TypeDocument, bson.TypeArray:
		for e := range v.Doc().Values() {
			if HasString(e) {
				return true
			}
		}
	}
	return false
}

// Compare orders two values as bson.Compare does but for strings.
func (c *Collator) Compare(a, b bson.Value) int {
	if c == nil {
		return bson.Compare(a, b)
	}
	switch {
	case isText(a) && isText(b):
		return c.compareText(a.StrBytes(), b.StrBytes())
	case a.Type != b.Type || (a.Type != bson.TypeDocument && a.Type != bson.TypeArray):
		return bson.Compare(a, b)
	}
	ia, ib := a.Doc().Iter(), b.Doc().Iter()
	for {
		na, nb := ia.Next(), ib.Next()
		switch {
		case !na && !nb:
			return 0
		case !na:
			return -1
		case !nb:
			return 1
		}
		va, vb := ia.Value(), ib.Value()
		if a.Type == bson.TypeDocument {
			if x, y := va.Type.CanonicalOrder(), vb.Type.CanonicalOrder(); x != y {
				return x - y
			}
			if d := strings.Compare(ia.Key(), ib.Key()); d != 0 {
				return d
			}
		}
		if d := c.Compare(va, vb); d != 0 {
			return d
		}
	}
}

// Equal reports Compare(a, b) == 0.
func (c *Collator) Equal(a, b bson.Value) bool {
	if a.Type == b.Type && bytes.Equal(a.Data, b.Data) {
		return true
	}
	return c.Compare(a, b) == 0
}

func isText(v bson.Value) bool { return v.Type == bson.TypeString || v.Type == bson.TypeSymbol }

var keyBuffers = sync.Pool{New: func() any { return new([]byte) }}

func (c *Collator) compareText(a, b []byte) int {
	if bytes.Equal(a, b) {
		return 0
	}
	buf := keyBuffers.Get().(*[]byte)
	defer keyBuffers.Put(buf)
	k := c.AppendKey((*buf)[:0], a)
	n := len(k)
	k = c.AppendKey(k, b)
	if cap(k) <= maxKeptKey {
		*buf = k
	}
	return bytes.Compare(k[:n], k[n:])
}

// localeTag turns an ICU locale such as "de_AT@collation=phonebook" into a tag; ok is
// false if MongoDB knows no such locale. unsupported names what the tables do not have.
func localeTag(locale string) (tag language.Tag, unsupported string, ok bool) {
	base, keywords, _ := strings.Cut(locale, "@")
	if base == "" || !utf8.ValidString(locale) {
		return tag, "", false
	}
	lang, _, _ := strings.Cut(base, "_")
	if lang != strings.ToLower(lang) || !slices.Contains(languages, lang) {
		return tag, "", false
	}
	bcp := strings.ReplaceAll(base, "_", "-")
	if base == "en_US_POSIX" {
		bcp = "en-US-u-va-posix"
	}
	tag, err := language.Parse(bcp)
	if err != nil {
		return tag, "", false
	}
	if slices.Contains(withoutTables, lang) {
		unsupported = "the locale " + locale
	}
	if keywords != "" {
		name, variant, _ := strings.Cut(keywords, "=")
		if name != "collation" || !slices.Contains(variants, variant) {
			return tag, "", false
		}
		co := variantTypes[variant]
		if co == "" || !slices.Contains(variantLocales, lang+"@"+variant) {
			return tag, "the locale " + locale, true
		}
		if tag, err = tag.SetTypeForKey("co", co); err != nil {
			return tag, "", false
		}
	}
	return tag, unsupported, true
}

// languages are those of MongoDB's list of locales; regions of them are fine.
var languages = strings.Fields(`af am ar as az be bg bn bo bs ca chr cs cy da de dsb dz ee el en eo es et fa fi fil fo fr
	ga gl gu ha haw he hi hr hsb hu hy id ig is it ja ka kk kl km kn ko kok ky lb lkt ln lo lt lv mk ml mn mr ms mt my
	nb ne nl nn om or pa pl ps pt ro ru se si sk sl smn sq sr sv sw ta te th to tr ug uk ur vi wae yi yo zh zu`)

// withoutTables are languages with an order of their own that the tables lack.
var withoutTables = strings.Fields("bo dsb gl hsb lkt lo ne smn ug yi")

// variants are the words behind "@collation=" that MongoDB knows; those that have a type
// in the tables have it here.
var variants = strings.Fields("big5han compat dictionary eor gb2312han phonebook phonetic pinyin reformed search searchjl standard stroke traditional unihan zhuyin")

var variantTypes = map[string]string{"phonebook": "phonebk", "phonetic": "phonetic", "standard": "standard", "stroke": "stroke", "pinyin": "pinyin"}

// variantLocales are the variants that the tables have.
var variantLocales = strings.Fields("de@phonebook ln@phonetic fi@standard sv@standard zh@stroke zh@pinyin")
