package collate

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/language"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Version is what every collation document carries as its version: that of the ICU
// library of MongoDB 3.4 to 8.0.
const Version = "57.1"

// fields is a collation document with nothing left out.
type fields struct {
	locale, caseFirst, alternate, maxVariable, version   string
	strength                                             int
	caseLevel, numericOrdering, normalization, backwards bool
}

// defaults are what a locale has where the document says nothing.
func defaults(locale string) *fields {
	f := &fields{locale: locale, caseFirst: "off", strength: 3, alternate: "non-ignorable", maxVariable: "punct", version: Version}
	lang, _, _ := strings.Cut(locale, "_")
	lang, _, _ = strings.Cut(lang, "@")
	f.normalization = slices.Contains(normalized, lang)
	switch {
	case lang == "da" || lang == "mt":
		f.caseFirst = "upper"
	case lang == "th":
		f.alternate = "shifted"
	case strings.HasPrefix(locale, "fr_CA"):
		f.backwards = true
	}
	return f
}

// normalized are the languages whose collation normalises text unless told otherwise. The keys of
// this package are made of normalised text always.
var normalized = strings.Fields("ar as bn fa gu he hi kn kok lo ml mr my ne or pa ps ta te th ur vi yi")

// Parse checks a collation document. An empty one and {locale: "simple"} give nil. A
// collation that MongoDB has and this package cannot compute is no error here: see Err.
func Parse(d bson.Raw) (*Collator, error) {
	if d.IsEmpty() {
		return nil, nil
	}
	loc := d.Get("locale")
	switch {
	case loc.IsMissing():
		f := defaults("")
		for k, v := range d.Elems() { // what is wrong with the fields that are there comes first
			if err := f.set(d, k, v); err != nil {
				return nil, err
			}
		}
		return nil, mongoerr.New(40414, "BSON field 'collation.locale' is missing but a required field")
	case loc.Type != bson.TypeString:
		return nil, wrongType("locale", loc, "string")
	}
	if loc.Str() == "simple" {
		if d.Len() != 1 {
			return nil, mongoerr.New(mongoerr.BadValue, "If locale=\"simple\", no other fields should be present in: %s", d)
		}
		return nil, nil
	}
	tag, unsupported, ok := localeTag(loc.Str())
	if !ok {
		return nil, mongoerr.New(mongoerr.BadValue, "Field 'locale' is invalid in: %s", d)
	}
	f := defaults(strings.Clone(loc.Str()))
	for k, v := range d.Elems() {
		if err := f.set(d, k, v); err != nil {
			return nil, err
		}
	}
	if f.backwards && f.strength == 1 {
		return nil, mongoerr.New(mongoerr.BadValue, "'backwards' is invalid with 'strength' of 1: %s", d)
	}
	return f.collator(tag, unsupported)
}

func wrongType(name string, v bson.Value, want string) error {
	return mongoerr.New(mongoerr.TypeMismatch, "BSON field 'collation.%s' is the wrong type '%s', expected type '%s'", name, v.Type, want)
}

// set takes one field of a document.
func (f *fields) set(d bson.Raw, key string, v bson.Value) (err error) {
	switch key {
	case "locale":
	case "caseLevel":
		f.caseLevel, err = boolean(key, v)
	case "numericOrdering":
		f.numericOrdering, err = boolean(key, v)
	case "normalization":
		f.normalization, err = boolean(key, v)
	case "backwards":
		f.backwards, err = boolean(key, v)
	case "caseFirst":
		f.caseFirst, err = word(key, v, "upper", "lower", "off")
	case "alternate":
		f.alternate, err = word(key, v, "non-ignorable", "shifted")
	case "maxVariable":
		f.maxVariable, err = word(key, v, "punct", "space")
	case "strength":
		if !v.IsNumber() {
			return mongoerr.New(mongoerr.TypeMismatch, "BSON field 'collation.strength' is the wrong type '%s', expected types '[int, decimal, double, long]'", v.Type)
		}
		n, ok := v.AsInt64()
		if !ok || n < 1 || n > 5 {
			return mongoerr.New(51024, "BSON field 'strength' value must be >= 1 and <= 5, actual value '%s'", v)
		}
		f.strength = int(n)
	case "version":
		if v.Type != bson.TypeString {
			return wrongType(key, v, "string")
		}
		if v.Str() != Version {
			return mongoerr.New(161, "Requested collation version '%s', but the only supported one is '%s': %s", v.Str(), Version, d)
		}
	default:
		return mongoerr.New(mongoerr.UnknownField, "BSON field 'collation.%s' is an unknown field.", key)
	}
	return err
}

func boolean(key string, v bson.Value) (bool, error) {
	if v.Type != bson.TypeBool {
		return false, wrongType(key, v, "bool")
	}
	return v.Bool(), nil
}

func word(key string, v bson.Value, allowed ...string) (string, error) {
	if v.Type != bson.TypeString {
		return "", wrongType(key, v, "string")
	}
	for _, a := range allowed {
		if v.Str() == a {
			return a, nil
		}
	}
	return "", mongoerr.New(mongoerr.BadValue, "Enumeration value '%s' for field 'collation.%s' is not a valid value.", v.Str(), key)
}

// spec is the document with all fields.
func (f *fields) spec() bson.Raw {
	return bson.NewBuilder(nil).Str("locale", f.locale).Bool("caseLevel", f.caseLevel).Str("caseFirst", f.caseFirst).
		Int32("strength", int32(f.strength)).Bool("numericOrdering", f.numericOrdering).Str("alternate", f.alternate).
		Str("maxVariable", f.maxVariable).Bool("normalization", f.normalization).Bool("backwards", f.backwards).
		Str("version", f.version).Finish()
}

// collator sets up the key making.
func (f *fields) collator(tag language.Tag, unsupported string) (*Collator, error) {
	c := &Collator{spec: f.spec(), strength: f.strength, caseLevel: f.caseLevel, numeric: f.numericOrdering, shifted: f.alternate == "shifted", unsupported: unsupported}
	if f.alternate == "shifted" && f.maxVariable != "punct" {
		c.unsupported = "maxVariable \"" + f.maxVariable + "\" with alternate \"shifted\""
	}
	c.upperFirst = f.caseFirst == "upper" && (f.strength >= 3 || f.caseLevel)
	level := "level" + strconv.Itoa(min(f.strength, 4))
	for _, kv := range [][2]string{{"ks", level}, {"kb", strconv.FormatBool(f.backwards)},
		{"kn", strconv.FormatBool(f.numericOrdering)}} {
		var err error
		if tag, err = tag.SetTypeForKey(kv[0], kv[1]); err != nil {
			return nil, mongoerr.New(mongoerr.BadValue, "Field 'locale' is invalid in: %s", c.spec)
		}
	}
	if f.alternate == "shifted" {
		var err error
		if tag, err = tag.SetTypeForKey("ka", "shifted"); err != nil {
			return nil, mongoerr.New(mongoerr.BadValue, "Field 'locale' is invalid in: %s", c.spec)
		}
	}
	c.tag = tag
	return c, nil
}
