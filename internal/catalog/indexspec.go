package catalog

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// MaxIndexes is how many indexes a collection may have, the one on _id included.
const MaxIndexes = 64

// IndexSpec is a checked index specification. Raw is its canonical form, as
// listIndexes shows it: v, key, name, then the rest in the order given.
type IndexSpec struct {
	Raw    bson.Raw
	Name   string
	Key    bson.Raw
	Unique bool
	Sparse bool
	Hidden bool
	// PrepareUnique refuses a key that is there, as Unique does, but some may have been there
	// twice before.
	PrepareUnique bool
	// PartialFilter is nil for an index of all documents.
	PartialFilter bson.Raw
	// TTL is set if documents expire ExpireAfter seconds behind the date in the field.
	TTL         bool
	ExpireAfter int64
	// Collation is nil for strings in the order of their bytes.
	Collation *collate.Collator
	// Kind is what the key calls an index that is not ordered by values: "text", "2d",
	// "2dsphere", "2dsphere_bucket", "hashed" or "wildcard"; "" for all others.
	Kind string

	// collated says that the specification names a collation, if only the simple one: it does
	// not take that of its collection.
	collated bool
	// clustered says that createIndexes' specification has clustered: true, under the name
	// asked; both of indexes on _id only.
	clustered bool
	asked     string
}

// plainIDIndexSpec is that of the index every collection has, if it has no collation.
var plainIDIndexSpec = &IndexSpec{
	Raw:  bson.D("v", 2, "key", bson.D("_id", 1), "name", "_id_"),
	Name: "_id_", Key: bson.D("_id", 1), Unique: true,
}

// idIndexSpec is that of the index on _id of a collection with that collation.
func idIndexSpec(c *collate.Collator) *IndexSpec {
	if c == nil {
		return plainIDIndexSpec
	}
	s := *plainIDIndexSpec
	s.Collation = c
	s.Raw = bson.NewBuilder(nil).AppendElems(s.Raw).AppendDoc("collation", c.Spec()).Finish()
	return &s
}

// IsID reports whether this is the index that every collection has on _id.
func (s *IndexSpec) IsID() bool { return s.Name == "_id_" }

// Kept reports whether there is no engine for the index: it is listed and dumped, but holds
// no entries and no plan uses it.
func (s *IndexSpec) Kept() bool { return s.Kind != "" || (s.Collation.Err() != nil && !s.IsID()) }

// ParseIndexSpec checks a specification as createIndexes takes it.
func ParseIndexSpec(raw bson.Raw) (*IndexSpec, error) {
	s := &IndexSpec{}
	version := int64(2)
	rest := bson.NewBuilder(nil)
	for key, v := range raw.Elems() {
		keep, err := s.field(raw, key, v, &version)
		if err != nil {
			return nil, err
		}
		switch {
		case !keep:
		case key == "collation":
			rest.AppendDoc(key, s.Collation.Spec())
		case key == "expireAfterSeconds": // of any numeric type: it is an int from then on
			rest.Int32(key, int32(s.ExpireAfter))
		default:
			rest.Append(key, v)
		}
	}
	switch {
	case s.Key == nil:
		return nil, mongoerr.New(mongoerr.FailedToParse, "The 'key' field is a required property of an index specification")
	case !raw.Has("name"):
		return nil, mongoerr.New(mongoerr.FailedToParse, "The 'name' field is a required property of an index specification")
	}
	if err := s.checkKey(version); err != nil {
		return nil, err
	}
	if isIDKey(s.Key) {
		return s.checkID(raw)
	}
	if s.clustered {
		return nil, cannotCreate("The option 'clustered' is only allowed with the key { _id: 1 }: %s", raw)
	}
	if err := s.check(raw); err != nil {
		return nil, err
	}
	options := rest.Finish()
	if s.Kind != "" {
		var err error
		if options, err = s.checkKind(raw, options, version); err != nil {
			return nil, err
		}
	} else if raw.Has("wildcardProjection") {
		return nil, mongoerr.New(mongoerr.BadValue, "The field 'wildcardProjection' is only allowed in an 'wildcard' index, but got 'btree'")
	}
	if s.Collation != nil && version < 2 {
		return nil, cannotCreate("Invalid index specification %s; cannot create an index with the 'collation' option and v=%d", raw, version)
	}
	s.Raw = bson.NewBuilder(nil).Int32("v", int32(version)).AppendDoc("key", s.Key).Str("name", s.Name).AppendElems(options).Finish()
	return s, nil
}

