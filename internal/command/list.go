package command

import (
	"sort"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query"
)

var listCommands = []Command{
	{Name: "listDatabases", Flags: AdminOnly | Read | V1, Run: runListDatabases, Args: []Arg{{"filter", TObject, false}, {"nameOnly", TBoolLike, false}, {"authorizedDatabases", TBoolLike, false}}, Help: "Lists the databases with their sizes."},
	{Name: "listCollections", Flags: Read | V1, Run: runListCollections, Args: []Arg{{"filter", TObject, false}, {"nameOnly", TBoolLike, false}, {"authorizedCollections", TBoolLike, false}, {"cursor", TObject, false}}, Help: "Lists a database's collections and views."},
	{Name: "listIndexes", Flags: Read | V1, Run: runListIndexes, Args: []Arg{{"cursor", TObject, false}, {"includeBuildUUIDs", TBoolLike, false}, {"includeIndexBuildInfo", TBoolLike, false}}, Help: "Lists a collection's indexes."},
	{Name: "collStats", Aliases: []string{"collstats"}, Flags: Read, Run: runCollStats, Args: []Arg{{"scale", TNumber, false}}, Help: "Shows a collection's sizes."},
	{Name: "dbStats", Aliases: []string{"dbstats"}, Flags: Read, Run: runDBStats, Args: []Arg{{"scale", TNumber, false}, {"freeStorage", TNumber, false}}, Help: "Shows a database's sizes."},
	{Name: "dataSize", Aliases: []string{"datasize"}, Flags: Read, Run: runDataSize, Args: []Arg{{"keyPattern", TObject, false}, {"min", TObject, false}, {"max", TObject, false}, {"estimate", TBoolLike, false}}, Help: "Counts documents and bytes of a collection or of a range of an index."},
}

// filterDocs returns a function that keeps what the command's filter matches.
func (c *Ctx) filterDocs() (func(bson.Raw) (bool, error), error) {
	f := c.ArgDoc("filter")
	if f == nil || f.IsEmpty() {
		return func(bson.Raw) (bool, error) { return true, nil }, nil
	}
	return c.Node.Match(f)
}

func runListDatabases(c *Ctx) error {
	keep, err := c.filterDocs()
	if err != nil {
		return err
	}
	nameOnly := c.ArgBool("nameOnly", false)
	total := int64(0)
	c.Reply.Array("databases")
	for _, name := range c.Node.Catalog.Databases() {
		b := bson.NewBuilder(nil).Str("name", name)
		size := int64(0)
		if !nameOnly {
			if size, err = c.databaseSize(name); err != nil {
				return err
			}
			b.Int64("sizeOnDisk", size).Bool("empty", c.databaseEmpty(name))
		}
		doc := b.Finish()
		ok, err := keep(doc)
		if err != nil {
			return err
		}
		if ok {
			total += size
			c.Reply.AppendDoc("", doc)
		}
	}
	c.Reply.End()
	if !nameOnly {
		c.Reply.Int64("totalSize", total).Int64("totalSizeMb", total>>20)
	}
	return nil
}

func (c *Ctx) databaseEmpty(name string) bool {
	for _, coll := range c.Node.Catalog.Collections(name) {
		if coll.Count() > 0 {
			return false
		}
	}
	return true
}

// databaseSize estimates the bytes on disk. What is still in memory counts with the
// size of its documents, so that a database never seems to be empty.
func (c *Ctx) databaseSize(name string) (total int64, err error) {
	for _, coll := range c.Node.Catalog.Collections(name) {
		s, err := c.Node.sizes(coll)
		if err != nil {
			return 0, err
		}
		total += s.storage + s.indexTotal
	}
	return total, nil
}

// collSizes are a collection's figures for collStats and dbStats.
type collSizes struct {
	storage, indexTotal int64
	indexes             map[string]int64
}

const minTableBytes = 4096 // as an empty table is shown

func (n *Node) sizes(coll *catalog.Collection) (s collSizes, err error) {
	size, err := coll.StorageSize()
	if err != nil {
		return s, err
	}
	s.storage = max(int64(size), minTableBytes)
	if size == 0 && !coll.IsOplog() {
		s.storage = max(coll.DataSize(), minTableBytes)
	}
	s.indexes = map[string]int64{}
	for _, ix := range coll.AllIndexes() {
		n, err := coll.IndexSize(ix)
		if err != nil {
			return s, err
		}
		size := max(int64(n), minTableBytes)
		s.indexes[ix.Spec.Name] = size
		s.indexTotal += size
	}
	return s, nil
}

// listBatch reads the cursor argument of the list commands.
func (c *Ctx) listBatch() (size int64, given bool, err error) {
	cur := c.ArgDoc("cursor")
	for k, v := range cur.Elems() {
		if k != "batchSize" {
			return 0, false, unknownField(c.Command.Name + ".cursor." + k)
		}
		n, ok := v.AsInt64()
		if !ok || n < 0 {
			return 0, false, mongoerr.New(mongoerr.BadValue, "BSON field 'batchSize' value must be >= 0, actual value '%d'", n)
		}
		size, given = n, true
	}
	return size, given, nil
}

