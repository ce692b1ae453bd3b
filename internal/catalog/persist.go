package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/storage"
)

// The catalog table, in each space for the collections of that space. The first
// byte behind the table's prefix says what a row is:
//
//	01 | UUID                                   the collection: a document, see encodeCollection
//	02 | ident u32 | field u8 | component u8    an index's path has an array there: empty
//	03 | ident u32                              a record store's counters: documents i64 | bytes i64
//
// Big endian throughout; docs/FORMATS.md describes them for people who write readers.
const (
	rowCollection = 0x01
	rowMultikey   = 0x02
	rowCounters   = 0x03

	tablePrefixLen = 5
	counterKeyLen  = tablePrefixLen + 1 + 4
)

func catalogTable(s storage.Space) storage.Table {
	return storage.Table{Space: s, Ident: storage.IdentCatalog}
}

func collectionKey(s storage.Space, u bson.UUID) []byte {
	return append(append(catalogTable(s).AppendPrefix(nil), rowCollection), u[:]...)
}

func appendCounterKey(dst []byte, t storage.Table) []byte {
	dst = append(catalogTable(t.Space).AppendPrefix(dst), rowCounters)
	return binary.BigEndian.AppendUint32(dst, uint32(t.Ident))
}

func multikeyPrefix(t storage.Table) []byte {
	dst := append(catalogTable(t.Space).AppendPrefix(nil), rowMultikey)
	return binary.BigEndian.AppendUint32(dst, uint32(t.Ident))
}

func multikeyKey(t storage.Table, field, component int) []byte {
	return append(multikeyPrefix(t), byte(field), byte(component))
}

// storeMultikey writes the rows of bits.
func storeMultikey(u interface{ Set(key, value []byte) }, t storage.Table, bits *multikeyBits) {
	for f, b := range bits {
		for c := 0; b != 0; c, b = c+1, b>>1 {
			if b&1 != 0 {
				u.Set(multikeyKey(t, f, c), nil)
			}
		}
	}
}

// encodeCollection is the document of a collection's row.
func encodeCollection(c *Collection) bson.Raw {
	b := bson.NewBuilder(nil)
	b.Str("ns", c.NS.String()).UUID("uuid", c.UUID).Int64("ident", int64(c.store.Ident)).AppendDoc("options", c.Options.Raw)
	b.Array("indexes")
	for _, ix := range c.indexes {
		b.Doc("").AppendDoc("spec", ix.Spec.Raw).Int64("ident", int64(ix.Store.Ident))
		if ix.kept {
			b.Bool("kept", true) // whoever builds an engine for it knows that it has no entries yet
		}
		if bs := ix.build; bs != nil {
			b.Doc("build").UUID("uuid", bs.uuid).Int64("side", int64(bs.side.Ident)).End()
		}
		b.End()
	}
	b.End()
	return b.Finish()
}

// decodeCollection is the reverse of encodeCollection.
func (cat *Catalog) decodeCollection(s storage.Space, d bson.Raw) (*Collection, error) {
	bad := func(what string) error {
		return fmt.Errorf("%w: catalog row %s: %s", storage.ErrCorruption, d, what)
	}
	ns, ok := ParseNamespace(strings.Clone(d.Get("ns").Str()))
	if !ok {
		return nil, bad("ns")
	}
	uuid, ok := d.Get("uuid").UUID()
	if !ok {
		return nil, bad("uuid")
	}
	opts, err := ParseCollectionOptions(d.Get("options").Doc().Clone())
	if err != nil {
		return nil, bad(err.Error())
	}
	c, err := cat.newCollection(ns, uuid, opts, storage.Table{Space: s, Ident: storage.Ident(d.Get("ident").Int64())})
	if err != nil {
		return nil, bad(err.Error())
	}
	builds := map[bson.UUID]*buildState{}
	for v := range d.Get("indexes").Doc().Values() {
		spec, err := ParseIndexSpec(v.Doc().Get("spec").Doc().Clone())
		if err != nil {
			return nil, bad(err.Error())
		}
		ix, err := cat.newIndex(spec, storage.Table{Space: s, Ident: storage.Ident(v.Doc().Get("ident").Int64())})
		if err != nil {
			return nil, bad(err.Error())
		}
		if b := v.Doc().Get("build").Doc(); b != nil {
			u, _ := b.Get("uuid").UUID()
			if builds[u] == nil {
				builds[u] = newBuildState(u, storage.Table{Space: s, Ident: storage.Ident(b.Get("side").Int64())})
			}
			ix.build = builds[u]
		}
		c.indexes = append(c.indexes, ix)
	}
	return c, nil
}

// loadMultikey reads the rows of an index.
func loadMultikey(r storage.Reader, t storage.Table) (bits multikeyBits, err error) {
	p := multikeyPrefix(t)
	c := r.NewCursor(p, append(append([]byte(nil), p...), 0xFF, 0xFF))
	for ok := c.First(); ok; ok = c.Next() {
		if k := c.Key()[len(p):]; len(k) == 2 && int(k[0]) < len(bits) && k[1] < 64 {
			bits[k[0]] |= 1 << k[1]
		}
	}
	return bits, errors.Join(c.Err(), c.Close())
}

// loadCounters reads a collection's counters; ok is false if there are none.
func loadCounters(r storage.Reader, t storage.Table) (d delta, ok bool, err error) {
	v, err := r.Get(appendCounterKey(nil, t), nil)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return d, false, nil
	case err != nil:
		return d, false, err
	case len(v) != 16:
		return d, false, fmt.Errorf("%w: counters of table %s have %d bytes", storage.ErrCorruption, t, len(v))
	}
	return delta{int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:]))}, true, nil
}
