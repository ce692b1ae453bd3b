//go:build e2e

package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// d builds a document from alternating keys and values.
func d(kv ...any) bson.D {
	out := bson.D{}
	for i := 0; i < len(kv); i += 2 {
		out = append(out, bson.E{Key: kv[i].(string), Value: kv[i+1]})
	}
	return out
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func testContext(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func TestDriverCompression(t *testing.T) {
	uri := target(t, standalone)
	for _, name := range []string{"zstd", "snappy", "zlib"} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t, time.Minute)
			client := dial(t, options.Client().ApplyURI(uri).SetCompressors([]string{name}))
			var hello struct {
				Compression []string `bson:"compression"`
			}
			cmd := d("hello", 1, "compression", bson.A{name})
			if err := client.Database("admin").RunCommand(ctx, cmd).Decode(&hello); err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(hello.Compression, name) {
				t.Errorf("hello offers %v", hello.Compression)
			}
			c := client.Database("e2e_compress").Collection(name)
			_ = c.Drop(ctx)
			docs := make([]any, 500)
			for i := range docs {
				docs[i] = d("_id", i, "pad", strings.Repeat("z", 2000))
			}
			must(c.InsertMany(ctx, docs))(t)
			n := 0
			cur := must(c.Find(ctx, bson.D{}))(t)
			for cur.Next(ctx) {
				if s, _ := cur.Current.Lookup("pad").StringValueOK(); len(s) == 2000 {
					n++
				}
			}
			if cur.Err() != nil || n != 500 {
				t.Errorf("read %d of 500 documents: %v", n, cur.Err())
			}
		})
	}
}

