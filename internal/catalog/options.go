package catalog

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// CollectionOptions are the options of a collection or view. Raw is what
// listCollections shows, in the order in which they were given; the fields are what the
// server itself acts on.
type CollectionOptions struct {
	Raw bson.Raw

	Capped bool
	Size   int64 // bytes, capped only
	Max    int64 // documents, capped only; 0: no limit

	Temp             bool
	Validator        bson.Raw          // nil: none
	ValidationLevel  string            // strict, moderate, off
	ValidationAction string            // error, warn, errorAndLog
	Collation        *collate.Collator // nil: simple
	PrePostImages    bool              // changeStreamPreAndPostImages.enabled

	// Timeseries is set for the buckets of a time-series collection, and in create for the
	// collection itself. Expires and ExpireAfter are its expireAfterSeconds.
	Timeseries  *Timeseries
	Expires     bool
	ExpireAfter int64
	// Clustered says that the index on _id is not shown: the documents are their own.
	// ClusteredIndex is its specification {v, key, name, unique}; nil for buckets.
	Clustered      bool
	ClusteredIndex bson.Raw

	// NoIDIndex is autoIndexId: false, for collections of local.
	NoIDIndex bool

	ViewOn   string // views only
	Pipeline bson.Array

	idIndex *IndexSpec // as it was given, nil if it was not
}

// cappedSizeUnit is what the size of a capped collection is rounded up to.
const cappedSizeUnit = 256

// ParseCollectionOptions reads and checks options as `create` takes them. What the
// server could not honour is refused.
func ParseCollectionOptions(raw bson.Raw) (*CollectionOptions, error) {
	o := &CollectionOptions{ValidationLevel: "strict", ValidationAction: "error"}
	b := bson.NewBuilder(nil)
	for key, v := range raw.Elems() {
		keep, err := o.field(key, v)
		if err != nil {
			return nil, err
		}
		switch {
		case !keep:
		case key == "size":
			b.IntOrLong(key, o.Size)
		case key == "max":
			b.IntOrLong(key, o.Max)
		case key == "collation":
			b.AppendDoc(key, o.Collation.Spec())
		case key == "autoIndexId":
			b.Bool(key, !o.NoIDIndex)
		case key == "timeseries":
			b.AppendDoc(key, o.Timeseries.Raw)
		case key == "clusteredIndex" && o.ClusteredIndex != nil:
			b.AppendDoc(key, o.ClusteredIndex)
		default:
			b.Append(key, v)
		}
	}
	o.Raw = b.Finish()
	return o, o.check()
}

// field takes one option and reports whether it is shown again.
func (o *CollectionOptions) field(key string, v bson.Value) (keep bool, err error) {
	switch key {
	case "capped":
		o.Capped, err = boolOption(key, v)
		return o.Capped, err
	case "size":
		o.Size, err = intOption(key, v, 1, 1<<50)
		o.Size = (o.Size + cappedSizeUnit - 1) / cappedSizeUnit * cappedSizeUnit
	case "max":
		o.Max, err = intOption(key, v, 0, 1<<31-2)
	case "temp":
		o.Temp, err = boolOption(key, v)
		return o.Temp, err
	case "validator":
		o.Validator, err = docOption(key, v)
		if o.Validator.IsEmpty() {
			o.Validator = nil
			return false, err
		}
	case "validationLevel":
		o.ValidationLevel, err = enumOption(key, v, "off", "strict", "moderate")
	case "validationAction":
		o.ValidationAction, err = enumOption(key, v, "error", "warn", "errorAndLog")
	case "collation":
		d, err := docOption(key, v)
		if err == nil {
			o.Collation, err = collate.Parse(d)
		}
		return o.Collation != nil, err
	case "changeStreamPreAndPostImages":
		d, err := docOption(key, v)
		if err != nil {
			return false, err
		}
		if d.Get("enabled").IsMissing() {
			return false, mongoerr.New(40414, "BSON field 'create.%s.enabled' is missing but a required field", key)
		}
		o.PrePostImages, err = boolOption(key+".enabled", d.Get("enabled"))
		return o.PrePostImages, err
	case "viewOn":
		if v.Type != bson.TypeString {
			return false, wrongType(key, v, "string")
		}
		o.ViewOn = v.Str()
	case "pipeline":
		if v.Type != bson.TypeArray {
			return false, wrongType(key, v, "array")
		}
		o.Pipeline = bson.Array(v.Data)
	case "storageEngine", "indexOptionDefaults":
		_, err = docOption(key, v)
	case "comment", "flags", "recordPreImages", "encryptedFields":
		if key == "encryptedFields" || (key == "recordPreImages" && v.Truthy()) {
			return false, unsupportedOption(key)
		}
		return key == "comment", nil
	case "autoIndexId":
		auto, err := boolOption(key, v)
		o.NoIDIndex = !auto
		return true, err
	case "clusteredIndex":
		err = o.parseClustered(v)
	case "timeseries":
		o.Timeseries, err = parseTimeseries(v)
	case "expireAfterSeconds":
		o.ExpireAfter, o.Expires, err = expireOption(v)
		return o.Expires, err
	case "idIndex": // beside the options in dumps and entries: it says what the index on _id is in any case
		d, err := docOption(key, v)
		if err == nil {
			o.idIndex, err = parseIDIndex(d)
		}
		return false, err
	case "uuid": // beside the options in dumps and entries; whoever makes the collection looks at it
		return false, nil
	default:
		return false, mongoerr.New(mongoerr.UnknownField, "BSON field 'create.%s' is an unknown field.", key)
	}
	return err == nil, err
}

