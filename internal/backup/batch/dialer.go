package batch

import (
	"context"
	"encoding/binary"
	"net"
	"slices"
	"sync"

	"github.com/cairndb/cairn/internal/bson"
)

// Dialer makes connections for the driver. The zero Dialer is ready, and safe for
// concurrent use.
type Dialer struct {
	net.Dialer
	// Scribble overwrites memory that is given back, so that a test sees who has kept it.
	Scribble bool

	pool    pool
	mu      sync.Mutex
	cursors map[int64]*Cursor
}

// DialContext implements the driver's interface of a dialer.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	nc, err := d.Dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: nc, d: d}, nil
}

// Cursor is a cursor whose batches are taken. It is used by one goroutine.
type Cursor struct {
	d     *Dialer
	id    int64
	taken *Batch // guarded by d.mu
	shut  bool   // guarded by d.mu
}

// Follow begins to take the batches of a cursor that was just opened. Close ends it. Two
// cursors with the same id, which are on two servers then, are both left to the driver. A
// nil Dialer follows nothing.
func (d *Dialer) Follow(id int64) *Cursor {
	if d == nil || id == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &Cursor{d: d, id: id}
	if d.cursors == nil {
		d.cursors = map[int64]*Cursor{}
	}
	if _, there := d.cursors[id]; there {
		d.cursors[id] = nil // stays until both ends: see Close
		return c
	}
	d.cursors[id] = c
	return c
}

// Take returns the batch that came with the getMore which the driver just did, nil if the
// driver has it.
func (c *Cursor) Take() *Batch {
	if c == nil {
		return nil
	}
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	b := c.taken
	c.taken = nil
	return b
}

// Close ends it. A batch that was not taken is lost.
func (c *Cursor) Close() {
	if c == nil {
		return
	}
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	c.shut = true
	if c.taken != nil {
		c.taken.Release()
		c.taken = nil
	}
	if c.d.cursors[c.id] == c {
		delete(c.d.cursors, c.id)
	}
	// An id that was there twice stays with the driver for the rest of the run.
}

// followed returns the cursor that an id belongs to.
func (d *Dialer) followed(id int64) *Cursor {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cursors[id]
}

// give hands a batch to a cursor. It says whether the cursor took it.
func (c *Cursor) give(b *Batch) bool {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if c.shut || c.taken != nil {
		return false
	}
	c.taken = b
	return true
}

// The parts of a message.
const (
	headerLen  = 16
	opMsg      = 2013
	bodyAt     = headerLen + 4 + 1 // behind the flags and the kind of the section
	maxMessage = 48_000_000
)

// conn is a connection. The driver has one operation on it at a time, and reads a reply
// before it sends the next command, so only Close is called beside the others.
type conn struct {
	net.Conn
	d *Dialer

	want    *Cursor // whose reply comes next; nil: nobody's
	request int32   // the id of the command it answers
	head    [headerLen]byte
	msg     []byte // the reply, once its length is known
	have    int    // bytes of head or msg that were read
	pending []byte // what the driver reads next
}

// Write implements net.Conn. The driver writes a command at once.
func (c *conn) Write(p []byte) (int, error) {
	if id, ok := getMore(p); ok {
		c.want = c.d.followed(id)
		c.request = int32(binary.LittleEndian.Uint32(p[4:]))
	}
	return c.Conn.Write(p)
}

// getMore returns the cursor's id if a message is a getMore command.
func getMore(p []byte) (id int64, ok bool) {
	const key = "\x12getMore\x00"
	if len(p) < bodyAt+4+len(key)+8 || int(binary.LittleEndian.Uint32(p)) != len(p) || binary.LittleEndian.Uint32(p[12:]) != opMsg ||
		binary.LittleEndian.Uint32(p[16:]) != 0 || p[20] != 0 {
		return 0, false
	}
	p = p[bodyAt+4:]
	if string(p[:len(key)]) != key {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint64(p[len(key):])), true
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.pending) == 0 && c.want != nil {
		if err := c.reply(); err != nil {
			// What was read so far is kept: after a time limit the driver reads the rest later.
			return 0, err
		}
	}
	if len(c.pending) > 0 {
		n := copy(p, c.pending)
		if c.pending = c.pending[n:]; len(c.pending) == 0 {
			c.pending = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// reply reads the reply that is waited for, hands its batch over, and leaves what the
// driver is to get in pending.
func (c *conn) reply() error {
	if c.msg == nil {
		if err := c.fill(c.head[:]); err != nil {
			return err
		}
		size := binary.LittleEndian.Uint32(c.head[:])
		if size < bodyAt+5 || size > maxMessage || binary.LittleEndian.Uint32(c.head[12:]) != opMsg ||
			int32(binary.LittleEndian.Uint32(c.head[8:])) != c.request {
			c.pass(slices.Clone(c.head[:]))
			return nil
		}
		c.msg = c.d.pool.get(int(size))
		copy(c.msg, c.head[:])
	}
	if err := c.fill(c.msg); err != nil {
		return err
	}
	rest, arr, ok := take(c.msg)
	if !ok || !c.want.give(&Batch{d: c.d, buf: c.msg, arr: arr}) {
		rest = c.msg
	}
	c.pass(rest)
	return nil
}

// fill reads until buf is full.
func (c *conn) fill(buf []byte) error {
	for c.have < len(buf) {
		n, err := c.Conn.Read(buf[c.have:])
		c.have += n
		if err != nil && c.have < len(buf) {
			return err
		}
	}
	return nil
}

func (c *conn) pass(p []byte) {
	c.pending, c.want, c.msg, c.have = p, nil, nil, 0
}

// take divides a reply into its batch and the same reply with an empty one. It changes
// nothing, and says no to a reply that is not as it should be.
func take(msg []byte) (rest, arr []byte, ok bool) {
	if binary.LittleEndian.Uint32(msg[headerLen:]) != 0 || msg[headerLen+4] != 0 || int(binary.LittleEndian.Uint32(msg[bodyAt:])) != len(msg)-bodyAt {
		return nil, nil, false
	}
	cursor, cursorLen := find(msg[bodyAt:], "cursor", bson.TypeDocument)
	if cursor < 0 {
		return nil, nil, false
	}
	cursor += bodyAt
	at, size := find(msg[cursor:cursor+cursorLen], "nextBatch", bson.TypeArray)
	if at < 0 || msg[cursor+at+size-1] != 0 {
		return nil, nil, false
	}
	at += cursor
	rest = make([]byte, 0, len(msg)-size+len(bson.Empty))
	rest = append(append(append(rest, msg[:at]...), bson.Empty...), msg[at+size:]...)
	cut := uint32(size - len(bson.Empty))
	for _, length := range []int{0, bodyAt, cursor} {
		binary.LittleEndian.PutUint32(rest[length:], binary.LittleEndian.Uint32(rest[length:])-cut)
	}
	return rest, msg[at+4 : at+size-1], true
}

// find returns where the value of a field is in a document, -1 if there is none of that
// type or the document is not well formed.
func find(doc bson.Raw, key string, t bson.Type) (at, size int) {
	at, found := 4, -1
	for it := doc.Iter(); ; {
		if !it.Next() {
			if it.Err() != nil || found < 0 {
				return -1, 0
			}
			return found, size
		}
		at += 1 + len(it.Key()) + 1
		v := it.Value()
		if found < 0 && it.Key() == key {
			if v.Type != t {
				return -1, 0
			}
			found, size = at, len(v.Data)
		}
		at += len(v.Data)
	}
}
