package catalog

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/storage"
)

// IndexSize estimates the bytes on disk of an index's entries.
func (c *Collection) IndexSize(ix *Index) (uint64, error) { return ix.Size(c.cat.eng) }

// RangeSize sums the documents whose keys in ix are in [lower, upper), as of now.
// interrupt is asked every few documents whether to go on.
func (c *Collection) RangeSize(ix *Index, lower, upper []bson.Value, interrupt func() error) (size, n int64, err error) {
	snap, err := c.cat.eng.Snapshot()
	if err != nil {
		return 0, 0, err
	}
	defer snap.Close()
	cur := ix.Cursor(snap, storage.Forward, storage.IndexBounds{Lower: ix.AppendKey(nil, lower...), Upper: ix.AppendKey(nil, upper...)})
	defer cur.Close()
	var buf []byte
	for cur.Next() {
		if n%128 == 0 {
			if err := interrupt(); err != nil {
				return 0, 0, err
			}
		}
		doc, err := c.Get(snap, cur.RecordID(), buf)
		if err != nil {
			return 0, 0, err
		}
		buf = doc
		size += int64(len(doc))
		n++
	}
	return size, n, cur.Err()
}
