package batch

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
)

// message wraps a document as the driver and the server do.
func message(t testing.TB, id, answers int32, doc any) []byte {
	t.Helper()
	b, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	m := binary.LittleEndian.AppendUint32(nil, uint32(bodyAt+len(b)))
	m = binary.LittleEndian.AppendUint32(m, uint32(id))
	m = binary.LittleEndian.AppendUint32(m, uint32(answers))
	m = binary.LittleEndian.AppendUint32(m, opMsg)
	return append(append(m, 0, 0, 0, 0, 0), b...)
}

func reply(batch any) bson.D {
	return bson.D{{Key: "cursor", Value: bson.D{{Key: "nextBatch", Value: batch}, {Key: "id", Value: int64(7)}, {Key: "ns", Value: "a.b"}}},
		{Key: "ok", Value: 1.0}}
}

// exchange sends a command and a reply over a connection of d and returns what its driver reads.
func exchange(t testing.TB, d *Dialer, command, answer []byte) []byte {
	t.Helper()
	driver, server := net.Pipe()
	c := &conn{Conn: driver, d: d}
	go func() {
		defer server.Close()
		if _, err := io.ReadFull(server, make([]byte, len(command))); err == nil {
			_, _ = server.Write(answer) // the reader sees what did not come
		}
	}()
	if _, err := c.Write(command); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func getMoreOf(t testing.TB, id int64) []byte {
	return message(t, 3, 0, bson.D{{Key: "getMore", Value: id}, {Key: "collection", Value: "b"}, {Key: "$db", Value: "a"}})
}

func TestReply(t *testing.T) {
	docs := bson.A{bson.D{{Key: "_id", Value: 1}}, bson.D{{Key: "_id", Value: 2}, {Key: "x", Value: strings.Repeat("y", 5000)}}, bson.D{}}
	var whole []byte
	for _, d := range docs {
		b, _ := bson.Marshal(d)
		whole = append(whole, b...)
	}
	full := message(t, 9, 3, reply(docs))
	changed := func(at int, b byte) []byte {
		m := bytes.Clone(full)
		m[at] = b
		return m
	}
	for _, c := range []struct {
		name    string
		command []byte
		answer  []byte
		taken   bool
	}{
		{"followed", getMoreOf(t, 7), full, true},
		{"another cursor", getMoreOf(t, 8), full, false},
		{"another command", message(t, 3, 0, bson.D{{Key: "find", Value: "b"}}), full, false},
		{"answers another request", getMoreOf(t, 7), changed(8, 4), false},
		{"more to come", getMoreOf(t, 7), changed(headerLen, 2), false},
		{"another opcode", getMoreOf(t, 7), changed(12, 0), false},
		{"another section", getMoreOf(t, 7), changed(20, 1), false},
		{"body of another length", getMoreOf(t, 7), changed(bodyAt, full[bodyAt]+1), false},
		{"an error", getMoreOf(t, 7), message(t, 9, 3, bson.D{{Key: "ok", Value: 0.0}, {Key: "code", Value: 43}}), false},
		{"no array", getMoreOf(t, 7), message(t, 9, 3, reply("none")), false},
		{"cut", getMoreOf(t, 7), full[:len(full)-1], false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &Dialer{}
			cur := d.Follow(7)
			defer cur.Close()
			if c.name == "cut" {
				driver, server := net.Pipe()
				go func() {
					_, _ = io.ReadFull(server, make([]byte, len(c.command)))
					_, _ = server.Write(c.answer)
					server.Close()
				}()
				conn := &conn{Conn: driver, d: d}
				if _, err := conn.Write(c.command); err != nil {
					t.Fatal(err)
				}
				if n, err := conn.Read(make([]byte, 4)); n != 0 || err == nil {
					t.Errorf("read %d bytes, %v of half a reply", n, err)
				}
				if cur.Take() != nil {
					t.Error("half a reply was handed out")
				}
				return
			}
			got := exchange(t, d, c.command, c.answer)
			b := cur.Take()
			if !c.taken {
				if b != nil || !bytes.Equal(got, c.answer) {
					t.Errorf("the driver did not get what the server sent")
				}
				return
			}
			if want := message(t, 9, 3, reply(bson.A{})); !bytes.Equal(got, want) {
				t.Errorf("the driver got\n%x, want\n%x", got, want)
			}
			if b == nil {
				t.Fatal("no batch")
			}
			out, n, err := b.Documents()
			if err != nil || n != len(docs) || !bytes.Equal(out, whole) {
				t.Errorf("%d documents of %d bytes, %v", n, len(out), err)
			}
			b.Release()
			if cur.Take() != nil {
				t.Error("a batch was handed out twice")
			}
		})
	}
}

