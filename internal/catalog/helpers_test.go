package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/eval/update"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

var ctx = context.Background()

// node is a store with all that lies in front of it.
type node struct {
	*Catalog
	t   testing.TB
	eng *storage.Engine
	seq *oplog.Sequencer
	log *oplog.Log
	fs  vfs.FS
}

func openNode(t testing.TB, fs vfs.FS, change ...func(*Options)) *node {
	t.Helper()
	n, err := tryOpenNode(t, fs, change...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func tryOpenNode(t testing.TB, fs vfs.FS, change ...func(*Options)) (n *node, err error) {
	return tryOpenStore(t, storage.Options{Dir: "data", FS: fs, CacheBytes: 8 << 20, CheckpointInterval: -1, IngestBytes: 1 << 10}, change...)
}

func tryOpenStore(t testing.TB, opts storage.Options, change ...func(*Options)) (n *node, err error) {
	eng, err := storage.Open(opts)
	if err != nil {
		return nil, err
	}
	o := Options{Engine: eng}
	for _, f := range change {
		f(&o)
	}
	cat, err := Open(o)
	if err == nil {
		_, err = cat.Recover(ctx)
	}
	if err != nil {
		eng.Crash()
		return nil, err
	}
	n = &node{Catalog: cat, t: t, eng: eng, fs: opts.FS}
	if n.seq, err = oplog.NewSequencer(eng, oplog.SequencerOptions{}); err != nil {
		return nil, err
	}
	if n.log, err = oplog.NewLog(n.seq, oplog.LogOptions{}); err != nil {
		return nil, err
	}
	return n, cat.Start(n.seq, n.log)
}

func newNode(t testing.TB) *node {
	n := openNode(t, vfs.NewMem())
	t.Cleanup(n.close)
	return n
}

func (n *node) close() {
	n.Catalog.Close()
	n.log.Close()
	if err := errors.Join(n.seq.Close(), n.eng.Close()); err != nil {
		n.t.Error(err)
	}
}

// reopen closes the store cleanly and opens it again.
func (n *node) reopen() *node {
	n.t.Helper()
	n.close()
	return openNode(n.t, n.fs)
}

func nss(s string) Namespace {
	ns, ok := ParseNamespace(s)
	if !ok {
		panic("bad namespace " + s)
	}
	return ns
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// write runs fn in a unit on a collection, which is made if need be.
func (n *node) write(ns string, fn func(c *Collection, w *oplog.WriteUnit) error) error {
	c, grant, err := n.BeginWrite(ctx, nss(ns), true)
	if err != nil {
		return err
	}
	defer grant.Release()
	w := n.NewUnit()
	if err := fn(c, w); err != nil {
		w.Rollback()
		return err
	}
	_, err = n.Commit(w)
	return err
}

func (n *node) insert(ns string, docs ...bson.Raw) error {
	return n.write(ns, func(c *Collection, w *oplog.WriteUnit) error { return c.Insert(ctx, w, docs, nil) })
}

// update replaces the document with new's _id, logged as a diff where one says it.
func (n *node) update(ns string, new bson.Raw) error {
	return n.write(ns, func(c *Collection, w *oplog.WriteUnit) error {
		id, old, err := lockByID(c, w, new.Get("_id"))
		if err != nil {
			return err
		}
		o := new
		if diff, ok := update.Diff(old, new); ok {
			o = bson.D("$v", 2, "diff", diff)
		}
		return c.Update(ctx, w, id, old, new, o, nil)
	})
}

func (n *node) delete(ns string, id any) error {
	return n.write(ns, func(c *Collection, w *oplog.WriteUnit) error {
		rid, old, err := lockByID(c, w, bson.V(id))
		if err != nil {
			return err
		}
		return c.Delete(ctx, w, rid, old, nil)
	})
}

// lockByID latches the record with that _id and reads it behind the latch.
func lockByID(c *Collection, w *oplog.WriteUnit, id bson.Value) (storage.RecordID, bson.Raw, error) {
	for {
		rid, err := c.FindID(w.RU, id)
		if err != nil {
			return 0, nil, err
		}
		if err := c.LockRecord(ctx, w, rid); err != nil {
			return 0, nil, err
		}
		doc, err := c.Get(w.RU, rid, nil)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if again, err2 := c.FindID(w.RU, id); err2 != nil || again != rid {
			continue
		}
		return rid, doc, err
	}
}

// docs reads a collection in natural order.
func (n *node) docs(ns string) (list []string) {
	n.t.Helper()
	c, err := n.Resolve(nss(ns))
	n.must(err)
	if c == nil {
		return nil
	}
	cur, err := c.Cursor(ctx, n.eng, storage.Forward)
	n.must(err)
	for cur.Next() {
		list = append(list, extjson.String(cur.Value()))
	}
	n.must(errors.Join(cur.Err(), cur.Close()))
	return list
}

// dump is every key of the replicated space but the applied mark: what members must
// have in common. Idents that were dropped are left out.
func (n *node) dump() map[string]string {
	n.t.Helper()
	n.eng.WaitDropped()
	m := map[string]string{}
	cur := n.eng.NewCursor([]byte{byte(storage.SpaceReplicated)}, []byte{byte(storage.SpaceReplicated) + 1})
	for ok := cur.First(); ok; ok = cur.Next() {
		m[string(cur.Key())] = string(cur.Value())
	}
	n.must(errors.Join(cur.Err(), cur.Close()))
	return m
}

// sameState fails unless both stores hold the same bytes.
func sameState(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	var buf bytes.Buffer
	n := 0
	for k, v := range want {
		if g, ok := got[k]; !ok || g != v {
			if n++; n < 10 {
				fmt.Fprintf(&buf, "\n  %q: %q, want %q (there: %v)", k, g, v, ok)
			}
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			if n++; n < 10 {
				fmt.Fprintf(&buf, "\n  %q: %q is too much", k, v)
			}
		}
	}
	if n > 0 {
		t.Fatalf("%s: %d keys differ:%s", what, n, buf.String())
	}
}

// entries reads the whole log.
func (n *node) entries() (list []bson.Raw) {
	n.t.Helper()
	cur, err := n.log.NewCursor(ctx, storage.Forward)
	n.must(err)
	for cur.Next() {
		list = append(list, bson.Raw(cur.Value()).Clone())
	}
	n.must(errors.Join(cur.Err(), cur.Close()))
	return list
}

// follower applies a log to a fresh store in exact mode.
func follower(t testing.TB, log []bson.Raw) *node {
	t.Helper()
	n := newNode(t)
	n.applyExact(log)
	return n
}

func (n *node) applyExact(log []bson.Raw) {
	n.t.Helper()
	for _, d := range log {
		e, err := oplog.Decode(d)
		n.must(err)
		w := n.NewUnit()
		a := n.NewApplier(w.RU)
		if err := a.Apply(&e); err != nil {
			n.t.Fatalf("%s: %v", extjson.String(d), err)
		}
		a.Done()
		w.Log(&e)
		_, err = n.Commit(w)
		n.must(err)
	}
}
