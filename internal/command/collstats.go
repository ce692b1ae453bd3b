package command

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query"
)

// CollStats returns the document of $collStats {count, storageStats, latencyStats, queryExecStats}.
func (n *Node) CollStats(_ context.Context, ns query.Namespace, spec bson.Raw) (bson.Raw, error) {
	coll := n.Catalog.Pin().Timeseries(ns)
	if coll == nil {
		var err error
		if coll, err = n.Catalog.Resolve(ns); err != nil {
			return nil, err
		}
	}
	b := bson.NewBuilder(nil).Str("ns", ns.String()).Str("host", n.Host.Hostname).Date("localTime", bson.NewDateTime(n.Clock()))
	for k, v := range spec.Elems() {
		switch k {
		case "count":
			if coll == nil {
				return nil, mongoerr.New(mongoerr.NamespaceNotFound, "Unable to retrieve count in $collStats stage :: caused by :: Collection [%s] not found.", ns)
			}
			b.IntOrLong("count", coll.Count())
		case "storageStats":
			if coll == nil {
				return nil, mongoerr.New(mongoerr.NamespaceNotFound, "Unable to retrieve storageStats in $collStats stage :: caused by :: Collection [%s] not found.", ns)
			}
			scale := int64(1)
			if s, ok := v.Doc().Get("scale").AsInt64(); ok && s > 0 {
				scale = s
			}
			b.Doc("storageStats")
			if err := n.writeStorageStats(b, coll, scale); err != nil {
				return nil, err
			}
			b.End()
		case "latencyStats":
			if h := v.Doc().Get("histograms"); !h.IsMissing() && h.Type != bson.TypeBool {
				return nil, mongoerr.New(mongoerr.BadValue, "histograms option to latencyStats must be bool, got %s", h)
			}
			b.Doc("latencyStats")
			n.Counters.top.writeLatency(b, ns.String(), v.Doc().Get("histograms").Bool())
			b.End()
		case "queryExecStats":
			return nil, mongoerr.New(mongoerr.CommandNotSupported, "$collStats.%s is not supported by this version of Cairn", k)
		default:
			return nil, mongoerr.New(mongoerr.UnknownField, "BSON field '$collStats.%s' is an unknown field.", k)
		}
	}
	return b.Finish(), nil
}
