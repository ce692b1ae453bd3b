package source

import (
	"errors"
	"fmt"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

// ErrMongos is a connection to a router.
var ErrMongos = errors.New("the server is a mongos, which has no oplog: connect to a member of each shard's replica set")

// ErrNoOplog is a server that keeps no oplog.
var ErrNoOplog = errors.New("the server has no oplog: a MongoDB keeps one as a member of an initiated replica set (--replSet and rs.initiate()), Cairn always")

// ErrEmpty is an oplog without any entry, of a server that nothing was written to yet. A
// Tail may begin with the zero OpTime then.
var ErrEmpty = errors.New("the oplog is empty: nothing was written to the server yet")

// GapError is an entry that the oplog does not reach back to any more.
type GapError struct {
	// Lost is what is missing: everything behind From and before To, the oldest entry
	// that is left.
	From, To entry.OpTime
}

func (e *GapError) Error() string {
	return fmt.Sprintf("the oplog no longer reaches back to %s: everything between that and %s, its oldest entry, is lost; take a new full backup and use a larger oplog or shorter pauses", at(e.From), at(e.To))
}

// RollbackError is an entry that was read and is in the oplog no more, though the oplog
// reaches back further: the member was rolled back, or is of another history.
type RollbackError struct {
	Entry entry.OpTime
	// Found is what is in its place: an entry with the same ts, or the newest one.
	Found entry.OpTime
	// Bytes tells that an entry of the same ts and term is there, with other contents.
	Bytes bool
}

func (e *RollbackError) Error() string {
	what := "is not in the oplog, though older entries are; found instead: " + at(e.Found)
	if e.Bytes {
		what = "has other contents in the oplog now"
	}
	return fmt.Sprintf("the entry %s %s: it was rolled back, or this server has another history; take a new full backup", at(e.Entry), what)
}

func at(t entry.OpTime) string {
	return fmt.Sprintf("%d:%d (term %d)", t.TS.Seconds(), t.TS.Increment(), t.Term)
}

// ErrGone is the beginning of an interval that the oplog does not have, or lost while it
// was read. Errors of Read that say so wrap it, and a *GapError.
var ErrGone = errors.New("the beginning of the interval is not in the oplog")

// optime reads the place of an entry.
func optime(raw bson.Raw) (entry.OpTime, error) {
	t := entry.OpTime{Term: -1}
	it := raw.Iter()
	found := 0
	for found < 2 && it.Next() {
		switch it.Key() {
		case "ts":
			if v := it.Value(); v.Type == bson.TypeTimestamp {
				t.TS = v.Timestamp()
				found++
			}
		case "t":
			if n, ok := it.Value().AsInt64(); ok {
				t.Term = n
				found++
			}
		}
	}
	if t.TS == 0 {
		return t, errors.New("the oplog has an entry without a ts")
	}
	return t, nil
}
