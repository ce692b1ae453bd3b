package query

import "github.com/cairndb/cairn/internal/bson"

const (
	// firstBatchDocs is how many documents a first batch holds by default.
	firstBatchDocs = 101
	// maxBatchBytes bounds a batch; one document of the largest size always fits.
	maxBatchBytes = 16 << 20
)

// batch collects documents of a reply's firstBatch or nextBatch array.
type batch struct {
	out   *bson.Builder
	limit int64 // documents; -1: only maxBatchBytes bounds it
	n     int64
	start int
}

func newBatch(out *bson.Builder, limit int64) *batch {
	return &batch{out: out, limit: limit, start: out.Len()}
}

// room reports whether another document may be asked for.
func (b *batch) room() bool {
	return (b.limit < 0 || b.n < b.limit) && b.out.Len()-b.start < maxBatchBytes
}

// fits reports whether size more bytes keep the batch in bounds; a first document
// always fits.
func (b *batch) fits(size int) bool {
	return b.n == 0 || b.out.Len()-b.start+size <= maxBatchBytes
}

func (b *batch) add(d bson.Raw) {
	b.out.AppendDoc("", d)
	b.n++
}