// TestSameID has two cursors of one id, on two servers: neither may get the other's.
func TestSameID(t *testing.T) {
	d := &Dialer{}
	one := d.Follow(7)
	two := d.Follow(7)
	answer := message(t, 9, 3, reply(bson.A{bson.D{}}))
	if got := exchange(t, d, getMoreOf(t, 7), answer); !bytes.Equal(got, answer) || one.Take() != nil || two.Take() != nil {
		t.Error("a batch went to one of two cursors with its id")
	}
	one.Close()
	two.Close()
	var none *Dialer
	c := none.Follow(7)
	if c.Take() != nil {
		t.Error("a batch of a dialer that is not used")
	}
	c.Close()
}

// TestShut has a reply for a cursor that nobody reads any more: the driver gets it.
func TestShut(t *testing.T) {
	d := &Dialer{}
	cur := d.Follow(7)
	c := &conn{d: d, want: cur}
	cur.Close()
	if c.want.give(&Batch{d: d}) {
		t.Error("a closed cursor took a batch")
	}
	cur = d.Follow(7)
	answer := message(t, 9, 3, reply(bson.A{bson.D{}}))
	exchange(t, d, getMoreOf(t, 7), answer)
	cur.Close()
	if len(d.pool.free) != 1 {
		t.Errorf("%d buffers came back from a cursor that was closed with a batch", len(d.pool.free))
	}
}

// TestTimeLimit has a reply that the driver gives up on: it reads the rest later, to use the
// connection again.
func TestTimeLimit(t *testing.T) {
	d := &Dialer{}
	driver, server := net.Pipe()
	c := &conn{Conn: driver, d: d}
	answer := message(t, 9, 3, reply(bson.A{bson.D{{Key: "a", Value: 1}}}))
	for _, part := range []int{3, headerLen, len(answer) - 1} {
		cur := d.Follow(7)
		late := make(chan struct{})
		go func() {
			_, _ = io.ReadFull(server, make([]byte, len(getMoreOf(t, 7))))
			_, _ = server.Write(answer[:part])
			<-late
			_, _ = server.Write(answer[part:])
		}()
		if _, err := c.Write(getMoreOf(t, 7)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		var ne net.Error
		if n, err := c.Read(make([]byte, 4)); n != 0 || !errors.As(err, &ne) || !ne.Timeout() {
			t.Fatalf("read %d bytes, %v", n, err)
		}
		_ = c.SetReadDeadline(time.Time{})
		cur.Close() // its reader is gone
		close(late)
		got := make([]byte, len(answer))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, answer) {
			t.Errorf("after %d bytes the driver got %x, %v", part, got, err)
		}
	}
}