// inherit is the specification for a collection with that collation.
func (s *IndexSpec) inherit(c *collate.Collator) (*IndexSpec, error) {
	switch {
	case s.IsID() && s.collated && !collate.Same(s.Collation, c):
		return nil, mongoerr.New(mongoerr.BadValue, "The _id index must have the same collation as the collection. Index collation: %s, collection collation: %s", simpleOr(s.Collation), simpleOr(c))
	case s.IsID():
		return idIndexSpec(c), nil
	case s.collated || c == nil:
		return s, nil
	}
	return ParseIndexSpec(bson.NewBuilder(nil).AppendElems(s.Raw).AppendDoc("collation", c.Spec()).Finish())
}

func simpleOr(c *collate.Collator) bson.Raw {
	if c == nil {
		return bson.D("locale", "simple")
	}
	return c.Spec()
}

// field takes one field and reports whether it is kept behind v, key and name.
func (s *IndexSpec) field(raw bson.Raw, key string, v bson.Value, version *int64) (keep bool, err error) {
	switch key {
	case "key":
		if v.Type != bson.TypeDocument {
			return false, specType(key, v, "an object")
		}
		s.Key = v.Doc().Clone()
	case "name":
		if v.Type != bson.TypeString {
			return false, specType(key, v, "a string")
		}
		s.Name = strings.Clone(v.Str())
	case "v":
		n, ok := v.AsInt64()
		if !v.IsNumber() {
			return false, specType(key, v, "a number")
		}
		if !ok || (n != 1 && n != 2) {
			return false, cannotCreate("Invalid index specification %s; cannot create an index with v=%s", raw, v)
		}
		*version = n
	case "unique", "sparse", "hidden", "background", "dropDups", "prepareUnique":
		if v.Type != bson.TypeBool && !v.IsNumber() {
			return false, mongoerr.New(mongoerr.TypeMismatch, "The field '%s' has value %s: %s, which is not convertible to bool", key, key, v)
		}
		return s.flag(key, v.Truthy())
	case "partialFilterExpression":
		if v.Type != bson.TypeDocument {
			return false, specType(key, v, "an object")
		}
		s.PartialFilter = v.Doc().Clone()
		return true, nil
	case "expireAfterSeconds":
		return true, s.expireAfter(raw, v)
	case "collation":
		if v.Type != bson.TypeDocument {
			return false, specType(key, v, "an object")
		}
		if v.Doc().IsEmpty() {
			return false, cannotCreate("The index specification's collation must not be empty: %s", raw)
		}
		s.Collation, err = collate.Parse(v.Doc())
		s.collated = true
		return s.Collation != nil, err
	case "storageEngine":
		if v.Type != bson.TypeDocument {
			return false, specType(key, v, "an object")
		}
		return true, nil
	case originalSpec: // what an index on buckets was asked for as
		if v.Type != bson.TypeDocument {
			return false, specType(key, v, "an object")
		}
		return true, nil
	case "ns": // written by servers before 4.4
	case "wildcardProjection":
		if v.Type != bson.TypeDocument {
			return false, specType(key, v, "a non-empty object")
		}
		return true, nil
	case "clustered":
		if v.Type != bson.TypeBool && !v.IsNumber() {
			return false, mongoerr.New(mongoerr.TypeMismatch, "The field '%s' has value %s: %s, which is not convertible to bool", key, key, v)
		}
		s.clustered = v.Truthy()
	case "columnstoreProjection":
		return false, cannotCreate("The index option '%s' is not supported by this version of Cairn", key)
	default:
		if slices.Contains(kindOptions, key) {
			return true, nil
		}
		return false, mongoerr.New(mongoerr.InvalidIndexSpecificationOption, "The field '%s' is not valid for an index specification. Specification: %s", key, raw)
	}
	return false, nil
}

