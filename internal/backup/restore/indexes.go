package restore

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// indexCatalog holds the indexes that will be built when all data are there: those of the
// metadata, changed by what the oplog says happened to them later. Building them last is
// faster, and a unique index would not bear the states that the data go through in between.
type indexCatalog struct {
	mu    sync.Mutex
	colls map[string]*collIndexes // by db.collection
	order []string
}

type collIndexes struct {
	specs  []bson.D // each with a name, in the order of the dump
	simple bool     // the collection is known to have the simple collation
}

func newIndexCatalog() *indexCatalog { return &indexCatalog{colls: map[string]*collIndexes{}} }

func (c *indexCatalog) coll(ns string) *collIndexes {
	x := c.colls[ns]
	if x == nil {
		x = &collIndexes{}
		c.colls[ns] = x
		c.order = append(c.order, ns)
	}
	return x
}

// set records what a collection's metadata say.
func (c *indexCatalog) set(ns string, specs []bson.D, simple bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.coll(ns)
	x.simple = simple
	for _, s := range specs {
		x.add(s)
	}
}

// setSimple records that a collection has the simple collation.
func (c *indexCatalog) setSimple(ns string, simple bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.coll(ns).simple = simple
}

// add records an index that the oplog made.
func (c *indexCatalog) add(ns string, spec bson.D) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.coll(ns).add(spec)
}

func (x *collIndexes) add(spec bson.D) {
	name := lookup(spec, "name")
	for i, s := range x.specs {
		if lookup(s, "name") == name {
			x.specs[i] = spec
			return
		}
	}
	x.specs = append(x.specs, spec)
}

// byName returns the index of that name, nil if there is none.
func (c *indexCatalog) byName(ns, name string) bson.D {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.colls[ns]; x != nil {
		for _, s := range x.specs {
			if lookup(s, "name") == name {
				return s
			}
		}
	}
	return nil
}

func (c *indexCatalog) dropDatabase(db string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ns := range c.colls {
		if strings.HasPrefix(ns, db+".") {
			delete(c.colls, ns)
		}
	}
}

func (c *indexCatalog) dropCollection(ns string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.colls, ns)
}

// rename moves the indexes of a collection; those of a collection in its way go.
func (c *indexCatalog) rename(from, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.colls[from]
	delete(c.colls, from)
	delete(c.colls, to)
	if x != nil {
		*c.coll(to) = *x
	}
}

// drop removes indexes as a dropIndexes entry names them: by name, by key, or "*".
func (c *indexCatalog) drop(ns string, which any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.colls[ns]
	if x == nil {
		return nil
	}
	var gone func(bson.D) bool
	switch w := which.(type) {
	case nil:
		return nil
	case string:
		gone = func(s bson.D) bool { return lookup(s, "name") == w || w == "*" && !isDefaultID(s) }
	case bson.D:
		gone = func(s bson.D) bool { return sameKey(lookup(s, "key"), w) }
	default:
		return fmt.Errorf("could not drop index on `%s`: expected string or object for 'index', found: %T, %v", ns, which, which)
	}
	x.specs = slices.DeleteFunc(x.specs, gone)
	return nil
}

// modify applies the index part of a collMod entry.
func (c *indexCatalog) modify(ns string, mod bson.D) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	name, byName := lookup(mod, "name").(string)
	key, byKey := lookup(mod, "keyPattern").(bson.D)
	if byName == byKey {
		return fmt.Errorf("must specify either index name (as a string) or keyPattern (as a document): %v", jsonText(mod))
	}
	x := c.colls[ns]
	if x == nil {
		x = &collIndexes{}
	}
	for i, s := range x.specs {
		if byName && lookup(s, "name") != name || byKey && !sameKey(lookup(s, "key"), key) {
			continue
		}
		for _, e := range without(mod, "name", "keyPattern") {
			s = with(s, e.Key, e.Value)
		}
		x.specs[i] = s
		return nil
	}
	return fmt.Errorf("cannot find index in indexCatalog for collMod: %v", jsonText(mod))
}

// namespaces returns the collections that have entries, in the order of the dump.
func (c *indexCatalog) namespaces() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	seen := map[string]bool{}
	for _, ns := range c.order {
		if c.colls[ns] != nil && !seen[ns] {
			seen[ns] = true
			out = append(out, ns)
		}
	}
	return out
}

// specs returns the indexes of a collection as createIndexes must be told of them: an
// index with the simple collation says nothing of it, and would inherit the collection's.
func (c *indexCatalog) specs(ns string) []bson.D {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.colls[ns]
	if x == nil {
		return nil
	}
	out := make([]bson.D, 0, len(x.specs))
	for _, s := range x.specs {
		if !x.simple && lookup(s, "collation") == nil {
			s = with(s, "collation", bson.D{{Key: "locale", Value: "simple"}})
		}
		out = append(out, s)
	}
	return out
}