func (o *CollectionOptions) check() error {
	switch {
	case o.Capped && o.Size == 0:
		return mongoerr.New(mongoerr.InvalidOptions, "the 'size' field is required when 'capped' is true")
	case !o.Capped && (o.Size != 0 || o.Max != 0):
		return mongoerr.New(mongoerr.InvalidOptions, "the 'capped' field needs to be true when either the 'size' or 'max' fields are present")
	case o.Expires && o.Timeseries == nil && o.ClusteredIndex == nil:
		return invalidTimeseries("'expireAfterSeconds' is only supported on time-series collections or when the 'clusteredIndex' option is specified")
	case o.Clustered && o.Timeseries == nil:
		return o.checkClustered()
	case o.Pipeline != nil && o.ViewOn == "":
		return mongoerr.New(mongoerr.InvalidOptions, "'pipeline' requires 'viewOn' to also be specified")
	case o.ViewOn != "" && (o.Capped || o.Validator != nil || o.Temp):
		return mongoerr.New(mongoerr.InvalidOptions, "'viewOn' may not be combined with options of a collection")
	}
	return nil
}

// checkIDIndex compares an idIndex that a client gave with the other options. In a log's
// entries it stands beside all of them.
func (o *CollectionOptions) checkIDIndex() error {
	switch s := o.idIndex; {
	case s == nil:
	case o.ViewOn != "":
		return mongoerr.New(mongoerr.InvalidOptions, "'idIndex' is not allowed with 'viewOn': %s", s.Raw)
	case o.Raw.Has("autoIndexId"):
		return mongoerr.New(mongoerr.InvalidOptions, "'idIndex' is not allowed with 'autoIndexId': %s", s.Raw)
	case s.collated && !collate.Same(s.Collation, o.Collation):
		return mongoerr.New(mongoerr.BadValue, "'idIndex' must have the same collation as the collection. idIndex collation: %s, collection collation: %s", simpleOr(s.Collation), simpleOr(o.Collation))
	}
	return nil
}

// checkReplicated refuses what only collections of local may have.
func (o *CollectionOptions) checkReplicated(ns Namespace) error {
	if o.NoIDIndex && ns.logged() {
		return mongoerr.New(50001, "autoIndexId:false is not allowed for collection %s because it can be replicated", ns)
	}
	return nil
}

// with returns options with some fields replaced; a missing value removes the field.
func (o *CollectionOptions) with(changes bson.Raw, remove ...string) (*CollectionOptions, error) {
	b := bson.NewBuilder(nil)
	gone := map[string]bool{}
	for _, k := range remove {
		gone[k] = true
	}
	for k, v := range o.Raw.Elems() {
		if n := changes.Get(k); !n.IsMissing() {
			v = n
		}
		if !gone[k] {
			b.Append(k, v)
		}
	}
	for k, v := range changes.Elems() {
		if !o.Raw.Has(k) && !gone[k] {
			b.Append(k, v)
		}
	}
	return ParseCollectionOptions(b.Finish())
}

func unsupportedOption(name string) error {
	return mongoerr.New(mongoerr.InvalidOptions, "%s is not supported by this version of Cairn", name)
}

func wrongType(key string, v bson.Value, want string) error {
	return mongoerr.New(mongoerr.TypeMismatch, "BSON field 'create.%s' is the wrong type '%s', expected type '%s'", key, v.Type, want)
}

func boolOption(key string, v bson.Value) (bool, error) {
	if v.Type != bson.TypeBool && !v.IsNumber() {
		return false, mongoerr.New(mongoerr.TypeMismatch, "BSON field 'create.%s' is the wrong type '%s', expected types '[bool, long, int, decimal, double]'", key, v.Type)
	}
	return v.Truthy(), nil
}

// intOption reads a number as MongoDB's safeInt does: fractions are cut.
func intOption(key string, v bson.Value, lo, hi int64) (int64, error) {
	if !v.IsNumber() {
		return 0, mongoerr.New(mongoerr.TypeMismatch, "BSON field 'create.%s' is the wrong type '%s', expected types '[long, int, decimal, double]'", key, v.Type)
	}
	f, _ := v.AsFloat64()
	n, ok := v.AsInt64()
	if !ok {
		switch {
		case f >= float64(hi):
			n = hi + 1
		case f <= float64(lo):
			n = lo - 1
		default:
			n = int64(f)
		}
	}
	if n < lo {
		return 0, mongoerr.New(mongoerr.BadValue, "BSON field '%s' value must be >= %d, actual value '%d'", key, lo, n)
	}
	if n > hi {
		return 0, mongoerr.New(mongoerr.BadValue, "BSON field '%s' value must be <= %d, actual value '%d'", key, hi, n)
	}
	return n, nil
}

func docOption(key string, v bson.Value) (bson.Raw, error) {
	if v.Type != bson.TypeDocument {
		return nil, wrongType(key, v, "object")
	}
	return v.Doc(), nil
}

func enumOption(key string, v bson.Value, allowed ...string) (string, error) {
	if v.Type != bson.TypeString {
		return "", wrongType(key, v, "string")
	}
	for _, a := range allowed {
		if v.Str() == a {
			return a, nil
		}
	}
	return "", mongoerr.New(mongoerr.BadValue, "Enumeration value '%s' for field 'create.%s' is not a valid value.", v.Str(), key)
}