func runListCollections(c *Ctx) error {
	keep, err := c.filterDocs()
	if err != nil {
		return err
	}
	size, given, err := c.listBatch()
	if err != nil {
		return err
	}
	v := c.Node.Catalog.Pin()
	nameOnly := c.ArgBool("nameOnly", false)
	type item struct {
		name string
		doc  bson.Raw
	}
	var items []item
	for _, coll := range c.Node.Catalog.Collections(c.DB) {
		items = append(items, item{coll.NS.Coll, collectionDoc(coll, nameOnly)})
	}
	for _, view := range v.Views(c.DB) {
		if buckets := v.Timeseries(view.NS); buckets != nil {
			b := bson.NewBuilder(nil).Str("name", view.NS.Coll).Str("type", "timeseries")
			if !nameOnly {
				b.AppendDoc("options", buckets.TimeseriesOptions()).Doc("info").Bool("readOnly", false).End()
			}
			items = append(items, item{view.NS.Coll, b.Finish()})
			continue
		}
		b := bson.NewBuilder(nil).Str("name", view.NS.Coll).Str("type", "view")
		if !nameOnly {
			b.AppendDoc("options", view.Options()).Doc("info").Bool("readOnly", true).End()
		}
		items = append(items, item{view.NS.Coll, b.Finish()})
	}
	sort.Slice(items, func(i, j int) bool { return items[i].name < items[j].name })
	var docs []bson.Raw
	for _, it := range items {
		ok, err := keep(it.doc)
		if err != nil {
			return err
		}
		if ok {
			docs = append(docs, it.doc)
		}
	}
	return c.Node.Cursors.OpenList(c.queryOp(), query.Namespace{DB: strings.Clone(c.DB), Coll: "$cmd.listCollections"}, docs, size, given, c.Reply)
}

func collectionDoc(coll *catalog.Collection, nameOnly bool) bson.Raw {
	b := bson.NewBuilder(nil).Str("name", coll.NS.Coll).Str("type", "collection")
	if nameOnly {
		return b.Finish()
	}
	b.AppendDoc("options", coll.Options.Raw)
	b.Doc("info").Bool("readOnly", false)
	if coll.UUID != (bson.UUID{}) {
		b.UUID("uuid", coll.UUID)
	}
	b.End()
	if id := coll.IDIndex(); id != nil && !coll.Options.Clustered {
		b.AppendDoc("idIndex", id.Spec.Raw)
	}
	return b.Finish()
}

// lookup finds the collection that a command names, by name or UUID.
func (c *Ctx) lookup() (*catalog.Collection, error) {
	ns, id, err := c.queryNS()
	if err != nil {
		return nil, err
	}
	v := c.Node.Catalog.Pin()
	if id != nil {
		if coll := v.ByUUID(*id); coll != nil {
			return coll, nil
		}
		return nil, mongoerr.New(mongoerr.NamespaceNotFound, "No namespace with UUID: %s", *id)
	}
	if coll, err := c.Node.Catalog.Resolve(ns); coll != nil || err != nil {
		return coll, err
	}
	return nil, mongoerr.New(mongoerr.NamespaceNotFound, "ns does not exist: %s", ns)
}

// lookupSeries is lookup that takes the name of a time-series collection for its buckets;
// series says that it did.
func (c *Ctx) lookupSeries() (coll *catalog.Collection, series bool, err error) {
	if ns, id, err := c.queryNS(); err == nil && id == nil {
		if coll := c.Node.Catalog.Pin().Timeseries(ns); coll != nil {
			return coll, true, nil
		}
	}
	coll, err = c.lookup()
	return coll, false, err
}

func runListIndexes(c *Ctx) error {
	coll, series, err := c.lookupSeries()
	if err != nil {
		return err
	}
	size, given, err := c.listBatch()
	if err != nil {
		return err
	}
	var docs []bson.Raw
	indexes := coll.ShownIndexes()
	if coll.ClusteredName() != "" {
		indexes = coll.AllIndexes()
	}
	for i, ix := range indexes {
		raw := ix.Spec.Raw
		if i == 0 && coll.ClusteredName() != "" {
			raw = coll.ClusteredSpec()
		}
		if series {
			var ok bool
			if raw, ok = coll.Options.Timeseries.SeriesIndex(raw); !ok {
				continue
			}
		}
		if id, building := ix.BuildUUID(); building && c.ArgBool("includeBuildUUIDs", false) {
			docs = append(docs, bson.NewBuilder(nil).AppendDoc("spec", raw).UUID("buildUUID", id).Finish())
			continue
		}
		if c.ArgBool("includeIndexBuildInfo", false) {
			b := bson.NewBuilder(nil).AppendDoc("spec", raw)
			if ix.Building() {
				b.Doc("indexBuildInfo").End()
			}
			docs = append(docs, b.Finish())
			continue
		}
		docs = append(docs, raw)
	}
	ns := coll.NS
	if series {
		ns.Coll = strings.TrimPrefix(ns.Coll, catalog.SystemBuckets)
	}
	return c.Node.Cursors.OpenList(c.queryOp(), ns, docs, size, given, c.Reply)
}