// TestDriverRetriedWrites loses the reply of each kind of write: a proxy lets the command through
// and cuts the connection instead of passing the answer on. The driver retries with the same
// txnNumber; the write must have happened once, and the retry must get the first answer.
func TestDriverRetriedWrites(t *testing.T) {
	s := start(t, t.TempDir(), replSet)
	ctx := testContext(t, 2*time.Minute)
	direct := dial(t, options.Client().ApplyURI(s.uri(replSet)))
	proxy := newProxy(t, s.addr())
	var retried atomic.Int64
	seen := map[string]int{}
	var mu sync.Mutex
	monitor := &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		mu.Lock()
		defer mu.Unlock()
		if n, ok := e.Command.Lookup("txnNumber").AsInt64OK(); ok {
			key := fmt.Sprint(e.CommandName, n)
			if seen[key]++; seen[key] > 1 {
				retried.Add(1)
			}
		}
	}}
	client := dial(t, options.Client().ApplyURI("mongodb://"+proxy.addr()+"/?directConnection=true&retryWrites=true").
		SetMonitor(monitor).SetMaxPoolSize(1))
	c := client.Database("e2e_retry").Collection("c")
	real := direct.Database("e2e_retry").Collection("c")
	must(c.InsertOne(ctx, d("_id", "warm")))(t)

	for _, step := range []struct {
		name, command string
		run           func() error
		check         func(t *testing.T)
	}{
		{"insertOne", "insert", func() error { _, err := c.InsertOne(ctx, d("_id", 1, "n", 0)); return err }, func(t *testing.T) { wantN(ctx, t, real, 1, 0) }},
		{"insertMany", "insert", func() error {
			r, err := c.InsertMany(ctx, []any{d("_id", 2, "n", 0), d("_id", 3, "n", 0)})
			if err == nil && len(r.InsertedIDs) != 2 {
				err = fmt.Errorf("acknowledged %d of 2", len(r.InsertedIDs))
			}
			return err
		}, func(t *testing.T) { wantN(ctx, t, real, 3, 0) }},
		{"updateOne", "update", func() error {
			r, err := c.UpdateOne(ctx, d("_id", 1), d("$inc", d("n", 1)))
			if err == nil && (r.MatchedCount != 1 || r.ModifiedCount != 1) {
				err = fmt.Errorf("the retry says %+v", r)
			}
			return err
		}, func(t *testing.T) { wantN(ctx, t, real, 1, 1) }},
		{"upsert", "update", func() error {
			r, err := c.UpdateOne(ctx, d("_id", 4), d("$inc", d("n", 5)), options.UpdateOne().SetUpsert(true))
			if err == nil && fmt.Sprint(r.UpsertedID) != "4" {
				err = fmt.Errorf("the retry says %+v", r)
			}
			return err
		}, func(t *testing.T) { wantN(ctx, t, real, 4, 5) }},
		{"findOneAndUpdate, image before", "findAndModify", func() error {
			raw, err := c.FindOneAndUpdate(ctx, d("_id", 1), d("$inc", d("n", 1))).Raw()
			if n, _ := raw.Lookup("n").AsInt64OK(); err == nil && n != 1 {
				err = fmt.Errorf("the retry gives %v, want the document before the first try", raw)
			}
			return err
		}, func(t *testing.T) { wantN(ctx, t, real, 1, 2) }},
		{"findOneAndUpdate, image after", "findAndModify", func() error {
			raw, err := c.FindOneAndUpdate(ctx, d("_id", 1), d("$inc", d("n", 1)), options.FindOneAndUpdate().SetReturnDocument(options.After)).Raw()
			if n, _ := raw.Lookup("n").AsInt64OK(); err == nil && n != 3 {
				err = fmt.Errorf("the retry gives %v, want the document after the first try", raw)
			}
			return err
		}, func(t *testing.T) { wantN(ctx, t, real, 1, 3) }},
		{"findOneAndDelete", "findAndModify", func() error {
			raw, err := c.FindOneAndDelete(ctx, d("_id", 4)).Raw()
			if n, _ := raw.Lookup("n").AsInt64OK(); err == nil && n != 5 {
				err = fmt.Errorf("the retry gives %v, want the deleted document", raw)
			}
			return err
		}, func(t *testing.T) { wantCount(ctx, t, real, d("_id", 4), 0) }},
		{"deleteOne", "delete", func() error {
			r, err := c.DeleteOne(ctx, d("n", 0))
			if err == nil && r.DeletedCount != 1 {
				err = fmt.Errorf("the retry says %+v", r)
			}
			return err
		}, func(t *testing.T) { wantCount(ctx, t, real, d("n", 0), 1) }},
		{"bulkWrite", "update", func() error {
			r, err := c.BulkWrite(ctx, []mongo.WriteModel{
				mongo.NewUpdateOneModel().SetFilter(d("_id", 1)).SetUpdate(d("$inc", d("n", 10))),
				mongo.NewUpdateOneModel().SetFilter(d("_id", 1)).SetUpdate(d("$inc", d("n", 100))),
			})
			if err == nil && r.ModifiedCount != 2 {
				err = fmt.Errorf("the retry says %+v", r)
			}
			return err
		}, func(t *testing.T) { wantN(ctx, t, real, 1, 113) }},
	} {
		t.Run(step.name, func(t *testing.T) {
			before := retried.Load()
			proxy.cutReplyOf(step.command)
			if err := step.run(); err != nil {
				t.Fatalf("the driver could not hide the lost reply: %v", err)
			}
			if proxy.cuts() == 0 || retried.Load() == before {
				t.Fatalf("nothing was retried: the check shows nothing (cut %d)", proxy.cuts())
			}
			step.check(t)
		})
	}
}

func wantN(ctx context.Context, t *testing.T, c *mongo.Collection, id any, want int64) {
	t.Helper()
	raw, err := c.FindOne(ctx, d("_id", id)).Raw()
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := raw.Lookup("n").AsInt64OK(); n != want {
		t.Errorf("document %v holds %v, want n %d: the write did not happen exactly once", id, raw, want)
	}
}

func wantCount(ctx context.Context, t *testing.T, c *mongo.Collection, filter any, want int64) {
	t.Helper()
	if n := must(c.CountDocuments(ctx, filter))(t); n != want {
		t.Errorf("%v matches %d documents, want %d", filter, n, want)
	}
}

