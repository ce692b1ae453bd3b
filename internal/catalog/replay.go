package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// Replay applies entries over data that may be newer than they are: for applyOps,
// restore and migration. What it changes goes through ordinary units with entries of
// their own. Any suffix of a log over the state that the log led to changes nothing:
//
//   - a collection is addressed by ui (by name only if there is none); an unknown or
//     dropped one is passed over, and so is DDL that newer DDL stands in the way of;
//   - an insert of an existing _id replaces the document; an update or delete of a missing
//     one is passed over, and so is a part of a diff that no longer fits;
//   - unique indexes may be broken on the way: Finish looks again;
//   - dropDatabase of this server's own log does nothing: the entries before it have dropped the
//     collections, and what is there now is newer. That of another log drops what it finds.
type Replay struct {
	cat      *Catalog
	suspects []replaySuspect
	capped   map[bson.UUID]bool
	partial  map[string][]bson.Raw // operations of transactions whose last entry is to come
	last     *oplog.Future
	group    replayGroup
	validate bool
}

type replaySuspect struct {
	coll bson.UUID
	suspect
}

// NewReplay begins a range of entries.
func (c *Catalog) NewReplay() *Replay {
	return &Replay{cat: c, capped: map[bson.UUID]bool{}, partial: map[string][]bson.Raw{}}
}

// Validate has the documents checked against the validators of their collections from here
// on: one that fails is an error. Without it a log is believed.
func (r *Replay) Validate() { r.validate = true }

// Future is the newest unit that the replay made, nil if it changed nothing.
func (r *Replay) Future() *oplog.Future { return r.last }

// Apply applies one entry. Writes of documents are gathered into units: what Apply did is
// visible, and has failed or not, when Flush or Finish has returned. After an error the entries
// before e are applied all the same.
func (r *Replay) Apply(ctx context.Context, e *oplog.Entry) error {
	switch e.Op {
	case oplog.OpNoop, oplog.OpDatabase:
		return nil
	case oplog.OpCommand:
		if e.CommandName() == "applyOps" {
			return r.applyOps(ctx, e)
		}
		if err := r.Flush(); err != nil {
			return err
		}
		return r.command(ctx, e)
	}
	ns, ok := ParseNamespace(e.NS)
	if !ok {
		return mongoerr.New(mongoerr.InvalidNamespace, "Invalid namespace specified '%s'", e.NS)
	}
	if ns.Coll != SystemViews {
		if done, err := r.gather(ctx, ns, e); done || err != nil {
			return err
		}
	}
	if err := r.Flush(); err != nil {
		return err
	}
	if ns.Coll == SystemViews {
		return r.views(ctx, ns, e)
	}
	for {
		done, err := r.document(ctx, ns, e)
		if done || err != nil {
			return err
		}
	}
}

// views applies a write to system.views, which changes the catalog.
func (r *Replay) views(ctx context.Context, ns Namespace, e *oplog.Entry) error {
	return r.ddl(ctx, func(d *ddl, ch *change) error {
		c := ch.e.v.ByUUID(e.UUID)
		if !e.HasUUID() {
			var err error
			if c, err = ch.systemViews(ns.DB); err != nil {
				return err
			}
		}
		if c == nil {
			return errNothing
		}
		if err := d.lock(c); err != nil {
			return err
		}
		rw := replayWrite{c: c, relaxed: r.relaxed(c)}
		changed, done, err := r.write(ctx, ch.w, e, &rw)
		rw.note(ch.w)
		switch {
		case err != nil:
			return err
		case !done:
			return fmt.Errorf("%w: %s is written although it is locked", storage.ErrCorruption, c.NS)
		case !changed:
			return errNothing
		}
		return ch.refreshViews(c)
	})
}

// ddl runs one unit of DDL; errNothing makes none.
func (r *Replay) ddl(ctx context.Context, fn func(d *ddl, ch *change) error) error {
	f, err := r.cat.runDDL(ctx, fn)
	if errors.Is(err, errNothing) {
		return nil
	}
	if err == nil {
		r.last = f
	}
	return err
}

// applyOps applies the operations of a transaction, of grouped inserts, or of a
// nested applyOps. A large transaction comes in several entries, the last of which
// completes it.
func (r *Replay) applyOps(ctx context.Context, e *oplog.Entry) error {
	if e.O.Get("prepare").Truthy() {
		return mongoerr.New(mongoerr.OplogOperationUnsupported, "prepared transactions are not supported")
	}
	key := string(e.LSID) + fmt.Sprint(e.TxnNumber)
	ops := r.partial[key]
	for v := range e.O.Get("applyOps").Doc().Values() {
		ops = append(ops, v.Doc())
	}
	if e.O.Get("partialTxn").Truthy() {
		for i := range ops {
			ops[i] = ops[i].Clone()
		}
		r.partial[key] = ops
		return nil
	}
	delete(r.partial, key)
	for _, op := range ops {
		inner, err := oplog.Decode(op)
		if err != nil {
			return mongoerr.New(mongoerr.FailedToParse, "%v", err)
		}
		if err := r.Apply(ctx, &inner); err != nil {
			return err
		}
	}
	return nil
}

// Finish ends the range: a key that is twice in a unique index now is an error, and
// so is a transaction without its end; capped collections are cut to their size.
func (r *Replay) Finish(ctx context.Context) error {
	if err := r.Flush(); err != nil {
		return err
	}
	for _, s := range r.suspects {
		c := r.cat.Pin().ByUUID(s.coll)
		if c == nil {
			continue
		}
		ix := c.byIdent(s.ident)
		if ix == nil {
			continue
		}
		n, bits, err := ix.countKey(r.cat.eng, s.key)
		if err != nil {
			return err
		}
		if n > 1 {
			return duplicateKey(c, ix, s.key, bits)
		}
	}
	r.suspects = nil
	for uuid := range r.capped {
		if err := r.trim(ctx, uuid); err != nil {
			return err
		}
	}
	if n := len(r.partial); n > 0 {
		return mongoerr.New(mongoerr.OplogOperationUnsupported, "the entries end inside %d transactions", n)
	}
	return nil
}

// trim evicts what a capped collection has too much.
func (r *Replay) trim(ctx context.Context, uuid bson.UUID) error {
	c, grant, err := r.cat.beginWriteUUID(ctx, uuid)
	if err != nil || c == nil {
		return err
	}
	defer grant.Release()
	w := r.cat.NewUnit()
	n, err := c.evictAll(ctx, w)
	if err != nil || n == 0 {
		w.Rollback()
		return err
	}
	r.last, err = r.cat.committer.Commit(w)
	return err
}
