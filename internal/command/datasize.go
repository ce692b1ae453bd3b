package command

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// runDataSize counts by scanning, or, for a whole collection with estimate, from the counters.
func runDataSize(c *Ctx) error {
	_, v := c.first()
	ns, err := splitNS(v.Str())
	if err != nil {
		return err
	}
	start := c.Node.Clock()
	coll := c.Node.Catalog.Pin().Lookup(ns)
	lo, hi := c.ArgDoc("min"), c.ArgDoc("max")
	if (lo == nil) != (hi == nil) {
		return mongoerr.New(mongoerr.BadValue, "only one of min or max specified")
	}
	var size, n int64
	switch {
	case coll == nil:
	case lo == nil:
		size, n = coll.DataSize(), coll.Count()
	default:
		if size, n, err = c.rangeSize(coll, lo, hi); err != nil {
			return err
		}
	}
	estimate := c.ArgBool("estimate", false)
	if estimate && lo != nil && n > 0 { // as if all documents were of one size
		size = coll.DataSize() / max(coll.Count(), 1) * n
	}
	c.Reply.Bool("estimate", estimate).Int64("size", size).Int64("numObjects", n).IntOrLong("millis", c.Node.Clock().Sub(start).Milliseconds())
	return nil
}

// rangeSize sums the documents of an index range [min, max).
func (c *Ctx) rangeSize(coll *catalog.Collection, lo, hi bson.Raw) (size, n int64, err error) {
	pattern := c.ArgDoc("keyPattern")
	var ix *catalog.Index
	for _, i := range coll.Indexes() {
		if pattern != nil && bson.CompareDocs(i.Spec.Key, pattern) == 0 || pattern == nil && sameKeys(i.Spec.Key, lo) {
			ix = i
			break
		}
	}
	if ix == nil || !sameKeys(ix.Spec.Key, lo) || !sameKeys(ix.Spec.Key, hi) {
		return 0, 0, mongoerr.New(mongoerr.OperationFailed, "couldn't find valid index containing key pattern")
	}
	return coll.RangeSize(ix, docValues(lo), docValues(hi), c.Op.Interrupt)
}

func docValues(d bson.Raw) (vals []bson.Value) {
	for v := range d.Values() {
		vals = append(vals, v)
	}
	return vals
}

func sameKeys(pattern, values bson.Raw) bool {
	a, b := pattern.Iter(), values.Iter()
	for {
		na, nb := a.Next(), b.Next()
		if !na || !nb {
			return na == nb
		}
		if a.Key() != b.Key() {
			return false
		}
	}
}
