package query

import "github.com/cairndb/cairn/internal/bson"

// listSource is a cursor over documents that are already there: listCollections,
// listIndexes, $currentOp.
type listSource struct{ docs []bson.Raw }

func (s *listSource) fill(_ *OpContext, b *batch) (bool, error) {
	for len(s.docs) > 0 {
		if !b.room() || !b.fits(len(s.docs[0])) {
			return false, nil
		}
		b.add(s.docs[0])
		s.docs = s.docs[1:]
	}
	return true, nil
}

func (s *listSource) close() { s.docs = nil }

// OpenList appends the field `cursor` with a first batch of docs, and keeps a cursor
// over the rest if they do not all fit. ns is what the cursor claims to read.
func (c *Cursors) OpenList(op *OpContext, ns Namespace, docs []bson.Raw, batchSize int64, hasBatchSize bool, out *bson.Builder) error {
	limit := int64(-1)
	if hasBatchSize {
		limit = batchSize
	}
	src := &listSource{docs}
	out.Doc("cursor")
	out.Array("firstBatch")
	done, err := src.fill(op, newBatch(out, limit))
	if err != nil {
		return err
	}
	out.End()
	id := int64(0)
	if !done {
		id = c.add(&Cursor{NS: ns, LSID: op.LSID.Clone(), ConnID: op.ConnID, TxnNumber: -1, source: src})
	}
	out.Int64("id", id).Join("ns", ns.DB, ".", ns.Coll).End()
	return nil
}
