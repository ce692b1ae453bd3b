package catalog

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// A clustered collection has no index on _id for those who ask: the collection is that
// index. Here it keeps the order of its record ids and has an index on _id as all others
// have, which goes by the name that create gave it.

// parseClustered takes create's clusteredIndex: {key: {_id: 1}, unique: true, name}, or the
// true of time-series buckets.
func (o *CollectionOptions) parseClustered(v bson.Value) error {
	o.Clustered = true
	switch v.Type {
	case bson.TypeBool:
		if !v.Bool() {
			return wrongType("clusteredIndex", v, "object")
		}
		return nil
	case bson.TypeDocument:
	default:
		return mongoerr.New(mongoerr.TypeMismatch, "BSON field 'create.clusteredIndex' is the wrong type '%s', expected types '[bool, object]'", v.Type)
	}
	name := "_id_"
	for k, e := range v.Doc().Elems() {
		switch k {
		case "key":
			if e.Type != bson.TypeDocument {
				return wrongType("clusteredIndex.key", e, "object")
			}
			if n, ok := e.Doc().Get("_id").AsInt64(); e.Doc().Len() != 1 || !ok || n != 1 {
				return mongoerr.New(5979701, "The 'clusteredIndex' option is only supported for key: { _id: 1 }, got: %s", e.Doc())
			}
		case "unique":
			if e.Type != bson.TypeBool && !e.IsNumber() {
				return wrongType("clusteredIndex.unique", e, "bool")
			}
			if !e.Truthy() {
				return mongoerr.New(5979700, "The 'clusteredIndex' option requires 'unique: true'")
			}
		case "name":
			if e.Type != bson.TypeString {
				return wrongType("clusteredIndex.name", e, "string")
			}
			name = strings.Clone(e.Str())
		case "v":
			if n, ok := e.AsInt64(); !ok || n != 2 {
				return mongoerr.New(5979704, "Invalid clusteredIndex version: %s, only 2 is supported", e)
			}
		default:
			return mongoerr.New(mongoerr.UnknownField, "BSON field 'create.clusteredIndex.%s' is an unknown field.", k)
		}
	}
	for _, k := range []string{"key", "unique"} {
		if !v.Doc().Has(k) {
			return mongoerr.New(40414, "BSON field 'create.clusteredIndex.%s' is missing but a required field", k)
		}
	}
	if name == "" || name == "*" || strings.IndexByte(name, 0) >= 0 {
		return mongoerr.New(mongoerr.BadValue, "'%s' is not a valid name of a clusteredIndex", name)
	}
	o.ClusteredIndex = bson.D("v", 2, "key", bson.D("_id", 1), "name", name, "unique", true)
	return nil
}

// checkClustered refuses what a clustered collection cannot be as well.
func (o *CollectionOptions) checkClustered() error {
	switch {
	case o.ClusteredIndex == nil:
		return mongoerr.New(5979703, "The 'clusteredIndex' legacy format { clusteredIndex: <bool> } is only supported for the buckets of time-series collections")
	case o.Capped:
		return mongoerr.New(mongoerr.InvalidOptions, "A clustered collection cannot be capped")
	case o.ViewOn != "":
		return mongoerr.New(mongoerr.InvalidOptions, "'clusteredIndex' is not allowed with 'viewOn'")
	}
	return nil
}

// ClusteredSpec is what listIndexes shows of a clustered collection in place of the index
// on _id; nil for other collections and for buckets.
func (c *Collection) ClusteredSpec() bson.Raw {
	if c.Options.ClusteredIndex == nil {
		return nil
	}
	b := bson.NewBuilder(nil).AppendElems(c.Options.ClusteredIndex)
	if c.Options.Collation != nil {
		b.AppendDoc("collation", c.Options.Collation.Spec())
	}
	return b.Bool("clustered", true).Finish()
}

// ClusteredName is the name of a clustered collection's index, "" for other collections.
func (c *Collection) ClusteredName() string { return c.Options.ClusteredIndex.Get("name").Str() }

// clusteredAsked checks a specification of createIndexes with clustered: true, which can
// only be what is there already.
func (c *Collection) clusteredAsked(s *IndexSpec) error {
	switch {
	case c.Options.ClusteredIndex == nil:
		return mongoerr.New(6243700, "Cannot create index with option 'clustered': %s is not a clustered collection, and an existing collection cannot be made one", c.NS)
	case s.asked != c.ClusteredName():
		return cannotCreate("The collection %s is clustered already, with the name '%s'", c.NS, c.ClusteredName())
	}
	return nil
}
