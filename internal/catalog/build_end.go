package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// commitBuild is step 4.
func (c *Catalog) commitBuild(b *buildState, dups *duplicates) (*oplog.Future, error) {
	return c.runDDL(b.ctx, func(d *ddl, ch *change) error {
		coll := ch.e.v.ByUUID(b.coll)
		if coll == nil || len(coll.buildIndexes(b)) == 0 {
			return context.Cause(b.ctx)
		}
		if err := d.lock(coll); err != nil {
			return err
		}
		if p := b.broken.Load(); p != nil && b.lenient == nil {
			return *p
		}
		if _, err := c.drainRound(b, dups); err != nil { // no writer adds rows now
			return err
		}
		o := buildEntry("commitIndexBuild", coll, b).Finish()
		more, err := ch.finishBuild(coll, b)
		if err != nil {
			return err
		}
		for _, s := range append(dups.keys, more...) {
			if b.lenient != nil {
				b.lenient(coll.byIdent(s.ident), s.key)
				continue
			}
			if err := ch.checkSuspect(coll, s); err != nil {
				return err
			}
		}
		return ch.log(coll, coll.NS, coll.UUID, o, nil)
	})
}

// finishBuild makes the indexes of a build complete and readable, and returns the
// keys that it put into unique ones.
func (ch *change) finishBuild(c *Collection, b *buildState) (touched []suspect, err error) {
	list := c.buildIndexes(b)
	if _, err := b.side.Get(ch.u, loadedRow, nil); err == nil {
		touched, err = ch.drainLast(c, b)
		if err != nil {
			return nil, err
		}
	} else if errors.Is(err, storage.ErrNotFound) {
		if err := ch.fill(c, list, false); err != nil {
			return nil, err
		}
	} else {
		return nil, err
	}
	ch.complete(c, b)
	return touched, nil
}

// complete makes the indexes of a build readable.
func (ch *change) complete(c *Collection, b *buildState) {
	indexes := append([]*Index(nil), c.indexes...)
	for i, ix := range indexes {
		if ix.build == nil || ix.build.uuid != b.uuid {
			continue
		}
		n := *ix
		n.build = nil
		indexes[i] = &n
		// What the scan met was shown to readers, but no unit has stored it.
		bits := n.state.multikey.load()
		storeMultikey(ch.u, n.Store.Table, &bits)
		ch.u.RegisterChange(func() { n.state.multikey.committed(&bits) }, nil)
	}
	ch.u.DropIdent(b.side.Table)
	ch.put(c.withIndexes(indexes))
}

// drainLast does the remaining side rows inside the unit.
func (ch *change) drainLast(c *Collection, b *buildState) (touched []suspect, err error) {
	cur := b.side.CursorRange(ch.u, storage.Forward, loadedRow+1, 0)
	defer func() { err = errors.Join(err, cur.Close()) }()
	for cur.Next() {
		op, err := decodeSide(cur.Value())
		if err != nil {
			return nil, err
		}
		ix := c.byIdent(op.ident)
		switch {
		case ix == nil:
			return nil, fmt.Errorf("%w: side row for the unknown index %d", storage.ErrCorruption, op.ident)
		case op.remove:
			ix.Store.Remove(ch.u, op.key, op.id)
		default:
			ix.Store.Put(ch.u, op.key, op.id, op.bits)
			if ix.Spec.Unique {
				touched = append(touched, suspect{ident: op.ident, key: bytes.Clone(op.key)})
			}
		}
	}
	return touched, cur.Err()
}

// checkSuspect is an error if a unique index has a key twice.
func (ch *change) checkSuspect(c *Collection, s suspect) error {
	ix := c.byIdent(s.ident)
	n, bits, err := ix.countKey(ch.u, s.key)
	if err != nil || n < 2 {
		return err
	}
	return duplicateKey(c, ix, s.key, bits)
}

// abortFailed undoes a build that failed.
func (c *Catalog) abortFailed(b *buildState, cause error) error {
	_, err := c.runDDL(context.WithoutCancel(b.ctx), func(d *ddl, ch *change) error {
		coll := ch.e.v.ByUUID(b.coll)
		if coll == nil || len(coll.buildIndexes(b)) == 0 {
			return errNothing
		}
		_, err := d.abortBuild(ch, coll, b, cause)
		return err
	})
	if err != nil && !errors.Is(err, errNothing) {
		return err
	}
	// If somebody else aborted the build, the load may have written behind the deletion.
	for _, t := range b.tables {
		if err := c.eng.DropIdent(t); err != nil {
			return err
		}
	}
	return nil
}

// abortBuild undoes a build with its entry and makes whoever runs it stop.
func (d *ddl) abortBuild(ch *change, c *Collection, b *buildState, cause error) (*Collection, error) {
	if len(c.buildIndexes(b)) == 0 {
		return c, nil // a build of several indexes, met at its second one
	}
	if err := d.lock(c); err != nil {
		return nil, err
	}
	o := buildEntry("abortIndexBuild", c, b)
	o.Doc("cause").Bool("ok", false).Int32("code", int32(mongoerr.CodeOf(cause))).Str("codeName", mongoerr.CodeOf(cause).String()).Str("errmsg", message(cause)).End()
	if err := ch.log(c, c.NS, c.UUID, o.Finish(), nil); err != nil {
		return nil, err
	}
	ch.u.RegisterChange(func() { b.cancel(cause) }, nil)
	return ch.removeBuild(c, b)
}

func message(err error) string {
	if e, ok := mongoerr.As(err); ok {
		return e.Message
	}
	return err.Error()
}

// removeBuild removes the indexes and tables of a build.
func (ch *change) removeBuild(c *Collection, b *buildState) (*Collection, error) {
	ch.u.DropIdent(b.side.Table)
	for _, ix := range c.buildIndexes(b) {
		n, err := ch.removeIndex(c, ix)
		if err != nil {
			return nil, err
		}
		c = n
	}
	return c, nil
}

// abortBuilds aborts all builds on a collection.
func (d *ddl) abortBuilds(ch *change, c *Collection, cause error) (*Collection, error) {
	for _, ix := range c.indexes {
		if ix.build == nil {
			continue
		}
		n, err := d.abortBuild(ch, c, ix.build, cause)
		if err != nil {
			return nil, err
		}
		c = n
	}
	return c, nil
}

// resumeBuilds begins the builds anew that were not committed when the store closed.
func (c *Catalog) resumeBuilds() error {
	for _, coll := range c.Pin().byUUID {
		started := map[*buildState]bool{}
		for _, ix := range coll.indexes {
			if b := ix.build; b != nil && !started[b] {
				started[b] = true
				if err := c.resetBuild(coll, b); err != nil {
					return err
				}
				c.opt.Logger.Info("index build begins anew", "component", "catalog", "ns", coll.NS.String(), "build", b.uuid.String())
				c.startBuild(b)
			}
		}
	}
	return nil
}

// resetBuild empties the tables of a build. Nobody writes yet.
func (c *Catalog) resetBuild(coll *Collection, b *buildState) error {
	b.coll = coll.UUID
	ws := c.eng.NewWriteSet()
	defer ws.Release()
	ws.DeleteRange(b.side.Bounds())
	for _, ix := range coll.buildIndexes(b) {
		ws.DeleteRange(ix.Store.Bounds())
	}
	return c.eng.ApplyUnlogged(ws)
}
