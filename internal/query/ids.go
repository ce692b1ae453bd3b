package query

import (
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/bson"
)

// idSource makes ObjectIds and timestamps that this process never made before.
type idSource struct {
	process [5]byte
	counter atomic.Uint32
	stamp   atomic.Uint64
}

func newIDSource() *idSource {
	s := &idSource{}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	copy(s.process[:], b[:5])
	s.counter.Store(binary.BigEndian.Uint32(b[4:]))
	return s
}

// objectID returns a new ObjectId: seconds, process, counter.
func (s *idSource) objectID(now time.Time) (id bson.ObjectID) {
	binary.BigEndian.PutUint32(id[:], uint32(now.Unix()))
	copy(id[4:], s.process[:])
	n := s.counter.Add(1)
	id[9], id[10], id[11] = byte(n>>16), byte(n>>8), byte(n)
	return id
}

// timestamp returns a timestamp of the present second, larger than all before: what an
// empty timestamp in a document becomes.
func (s *idSource) timestamp(now time.Time) bson.Timestamp {
	for {
		last := s.stamp.Load()
		next := max(uint64(bson.NewTimestamp(uint32(now.Unix()), 1)), last+1)
		if s.stamp.CompareAndSwap(last, next) {
			return bson.Timestamp(next)
		}
	}
}
