package driver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn"
	"github.com/cairndb/cairn/cairntest"
)

// message is an OP_MSG of one document.
func message(t *testing.T, doc bson.D) []byte {
	t.Helper()
	body, err := bson.Marshal(doc)
	check(t, err)
	msg := make([]byte, 21, 21+len(body))
	binary.LittleEndian.PutUint32(msg[0:], uint32(21+len(body)))
	binary.LittleEndian.PutUint32(msg[4:], 7)
	binary.LittleEndian.PutUint32(msg[12:], 2013)
	return append(msg, body...)
}

// answer reads one reply's document.
func answer(c net.Conn) (bson.Raw, error) {
	var head [16]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n < 21 || n > 48<<20 {
		return nil, fmt.Errorf("a reply of %d bytes", n)
	}
	body := make([]byte, n-16)
	_, err := io.ReadFull(c, body)
	return bson.Raw(body[5:]), err
}

func socket(t *testing.T, db *cairn.DB) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", db.Port()), 10*time.Second)
	check(t, err)
	t.Cleanup(func() { _ = c.Close() })
	check(t, c.SetDeadline(time.Now().Add(time.Minute)))
	return c
}

// TestStalledClient: a client that stops in the middle of a message, of its header too,
// holds up nobody, and is served when it goes on; nor does it hold up the close.
func TestStalledClient(t *testing.T) {
	ctx := limit(t)
	db := cairntest.Open(t)
	msg := message(t, d("insert", "c", "documents", bson.A{d("_id", "late")}, "$db", "t"))
	var stalled []net.Conn
	for _, sent := range []int{3, 16, 30} {
		c := socket(t, db)
		_, err := c.Write(msg[:sent])
		check(t, err)
		stalled = append(stalled, c)
	}
	left := socket(t, db) // and one never goes on
	_, err := left.Write(msg[:20])
	check(t, err)
	c := dial(t, db.URI()).Database("t").Collection("c")
	for i := range 200 {
		_, err := c.InsertOne(ctx, d("_id", i))
		check(t, err)
	}
	for i, sent := range []int{3, 16, 30} {
		_, err := io.Copy(stalled[i], bytes.NewReader(msg[sent:]))
		check(t, err)
		reply, err := answer(stalled[i])
		check(t, err)
		if ok, _ := reply.Lookup("ok").AsFloat64OK(); ok != 1 {
			t.Errorf("reply %v", reply)
		}
	}
	n, err := c.CountDocuments(ctx, d())
	check(t, err)
	if n != 201 { // the three inserts have one _id
		t.Errorf("%d documents", n)
	}
}

// TestThousandConnections: all are open at once and each is served.
func TestThousandConnections(t *testing.T) {
	ctx := limit(t)
	db := cairntest.Open(t)
	const n = 1000
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = socket(t, db)
	}
	for i, c := range conns {
		_, err := c.Write(message(t, d("insert", "c", "documents", bson.A{d("_id", i)}, "$db", "t")))
		check(t, err)
	}
	for _, c := range conns {
		reply, err := answer(c)
		check(t, err)
		if k, _ := reply.Lookup("n").AsInt64OK(); k != 1 {
			t.Fatalf("reply %v", reply)
		}
	}
	client := dial(t, db.URI())
	count, err := client.Database("t").Collection("c").CountDocuments(ctx, d())
	check(t, err)
	var s struct {
		Connections struct {
			Current int `bson:"current"`
		} `bson:"connections"`
	}
	check(t, client.Database("admin").RunCommand(ctx, d("serverStatus", 1)).Decode(&s))
	if count != n || s.Connections.Current < n {
		t.Errorf("%d documents over %d connections", count, s.Connections.Current)
	}
}

// TestSideBySide: two servers in one process know nothing of each other.
func TestSideBySide(t *testing.T) {
	ctx := limit(t)
	var colls []*mongo.Collection
	for i, o := range []cairntest.Option{cairntest.ReplSet("rs0"), cairntest.Dir(t.TempDir())} {
		c := dial(t, cairntest.Start(t, o)).Database("t").Collection("c")
		_, err := c.InsertOne(ctx, d("_id", i))
		check(t, err)
		colls = append(colls, c)
	}
	for i, c := range colls {
		var docs []struct {
			ID int `bson:"_id"`
		}
		cur, err := c.Find(ctx, d())
		check(t, err)
		check(t, cur.All(ctx, &docs))
		if len(docs) != 1 || docs[0].ID != i {
			t.Errorf("server %d holds %v", i, docs)
		}
		var hello struct {
			SetName string `bson:"setName"`
		}
		check(t, c.Database().RunCommand(ctx, d("hello", 1)).Decode(&hello))
		if (hello.SetName == "rs0") != (i == 0) {
			t.Errorf("server %d says that its set is %q", i, hello.SetName)
		}
	}
}

// TestSecondOpen: a store that is open cannot be opened again, and the error says why.
func TestSecondOpen(t *testing.T) {
	dir := t.TempDir()
	db := open(t, cairn.Options{Dir: dir})
	if second, err := cairn.Open(cairn.Options{Dir: dir}); err == nil {
		t.Error("opened twice", second.Close())
	} else if !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("the error does not say what is wrong: %v", err)
	}
	ctx := limit(t)
	_, err := dial(t, db.URI()).Database("t").Collection("c").InsertOne(ctx, d("_id", 1))
	began := time.Now()
	if err = errors.Join(err, db.Close()); err != nil {
		t.Errorf("the first does not go on: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a close with a client at hand took %v", took)
	}
	check(t, open(t, cairn.Options{Dir: dir}).Close())
}

// The commands for tests of the stable API are there only with test commands; a driver that
// was told to speak it strictly learns what is not in it.
func TestVersionCommands(t *testing.T) {
	ctx := limit(t)
	plain := dial(t, cairntest.Start(t)).Database("admin")
	uri := cairntest.Start(t, cairntest.Parameter("enableTestCommands=1"))
	api := options.ServerAPI(options.ServerAPIVersion1).SetStrict(true).SetDeprecationErrors(true)
	strict, err := mongo.Connect(options.Client().ApplyURI(uri).SetServerAPIOptions(api))
	check(t, err)
	t.Cleanup(func() { _ = strict.Disconnect(context.Background()) })
	for name, code := range map[string]int{"testVersion1": 0, "testVersion2": 323, "testDeprecation": 324} {
		wantCode(t, plain.RunCommand(ctx, d(name, 1)).Err(), 59)
		check(t, dial(t, uri).Database("admin").RunCommand(ctx, d(name, 1)).Err())
		if err := strict.Database("admin").RunCommand(ctx, d(name, 1)).Err(); code == 0 {
			check(t, err)
		} else {
			wantCode(t, err, code)
		}
	}
	// The driver sends loadBalanced and misses serviceId.
	host, _, _ := strings.Cut(strings.TrimPrefix(uri, "mongodb://"), "/")
	balanced, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + host + "/?loadBalanced=true"))
	check(t, err)
	t.Cleanup(func() { _ = balanced.Disconnect(context.Background()) })
	if err := balanced.Ping(ctx, nil); err == nil || !strings.Contains(err.Error(), "load balancing") {
		t.Errorf("taken for a load balancer: %v", err)
	}
}
