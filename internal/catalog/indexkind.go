package catalog

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// kinds are the index kinds that a string in the key names.
var kinds = []string{"2d", "2dsphere", "2dsphere_bucket", "hashed", "text", "wildcard"}

// kindOptions are the fields that only say something to some kind.
var kindOptions = []string{"2dsphereIndexVersion", "bits", "bucketSize", "coarsestIndexedLevel", "default_language", "finestIndexedLevel",
	"language_override", "max", "min", "textIndexVersion", "weights"}

// isWildcard reports whether a field of a key stands for all fields, or all below a path.
func isWildcard(name string) bool { return name == "$**" || strings.HasSuffix(name, ".$**") }

// noteKind finds out what one field of the key makes of the index.
func (s *IndexSpec) noteKind(name string, v bson.Value) error {
	kind := ""
	if v.Type == bson.TypeString {
		kind = v.Str()
	}
	switch {
	case isWildcard(name) && kind == "":
		if f, _ := v.AsFloat64(); f < 0 {
			return cannotCreate("A numeric value in a $** index key pattern must be positive.")
		}
		kind = "wildcard"
	case isWildcard(name) && kind == "text":
		if name != "$**" {
			return cannotCreate("Index key contains an illegal field name: field name starts with '$'.")
		}
	case isWildcard(name):
		return cannotCreate("Wildcard indexes do not work with the index plugin '%s'", kind)
	case kind == "wildcard":
		return cannotCreate("The key pattern of a 'wildcard' index must name the '$**' field: %s", s.Key)
	}
	switch {
	case kind == "" || kind == s.Kind:
	case s.Kind == "" || (s.Kind == "wildcard") == (kind == "wildcard") && s.Kind == "":
		s.Kind = strings.Clone(kind)
	default:
		return cannotCreate("Can't use more than one index plugin for a single index: %s", s.Key)
	}
	return nil
}

// checkKind checks the rules of the index's kind and returns the options with what the
// kind fills in.
func (s *IndexSpec) checkKind(raw, options bson.Raw, version int64) (bson.Raw, error) {
	if s.Unique {
		switch s.Kind {
		case "hashed":
			return nil, mongoerr.New(16764, "Currently hashed indexes cannot guarantee uniqueness. Use a regular index.")
		case "wildcard":
			return nil, cannotCreate("Index type 'wildcard' does not support the unique option")
		}
		return nil, cannotCreate("A unique index of the kind '%s' cannot be kept without its uniqueness; such indexes are not supported by this version of Cairn: %s", s.Kind, raw)
	}
	if s.Collation != nil && (s.Kind == "text" || s.Kind == "2d") {
		return nil, cannotCreate("Index type '%s' does not support collation: %s", s.Kind, s.Collation.Spec())
	}
	if s.Kind != "wildcard" && raw.Has("wildcardProjection") {
		return nil, mongoerr.New(mongoerr.BadValue, "The field 'wildcardProjection' is only allowed in an 'wildcard' index, but got '%s'", s.Kind)
	}
	switch s.Kind {
	case "text":
		return s.checkText(options)
	case "2dsphere", "2dsphere_bucket":
		return s.check2dsphere(options)
	case "2d":
		return options, s.check2d(raw)
	case "hashed":
		return options, s.checkHashed(raw)
	}
	return options, s.checkWildcard(raw, version)
}

func (s *IndexSpec) count(kind string) (n int) {
	for _, v := range s.Key.Elems() {
		if v.Type == bson.TypeString && v.Str() == kind {
			n++
		}
	}
	return n
}

func (s *IndexSpec) checkHashed(raw bson.Raw) error {
	if n := s.count("hashed"); n > 1 {
		return mongoerr.New(31303, "A maximum of one index field is allowed to be hashed but found %d for 'key' %s", n, s.Key)
	}
	return nil
}

func (s *IndexSpec) check2dsphere(options bson.Raw) (bson.Raw, error) {
	v := options.Get("2dsphereIndexVersion")
	if v.IsMissing() {
		return bson.NewBuilder(nil).AppendElems(options).Int32("2dsphereIndexVersion", 3).Finish(), nil
	}
	if n, ok := v.AsInt64(); !v.IsNumber() || !ok || n < 1 || n > 3 {
		return nil, cannotCreate("unsupported geo index version { 2dsphereIndexVersion : %s }, only support versions: [1,2,3]", v)
	}
	return options, nil
}

