package chain

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// OpTime is the place of an oplog entry: its timestamp and the term of the primary that wrote
// it. Two entries are the same only if both are equal.
type OpTime struct {
	TS   bson.Timestamp
	Term int64
}

// IsZero says whether the place is not set.
func (o OpTime) IsZero() bool { return o.TS.T == 0 && o.TS.I == 0 }

// String gives the form that --to takes back, seconds:increment.
func (o OpTime) String() string { return Text(o.TS) }

// Compare orders two timestamps: -1, 0 or 1.
func Compare(a, b bson.Timestamp) int {
	if c := cmp.Compare(a.T, b.T); c != 0 {
		return c
	}
	return cmp.Compare(a.I, b.I)
}

// Text writes a timestamp as seconds:increment.
func Text(ts bson.Timestamp) string { return fmt.Sprintf("%d:%d", ts.T, ts.I) }

// Clock is the wall clock second of a timestamp, in UTC.
func Clock(ts bson.Timestamp) time.Time { return time.Unix(int64(ts.T), 0).UTC() }

// Describe is a timestamp as reports show it: exact, and readable.
func Describe(ts bson.Timestamp) string {
	return fmt.Sprintf("%s (%s)", Text(ts), Clock(ts).Format(time.RFC3339))
}

// EndOfSecond is the last timestamp that a second can hold, so that a time on the clock means
// everything that happened up to and in that second.
func EndOfSecond(sec int64) bson.Timestamp {
	return bson.Timestamp{T: uint32(min(max(sec, 0), math.MaxUint32)), I: math.MaxUint32}
}
