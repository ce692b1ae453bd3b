package chain

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/oplog"
)

// OpTime is the place of an oplog entry: its timestamp and the term of the primary that wrote
// it. Two entries are the same only if both are equal.
type OpTime = oplog.OpTime

// Compare orders two timestamps: -1, 0 or 1.
func Compare(a, b bson.Timestamp) int { return cmp.Compare(a, b) }

// Text writes a timestamp as seconds:increment.
func Text(ts bson.Timestamp) string { return fmt.Sprintf("%d:%d", ts.Seconds(), ts.Increment()) }

// Clock is the wall clock second of a timestamp, in UTC.
func Clock(ts bson.Timestamp) time.Time { return time.Unix(int64(ts.Seconds()), 0).UTC() }

// Describe is a timestamp as reports show it: exact, and readable. The end of a second, which is
// what a time on the clock means, is that time.
func Describe(ts bson.Timestamp) string {
	if ts.Increment() == math.MaxUint32 {
		return Clock(ts).Format(time.RFC3339)
	}
	return fmt.Sprintf("%s (%s)", Text(ts), Clock(ts).Format(time.RFC3339))
}

// EndOfSecond is the last timestamp that a second can hold, so that a time on the clock means
// everything that happened up to and in that second.
func EndOfSecond(sec int64) bson.Timestamp {
	return bson.NewTimestamp(uint32(min(max(sec, 0), math.MaxUint32)), math.MaxUint32)
}
