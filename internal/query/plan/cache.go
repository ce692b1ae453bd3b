package plan

import (
	"container/list"
	"sync"
	"time"

	"github.com/cairndb/cairn/internal/bson"
)

// cacheSize is how many shapes of one collection are remembered.
const cacheSize = 1000

// replanRatio is how many times more work than its trial a cached plan may need before
// it is dropped and the query planned anew.
const replanRatio = 10

// Cache remembers for each shape which index won and how much work its trial took. A
// shape becomes active when a second trial has the same winner: the first may have been
// an exception.
type Cache struct {
	mu struct {
		sync.Mutex
		version uint64
		entries map[string]*list.Element
		lru     list.List
	}
}

type cacheEntry struct {
	key    string
	winner string
	works  int64
	active bool
	about  Description
}

// Description is what an entry is shown with.
type Description struct {
	Shape   string
	Query   bson.Raw // {query, sort, projection} of the operation that made it
	Plan    bson.Raw // the winner's stages
	Created time.Time
}

// CacheEntry is one remembered shape.
type CacheEntry struct {
	Description
	Key    string
	Active bool
	Works  int64
}

// Describe notes what the entry of key is shown with.
func (c *Cache) Describe(key string, d Description) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.mu.entries[key]; el != nil {
		el.Value.(*cacheEntry).about = d
	}
}

// Entries returns what is remembered of this version of the catalog, newest use first.
func (c *Cache) Entries(version uint64) (out []CacheEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resetLocked(version)
	for el := c.mu.lru.Front(); el != nil; el = el.Next() {
		e := el.Value.(*cacheEntry)
		out = append(out, CacheEntry{e.about, e.key, e.active, e.works})
	}
	return out
}

// Remove forgets a shape.
func (c *Cache) Remove(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.mu.entries[key]; el != nil {
		delete(c.mu.entries, key)
		c.mu.lru.Remove(el)
	}
}

// Lookup returns the winner for key (Signature of a solution) and the work after which
// it should be given up. version is the catalog's: a change of indexes empties the cache.
func (c *Cache) Lookup(key string, version uint64) (winner string, budget int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resetLocked(version)
	el := c.mu.entries[key]
	if el == nil {
		return "", 0, false
	}
	c.mu.lru.MoveToFront(el)
	e := el.Value.(*cacheEntry)
	return e.winner, max(e.works, 1) * replanRatio, e.active
}

// Put notes the winner of a trial.
func (c *Cache) Put(key string, version uint64, winner string, works int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resetLocked(version)
	if el := c.mu.entries[key]; el != nil {
		e := el.Value.(*cacheEntry)
		e.active = e.winner == winner
		e.winner, e.works = winner, works
		c.mu.lru.MoveToFront(el)
		return
	}
	c.mu.entries[key] = c.mu.lru.PushFront(&cacheEntry{key: key, winner: winner, works: works})
	if c.mu.lru.Len() > cacheSize {
		last := c.mu.lru.Back()
		delete(c.mu.entries, last.Value.(*cacheEntry).key)
		c.mu.lru.Remove(last)
	}
}

// Evict makes the shape's plan be tried again.
func (c *Cache) Evict(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.mu.entries[key]; el != nil {
		el.Value.(*cacheEntry).active = false
	}
}

// Clear forgets everything.
func (c *Cache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.entries, c.mu.version = nil, 0
	c.mu.lru.Init()
}

// Len returns how many shapes are known.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.lru.Len()
}

func (c *Cache) resetLocked(version uint64) {
	if c.mu.entries == nil || c.mu.version != version {
		c.mu.entries, c.mu.version = map[string]*list.Element{}, version
		c.mu.lru.Init()
	}
}

// Signature names a solution by its stages and indexes, without constants.
func (s *Solution) Signature() string {
	var b []byte
	s.Root.Walk(func(n *Node) {
		b = append(append(b, n.Stage...), ' ')
		if n.Index != nil {
			b = append(append(b, n.Index.Name...), ' ')
		}
		if n.Backward {
			b = append(b, '-')
		}
	})
	return string(b)
}