// TestWithDriver shows that the driver's commands are recognised, and that it goes on as
// if nothing was: if a new version of it breaks that, this test says so.
func TestWithDriver(t *testing.T) {
	ctx := context.Background()
	d := &Dialer{}
	client, err := mongo.Connect(options.Client().ApplyURI(cairntest.Start(t)).SetDialer(d))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(ctx)
	c := client.Database("a").Collection("b")
	const docs = 1000
	var all []any
	for i := range docs {
		all = append(all, bson.D{{Key: "_id", Value: i}, {Key: "x", Value: strings.Repeat("x", i)}})
	}
	if _, err := c.InsertMany(ctx, all); err != nil {
		t.Fatal(err)
	}
	cur, err := c.Find(ctx, bson.D{}, options.Find().SetBatchSize(3))
	if err != nil {
		t.Fatal(err)
	}
	f := d.Follow(cur.ID())
	defer f.Close()
	next, batches := int32(0), 0
	see := func(doc bson.Raw) {
		if id := doc.Lookup("_id").Int32(); id != next {
			t.Fatalf("document %d, want %d", id, next)
		}
		next++
	}
	for {
		if cur.TryNext(ctx) {
			see(cur.Current)
			continue
		}
		if err := cur.Err(); err != nil {
			t.Fatal(err)
		}
		b := f.Take()
		if b == nil {
			if cur.ID() != 0 {
				t.Fatal("the driver did a getMore that was not recognised")
			}
			break
		}
		batches++
		out, _, err := b.Documents()
		if err != nil {
			t.Fatal(err)
		}
		for len(out) > 0 {
			n := binary.LittleEndian.Uint32(out)
			see(out[:n])
			out = out[n:]
		}
		b.Release()
		cur.SetBatchSize(int32(batches * 7))
	}
	if next != docs || batches < 10 {
		t.Errorf("%d documents in %d batches", next, batches)
	}
}

// FuzzReply sends any bytes as a reply: the driver gets them as they are, or the rest and
// the batch are together what was sent.
func FuzzReply(f *testing.F) {
	f.Add(message(f, 9, 3, reply(bson.A{bson.D{{Key: "a", Value: 1}}})))
	f.Add(message(f, 9, 3, reply(bson.A{bson.D{{Key: "a", Value: 1}}, 5})))
	f.Add(message(f, 9, 3, bson.D{{Key: "ok", Value: 0.0}}))
	f.Add([]byte("short"))
	command := getMoreOf(f, 7)
	f.Fuzz(func(t *testing.T, answer []byte) {
		if len(answer) < headerLen || int(binary.LittleEndian.Uint32(answer)) != len(answer) {
			return // a reply that breaks off is an error of the connection
		}
		d := &Dialer{}
		cur := d.Follow(7)
		defer cur.Close()
		got := exchange(t, d, command, answer)
		b := cur.Take()
		if b == nil {
			if !bytes.Equal(got, answer) {
				t.Fatalf("the driver got %x for %x", got, answer)
			}
			return
		}
		if int(binary.LittleEndian.Uint32(got)) != len(got) || len(got)+len(b.arr) != len(answer) {
			t.Fatalf("%x became %x and %x", answer, got, b.arr)
		}
		array := append(binary.LittleEndian.AppendUint32(nil, uint32(len(b.arr)+5)), append(bytes.Clone(b.arr), 0)...)
		if !bytes.Contains(answer, array) {
			t.Fatalf("%x is not an array of %x", array, answer)
		}
		docs, n, err := b.Documents()
		for err == nil && len(docs) > 0 {
			docs = docs[binary.LittleEndian.Uint32(docs):]
			n--
		}
		if err == nil && n != 0 {
			t.Fatalf("%d documents too many", n)
		}
	})
}

// A buffer that comes back takes the place of smaller ones.
func TestPoolKeepsTheLarge(t *testing.T) {
	var p pool
	for range 20 {
		p.put(make([]byte, 1<<20))
	}
	p.put(make([]byte, 10<<20))
	p.put(make([]byte, keepBytes+1))
	if b := p.get(9 << 20); cap(b) != 10<<20 {
		t.Errorf("%d bytes", cap(b))
	}
	if p.bytes != 6<<20 || len(p.free) != 6 {
		t.Errorf("%d buffers of %d bytes are left", len(p.free), p.bytes)
	}
}
