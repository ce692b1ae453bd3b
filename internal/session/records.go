package session

import (
	"encoding/binary"
	"fmt"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// record is a document of config.transactions.
type record struct {
	txn  int64
	last oplog.OpTime
	date bson.DateTime
}

// appendRecord encodes {_id: lsid, txnNum, lastWriteOpTime: {ts, t}, lastWriteDate}.
func appendRecord(dst []byte, lsid bson.Raw, rec record) []byte {
	var b bson.Builder
	b.Reset(dst)
	b.AppendDoc("_id", lsid).Int64("txnNum", rec.txn)
	rec.last.Append(&b, "lastWriteOpTime")
	b.Date("lastWriteDate", rec.date)
	b.End()
	return b.Buffer()
}

func parseRecord(doc bson.Raw) (rec record, err error) {
	txn, ok := doc.Get("txnNum").AsInt64()
	date := doc.Get("lastWriteDate")
	last, err := oplog.ParseOpTime(doc.Get("lastWriteOpTime"))
	if err != nil || !ok || date.Type != bson.TypeDate {
		return record{}, fmt.Errorf("%w: document of config.transactions: %s", storage.ErrCorruption, doc)
	}
	return record{txn, last, date.Date()}, nil
}

// The kinds of images, as the log's needsRetryImage names them.
const (
	preImage  = "preImage"
	postImage = "postImage"
)

// imageRecord is a document of config.image_collection in the making: all but its ts,
// which is stamped.
type imageRecord struct {
	doc []byte
	ts  int // offset of the ts's 8 bytes
}

// newImageRecord encodes {_id: lsid, txnNum, ts, imageKind, image, invalidated}.
func newImageRecord(lsid bson.Raw, txn int64, kind string, image bson.Raw) imageRecord {
	b := bson.NewBuilder(make([]byte, 0, len(lsid)+len(image)+100))
	b.AppendDoc("_id", lsid).Int64("txnNum", txn).Timestamp("ts", 0)
	r := imageRecord{ts: b.Len() - 8}
	b.Str("imageKind", kind).AppendDoc("image", image).Bool("invalidated", false)
	r.doc = b.Finish()
	return r
}

func (r imageRecord) stamp(ts oplog.Timestamp) bson.Raw {
	binary.LittleEndian.PutUint64(r.doc[r.ts:], uint64(ts))
	return r.doc
}
