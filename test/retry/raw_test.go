package retry

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cairndb/cairn"
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/wire"
)

// rawConn is a connection on which a test says exactly what is sent: a driver would
// choose lsid and txnNumber itself.
type rawConn struct {
	t  testing.TB
	nc net.Conn
	r  *wire.Reader
}

func dial(t testing.TB, port int) *rawConn {
	t.Helper()
	nc, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &rawConn{t, nc, wire.NewReader(nc, wire.MaxMessageSize)}
}

func (c *rawConn) run(body bson.Raw) bson.Raw {
	c.t.Helper()
	if _, err := c.nc.Write((&wire.Msg{Body: body}).Append(nil)); err != nil {
		c.t.Fatal(err)
	}
	b, err := c.r.Next()
	if err != nil {
		c.t.Fatal(err)
	}
	a, err := wire.ParseAnswer(b, wire.NewCompression())
	if err != nil {
		c.t.Fatal(err)
	}
	return a.Doc.Clone()
}

var lsid = bson.D("id", bson.UUID{1, 2, 3})

// write is a command on d.c with session fields.
func write(txn int64, kv ...any) bson.Raw {
	return bson.D(append(kv, "$db", "d", "lsid", lsid, "txnNumber", txn)...)
}

func insertCmd(txn int64, ids ...int) bson.Raw {
	var docs []any
	for _, id := range ids {
		docs = append(docs, bson.D("_id", id))
	}
	return write(txn, "insert", "c", "documents", bson.A(docs...))
}

