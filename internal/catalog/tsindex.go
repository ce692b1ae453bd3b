package catalog

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
)

const (
	minPath, maxPath = "control.min.", "control.max."
	originalSpec     = "originalSpec" // of an index on measurements, which cannot be read off the buckets' key
)

// BucketIndex is the specification of the index on buckets for an index on a time-series
// collection.
func (ts *Timeseries) BucketIndex(spec bson.Raw) (bson.Raw, error) {
	key := spec.Get("key")
	if key.Type != bson.TypeDocument {
		return spec, nil // refused by whoever parses it
	}
	for _, k := range []string{"unique", "sparse"} {
		if spec.Get(k).Truthy() {
			return nil, invalidTimeseries("%s indexes are not supported on time-series collections: %s", strings.ToUpper(k[:1])+k[1:], spec)
		}
	}
	bucketKey, measures, err := ts.BucketKey(key.Doc())
	if err != nil {
		return nil, err
	}
	b := bson.NewBuilder(nil)
	for k, v := range spec.Elems() {
		switch k {
		case "key":
			b.AppendDoc(k, bucketKey)
		case "partialFilterExpression":
			f, err := ts.bucketFilter(v)
			if err != nil {
				return nil, err
			}
			b.AppendDoc(k, f)
			measures = true
		case "expireAfterSeconds":
			if first, _ := key.Doc().First(); first != ts.TimeField || !spec.Has("partialFilterExpression") {
				return nil, invalidTimeseries("TTL indexes on time-series collections are only supported on the time field, with a partial filter on the meta field: %s", spec)
			}
			b.Append(k, v)
		case originalSpec:
		default:
			b.Append(k, v)
		}
	}
	if measures {
		o := bson.NewBuilder(nil)
		if !spec.Has("v") {
			o.Int32("v", 2)
		}
		b.AppendDoc(originalSpec, o.AppendElems(spec).Finish())
	}
	return b.Finish(), nil
}

// BucketKey is the key on buckets for a key on the collection; measures says that it has a
// field that is neither the time nor within the meta field.
func (ts *Timeseries) BucketKey(key bson.Raw) (out bson.Raw, measures bool, err error) {
	b := bson.NewBuilder(nil)
	for name, v := range key.Elems() {
		kind := ""
		if v.Type == bson.TypeString {
			kind = v.Str()
		}
		switch kind {
		case "text", "wildcard", "columnstore":
			return nil, false, invalidTimeseries("Invalid index spec for time-series collection: %s. Indexes of the kind '%s' are not supported on time-series collections", key, kind)
		}
		if isWildcard(name) && !ts.isMeta(name) {
			return nil, false, invalidTimeseries("Invalid index spec for time-series collection: %s. Wildcard indexes are only supported on the meta field", key)
		}
		switch {
		case ts.isMeta(name):
			b.Append("meta"+name[len(ts.MetaField):], v)
			continue
		case kind == "2dsphere" && name != ts.TimeField:
			b.Str("data."+name, "2dsphere_bucket")
		case kind != "":
			return nil, false, invalidTimeseries("Invalid index spec for time-series collection: %s. Indexes of the kind '%s' are only supported on the meta field", key, kind)
		default:
			if f, _ := v.AsFloat64(); f < 0 {
				b.Append(maxPath+name, v).Append(minPath+name, v)
			} else {
				b.Append(minPath+name, v).Append(maxPath+name, v)
			}
		}
		measures = measures || name != ts.TimeField
	}
	return b.Finish(), measures, nil
}

func (ts *Timeseries) isMeta(path string) bool {
	return ts.MetaField != "" && (path == ts.MetaField || strings.HasPrefix(path, ts.MetaField+"."))
}

// bucketFilter is a partial filter on buckets. It may only speak of the meta field: about
// the rest of a measurement a bucket cannot say yes or no.
func (ts *Timeseries) bucketFilter(v bson.Value) (bson.Raw, error) {
	if v.Type != bson.TypeDocument {
		return nil, specType("partialFilterExpression", v, "an object")
	}
	f, ok := ts.MetaFilter(v.Doc())
	if !ok {
		return nil, invalidTimeseries("partialFilterExpression of an index on a time-series collection may only name the meta field in this version of Cairn: %s", v.Doc())
	}
	return f, nil
}

