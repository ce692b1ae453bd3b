package dump

import (
	"bytes"
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// minSplit is how many documents a reader should have at least.
const minSplit = 10_000

// split divides a collection among several readers: by a sample of its _ids, in the order
// of the _id index, so every value lies in exactly one range, whatever its type. What
// cannot be divided is read by one: views, capped collections (whose order counts),
// clustered ones (which have no _id index of their own), and those with a collation (whose
// index order is not that of the values).
func (d *Dump) split(ctx context.Context, i *intent, whole *scan) ([]*scan, error) {
	n := min(int64(d.opts.Beyond.ParallelIn), i.size/minSplit)
	if n < 2 || whole.view || i.isTimeseries() || i.uuid == nil || i.db == "local" {
		return []*scan{whole}, nil
	}
	for _, k := range []string{"capped", "clusteredIndex", "collation"} {
		if _, err := i.options.LookupErr(k); err == nil {
			return []*scan{whole}, nil
		}
	}
	bounds, err := d.sampleBounds(ctx, i, int(n))
	if err != nil {
		if isGone(err) || ctx.Err() != nil {
			return []*scan{whole}, nil // the scan finds out
		}
		d.log.Always("%#q is read by one reader, as sampling it failed: %v", i.namespace(), err)
		return []*scan{whole}, nil
	}
	scans := []*scan{{}}
	*scans[0] = *whole
	scans[0].ranged = true
	for _, b := range bounds {
		next := *whole
		next.ranged = true
		next.min = b
		scans[len(scans)-1].max = b
		scans = append(scans, &next)
	}
	d.log.Info("reading %#q with %d readers", i.namespace(), len(scans))
	return scans, nil
}

// sampleBounds returns at most n-1 different _ids in index order.
func (d *Dump) sampleBounds(ctx context.Context, i *intent, n int) ([]bson.RawValue, error) {
	const each = 20 // samples for each range: enough to make the ranges about equal
	cmd := bson.D{
		{Key: "aggregate", Value: i.liveColl()},
		{Key: "pipeline", Value: bson.A{
			bson.D{{Key: "$sample", Value: bson.D{{Key: "size", Value: int32(n * each)}}}},
			bson.D{{Key: "$project", Value: bson.D{{Key: "_id", Value: 1}}}},
			bson.D{{Key: "$sort", Value: bson.D{{Key: "_id", Value: 1}}}},
		}},
		{Key: "cursor", Value: bson.D{}},
		{Key: "allowDiskUse", Value: true},
	}
	cur, err := d.client.Database(i.db).RunCommandCursor(ctx, cmd, options.RunCmd().SetReadPreference(d.pref))
	if err != nil {
		return nil, err
	}
	defer cur.Close(context.WithoutCancel(ctx))
	var ids []bson.RawValue
	for cur.Next(ctx) {
		v := cur.Current.Lookup("_id")
		if v.Type == 0 {
			return nil, fmt.Errorf("a document has no _id")
		}
		ids = append(ids, bson.RawValue{Type: v.Type, Value: bytes.Clone(v.Value)})
	}
	if err := cur.Err(); err != nil {
		return nil, err
	}
	var bounds []bson.RawValue
	for k := 1; k < n; k++ {
		at := k * len(ids) / n
		if at >= len(ids) {
			break
		}
		b := ids[at]
		if len(bounds) > 0 && bounds[len(bounds)-1].Equal(b) || at == 0 {
			continue
		}
		bounds = append(bounds, b)
	}
	return bounds, nil
}
