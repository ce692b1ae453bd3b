package catalog

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/update"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// OpTime is the place of a write in the log.
type OpTime = oplog.OpTime

// maxEditConflicts bounds how often an edit is tried again.
const maxEditConflicts = 1000

// Edit is a set of changes to documents, named by their _id, of a few collections: all
// of them happen or none, after a crash too. It is for metadata that the server keeps in
// ordinary collections (users and roles); it sees its own changes.
type Edit struct {
	ctx   context.Context
	w     *oplog.WriteUnit
	colls map[Namespace]*Collection
	n     int
}

// Edit runs fn on collections, which have to exist, with DDL kept off them, and commits
// what it did as one unit. An error of fn gives all up. fn may be called again after a
// lost conflict. The OpTime is null if fn changed nothing.
func (c *Catalog) Edit(ctx context.Context, colls []Namespace, fn func(e *Edit) error) (OpTime, error) {
	for attempt := 0; ; attempt++ {
		t, err := c.tryEdit(ctx, colls, fn)
		if !errors.Is(err, storage.ErrWriteConflict) || attempt >= maxEditConflicts || ctx.Err() != nil {
			return t, err
		}
	}
}

func (c *Catalog) tryEdit(ctx context.Context, colls []Namespace, fn func(e *Edit) error) (OpTime, error) {
	e := &Edit{ctx: ctx, colls: map[Namespace]*Collection{}}
	// In the order in which dropDatabase locks them, so that none waits for the other.
	colls = slices.SortedFunc(slices.Values(colls), func(a, b Namespace) int { return strings.Compare(a.String(), b.String()) })
	for _, ns := range colls {
		coll, grant, err := c.BeginWrite(ctx, ns, false)
		if err != nil {
			return OpTime{}, err
		}
		defer grant.Release()
		if coll == nil {
			return OpTime{}, mongoerr.New(mongoerr.NamespaceNotFound, "ns does not exist: %s", ns)
		}
		e.colls[ns] = coll
	}
	e.w = c.NewUnit()
	if err := fn(e); err != nil || e.n == 0 {
		e.w.Rollback()
		return OpTime{}, unwrapDoc(err)
	}
	f, err := c.Commit(e.w)
	if err != nil {
		return OpTime{}, err
	}
	return f.OpTime, nil
}

// Get returns the document of an _id, nil if there is none.
func (e *Edit) Get(ns Namespace, id bson.Value) (bson.Raw, error) {
	_, doc, err := e.find(ns, id)
	return doc, err
}

// find latches and reads a document.
func (e *Edit) find(ns Namespace, id bson.Value) (storage.RecordID, bson.Raw, error) {
	c := e.colls[ns]
	rid, err := c.FindID(e.w.RU, id)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	if err := c.LockRecord(e.ctx, e.w, rid); err != nil {
		return 0, nil, err
	}
	doc, err := c.Get(e.w.RU, rid, nil)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil, nil
	}
	return rid, doc, err
}

// Put stores a document that begins with its _id in place of the one of that _id, or as
// a new one. A document that is there already, byte for byte, is no change.
func (e *Edit) Put(ns Namespace, doc bson.Raw) error {
	c := e.colls[ns]
	rid, old, err := e.find(ns, doc.Get("_id"))
	switch {
	case err != nil || bytes.Equal(old, doc):
		return err
	case old == nil:
		e.n++
		return c.Insert(e.ctx, e.w, []bson.Raw{doc}, nil)
	}
	o := doc
	if diff, ok := update.Diff(old, doc); ok {
		o = bson.D("$v", 2, "diff", diff)
	}
	e.n++
	return c.Update(e.ctx, e.w, rid, old, doc, o, nil)
}

// Delete removes the document of an _id and reports whether there was one.
func (e *Edit) Delete(ns Namespace, id bson.Value) (bool, error) {
	rid, old, err := e.find(ns, id)
	if err != nil || old == nil {
		return false, err
	}
	e.n++
	return true, e.colls[ns].Delete(e.ctx, e.w, rid, old, nil)
}

// All returns the documents of a collection as the edit sees them, by _id.
func (e *Edit) All(ns Namespace) ([]bson.Raw, error) { return e.colls[ns].all(e.ctx, e.w.RU) }

// All returns the documents of a small collection by _id, nil if it does not exist.
func (c *Catalog) All(ctx context.Context, ns Namespace) ([]bson.Raw, error) {
	coll := c.Pin().Lookup(ns)
	if coll == nil {
		return nil, nil
	}
	s, err := c.eng.Snapshot()
	if err != nil {
		return nil, err
	}
	docs, err := coll.all(ctx, s)
	return docs, errors.Join(err, s.Close())
}

// One returns the document of an _id as readers see it now, nil if there is none.
func (c *Catalog) One(ns Namespace, id bson.Value) (bson.Raw, error) {
	coll := c.Pin().Lookup(ns)
	if coll == nil {
		return nil, nil
	}
	rid, err := coll.FindID(c.eng, id)
	var doc bson.Raw
	if err == nil {
		doc, err = coll.Get(c.eng, rid, nil)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	return doc, err
}

func (c *Collection) all(ctx context.Context, r storage.Reader) (docs []bson.Raw, err error) {
	cur, err := c.Cursor(ctx, r, storage.Forward)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cur.Close()) }()
	for cur.Next() {
		docs = append(docs, bson.Raw(cur.Value()).Clone())
	}
	slices.SortFunc(docs, func(a, b bson.Raw) int { return bson.Compare(a.Get("_id"), b.Get("_id")) })
	return docs, cur.Err()
}