// TestDriverRetryOverKill loses the reply by kill -9 and lets the driver retry on the restarted server.
func TestDriverRetryOverKill(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, replSet)
	ctx := testContext(t, 2*time.Minute)
	client := dial(t, options.Client().ApplyURI(s.uri(replSet)))
	db := client.Database("e2e_retry_kill")
	sess := must(client.StartSession())(t)
	defer sess.EndSession(context.Background())
	ctx = mongo.NewSessionContext(ctx, sess) // gives every command below the same lsid
	inc := d("update", "c", "updates", bson.A{d("q", d("_id", 1), "u", d("$inc", d("n", 1)), "upsert", true)},
		"txnNumber", int64(1), "writeConcern", d("w", 1, "j", true))
	var first, again bson.M
	if err := db.RunCommand(ctx, inc).Decode(&first); err != nil {
		t.Fatal(err)
	}
	fam := d("findAndModify", "c", "query", d("_id", 1), "update", d("$inc", d("n", 1)), "new", false,
		"txnNumber", int64(2), "writeConcern", d("w", 1, "j", true))
	var image, imageAgain struct {
		Value bson.M `bson:"value"`
	}
	if err := db.RunCommand(ctx, fam).Decode(&image); err != nil {
		t.Fatal(err)
	}
	s.kill()
	start(t, dir, replSet) // comes back to the same port
	err := db.RunCommand(ctx, fam).Decode(&imageAgain)
	for try := 0; err != nil && mongo.IsNetworkError(err) && try < 5; try++ { // pooled connections of before the kill
		err = db.RunCommand(ctx, fam).Decode(&imageAgain)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(image.Value, imageAgain.Value) {
		t.Errorf("findAndModify's retry after the crash gives %v, first %v", imageAgain.Value, image.Value)
	}
	wantN(context.Background(), t, db.Collection("c"), 1, 2)
	err = db.RunCommand(ctx, inc).Decode(&again)
	if ce, ok := err.(mongo.CommandError); !ok || ce.Code != 225 {
		t.Errorf("a retry of the older txnNumber gives %v %v, want TransactionTooOld 225 (the first gave %v)", again, err, first)
	}
}

