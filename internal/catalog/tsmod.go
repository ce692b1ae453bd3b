package catalog

import (
	"bytes"
	"context"
	"slices"

	"github.com/cairndb/cairn/internal/bson"
)

// toBuckets makes the change of a time-series collection one of its buckets.
func (m *collMod) toBuckets(c *Collection) error {
	for _, k := range []string{"validator", "validationLevel", "validationAction", "size", "max", "changeStreamPreAndPostImages"} {
		if m.options.Has(k) || slices.Contains(m.remove, k) {
			return invalidTimeseries("option not supported on a time-series collection: %s", k)
		}
	}
	if !m.viewOn.IsMissing() {
		return invalidTimeseries("option not supported on a time-series collection: viewOn")
	}
	if key := m.index.Get("keyPattern").Doc(); key != nil {
		bucketKey, _, err := c.Options.Timeseries.BucketKey(key)
		if err != nil {
			return err
		}
		b := bson.NewBuilder(nil)
		for k, v := range m.index.Elems() {
			if k == "keyPattern" {
				v = bucketKey.Value()
			}
			b.Append(k, v)
		}
		m.index = b.Finish()
	}
	return nil
}

// entry is what the log says of the change: of buckets if toBuckets made it one.
func (m *collMod) entry(mods bson.Raw) bson.Raw {
	b := bson.NewBuilder(nil)
	for k, v := range mods.Elems() {
		if k == "index" {
			v = m.index.Value()
		}
		b.Append(k, v)
	}
	return b.Finish()
}

// with returns the options with a coarser granularity or another span.
func (ts *Timeseries) with(change bson.Raw) (*Timeseries, error) {
	b := bson.NewBuilder(nil).Str("timeField", ts.TimeField)
	if ts.MetaField != "" {
		b.Str("metaField", ts.MetaField)
	}
	for k, v := range change.Elems() {
		if k == "timeField" || k == "metaField" {
			return nil, invalidTimeseries("The '%s' of a time-series collection cannot be changed", k)
		}
		b.Append(k, v)
	}
	n, err := parseTimeseries(b.Finish().Value())
	switch {
	case err != nil:
		return nil, err
	case bytes.Equal(n.Raw, ts.Raw):
		return n, nil
	case n.MaxSpan < ts.MaxSpan || n.Rounding < ts.Rounding:
		return nil, invalidTimeseries("Invalid transition for timeseries.granularity or the span of a bucket: it can only become coarser")
	}
	return n, nil
}

// modSeriesView gives the view of a time-series collection the options of its buckets.
func (ch *change) modSeriesView(ctx context.Context, ns Namespace) error {
	view, c := ch.e.v.View(ns), ch.e.v.Lookup(ns.Buckets())
	pipeline := c.Options.Timeseries.viewPipeline()
	if bytes.Equal(view.Pipeline, pipeline) {
		return nil
	}
	b := bson.NewBuilder(nil).Str("_id", ns.String()).Str("viewOn", view.On).AppendArray("pipeline", pipeline)
	if view.Collation != nil {
		b.AppendDoc("collation", view.Collation.Spec())
	}
	return ch.changeView(ctx, ns, b.Finish())
}
