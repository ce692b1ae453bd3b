package faults

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/node"
)

// config is a node whose writes are acknowledged as journaled.
func config(fs vfs.FS) node.Config {
	return node.Config{FS: fs, DBPath: "/db", Embedded: true, NoUnixSocket: true, NoTCP: true, ReplSet: "rs0", ReplSetAutoInitiate: true,
		CacheBytes: 8 << 20, OplogBytes: 256 << 20, Log: slog.New(slog.DiscardHandler), Parameters: []string{"ttlMonitorEnabled=false"}}
}

// start is for starts that must succeed.
func start(t *testing.T, fs vfs.FS) *node.Node {
	t.Helper()
	n, err := node.Start(t.Context(), config(fs))
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	return n
}

// limit ends what hangs with an error instead of the test's timeout.
func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// book is what one client asked for and what was acknowledged.
type book struct {
	mu    sync.Mutex
	acked map[int]int // newest acknowledged v of each _id
	asked map[int]int // newest v asked for
}

func newBook() *book { return &book{acked: map[int]int{}, asked: map[int]int{}} }

// write sets document id to v and waits for its acknowledgement.
func (b *book) write(ctx context.Context, n *node.Node, id, v, pad int) error {
	b.mu.Lock()
	b.asked[id] = v
	b.mu.Unlock()
	reply, err := n.Run(ctx, "test", bson.D("update", "docs", "updates", bson.A(bson.D("q", bson.D("_id", id),
		"u", bson.D("$set", bson.D("v", v, "pad", strings.Repeat("p", pad))), "upsert", true))))
	if err == nil {
		err = replyError(reply)
	}
	if err == nil {
		b.mu.Lock()
		b.acked[id] = v
		b.mu.Unlock()
	}
	return err
}

// replyError makes an error of what a reply with ok: 1 may still complain about.
func replyError(reply bson.Raw) error {
	for _, path := range []string{"writeErrors.0", "writeConcernError"} {
		if e := reply.Path(path).Doc(); e != nil {
			code, _ := e.Get("code").AsInt64()
			return mongoerr.New(mongoerr.Code(code), "%s", strings.Clone(e.Get("errmsg").Str()))
		}
	}
	return nil
}

// verify compares the collection with what was acknowledged: each document holds
// that or what was asked for later.
func (b *book) verify(ctx context.Context, n *node.Node) error {
	found := map[int]int{}
	docs, err := all(ctx, n, "test", "docs")
	if err != nil {
		return err
	}
	for _, d := range docs {
		id, _ := d.Get("_id").AsInt64()
		v, _ := d.Get("v").AsInt64()
		found[int(id)] = int(v)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, v := range b.acked {
		if got, ok := found[id]; !ok || got < v || got > b.asked[id] {
			return fmt.Errorf("document %d holds v %d (there: %v), acknowledged %d, asked for %d", id, got, ok, v, b.asked[id])
		}
	}
	return nil
}

// all returns every document of a collection.
func all(ctx context.Context, n *node.Node, db, coll string) (docs []bson.Raw, err error) {
	reply, err := n.Run(ctx, db, bson.D("find", coll, "batchSize", 100000))
	for field := "firstBatch"; err == nil; field = "nextBatch" {
		cur := reply.Get("cursor").Doc()
		for v := range cur.Get(field).Doc().Values() {
			docs = append(docs, v.Doc().Clone())
		}
		id := cur.Get("id").Int64()
		if id == 0 {
			return docs, nil
		}
		reply, err = n.Run(ctx, db, bson.D("getMore", id, "collection", coll))
	}
	return nil, err
}

// sound checks a store that was opened again: validate, and the log explains the data.
func sound(ctx context.Context, n *node.Node, b *book) error {
	if err := b.verify(ctx, n); err != nil {
		return err
	}
	reply, err := n.Run(ctx, "test", bson.D("listCollections", 1, "nameOnly", true))
	if err != nil {
		return err
	}
	for v := range reply.Path("cursor.firstBatch").Doc().Values() {
		name := v.Doc().Get("name").Str()
		r, err := n.Run(ctx, "test", bson.D("validate", name, "full", true))
		if err != nil {
			return fmt.Errorf("validate %s: %w", name, err)
		}
		if !r.Get("valid").Bool() {
			return fmt.Errorf("validate %s: %v", name, r.Get("errors").Doc())
		}
	}
	return b.replayed(ctx, n)
}

// replayed builds the documents from the log and compares.
func (b *book) replayed(ctx context.Context, n *node.Node) (err error) {
	entries, err := all(ctx, n, "local", "oplog.rs")
	if err != nil {
		return err
	}
	other, err := node.Start(ctx, config(vfs.NewMem()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, other.Close()) }()
	for len(entries) > 0 {
		k := min(len(entries), 1000)
		var ops []any
		for _, e := range entries[:k] {
			if strings.HasPrefix(e.Get("ns").Str(), "test.") {
				ops = append(ops, e)
			}
		}
		entries = entries[k:]
		if len(ops) == 0 {
			continue
		}
		if _, err := other.Run(ctx, "admin", bson.D("applyOps", bson.A(ops...))); err != nil {
			return fmt.Errorf("applyOps: %w", err)
		}
	}
	want, err := dbHash(ctx, n)
	if err != nil {
		return err
	}
	if got, err := dbHash(ctx, other); err != nil || got != want {
		return fmt.Errorf("the log does not explain the data: replayed %s, found %s (%v)", got, want, err)
	}
	return nil
}

func dbHash(ctx context.Context, n *node.Node) (string, error) {
	r, err := n.Run(ctx, "test", bson.D("dbHash", 1))
	if err != nil {
		return "", err
	}
	s := ""
	for name, v := range r.Get("collections").Doc().Elems() {
		s += name + "=" + v.Str() + " "
	}
	return s, nil
}

// reopen starts on a healthy disk and checks everything.
func reopen(t *testing.T, what string, fs vfs.FS, b *book) {
	t.Helper()
	ctx := limit(t)
	n, err := node.Start(ctx, config(fs))
	if err != nil {
		t.Errorf("%s: start on a healthy disk: %v", what, err)
		return
	}
	if err := sound(ctx, n, b); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if err := newBook().write(ctx, n, 0, 1, 10); err != nil {
		t.Errorf("%s: writing goes on: %v", what, err)
	}
	if err := n.Close(); err != nil {
		t.Errorf("%s: close: %v", what, err)
	}
}

// named is the check of an error that a client gets: it has one of the codes and
// names the cause.
func named(err error, cause string, codes ...mongoerr.Code) error {
	e, ok := mongoerr.As(err)
	if !ok {
		return fmt.Errorf("not a client's error: %v", err)
	}
	if strings.Contains(e.Message, "internal error") || !strings.Contains(e.Message, cause) {
		return fmt.Errorf("the text of %v %q does not name the cause %q", e.Code, e.Message, cause)
	}
	for _, c := range codes {
		if e.Code == c {
			return nil
		}
	}
	return fmt.Errorf("code %d %v, want one of %v: %s", e.Code, e.Code, codes, e.Message)
}
