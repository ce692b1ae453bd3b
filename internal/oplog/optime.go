package oplog

import (
	"fmt"

	"github.com/cairndb/cairn/internal/bson"
)

// Timestamp is a BSON timestamp: seconds << 32 | increment.
type Timestamp = bson.Timestamp

// UninitializedTerm is the term of an OpTime that stands for nothing.
const UninitializedTerm int64 = -1

// OpTime is the place of an entry in the order of a replica set: its ts and
// the term in which it was written.
type OpTime struct {
	TS   Timestamp
	Term int64
}

// NullOpTime is what the prevOpTime of a session's first write says.
var NullOpTime = OpTime{0, UninitializedTerm}

// IsNull reports whether t stands for no entry.
func (t OpTime) IsNull() bool { return t.TS == 0 }

// Compare orders by term first, as elections do, and then by ts.
func (t OpTime) Compare(o OpTime) int {
	switch {
	case t.Term != o.Term && t.Term < o.Term, t.Term == o.Term && t.TS < o.TS:
		return -1
	case t == o:
		return 0
	}
	return 1
}

// Append adds {key: {ts, t}} to b.
func (t OpTime) Append(b *bson.Builder, key string) {
	b.Doc(key).Timestamp("ts", t.TS).Int64("t", t.Term).End()
}

// String is the form that logs show.
func (t OpTime) String() string {
	return fmt.Sprintf("{ts: %d.%d, t: %d}", t.TS.Seconds(), t.TS.Increment(), t.Term)
}

// ParseOpTime reads {ts, t}; a missing t is the uninitialized term.
func ParseOpTime(v bson.Value) (OpTime, error) {
	doc := v.Doc()
	ts := doc.Get("ts")
	if v.Type != bson.TypeDocument || ts.Type != bson.TypeTimestamp {
		return OpTime{}, fmt.Errorf("%w: an optime must be a document with a timestamp 'ts'", ErrEntry)
	}
	t := OpTime{ts.Timestamp(), UninitializedTerm}
	if tv := doc.Get("t"); !tv.IsMissing() {
		n, ok := tv.AsInt64()
		if !ok {
			return OpTime{}, fmt.Errorf("%w: the term of an optime must be a number", ErrEntry)
		}
		t.Term = n
	}
	return t, nil
}