func (s *IndexSpec) check2d(raw bson.Raw) error {
	if _, first := s.Key.First(); first.Type != bson.TypeString {
		return mongoerr.New(16801, "2d has to be first in index")
	}
	if n := s.count("2d"); n > 1 {
		return mongoerr.New(16800, "can't have 2 geo fields")
	}
	for _, name := range []string{"bits", "min", "max"} {
		if v := raw.Get(name); !v.IsMissing() && !v.IsNumber() {
			return specType(name, v, "a number")
		}
	}
	if v := raw.Get("bits"); !v.IsMissing() {
		if n, _ := v.AsFloat64(); n < 1 || n > 32 {
			return mongoerr.New(mongoerr.InvalidOptions, "bits for hash must be > 0 and <= 32, but %s bits were specified", v)
		}
	}
	lo, hi := -180.0, 180.0
	if v := raw.Get("min"); v.IsNumber() {
		lo, _ = v.AsFloat64()
	}
	if v := raw.Get("max"); v.IsNumber() {
		hi, _ = v.AsFloat64()
	}
	if !(lo < hi) {
		return mongoerr.New(mongoerr.InvalidOptions, "region for hash must be valid and have positive area, but [%v, %v] was specified", lo, hi)
	}
	return nil
}

func (s *IndexSpec) checkWildcard(raw bson.Raw, version int64) error {
	switch {
	case version < 2:
		return cannotCreate("Index type 'wildcard' is not supported with index version %d", version)
	case s.Sparse:
		return cannotCreate("Index type 'wildcard' does not support the sparse option")
	case s.TTL:
		return cannotCreate("Index type 'wildcard' cannot be a TTL index")
	}
	wild := ""
	for name := range s.Key.Elems() {
		if !isWildcard(name) {
			continue
		}
		if wild != "" {
			return cannotCreate("wildcard indexes do not allow more than one wildcard field: %s", s.Key)
		}
		wild = name
	}
	v := raw.Get("wildcardProjection")
	if v.IsMissing() {
		return nil
	}
	if wild != "$**" {
		return mongoerr.New(mongoerr.BadValue, "The field 'wildcardProjection' is only allowed when 'key' is {\"$**\": ±1}")
	}
	if v.Doc().IsEmpty() {
		return mongoerr.New(mongoerr.BadValue, "The 'wildcardProjection' field can't be an empty object")
	}
	return checkWildcardProjection(v.Doc())
}

// checkWildcardProjection wants fields to be all included or all excluded, but for _id.
func checkWildcardProjection(p bson.Raw) error {
	mode := 0
	var walk func(d bson.Raw, top bool) error
	walk = func(d bson.Raw, top bool) error {
		for name, v := range d.Elems() {
			if v.Type == bson.TypeDocument && !v.Doc().IsEmpty() {
				if err := walk(v.Doc(), false); err != nil {
					return err
				}
				continue
			}
			if v.Type != bson.TypeBool && !v.IsNumber() {
				return cannotCreate("'wildcardProjection' takes fields to include or to exclude, but %s is %s", name, v)
			}
			if top && name == "_id" {
				continue
			}
			want := 1
			if !v.Truthy() {
				want = 2
			}
			switch {
			case mode == 0:
				mode = want
			case mode != want && want == 2:
				return mongoerr.New(31254, "Cannot do exclusion on field %s in inclusion projection", name)
			case mode != want:
				return mongoerr.New(31253, "Cannot do inclusion on field %s in exclusion projection", name)
			}
		}
		return nil
	}
	return walk(p, true)
}

// maxTextWeight is the end of what a field of a text index may weigh.
const maxTextWeight = 1e9

// textLanguages are those of version 3 of the text index.
var textLanguages = strings.Fields(`none danish da dutch nl english en finnish fi french fr german de hungarian hu italian it
	norwegian nb portuguese pt romanian ro russian ru spanish es swedish sv turkish tr`)