// scale reads the divisor of sizes.
func (c *Ctx) scale() (int64, error) {
	n := c.ArgInt("scale", 1)
	if n < 1 {
		return 0, mongoerr.New(mongoerr.BadValue, "BSON field 'scale' value must be >= 1, actual value '%d'", n)
	}
	return n, nil
}

func runCollStats(c *Ctx) error {
	scale, err := c.scale()
	if err != nil {
		return err
	}
	coll, series, err := c.lookupSeries()
	if mongoerr.Is(err, mongoerr.NamespaceNotFound) {
		ns, _ := c.Namespace()
		c.Reply.Str("ns", ns).Int32("size", 0).Int32("count", 0).Int32("numOrphanDocs", 0).Int32("storageSize", 0).Int32("totalSize", 0).
			Int32("nindexes", 0).Int32("totalIndexSize", 0).Doc("indexDetails").End().Doc("indexSizes").End().IntOrLong("scaleFactor", scale)
		return nil
	}
	if err != nil {
		return err
	}
	if series {
		c.Reply.Str("ns", coll.NS.DB+"."+strings.TrimPrefix(coll.NS.Coll, catalog.SystemBuckets))
		c.Reply.Doc("timeseries").Str("bucketsNs", coll.NS.String()).IntOrLong("bucketCount", coll.Count())
		if n := coll.Count(); n > 0 {
			c.Reply.IntOrLong("avgBucketSize", coll.DataSize()/n)
		}
		c.Reply.End()
	} else {
		c.Reply.Str("ns", coll.NS.String())
	}
	return c.Node.writeStorageStats(c.Reply, coll, scale)
}

// writeStorageStats appends the storage figures of collStats and $collStats.
func (n *Node) writeStorageStats(b *bson.Builder, coll *catalog.Collection, scale int64) error {
	s, err := n.sizes(coll)
	if err != nil {
		return err
	}
	count, size := coll.Count(), coll.DataSize()
	b.IntOrLong("size", size/scale).IntOrLong("count", count)
	if count > 0 {
		b.IntOrLong("avgObjSize", size/count)
	}
	b.Int32("numOrphanDocs", 0).IntOrLong("storageSize", s.storage/scale).Int32("freeStorageSize", 0).Bool("capped", coll.IsCapped())
	if coll.IsCapped() {
		b.IntOrLong("max", coll.Options.Max).IntOrLong("maxSize", coll.Options.Size/scale)
	}
	if coll.Options.Clustered {
		b.Bool("clustered", true)
	}
	b.Int32("nindexes", int32(len(coll.ShownIndexes()))).Doc("indexDetails").End().Array("indexBuilds")
	for _, ix := range coll.ShownIndexes() {
		if ix.Building() {
			b.Str("", ix.Spec.Name)
		}
	}
	b.End().IntOrLong("totalIndexSize", s.indexTotal/scale).IntOrLong("totalSize", (s.storage+s.indexTotal)/scale)
	b.Doc("indexSizes")
	for _, ix := range coll.ShownIndexes() {
		b.IntOrLong(ix.Spec.Name, s.indexes[ix.Spec.Name]/scale)
	}
	b.End().IntOrLong("scaleFactor", scale)
	return nil
}

func runDBStats(c *Ctx) error {
	scale, err := c.scale()
	if err != nil {
		return err
	}
	v := c.Node.Catalog.Pin()
	var objects, data, storage, indexes, indexSize int64
	colls := c.Node.Catalog.Collections(c.DB)
	for _, coll := range colls {
		s, err := c.Node.sizes(coll)
		if err != nil {
			return err
		}
		objects += coll.Count()
		data += coll.DataSize()
		storage += s.storage
		indexSize += s.indexTotal
		indexes += int64(len(coll.ShownIndexes()))
	}
	avg := 0.0
	if objects > 0 {
		avg = float64(data) / float64(objects)
	}
	f := float64(scale)
	b := c.Reply
	b.Str("db", c.DB).Int64("collections", int64(len(colls))).Int64("views", int64(len(v.Views(c.DB)))).Int64("objects", objects).Double("avgObjSize", avg).
		Double("dataSize", float64(data)/f).Double("storageSize", float64(storage)/f).Int64("indexes", indexes).
		Double("indexSize", float64(indexSize)/f).Double("totalSize", float64(storage+indexSize)/f).Int64("scaleFactor", scale)
	if c.ArgInt("freeStorage", 0) != 0 { // freed space goes back to the file system at once
		b.Double("freeStorageSize", 0).Double("indexFreeStorageSize", 0).Double("totalFreeStorageSize", 0)
	}
	if used, total, ok := c.Node.DiskUsage(); ok {
		b.Double("fsUsedSize", float64(used)/f).Double("fsTotalSize", float64(total)/f)
	}
	return nil
}