func open(t *testing.T, dir string) *cairn.DB {
	t.Helper()
	db, err := cairn.Open(cairn.Options{Dir: dir, InMemory: dir == "", CacheBytes: 16 << 20, OplogBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// TestRepliesOfRetries looks at the bytes that a retry is answered with, before and after
// a restart.
func TestRepliesOfRetries(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	c := dial(t, db.Port())
	steps := []struct {
		cmd         bson.Raw
		first, next string
	}{
		{insertCmd(1, 1, 2), "{ n: 2, ok: 1.0 }", "{ n: 2, retriedStmtIds: [ 0, 1 ], ok: 1.0 }"},
		{write(2, "update", "c", "updates", bson.A(bson.D("q", bson.D("_id", 1), "u", bson.D("$inc", bson.D("v", 1))),
			bson.D("q", bson.D("_id", 9), "u", bson.D("$inc", bson.D("v", 1)), "upsert", true))),
			"{ n: 2, upserted: [ { index: 1, _id: 9 } ], nModified: 1, ok: 1.0 }", "{ n: 2, upserted: [ { index: 1, _id: 9 } ], nModified: 1, retriedStmtIds: [ 0, 1 ], ok: 1.0 }"},
		{write(3, "delete", "c", "stmtId", int32(40), "deletes", bson.A(bson.D("q", bson.D("_id", 2), "limit", 1))), "{ n: 1, ok: 1.0 }", "{ n: 1, retriedStmtIds: [ 40 ], ok: 1.0 }"},
		{write(4, "findAndModify", "c", "query", bson.D("_id", 9), "update", bson.D("$inc", bson.D("v", 1)), "new", true),
			"{ lastErrorObject: { n: 1, updatedExisting: true }, value: { _id: 9, v: 2 }, ok: 1.0 }",
			"{ lastErrorObject: { n: 1, updatedExisting: true }, value: { _id: 9, v: 2 }, retriedStmtId: 0, ok: 1.0 }"},
	}
	for i, s := range steps {
		if got := c.run(s.cmd).String(); got != s.first {
			t.Errorf("step %d:\n%s\nwant\n%s", i, got, s.first)
		}
		if got := c.run(s.cmd).String(); got != s.next {
			t.Errorf("step %d again:\n%s\nwant\n%s", i, got, s.next)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = open(t, dir)
		c = dial(t, db.Port())
		if got := c.run(s.cmd).String(); got != s.next {
			t.Errorf("step %d after a restart:\n%s\nwant\n%s", i, got, s.next)
		}
	}
	r := c.run(insertCmd(3, 7))
	if r.Get("code").Int32() != 225 || r.Get("codeName").Str() != "TransactionTooOld" {
		t.Errorf("too old: %s", r)
	}
	r = c.run(bson.D("find", "transactions", "$db", "config"))
	if docs := r.Path("cursor.firstBatch").Doc(); docs.Len() != 1 || docs.Path("0.txnNum").Int64() != 4 {
		t.Errorf("config.transactions: %s", r)
	}
	r = c.run(bson.D("delete", "transactions", "deletes", bson.A(bson.D("q", bson.D(), "limit", 0)), "$db", "config"))
	if r.Path("writeErrors.0.code").Int32() != 20 {
		t.Errorf("delete of records: %s", r)
	}
	if r = c.run(bson.D("drop", "transactions", "$db", "config")); r.Get("code").Int32() != 20 {
		t.Errorf("drop of records: %s", r)
	}
}

// TestTwoConnections sends the same command over many connections at once.
func TestTwoConnections(t *testing.T) {
	db := open(t, "")
	c := dial(t, db.Port())
	c.run(bson.D("insert", "c", "documents", bson.A(bson.D("_id", 1, "v", 0)), "$db", "d"))
	inc := write(1, "update", "c", "updates", bson.A(bson.D("q", bson.D("_id", 1), "u", bson.D("$inc", bson.D("v", 1)))))
	var wg sync.WaitGroup
	var mu sync.Mutex
	fresh := 0
	for range 8 {
		conn := dial(t, db.Port())
		wg.Go(func() {
			r := conn.run(inc)
			mu.Lock()
			defer mu.Unlock()
			if r.Get("n").Int32() != 1 || r.Get("nModified").Int32() != 1 {
				t.Errorf("reply %s", r)
			}
			if !r.Has("retriedStmtIds") {
				fresh++
			}
		})
	}
	wg.Wait()
	r := c.run(bson.D("find", "c", "$db", "d"))
	if v := r.Path("cursor.firstBatch.0.v").Int32(); v != 1 || fresh != 1 {
		t.Errorf("v is %d, %d first executions", v, fresh)
	}
}

// TestHalfDoneBatch stops a batch in its middle by a duplicate key, then sends the rest.
func TestHalfDoneBatch(t *testing.T) {
	db := open(t, "")
	c := dial(t, db.Port())
	c.run(bson.D("insert", "c", "documents", bson.A(bson.D("_id", 3)), "$db", "d"))
	if r := c.run(insertCmd(1, 1, 2, 3, 4)); r.Get("n").Int32() != 2 || r.Path("writeErrors.0.code").Int32() != 11000 {
		t.Fatalf("reply %s", r)
	}
	c.run(bson.D("delete", "c", "deletes", bson.A(bson.D("q", bson.D("_id", 3), "limit", 1)), "$db", "d"))
	if r := c.run(insertCmd(1, 1, 2, 3, 4)).String(); r != "{ n: 4, retriedStmtIds: [ 0, 1 ], ok: 1.0 }" {
		t.Errorf("reply %s", r)
	}
}

// TestApplyOps applies what the log says to the data that it led to, and to nothing.
func TestApplyOps(t *testing.T) {
	db := open(t, "")
	c := dial(t, db.Port())
	c.run(insertCmd(1, 1, 2, 3))
	c.run(write(2, "update", "c", "updates", bson.A(bson.D("q", bson.D("_id", 1), "u", bson.D("$set", bson.D("v", 1))))))
	c.run(write(3, "delete", "c", "deletes", bson.A(bson.D("q", bson.D("_id", 2), "limit", 1))))
	before := c.run(bson.D("find", "c", "$db", "d")).String()
	var ops []any
	for v := range c.run(bson.D("find", "oplog.rs", "batchSize", 1000, "$db", "local")).Path("cursor.firstBatch").Doc().Values() {
		ops = append(ops, v)
	}
	if r := c.run(bson.D("applyOps", bson.A(ops...), "$db", "admin")); r.Get("ok").Double() != 1 || int(r.Get("applied").Int32()) != len(ops) {
		t.Errorf("reply %s", r)
	}
	if after := c.run(bson.D("find", "c", "$db", "d")).String(); after != before {
		t.Errorf("replay changed\n%s to\n%s", before, after)
	}
	r := c.run(bson.D("applyOps", bson.A(bson.D("op", "c", "ns", "e.$cmd", "o", bson.D("create", "n")),
		bson.D("op", "i", "ns", "e.n", "o", bson.D("_id", 1, "a", 1)),
		bson.D("op", "u", "ns", "e.n", "o2", bson.D("_id", 1), "o", bson.D("$v", int32(2), "diff", bson.D("u", bson.D("a", 2)))),
		bson.D("op", "i", "ns", "e.gone", "o", bson.D("_id", 1))), "$db", "admin"))
	if r.Get("code").Int32() != 26 || r.Get("results").String() != "[ true, true, true, false ]" {
		t.Errorf("reply %s", r)
	}
	if got := c.run(bson.D("find", "n", "$db", "e")).Path("cursor.firstBatch").String(); got != "[ { _id: 1, a: 2 } ]" {
		t.Errorf("applied %s", got)
	}
}
