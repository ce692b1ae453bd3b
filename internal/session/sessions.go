package session

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cairndb/cairn/internal/bson"
)

// Timeout is how long a session lives without being used.
const Timeout = 30 * time.Minute

// Sessions is the registry of logical sessions. A session begins with its first use
// or with startSession and ends when it was not used for Timeout, or by endSessions.
type Sessions struct {
	mu struct {
		sync.Mutex
		last map[bson.UUID]time.Time
	}
}

// NewSessions returns an empty registry.
func NewSessions() *Sessions {
	s := &Sessions{}
	s.mu.last = map[bson.UUID]time.Time{}
	return s
}

// Start makes a session.
func (s *Sessions) Start(now time.Time) bson.UUID {
	id := bson.NewUUID()
	s.Touch(id, now)
	return id
}

// Touch notes that a session was used.
func (s *Sessions) Touch(id bson.UUID, now time.Time) {
	s.mu.Lock()
	s.mu.last[id] = now
	s.mu.Unlock()
}

// Refresh is Touch for several sessions.
func (s *Sessions) Refresh(ids []bson.UUID, now time.Time) {
	for _, id := range ids {
		s.Touch(id, now)
	}
}

// End forgets sessions.
func (s *Sessions) End(ids []bson.UUID) {
	s.mu.Lock()
	for _, id := range ids {
		delete(s.mu.last, id)
	}
	s.mu.Unlock()
}

// EndAll forgets all sessions.
func (s *Sessions) EndAll() {
	s.mu.Lock()
	clear(s.mu.last)
	s.mu.Unlock()
}

// Expire forgets the sessions that were not used for Timeout at now and returns them.
func (s *Sessions) Expire(now time.Time) (ids []bson.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, last := range s.mu.last {
		if now.Sub(last) >= Timeout {
			delete(s.mu.last, id)
			ids = append(ids, id)
		}
	}
	return ids
}

// Active reports whether a session is known.
func (s *Sessions) Active(id bson.UUID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.mu.last[id]
	return ok
}

// Len counts the sessions.
func (s *Sessions) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.last)
}

// List returns the sessions with the time of their last use, in the order of their ids.
func (s *Sessions) List() ([]bson.UUID, []time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := slices.SortedFunc(maps.Keys(s.mu.last), func(a, b bson.UUID) int { return bytes.Compare(a[:], b[:]) })
	used := make([]time.Time, len(ids))
	for i, id := range ids {
		used[i] = s.mu.last[id]
	}
	return ids, used
}
