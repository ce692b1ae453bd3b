package query

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// DefaultCursorTimeout is how long a cursor may stay idle (cursorTimeoutMillis).
const DefaultCursorTimeout = 10 * time.Minute

// batchSource is what a cursor continues: it keeps a position, not iterators.
type batchSource interface {
	// fill appends documents to the builder's open array until the batch is full.
	// done means that the cursor is exhausted and must be closed.
	fill(op *OpContext, b *batch) (done bool, err error)
	// close gives up memory and spill files.
	close()
}

// Cursor is an open cursor. A registered one is used by one operation at a time.
type Cursor struct {
	ID        int64
	NS        Namespace
	LSID      bson.Raw
	ConnID    int64
	TxnNumber int64 // -1: not in a transaction
	NoTimeout bool
	Tailable  bool
	AwaitData bool
	Created   time.Time
	Command   bson.Raw // the originating command, for currentOp

	source   batchSource
	maxTime  time.Duration // left of maxTimeMS over all batches; 0: none
	lastUse  time.Time
	inUse    *OpContext
	killed   bool
	batches  int64
	returned atomic.Int64 // counted outside of the registry's lock
}

// CursorStats are the figures of serverStatus's metrics.cursor.
type CursorStats struct {
	Open, Pinned, NoTimeout, MultiTarget    int64
	TotalOpened, TimedOut, MoreThanOneBatch int64
}

// CursorInfo describes a cursor to currentOp and $currentOp {idleCursors: true}.
type CursorInfo struct {
	ID                  int64
	NS                  Namespace
	LSID                bson.Raw
	Created, LastAccess time.Time
	Batches, Returned   int64
	NoTimeout, Tailable bool
	AwaitData           bool
	Idle                bool
	Command             bson.Raw
}

// Cursors is the registry of the cursors that stay open between batches.
type Cursors struct {
	timeout time.Duration
	mu      struct {
		sync.Mutex
		open  map[int64]*Cursor
		stats CursorStats
	}
}

// NewCursors returns an empty registry; timeout 0 means DefaultCursorTimeout.
func NewCursors(timeout time.Duration) *Cursors {
	if timeout == 0 {
		timeout = DefaultCursorTimeout
	}
	c := &Cursors{timeout: timeout}
	c.mu.open = map[int64]*Cursor{}
	return c
}

// SetTimeout changes how long a cursor may stay idle.
func (c *Cursors) SetTimeout(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timeout = d
}

// Timeout returns how long a cursor may stay idle.
func (c *Cursors) Timeout() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.timeout
}

// add registers cur and gives it an id that cannot be guessed.
func (c *Cursors) add(cur *Cursor) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			panic(err) // crypto/rand never fails
		}
		id := int64(binary.LittleEndian.Uint64(b[:]) >> 1)
		if _, taken := c.mu.open[id]; id == 0 || taken {
			continue
		}
		cur.ID, cur.lastUse, cur.Created = id, time.Now(), time.Now()
		cur.batches = 1
		c.mu.open[id] = cur
		c.mu.stats.TotalOpened++
		return id
	}
}

// checkOut pins a cursor for op.
func (c *Cursors) checkOut(op *OpContext, id int64, ns Namespace) (*Cursor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cur := c.mu.open[id]
	if cur == nil || cur.killed {
		return nil, mongoerr.New(mongoerr.CursorNotFound, "cursor id %d not found", id)
	}
	if cur.inUse != nil {
		return nil, mongoerr.New(mongoerr.CursorInUse, "cursor id %d is already in use", id)
	}
	if ns != cur.NS {
		return nil, mongoerr.New(13, "Requested getMore on namespace '%s', but cursor belongs to a different namespace %s", ns, cur.NS)
	}
	if err := sameSession(op, cur); err != nil {
		return nil, err
	}
	cur.inUse = op
	if cur.batches++; cur.batches == 2 {
		c.mu.stats.MoreThanOneBatch++
	}
	return cur, nil
}