func (s *IndexSpec) flag(key string, on bool) (keep bool, err error) {
	switch key {
	case "unique":
		s.Unique = on
	case "sparse":
		s.Sparse = on
	case "hidden":
		s.Hidden = on
	case "prepareUnique":
		s.PrepareUnique = on
	}
	return on || key == "background" || key == "dropDups", nil
}

func (s *IndexSpec) expireAfter(raw bson.Raw, v bson.Value) error {
	if !v.IsNumber() {
		return cannotCreate("TTL index 'expireAfterSeconds' option must be numeric, but received a type of '%s'. Index spec: %s", v.Type, raw)
	}
	f, _ := v.AsFloat64()
	switch {
	case f < 0:
		return cannotCreate("TTL index 'expireAfterSeconds' option cannot be less than 0. Index spec: %s", raw)
	case f > math.MaxInt32:
		return cannotCreate("TTL index 'expireAfterSeconds' option must be within an acceptable range, try a different number. Index spec: %s", raw)
	}
	s.TTL = true
	if s.ExpireAfter = int64(f); f != f { // NaN counts as never, as it does in MongoDB
		s.ExpireAfter = math.MaxInt32
	}
	return nil
}

// checkKey checks the key pattern and finds out the kind of the index.
func (s *IndexSpec) checkKey(version int64) error {
	if s.Key.IsEmpty() {
		return cannotCreate("Index keys cannot be empty.")
	}
	if n := s.Key.Len(); n > keystring.MaxFields {
		return mongoerr.New(13103, "too many compound keys")
	}
	seen := map[string]bool{}
	for name, v := range s.Key.Elems() {
		if err := checkKeyValue(v, version); err != nil {
			return err
		}
		if err := s.noteKind(name, v); err != nil {
			return err
		}
		if !isWildcard(name) && !(s.Kind == "text" && (name == "_fts" || name == "_ftsx")) {
			if err := checkKeyName(name); err != nil {
				return err
			}
		}
		if seen[name] {
			return cannotCreate("Index key pattern %s has the field '%s' twice", s.Key, name)
		}
		seen[strings.Clone(name)] = true
	}
	return nil
}

// checkKeyValue checks the direction or kind of a field. Version 1 takes almost anything for a direction.
func checkKeyValue(v bson.Value, version int64) error {
	switch {
	case version < 2 && v.Type != bson.TypeString && v.Type != bson.TypeDocument && v.Type != bson.TypeArray:
		return nil
	case v.IsNumber():
		f, _ := v.AsFloat64()
		if f != f {
			return cannotCreate("Values in the index key pattern cannot be NaN.")
		}
		if f == 0 {
			return cannotCreate("Values in the index key pattern cannot be 0.")
		}
		return nil
	case v.Type != bson.TypeString:
		return cannotCreate("Values in v:%d index key pattern cannot be of type %s. Only numbers > 0, numbers < 0, and strings are allowed.", version, v.Type)
	case v.Str() == "":
		return cannotCreate("Values in the index key pattern cannot be empty strings")
	case v.Str() == "geoHaystack":
		return cannotCreate("GeoHaystack indexes cannot be created in version 4.9 and above")
	case !slices.Contains(kinds, v.Str()):
		return cannotCreate("Unknown index plugin '%s'", v.Str())
	}
	return nil
}

func checkKeyName(name string) error {
	if name == "" {
		return cannotCreate("Index keys cannot contain an empty field.")
	}
	for i, part := range strings.Split(name, ".") {
		if part == "" {
			return cannotCreate("Index keys cannot contain an empty field.")
		}
		// DBRef fields may be indexed.
		if part[0] == '$' && (i == 0 || (part != "$ref" && part != "$id" && part != "$db")) {
			return cannotCreate("Index key contains an illegal field name: field name starts with '$'.")
		}
	}
	return nil
}

func isIDKey(key bson.Raw) bool {
	name, v := key.First()
	f, ok := v.AsFloat64()
	return name == "_id" && ok && f > 0 && key.Len() == 1
}

