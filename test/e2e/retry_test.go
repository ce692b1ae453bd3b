//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/wire"
)

// retrier is a client with one session that sends each command until it is answered, as a
// driver does, but over the death of the server.
type retrier struct {
	n       int32
	txn     int64
	pending bson.Raw // sent and not answered
	v       int32    // what its document has once all is done
	docs    int32    // how many documents it inserted
	check   func(reply bson.Raw) string
}

// TestRetryOverKill kills the server under retryable writes, on the replica-set face with its
// default write concern, and has every unanswered command sent again after the restart: each
// happens exactly once, and its reply is right.
func TestRetryOverKill(t *testing.T) {
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	clients := make([]*retrier, 4)
	for i := range clients {
		clients[i] = &retrier{n: int32(i + 1)}
	}
	for round := 0; round < *crashes && !t.Failed(); round++ {
		s := start(t, dir, replSet)
		var wg sync.WaitGroup
		var left atomic.Int64
		left.Store(int64(1 + rng.IntN(400)))
		enough := make(chan struct{})
		for _, c := range clients {
			r := rand.New(rand.NewPCG(rng.Uint64(), uint64(c.n)))
			wg.Go(func() {
				c.work(t, s, r, func() {
					if left.Add(-1) == 0 {
						close(enough)
					}
				})
			})
		}
		select {
		case <-enough:
		case <-time.After(time.Minute):
			t.Errorf("round %d: the load does not get on", round)
		}
		s.kill()
		wg.Wait()
	}
	s := start(t, dir, replSet)
	nc, r, err := rawDial(t, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		if c.pending != nil {
			reply, err := ask(nc, r, c.pending)
			if err != nil {
				t.Fatal(err)
			}
			c.judge(t, reply)
		}
		c.verify(t, nc, r)
	}
	s.stop(t)
}

func rawDial(t *testing.T, s *server) (net.Conn, *wire.Reader, error) {
	nc, err := net.Dial("tcp", s.addr())
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { _ = nc.Close() })
	return nc, wire.NewReader(nc, wire.MaxMessageSize), nil
}

func ask(nc net.Conn, r *wire.Reader, body bson.Raw) (bson.Raw, error) {
	if _, err := nc.Write((&wire.Msg{Body: body}).Append(nil)); err != nil {
		return nil, err
	}
	b, err := r.Next()
	if err != nil {
		return nil, err
	}
	a, err := wire.ParseAnswer(b, wire.NewCompression())
	if err != nil {
		return nil, err
	}
	return a.Doc.Clone(), nil
}

// work sends the unanswered command again, then new ones, until the server is gone.
func (c *retrier) work(t *testing.T, s *server, rng *rand.Rand, acked func()) {
	nc, r, err := rawDial(t, s)
	if err != nil {
		t.Error(err)
		return
	}
	for !t.Failed() {
		if c.pending == nil {
			c.next(rng)
		}
		reply, err := ask(nc, r, c.pending)
		if err != nil {
			return
		}
		c.judge(t, reply)
		acked()
	}
}

// next makes a new command and says what its reply must be.
func (c *retrier) next(rng *rand.Rand) {
	c.txn++
	ns, q := "e2e_retry", bson.D("_id", c.n)
	inc := bson.D("$inc", bson.D("v", 1))
	session := []any{"$db", ns, "lsid", bson.D("id", bson.UUID{0: byte(c.n), 6: 0x40}), "txnNumber", c.txn}
	var cmd []any
	switch rng.IntN(3) {
	case 0:
		c.v++
		cmd = []any{"update", "c", "updates", bson.A(bson.D("q", q, "u", inc, "upsert", true))}
		c.check = func(r bson.Raw) string { return want("n", r.Get("n"), 1) }
	case 1:
		c.v++
		cmd = []any{"findAndModify", "c", "query", q, "update", inc, "new", true, "upsert", true}
		v := c.v
		c.check = func(r bson.Raw) string { return want("value.v", r.Path("value.v"), v) }
	default:
		var docs []any
		for range 1 + rng.IntN(5) {
			c.docs++
			docs = append(docs, bson.D("_id", fmt.Sprintf("%d-%d", c.n, c.docs), "of", c.n))
		}
		cmd = []any{"insert", "c", "documents", bson.A(docs...)}
		n := int32(len(docs))
		c.check = func(r bson.Raw) string { return want("n", r.Get("n"), n) }
	}
	c.pending = bson.D(append(cmd, session...)...)
}

func want(name string, v bson.Value, n int32) string {
	if got, ok := v.AsInt64(); ok && got == int64(n) {
		return ""
	}
	return fmt.Sprintf("%s is %s, want %d", name, v, n)
}

func (c *retrier) judge(t *testing.T, reply bson.Raw) {
	wrong := c.check(reply)
	if reply.Get("ok").Double() != 1 || reply.Has("writeErrors") || wrong != "" {
		t.Errorf("client %d: %s: %s answers %s", c.n, wrong, c.pending, reply)
	}
	c.pending = nil
}

func (c *retrier) verify(t *testing.T, nc net.Conn, r *wire.Reader) {
	for _, q := range []struct {
		filter bson.Raw
		n      int32
	}{{bson.D("_id", c.n, "v", c.v), 1}, {bson.D("of", c.n), c.docs}} {
		reply, err := ask(nc, r, bson.D("count", "c", "query", q.filter, "$db", "e2e_retry"))
		if err != nil {
			t.Fatal(err)
		}
		if wrong := want("n", reply.Get("n"), q.n); wrong != "" && !(c.v == 0 && q.n == 1) {
			t.Errorf("client %d after %d commands: %s: %s", c.n, c.txn, q.filter, wrong)
		}
	}
	t.Logf("client %d: %d commands, v %d, %d documents", c.n, c.txn, c.v, c.docs)
}