// MetaFilter rewrites a filter that names nothing but the meta field into one on buckets.
func (ts *Timeseries) MetaFilter(f bson.Raw) (bson.Raw, bool) {
	b := bson.NewBuilder(nil)
	for k, v := range f.Elems() {
		switch {
		case ts.isMeta(k):
			b.Append("meta"+k[len(ts.MetaField):], v)
		case k == "$and" || k == "$or" || k == "$nor":
			if v.Type != bson.TypeArray {
				return nil, false
			}
			b.Array(k)
			for e := range v.Doc().Values() {
				inner, ok := ts.MetaFilter(e.Doc())
				if e.Type != bson.TypeDocument || !ok {
					return nil, false
				}
				b.AppendDoc("", inner)
			}
			b.End()
		case k == "$comment":
			b.Append(k, v)
		default:
			return nil, false
		}
	}
	return b.Finish(), true
}

// SeriesIndex is the reverse of BucketIndex: what listIndexes shows of an index on buckets
// to those who ask about the collection; ok is false for one that stands for nothing there.
func (ts *Timeseries) SeriesIndex(spec bson.Raw) (out bson.Raw, ok bool) {
	if o := spec.Get(originalSpec).Doc(); o != nil {
		b := bson.NewBuilder(nil)
		for k, v := range o.Elems() {
			if k != "ns" {
				b.Append(k, v)
			}
		}
		if c := spec.Get("collation"); !c.IsMissing() && !o.Has("collation") {
			b.Append("collation", c)
		}
		return b.Finish(), true
	}
	key, ok := ts.seriesKey(spec.Get("key").Doc())
	if !ok {
		return nil, false
	}
	b := bson.NewBuilder(nil)
	for k, v := range spec.Elems() {
		if k == "key" {
			b.AppendDoc(k, key)
		} else {
			b.Append(k, v)
		}
	}
	return b.Finish(), true
}

func (ts *Timeseries) seriesKey(key bson.Raw) (bson.Raw, bool) {
	b := bson.NewBuilder(nil)
	half := "" // the path whose other end must follow
	for name, v := range key.Elems() {
		switch {
		case half != "":
			if name != half {
				return nil, false
			}
			half = ""
		case name == "meta" || strings.HasPrefix(name, "meta."):
			if ts.MetaField == "" {
				return nil, false
			}
			b.Append(ts.MetaField+name[len("meta"):], v)
		case name == minPath+ts.TimeField:
			half = maxPath + ts.TimeField
			b.Append(ts.TimeField, v)
		case name == maxPath+ts.TimeField:
			half = minPath + ts.TimeField
			b.Append(ts.TimeField, v)
		default:
			return nil, false
		}
	}
	return b.Finish(), half == ""
}

// BucketMatch is a filter on buckets that lets through every bucket with a measurement that f
// matches, and maybe others: what f says of the meta field, and the bounds of its time. Empty
// if it says nothing of either.
func (ts *Timeseries) BucketMatch(f bson.Raw) bson.Raw {
	var all []bson.Raw
	ts.bucketMatch(f, &all)
	switch len(all) {
	case 0:
		return bson.Empty
	case 1:
		return all[0]
	}
	return bson.D("$and", all)
}

func (ts *Timeseries) bucketMatch(f bson.Raw, all *[]bson.Raw) {
	for k, v := range f.Elems() {
		switch {
		case k == "$and" && v.Type == bson.TypeArray:
			for e := range v.Doc().Values() {
				ts.bucketMatch(e.Doc(), all)
			}
		case k == "$or" || ts.isMeta(k):
			if m, ok := ts.MetaFilter(bson.NewBuilder(nil).Append(k, v).Finish()); ok {
				*all = append(*all, m)
			}
		case k == ts.TimeField && v.Type == bson.TypeDate:
			*all = append(*all, bson.D(minPath+k, bson.D("$lte", v)), bson.D(maxPath+k, bson.D("$gte", v)))
		case k == ts.TimeField:
			for op, t := range v.Doc().Elems() {
				if t.Type != bson.TypeDate {
					continue
				}
				if op == "$lt" || op == "$lte" || op == "$eq" {
					*all = append(*all, bson.D(minPath+k, bson.D("$lte", t)))
				}
				if op == "$gt" || op == "$gte" || op == "$eq" {
					*all = append(*all, bson.D(maxPath+k, bson.D("$gte", t)))
				}
			}
		}
	}
}