// checkID checks the specification of the index on _id, which takes hardly an option.
func (s *IndexSpec) checkID(raw bson.Raw) (*IndexSpec, error) {
	for key, v := range raw.Elems() {
		switch key {
		case "key", "name", "v", "ns", "collation", "background", "clustered":
		case "unique":
			if v.Truthy() {
				continue
			}
			fallthrough
		default:
			return nil, mongoerr.New(mongoerr.InvalidIndexSpecificationOption, "The field '%s' is not valid for an _id index specification. Specification: %s", key, raw)
		}
	}
	id := *idIndexSpec(s.Collation)
	id.collated, id.clustered, id.asked = s.collated, s.clustered, s.Name
	return &id, nil
}

// parseIDIndex reads create's idIndex, which can be no other index than that on _id.
func parseIDIndex(raw bson.Raw) (*IndexSpec, error) {
	for key := range raw.Elems() {
		switch key {
		case "key", "name", "v", "ns", "collation":
		default:
			return nil, mongoerr.New(mongoerr.InvalidIndexSpecificationOption, "The field '%s' is not valid for an _id index specification. Specification: %s", key, raw)
		}
	}
	if key := raw.Get("key"); key.Type == bson.TypeDocument && !isIDKey(key.Doc()) {
		return nil, mongoerr.New(mongoerr.BadValue, "The field 'key' for an _id index must be {_id: 1}, but got %s", key.Doc())
	}
	return ParseIndexSpec(raw)
}

func (s *IndexSpec) check(raw bson.Raw) error {
	switch {
	case s.Name == "":
		return cannotCreate("index name cannot be empty")
	case s.Name == "*":
		return mongoerr.New(mongoerr.BadValue, "The index name '*' is not valid.")
	case s.Name == "_id_":
		return mongoerr.New(mongoerr.BadValue, "The index name '_id_' is reserved for the _id index, which must have key pattern {_id: 1}, found key: %s", s.Key)
	case strings.IndexByte(s.Name, 0) >= 0:
		return cannotCreate("index name cannot contain NUL bytes")
	case s.Sparse && s.PartialFilter != nil:
		return cannotCreate("cannot mix \"partialFilterExpression\" and \"sparse\" options")
	case s.TTL && s.Key.Len() != 1 && !raw.Has(originalSpec):
		return cannotCreate("TTL indexes are single-field indexes, compound indexes do not support TTL. Index spec: %s", raw)
	}
	return nil
}

// sameSignature reports whether two indexes hold the same entries: only one of
// such may exist.
func (s *IndexSpec) sameSignature(o *IndexSpec) bool {
	return keyEqual(s.Key, o.Key) && s.Unique == o.Unique && s.Sparse == o.Sparse && collate.Same(s.Collation, o.Collation) &&
		bson.CompareDocs(s.Raw.Get("wildcardProjection").Doc(), o.Raw.Get("wildcardProjection").Doc()) == 0 &&
		(s.PartialFilter == nil) == (o.PartialFilter == nil) && bson.CompareDocs(s.PartialFilter, o.PartialFilter) == 0
}

// equivalent reports whether two indexes of one signature have the same options.
func (s *IndexSpec) equivalent(o *IndexSpec) bool {
	for _, k := range kindOptions {
		if !bson.Equal(s.Raw.Get(k), o.Raw.Get(k)) {
			return false
		}
	}
	return s.TTL == o.TTL && s.ExpireAfter == o.ExpireAfter
}

func keyEqual(a, b bson.Raw) bool { return bson.CompareDocs(a, b) == 0 }

// withOption returns the specification with one option changed; a missing value removes it.
func (s *IndexSpec) withOption(key string, v bson.Value) (*IndexSpec, error) {
	b := bson.NewBuilder(nil)
	found := false
	for k, old := range s.Raw.Elems() {
		if k == key {
			old, found = v, true
		}
		b.Append(k, old)
	}
	if !found {
		b.Append(key, v)
	}
	return ParseIndexSpec(b.Finish())
}

func cannotCreate(format string, args ...any) error {
	return mongoerr.New(mongoerr.CannotCreateIndex, "%s", fmt.Sprintf(format, args...))
}

func specType(key string, v bson.Value, want string) error {
	return mongoerr.New(mongoerr.TypeMismatch, "The field '%s' must be %s, but got %s", key, want, v.Type)
}