// isDefaultID says whether a spec is that of a collection's own _id index.
func isDefaultID(spec bson.D) bool {
	key, _ := lookup(spec, "key").(bson.D)
	if len(key) != 1 || key[0].Key != "_id" || lookup(spec, "partialFilterExpression") != nil {
		return false
	}
	v, _ := legacyKeyValue(key[0].Value)
	n, ok := number(v)
	return ok && n == 1
}

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case int32:
		return float64(n), true
	case int64:
		return float64(n), true
	case float64:
		return n, true
	case bson.Decimal128:
		i, exp, err := n.BigInt()
		if err != nil {
			return math.NaN(), true
		}
		f, _ := i.Float64()
		return f * math.Pow10(exp), true
	}
	return 0, false
}

// sameKey compares key patterns: fields in order, numbers by value.
func sameKey(a any, b bson.D) bool {
	ka, ok := a.(bson.D)
	if !ok || len(ka) != len(b) {
		return false
	}
	for i := range ka {
		if ka[i].Key != b[i].Key {
			return false
		}
		x, okx := number(ka[i].Value)
		y, oky := number(b[i].Value)
		switch {
		case okx != oky, okx && math.Abs(x-y) > 1e-9:
			return false
		case !okx:
			t, v, err1 := bson.MarshalValue(ka[i].Value)
			u, w, err2 := bson.MarshalValue(b[i].Value)
			if err1 != nil || err2 != nil || t != u || !bytes.Equal(v, w) {
				return false
			}
		}
	}
	return true
}

// legacyKeyValue turns what servers before 3.4 took for an ascending key into 1.
func legacyKeyValue(v any) (any, bool) {
	switch x := v.(type) {
	case string:
		if x == "" {
			return int32(1), true
		}
		return v, false
	case float64:
		if math.Abs(x) < 1e-9 {
			if x < 0 {
				return int32(-1), true
			}
			return int32(1), true
		}
		return v, false
	}
	if n, ok := number(v); ok {
		if n == 0 {
			return int32(1), true
		}
		return v, false
	}
	return int32(1), true
}

// The options an index may have; others were kept by old servers and mean nothing.
var indexOptions = map[string]bool{
	"2dsphereIndexVersion": true, "background": true, "bits": true, "bucketSize": true, "coarsestIndexedLevel": true,
	"collation": true, "default_language": true, "expireAfterSeconds": true, "finestIndexedLevel": true, "key": true,
	"language_override": true, "max": true, "min": true, "name": true, "ns": true, "partialFilterExpression": true,
	"sparse": true, "storageEngine": true, "textIndexVersion": true, "unique": true, "v": true, "weights": true,
	"wildcardProjection": true,
}

// convertLegacy is --convertLegacyIndexes. say gets a line for each thing it does.
// stripOptions is for servers that do not know ignoreUnknownIndexOptions.
func convertLegacy(specs []bson.D, ns string, stripOptions bool, say func(string, ...any)) []bson.D {
	var out []bson.D
	for _, s := range specs {
		key, _ := lookup(s, "key").(bson.D)
		conv, changed := append(bson.D(nil), key...), false
		for i := range conv {
			var c bool
			conv[i].Value, c = legacyKeyValue(conv[i].Value)
			changed = changed || c
		}
		if changed {
			say("convertLegacyIndexes: converted index values `%s` to `%s` on collection `%s`", jsonText(key), jsonText(conv), ns)
			s = with(s, "key", conv)
		}
		if slices.ContainsFunc(out, func(o bson.D) bool { return sameKey(lookup(o, "key"), conv) }) {
			say("index %v contains duplicate key with an existing index after ConvertLegacyIndexKeys, Skipping...", lookup(s, "name"))
			continue
		}
		if stripOptions {
			kept := bson.D{}
			for _, e := range s {
				if indexOptions[e.Key] {
					kept = append(kept, e)
				}
			}
			if len(kept) != len(s) {
				say("convertLegacyIndexes: converted index options `%s` to `%s`", jsonText(s), jsonText(kept))
				s = kept
			}
		}
		out = append(out, s)
	}
	return out
}

// fixDottedHash is --fixDottedHashIndex: a hashed index on a dotted field becomes an
// ascending one.
func fixDottedHash(specs []bson.D) []bson.D {
	out := make([]bson.D, len(specs))
	for i, s := range specs {
		key, _ := lookup(s, "key").(bson.D)
		key = append(bson.D(nil), key...)
		for j, e := range key {
			if strings.Contains(e.Key, ".") && e.Value == "hashed" {
				key[j].Value = int32(1)
			}
		}
		out[i] = with(s, "key", key)
	}
	return out
}

// plainV1 removes a simple collation from an index of version 1, which may not have one;
// servers from 9.0 list it.
func plainV1(spec bson.D) bson.D {
	v, ok := number(lookup(spec, "v"))
	c, isDoc := lookup(spec, "collation").(bson.D)
	if ok && v == 1 && isDoc && lookup(c, "locale") == "simple" {
		return without(spec, "collation")
	}
	return spec
}

// inferVersions adds the version that an index has which says none: the first.
func inferVersions(spec bson.D) (bson.D, bool) {
	key, _ := lookup(spec, "key").(bson.D)
	for _, e := range key {
		if e.Value == "2dsphere" && lookup(spec, "2dsphereIndexVersion") == nil {
			return with(spec, "2dsphereIndexVersion", int32(1)), true
		}
	}
	return spec, false
}