// checkText brings the key of a text index into its stored form, which names the terms
// _fts and their weight _ftsx and has the fields in weights.
func (s *IndexSpec) checkText(options bson.Raw) (bson.Raw, error) {
	weights, err := textWeights(options.Get("weights"))
	if err != nil {
		return nil, err
	}
	key := bson.NewBuilder(nil)
	terms, closed := false, false
	for name, v := range s.Key.Elems() {
		switch {
		case name == "_ftsx":
			continue
		case v.Type != bson.TypeString:
			closed = closed || terms
			if f, _ := v.AsFloat64(); terms && f < 0 || name == "_fts" {
				return nil, cannotCreate("the fields around those of a text index must be ascending: %s", s.Key)
			}
			key.Append(name, v)
			continue
		case closed:
			return nil, cannotCreate("'text' fields in index must all be adjacent: %s", s.Key)
		case !terms:
			key.Str("_fts", "text").Int32("_ftsx", 1)
			terms = true
		}
		if name != "_fts" && !slices.ContainsFunc(weights, func(w textWeight) bool { return w.field == name }) {
			weights = append(weights, textWeight{strings.Clone(name), bson.V(int32(1))})
		}
	}
	if len(weights) == 0 {
		return nil, cannotCreate("text index option 'weights' must name the fields of the key %s", s.Key)
	}
	for _, name := range []string{"default_language", "language_override"} {
		if v := options.Get(name); !v.IsMissing() && v.Type != bson.TypeString {
			return nil, specType(name, v, "a string")
		}
	}
	if v := options.Get("default_language"); !v.IsMissing() && !slices.Contains(textLanguages, strings.ToLower(v.Str())) {
		return nil, mongoerr.New(17262, "unsupported language: \"%s\" for text index version 3", v.Str())
	}
	if v := options.Get("language_override"); !v.IsMissing() && (v.Str() == "" || strings.ContainsAny(v.Str(), ".$")) {
		return nil, mongoerr.New(17136, "language_override is not valid: '%s'", v.Str())
	}
	if v := options.Get("textIndexVersion"); !v.IsMissing() {
		if n, ok := v.AsInt64(); !ok || n < 1 || n > 3 {
			return nil, mongoerr.New(16730, "bad textIndexVersion: %s", v)
		}
	}
	s.Key = key.Finish()
	return fillText(options, weights), nil
}

type textWeight struct {
	field string
	v     bson.Value
}

func textWeights(v bson.Value) (list []textWeight, err error) {
	switch {
	case v.IsMissing():
		return nil, nil
	case v.Type == bson.TypeString:
		return []textWeight{{strings.Clone(v.Str()), bson.V(int32(1))}}, nil
	case v.Type != bson.TypeDocument:
		return nil, mongoerr.New(17283, "text index option 'weights' must be an object, or a string: %s", v)
	}
	for name, w := range v.Doc().Elems() {
		f, _ := w.AsFloat64()
		switch {
		case !w.IsNumber():
			return nil, mongoerr.New(17283, "weight for text index needs numeric type")
		case math.Trunc(f) <= 0 || f >= maxTextWeight:
			return nil, mongoerr.New(16674, "text index weight must be in the exclusive interval (0,1000000000) but found: %s", w)
		case name != "$**":
			if err := checkKeyName(name); err != nil {
				return nil, err
			}
		}
		list = append(list, textWeight{strings.Clone(name), bson.V(int32(f))})
	}
	return list, nil
}

// fillText writes weights in the order of their fields and what was left out.
func fillText(options bson.Raw, weights []textWeight) bson.Raw {
	slices.SortFunc(weights, func(a, b textWeight) int { return cmp.Compare(a.field, b.field) })
	b := bson.NewBuilder(nil)
	put := func() {
		b.Doc("weights")
		for _, w := range weights {
			b.Append(w.field, w.v)
		}
		b.End()
	}
	for k, v := range options.Elems() {
		if k == "weights" {
			put()
		} else {
			b.Append(k, v)
		}
	}
	if !options.Has("weights") {
		put()
	}
	for _, f := range [][2]string{{"default_language", "english"}, {"language_override", "language"}} {
		if !options.Has(f[0]) {
			b.Str(f[0], f[1])
		}
	}
	if !options.Has("textIndexVersion") {
		b.Int32("textIndexVersion", 3)
	}
	return b.Finish()
}

// checkHashable refuses a document that a hashed index does not take.
func (ix *Index) checkHashable(doc bson.Raw) error {
	for name, v := range ix.Spec.Key.Elems() {
		if v.Type != bson.TypeString {
			continue
		}
		d := doc
		for part := range strings.SplitSeq(name, ".") {
			e := d.Get(part)
			if e.Type == bson.TypeArray {
				return mongoerr.New(16766, "hashed indexes do not currently support array values. Found array at path: %s", name)
			}
			if d = e.Doc(); d == nil {
				break
			}
		}
	}
	return nil
}