func TestDriver1000Connections(t *testing.T) {
	uri := target(t, standalone)
	const n = 1000
	ctx := testContext(t, 2*time.Minute)
	client := dial(t, options.Client().ApplyURI(uri))
	c := client.Database("e2e_conns").Collection("c")
	_ = c.Drop(ctx)
	addr, _, _ := strings.Cut(strings.TrimPrefix(uri, "mongodb://"), "/")
	conns := make([]net.Conn, n)
	for i := range conns {
		conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer conn.Close()
		conns[i] = conn
	}
	errs := make(chan error, n)
	for i, conn := range conns {
		go func() {
			_, err := call(conn, d("insert", "c", "documents", bson.A{d("_id", i)}, "$db", "e2e_conns"))
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	wantCount(ctx, t, c, bson.D{}, n)
	var status struct {
		Connections struct {
			Current int `bson:"current"`
		} `bson:"connections"`
	}
	if err := client.Database("admin").RunCommand(ctx, d("serverStatus", 1)).Decode(&status); err != nil {
		t.Fatal(err)
	}
	if status.Connections.Current < n && !external() {
		t.Errorf("serverStatus counts %d connections while %d are open", status.Connections.Current, n)
	}
}

// call sends one OP_MSG and returns the reply's document.
func call(conn net.Conn, cmd bson.D) (bson.Raw, error) {
	doc, err := bson.Marshal(cmd)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(opMsg(doc)); err != nil {
		return nil, err
	}
	reply, err := readMessage(conn)
	if err != nil {
		return nil, err
	}
	raw := bson.Raw(reply[21:])
	if ok, _ := raw.Lookup("ok").AsInt64OK(); ok != 1 {
		return raw, fmt.Errorf("reply %v", raw)
	}
	return raw, nil
}

func opMsg(doc []byte) []byte {
	msg := make([]byte, 21, 21+len(doc))
	binary.LittleEndian.PutUint32(msg[0:], uint32(21+len(doc)))
	binary.LittleEndian.PutUint32(msg[4:], 7)
	binary.LittleEndian.PutUint32(msg[12:], 2013)
	return append(msg, doc...)
}

// readMessage reads one wire message, header included.
func readMessage(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n < 16 || n > 64<<20 {
		return nil, fmt.Errorf("message of %d bytes", n)
	}
	msg := make([]byte, n)
	copy(msg, head[:])
	_, err := io.ReadFull(r, msg[4:])
	return msg, err
}

// TestDriverStalledClient leaves one client in the middle of a message, and sends nonsense from others:
// everyone else is served, and only the senders of nonsense lose their connection.
func TestDriverStalledClient(t *testing.T) {
	uri := target(t, standalone)
	ctx := testContext(t, time.Minute)
	addr, _, _ := strings.Cut(strings.TrimPrefix(uri, "mongodb://"), "/")
	open := func() net.Conn {
		conn := must(net.DialTimeout("tcp", addr, 5*time.Second))(t)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	doc := must(bson.Marshal(d("insert", "c", "documents", bson.A{d("_id", "stalled")}, "$db", "e2e_stall")))(t)
	msg := opMsg(doc)
	stalled := open()
	must(stalled.Write(msg[:len(msg)/2]))(t)
	for _, junk := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x05\x00\x00\x00", "\xff\xff\xff\x7f" + strings.Repeat("\x00", 12),
		"\x20\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00" + strings.Repeat("\xff", 16)} {
		conn := open()
		must(conn.Write([]byte(junk)))(t)
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if len(junk) >= 16 {
			if _, err := io.Copy(io.Discard, conn); err != nil && os.IsTimeout(err) {
				t.Errorf("after %q the connection is still open", junk)
			}
		}
	}
	c := dial(t, options.Client().ApplyURI(uri)).Database("e2e_stall").Collection("c")
	_ = c.Drop(ctx)
	for i := range 100 {
		must(c.InsertOne(ctx, d("_id", i)))(t)
	}
	must(stalled.Write(msg[len(msg)/2:]))(t)
	must(readMessage(stalled))(t)
	wantCount(ctx, t, c, bson.D{}, 101)
}

// TestSoak runs a mixed load and watches memory and goroutines of the server.
func TestSoak(t *testing.T) {
	if *soak == 0 {
		t.Skip("by hand: -soak=10m")
	}
	s := start(t, t.TempDir(), replSet)
	client := dial(t, options.Client().ApplyURI(s.uri(replSet)).SetWriteConcern(writeconcern.W1()).SetTimeout(time.Minute))
	ctx, cancel := context.WithTimeout(context.Background(), *soak)
	defer cancel()
	c := client.Database("e2e_soak").Collection("c")
	must(c.Indexes().CreateOne(context.Background(), mongo.IndexModel{Keys: d("k", 1)}))(t)
	var ops atomic.Int64
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := (i*16 + w) % 50_000
				if err := soakStep(context.Background(), c, id, i); err != nil {
					t.Error(err)
					return
				}
				ops.Add(1)
			}
		})
	}
	var samples []int64
	tick := time.NewTicker(*soak / 40)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			samples = append(samples, rss(t, s.cmd.Process.Pid))
		}
	}
	wg.Wait()
	half := samples[len(samples)/2 : len(samples)/2+len(samples)/4]
	last := samples[len(samples)-len(samples)/4:]
	t.Logf("%d operations; resident size by time, MB: %v", ops.Load(), samples)
	if a, b := slices.Max(half), slices.Max(last); b > a+a/5+20 {
		t.Errorf("memory grows: %d MB in the third quarter, %d MB in the last", a, b)
	}
}

func soakStep(ctx context.Context, c *mongo.Collection, id, i int) (err error) {
	switch i % 5 {
	case 0, 1:
		_, err = c.UpdateOne(ctx, d("_id", id), d("$set", d("k", i%1000, "pad", strings.Repeat("s", 500))), options.UpdateOne().SetUpsert(true))
	case 2:
		err = c.FindOne(ctx, d("_id", id)).Err()
	case 3:
		var out []bson.Raw
		cur, e := c.Find(ctx, d("k", i%1000), options.Find().SetLimit(20))
		if e != nil {
			return e
		}
		err = cur.All(ctx, &out)
	case 4:
		_, err = c.DeleteOne(ctx, d("_id", id))
	}
	if err == mongo.ErrNoDocuments {
		err = nil
	}
	return err
}

// rss is a process's resident size in MB.
func rss(t *testing.T, pid int) int64 {
	t.Helper()
	b := must(os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid)))(t)
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize()) >> 20
}
