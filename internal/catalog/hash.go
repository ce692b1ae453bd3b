package catalog

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"hash"
	"slices"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/storage"
)

// CollectionHash is one collection's part of a Hashes.
type CollectionHash struct {
	Name string
	UUID bson.UUID
	MD5  string // hex
}

// Hashes is what Hash found.
type Hashes struct {
	Collections []CollectionHash // by name
	Capped      []string
	MD5         string // of all of them
}

// Hash hashes the documents of a database's collections (only: those named), each in
// the order of _id, a capped one in the order of insertion, all on one snapshot. Two
// databases with equal documents have equal hashes, whatever their history.
func (c *Catalog) Hash(ctx context.Context, db string, only []string) (*Hashes, error) {
	v := c.Pin()
	snap, err := c.eng.Snapshot()
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	res := &Hashes{}
	total := md5.New()
	for _, coll := range v.Collections(db) {
		if len(only) > 0 && !slices.Contains(only, coll.NS.Coll) || coll.NS.Coll == SystemProfile {
			continue
		}
		h := md5.New()
		if err := coll.hash(ctx, snap, h); err != nil {
			return nil, err
		}
		sum := hex.EncodeToString(h.Sum(nil))
		total.Write([]byte(sum))
		res.Collections = append(res.Collections, CollectionHash{coll.NS.Coll, coll.UUID, sum})
		if coll.IsCapped() {
			res.Capped = append(res.Capped, coll.NS.Coll)
		}
	}
	res.MD5 = hex.EncodeToString(total.Sum(nil))
	return res, nil
}

func (c *Collection) hash(ctx context.Context, snap *storage.Snapshot, h hash.Hash) error {
	id := c.IDIndex()
	if c.IsCapped() || id == nil {
		cur := c.store.Cursor(snap, storage.Forward)
		defer cur.Close()
		for n := 0; cur.Next(); n++ {
			if n%256 == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			h.Write(cur.Value())
		}
		return cur.Err()
	}
	cur := id.Cursor(snap, storage.Forward, storage.IndexBounds{})
	defer cur.Close()
	var buf []byte
	for n := 0; cur.Next(); n++ {
		if n%256 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		doc, err := c.store.Get(snap, cur.RecordID(), buf)
		if err != nil {
			return err
		}
		buf = doc
		h.Write(doc)
	}
	return cur.Err()
}