func sameSession(op *OpContext, cur *Cursor) error {
	switch {
	case cur.LSID == nil && op.LSID == nil, bytes.Equal(cur.LSID, op.LSID), equalSessions(cur.LSID, op.LSID):
		return nil
	case cur.LSID != nil && op.LSID != nil && bson.Equal(cur.LSID.Get("id"), op.LSID.Get("id")):
		return nil // one of them has the user's digest too, as that of a retryable write
	case cur.LSID == nil:
		return mongoerr.New(50737, "Cannot run getMore on cursor %d, which was not created in a session, in session %s", cur.ID, sessionText(op.LSID))
	case op.LSID == nil:
		return mongoerr.New(50736, "Cannot run getMore on cursor %d, which was created in session %s, without an lsid", cur.ID, sessionText(cur.LSID))
	}
	return mongoerr.New(50738, "Cannot run getMore on cursor %d, which was created in session %s, in session %s", cur.ID, sessionText(cur.LSID), sessionText(op.LSID))
}

// equalSessions compares ids, and users where both lsids name them: a command with a txnNumber
// has its session with the user that its record holds, and the getMore of its cursor without.
func equalSessions(a, b bson.Raw) bool {
	same := func(field string) bool { return bytes.Equal(a.Get(field).Data, b.Get(field).Data) }
	return a != nil && b != nil && same("id") && (!a.Has("uid") || !b.Has("uid") || same("uid"))
}

func sessionText(lsid bson.Raw) string {
	if u, ok := lsid.Get("id").UUID(); ok {
		return u.String()
	}
	return "{}"
}

// checkIn returns a pinned cursor; done closes it.
func (c *Cursors) checkIn(cur *Cursor, done bool) {
	c.mu.Lock()
	cur.inUse, cur.lastUse = nil, time.Now()
	done = done || cur.killed
	if done {
		delete(c.mu.open, cur.ID)
	}
	c.mu.Unlock()
	if done {
		cur.source.close()
	}
}

// kill closes a cursor; one in use is closed by its operation, which is
// interrupted.
func (c *Cursors) kill(id int64, match func(*Cursor) bool) bool {
	c.mu.Lock()
	cur := c.mu.open[id]
	if cur == nil || !match(cur) {
		c.mu.Unlock()
		return false
	}
	idle := c.killLocked(cur)
	c.mu.Unlock()
	if idle {
		cur.source.close()
	}
	return true
}

func (c *Cursors) killLocked(cur *Cursor) (idle bool) {
	cur.killed = true
	if cur.inUse != nil {
		cur.inUse.Kill(mongoerr.New(237, "operation was interrupted because its cursor was killed"))
		return false
	}
	delete(c.mu.open, cur.ID)
	return true
}

// KillIf closes all cursors that match says and returns how many: those of a
// session, a dropped database, a closed connection.
func (c *Cursors) KillIf(match func(CursorInfo) bool) int {
	c.mu.Lock()
	var idle []*Cursor
	n := 0
	for _, cur := range c.mu.open {
		if match(cur.info()) {
			n++
			if c.killLocked(cur) {
				idle = append(idle, cur)
			}
		}
	}
	c.mu.Unlock()
	for _, cur := range idle {
		cur.source.close()
	}
	return n
}

// Reap closes cursors that were idle for too long at now and returns how many.
func (c *Cursors) Reap(now time.Time) int {
	c.mu.Lock()
	var dead []*Cursor
	for _, cur := range c.mu.open {
		if cur.inUse == nil && !cur.NoTimeout && now.Sub(cur.lastUse) >= c.timeout {
			delete(c.mu.open, cur.ID)
			dead = append(dead, cur)
		}
	}
	c.mu.stats.TimedOut += int64(len(dead))
	c.mu.Unlock()
	for _, cur := range dead {
		cur.source.close()
	}
	return len(dead)
}

func (cur *Cursor) info() CursorInfo {
	return CursorInfo{ID: cur.ID, NS: cur.NS, LSID: cur.LSID, Created: cur.Created, LastAccess: cur.lastUse,
		Batches: cur.batches, Returned: cur.returned.Load(), NoTimeout: cur.NoTimeout, Tailable: cur.Tailable,
		AwaitData: cur.AwaitData, Idle: cur.inUse == nil, Command: cur.Command}
}

// List describes all open cursors.
func (c *Cursors) List() []CursorInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]CursorInfo, 0, len(c.mu.open))
	for _, cur := range c.mu.open {
		out = append(out, cur.info())
	}
	return out
}

// Stats returns the present figures.
func (c *Cursors) Stats() CursorStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.mu.stats
	s.Open = int64(len(c.mu.open))
	for _, cur := range c.mu.open {
		if cur.inUse != nil {
			s.Pinned++
		}
		if cur.NoTimeout {
			s.NoTimeout++
		}
	}
	return s
}
