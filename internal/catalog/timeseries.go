package catalog

import (
	"bytes"
	"context"
	"math"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
)

// A time-series collection X is two things: the collection system.buckets.X, whose
// documents hold many measurements each, and the view X, which unpacks them.

// UnpackStage is the stage of such a view.
const UnpackStage = "$_internalUnpackBucket"

// Timeseries are the options of a time-series collection, with what was left out filled in.
type Timeseries struct {
	Raw                  bson.Raw
	TimeField, MetaField string // MetaField "": none
	MaxSpan, Rounding    int64  // of a bucket, in seconds
}

// granularities are how long a bucket may be and what its beginning is rounded down to.
var granularities = map[string]struct{ span, rounding int64 }{
	"seconds": {3600, 60}, "minutes": {86400, 3600}, "hours": {2592000, 86400},
}

func invalidTimeseries(format string, a ...any) error {
	return mongoerr.New(mongoerr.InvalidOptions, format, a...)
}

// parseTimeseries reads and checks the option timeseries.
func parseTimeseries(v bson.Value) (*Timeseries, error) {
	d, err := docOption("timeseries", v)
	if err != nil {
		return nil, err
	}
	ts := &Timeseries{}
	granularity := ""
	for k, e := range d.Elems() {
		switch k {
		case "timeField", "metaField", "granularity":
			if e.Type != bson.TypeString {
				return nil, wrongType("timeseries."+k, e, "string")
			}
			text := strings.Clone(e.Str())
			switch k {
			case "timeField":
				ts.TimeField, err = text, checkSeriesField(k, text)
			case "metaField":
				ts.MetaField, err = text, checkSeriesField(k, text)
			default:
				if _, ok := granularities[text]; !ok {
					err = mongoerr.New(mongoerr.BadValue, "Enumeration value '%s' for field 'create.timeseries.granularity' is not a valid value.", text)
				}
				granularity = text
			}
		case "bucketMaxSpanSeconds":
			ts.MaxSpan, err = intOption("timeseries."+k, e, 1, 31536000)
		case "bucketRoundingSeconds":
			ts.Rounding, err = intOption("timeseries."+k, e, 1, 31536000)
		default:
			err = mongoerr.New(mongoerr.UnknownField, "BSON field 'create.timeseries.%s' is an unknown field.", k)
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case ts.TimeField == "":
		return nil, mongoerr.New(40414, "BSON field 'create.timeseries.timeField' is missing but a required field")
	case ts.MetaField == "_id":
		return nil, invalidTimeseries("Cannot set the 'metaField' to '_id'")
	case ts.MetaField == ts.TimeField:
		return nil, invalidTimeseries("The 'timeField' and the 'metaField' must be different")
	}
	if err := ts.fillSpan(granularity); err != nil {
		return nil, err
	}
	return ts, nil
}

func checkSeriesField(option, name string) error {
	if name == "" || name[0] == '$' || strings.ContainsAny(name, ".\x00") {
		return mongoerr.New(mongoerr.BadValue, "The '%s' of a time-series collection must be a top-level field, but is '%s'", option, name)
	}
	return nil
}

// fillSpan makes the span of a bucket of what is given, and Raw of all.
func (ts *Timeseries) fillSpan(granularity string) error {
	custom := granularity == "" && (ts.MaxSpan != 0 || ts.Rounding != 0)
	if custom && ts.Rounding == 0 {
		// From before custom spans: the span is that of a granularity that nobody named.
		for _, name := range []string{"seconds", "minutes", "hours"} {
			if granularities[name].span == ts.MaxSpan {
				granularity, custom = name, false
			}
		}
	}
	if custom && (ts.MaxSpan == 0 || ts.Rounding != ts.MaxSpan) {
		return invalidTimeseries("Timeseries 'bucketMaxSpanSeconds' needs to be set alongside 'bucketRoundingSeconds' and be equal to it")
	}
	b := bson.NewBuilder(nil).Str("timeField", ts.TimeField)
	if ts.MetaField != "" {
		b.Str("metaField", ts.MetaField)
	}
	if custom {
		b.IntOrLong("bucketRoundingSeconds", ts.Rounding)
	} else {
		if granularity == "" {
			granularity = "seconds"
		}
		g := granularities[granularity]
		switch {
		case ts.MaxSpan != 0 && ts.MaxSpan != g.span:
			return invalidTimeseries("Timeseries 'bucketMaxSpanSeconds' is not configurable to a value other than the default of %d for the provided granularity", g.span)
		case ts.Rounding != 0 && ts.Rounding != g.rounding:
			return invalidTimeseries("Timeseries 'bucketRoundingSeconds' is not configurable to a value other than the default of %d for the provided granularity", g.rounding)
		}
		ts.MaxSpan, ts.Rounding = g.span, g.rounding
		b.Str("granularity", granularity)
	}
	ts.Raw = b.IntOrLong("bucketMaxSpanSeconds", ts.MaxSpan).Finish()
	return nil
}

// IsBuckets reports whether n holds the buckets of a time-series collection.
func (n Namespace) IsBuckets() bool { return strings.HasPrefix(n.Coll, SystemBuckets) }

// Buckets is the namespace of the buckets of a time-series collection.
func (n Namespace) Buckets() Namespace { return Namespace{n.DB, SystemBuckets + n.Coll} }

// validator is the rule for the form of a bucket that MongoDB gives such collections.
func (ts *Timeseries) validator() bson.Raw {
	limit := bson.D("bsonType", "object", "required", []string{ts.TimeField}, "properties", bson.D(ts.TimeField, bson.D("bsonType", "date")))
	control := bson.D("bsonType", "object", "required", []string{"version", "min", "max"},
		"properties", bson.D("version", bson.D("bsonType", "number"), "min", limit, "max", limit,
			"closed", bson.D("bsonType", "bool"), "count", bson.D("bsonType", "number", "minimum", 1)),
		"additionalProperties", false)
	p := bson.NewBuilder(nil).AppendDoc("_id", bson.D("bsonType", "objectId")).AppendDoc("control", control).AppendDoc("data", bson.D("bsonType", "object"))
	if ts.MetaField != "" {
		p.AppendDoc("meta", bson.Empty)
	}
	return bson.D("$jsonSchema", bson.D("bsonType", "object", "required", []string{"_id", "control", "data"}, "properties", p.Finish(), "additionalProperties", false))
}

// bucketOptions are the options of the buckets behind a collection that is made with o.
func (ts *Timeseries) bucketOptions(o *CollectionOptions) bson.Raw {
	b := bson.NewBuilder(nil)
	for _, k := range []string{"storageEngine", "indexOptionDefaults"} {
		if v := o.Raw.Get(k); !v.IsMissing() {
			b.Append(k, v)
		}
	}
	b.AppendDoc("validator", ts.validator())
	if o.Collation != nil {
		b.AppendDoc("collation", o.Collation.Spec())
	}
	b.Bool("clusteredIndex", true)
	if v := o.Raw.Get("expireAfterSeconds"); !v.IsMissing() {
		b.Append("expireAfterSeconds", v)
	}
	return b.AppendDoc("timeseries", ts.Raw).Finish()
}

// viewPipeline is the pipeline of the view over the buckets.
func (ts *Timeseries) viewPipeline() bson.Array {
	spec := bson.NewBuilder(nil).Str("timeField", ts.TimeField)
	if ts.MetaField != "" {
		spec.Str("metaField", ts.MetaField)
	}
	spec.IntOrLong("bucketMaxSpanSeconds", ts.MaxSpan)
	b := bson.NewArrayBuilder(nil)
	b.AppendDoc("", bson.D(UnpackStage, spec.Finish()))
	return bson.Array(b.Finish())
}

// Timeseries returns the buckets that the view unpacks, if it is a time-series collection.
func (v *Version) Timeseries(ns Namespace) *Collection {
	view := v.View(ns)
	if view == nil || view.On != SystemBuckets+ns.Coll {
		return nil
	}
	if c := v.Lookup(ns.Buckets()); c != nil && c.Options.Timeseries != nil {
		return c
	}
	return nil
}

// TimeseriesOptions are the options of the time-series collection of these buckets as
// listCollections shows them.
func (c *Collection) TimeseriesOptions() bson.Raw {
	b := bson.NewBuilder(nil)
	for k, v := range c.Options.Raw.Elems() {
		if k != "validator" && k != "clusteredIndex" {
			b.Append(k, v)
		}
	}
	return b.Finish()
}

// createTimeseries makes the buckets, their index and the view. It succeeds if a time-series
// collection with the same options is there.
func (c *Catalog) createTimeseries(ctx context.Context, ns Namespace, opts *CollectionOptions, uuid bson.UUID) (*oplog.Future, error) {
	ts := opts.Timeseries
	for _, k := range []string{"capped", "size", "max", "validator", "validationLevel", "validationAction", "viewOn", "pipeline", "clusteredIndex", "changeStreamPreAndPostImages"} {
		if opts.Raw.Has(k) {
			return nil, invalidTimeseries("'timeseries' is not allowed with '%s'", k)
		}
	}
	buckets, err := ParseCollectionOptions(ts.bucketOptions(opts))
	if err != nil {
		return nil, err
	}
	if err := ValidateCreate(ns.Buckets()); err != nil {
		return nil, err
	}
	return c.runDDL(ctx, func(d *ddl, ch *change) error {
		v := ch.e.v
		if other, ok := v.differsInCase(ns.DB); ok {
			return differentCase(ns.DB, other)
		}
		if have := v.Timeseries(ns); have != nil {
			if bson.CompareDocs(have.Options.Raw, buckets.Raw) == 0 {
				return errNothing
			}
			return mongoerr.New(mongoerr.NamespaceExists, "namespace %s already exists, but with different options: %s", ns, have.TimeseriesOptions())
		}
		if v.Exists(ns) {
			return mongoerr.New(mongoerr.NamespaceExists, "Collection %s already exists.", ns)
		}
		coll := v.Lookup(ns.Buckets())
		switch {
		case coll == nil:
			var err error
			if coll, err = ch.createLogged(ns.Buckets(), uuid, buckets); err != nil {
				return err
			}
			if err := ch.addSeriesIndex(coll); err != nil {
				return err
			}
		case coll.Options.Timeseries == nil || !bytes.Equal(coll.Options.Timeseries.Raw, ts.Raw):
			return mongoerr.New(mongoerr.NamespaceExists, "the buckets %s already exist, with other options: %s", ns.Buckets(), coll.Options.Raw)
		}
		view := bson.NewBuilder(nil).Str("viewOn", ns.Buckets().Coll).AppendArray("pipeline", ts.viewPipeline())
		if opts.Collation != nil {
			view.AppendDoc("collation", opts.Collation.Spec())
		}
		vo, err := ParseCollectionOptions(view.Finish())
		if err != nil {
			return err
		}
		return ch.createView(ctx, ns, vo)
	})
}

// addSeriesIndex makes the index on the meta field and the time that new collections have.
func (ch *change) addSeriesIndex(c *Collection) error {
	ts := c.Options.Timeseries
	if ts.MetaField == "" {
		return nil
	}
	key := bson.D(ts.MetaField, 1, ts.TimeField, 1)
	raw, err := ts.BucketIndex(bson.D("v", 2, "key", key, "name", ts.MetaField+"_1_"+ts.TimeField+"_1"))
	if err != nil {
		return err
	}
	spec, err := ParseIndexSpec(raw)
	if err != nil {
		return err
	}
	if spec, err = spec.inherit(c.Options.Collation); err != nil {
		return err
	}
	return ch.createIndexes(c, []*IndexSpec{spec})
}

// expireOption is expireAfterSeconds as create takes it: a number, or "off" (0, false).
func expireOption(v bson.Value) (n int64, on bool, err error) {
	if v.Type == bson.TypeString && v.Str() == "off" {
		return 0, false, nil
	}
	if v.Type == bson.TypeString {
		return 0, false, invalidTimeseries("Invalid value for 'expireAfterSeconds': only \"off\" is allowed as a string")
	}
	if n, err = intOption("expireAfterSeconds", v, math.MinInt64+1, math.MaxInt64-1); err != nil {
		return 0, false, err
	}
	switch {
	case n < 0:
		return 0, false, invalidTimeseries("TTL index 'expireAfterSeconds' option cannot be less than 0")
	case n > math.MaxInt32:
		return 0, false, invalidTimeseries("TTL index 'expireAfterSeconds' option must be within an acceptable range, try a different number than %d", n)
	}
	return n, true, nil
}
