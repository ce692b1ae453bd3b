package session

import (
	"context"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// reapLoop forgets expired sessions until Close.
func (r *Retryable) reapLoop() {
	t := time.NewTicker(r.opt.ReapEvery)
	defer t.Stop()
	for {
		select {
		case <-r.life.ctx.Done():
			return
		case <-t.C:
		}
		if n, err := r.Reap(r.life.ctx); err != nil && r.life.ctx.Err() == nil {
			r.opt.Logger.Error("expired sessions could not be removed", "err", err)
		} else if n > 0 {
			r.opt.Logger.Debug("expired sessions removed", "records", n)
		}
	}
}

// Reap forgets the sessions that nobody used for Timeout: in memory, and, by logged
// deletes, the records of those whose newest write is as old. It counts the records.
func (r *Retryable) Reap(ctx context.Context) (int, error) {
	now := r.opt.Now()
	if r.opt.Sessions != nil {
		if ids := r.opt.Sessions.Expire(now); len(ids) > 0 && r.opt.Expired != nil {
			r.opt.Expired(ids)
		}
	}
	old, err := r.expired(ctx, bson.NewDateTime(now.Add(-Timeout)))
	if err != nil {
		return 0, err
	}
	n := 0
	for _, lsid := range old {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		gone, err := r.forget(ctx, lsid)
		if err != nil {
			return n, err
		}
		if gone {
			n++
		}
	}
	r.dropIdle(now)
	return n, nil
}

func (r *Retryable) active(id bson.UUID) bool {
	return r.opt.Sessions != nil && r.opt.Sessions.Active(id)
}

// expired lists the sessions in config.transactions that are not in use and wrote
// nothing since limit.
func (r *Retryable) expired(ctx context.Context, limit bson.DateTime) (lsids []bson.Raw, err error) {
	coll := r.cat.Pin().Lookup(Transactions)
	if coll == nil {
		return nil, nil
	}
	cur, err := coll.Cursor(ctx, r.cat.Engine(), storage.Forward)
	if err != nil {
		return nil, err
	}
	for cur.Next() {
		doc := bson.Raw(cur.Value())
		lsid := doc.Get("_id").Doc()
		if id, ok := lsid.Get("id").UUID(); ok && doc.Get("lastWriteDate").Date() <= limit && !r.active(id) {
			lsids = append(lsids, lsid.Clone())
		}
	}
	err = cur.Err()
	if cerr := cur.Close(); err == nil {
		err = cerr
	}
	return lsids, err
}

// forget removes a session's documents, unless an operation has it.
func (r *Retryable) forget(ctx context.Context, lsid bson.Raw) (bool, error) {
	id, err := ParseID(lsid)
	if err != nil {
		return false, err
	}
	p := r.ref(id)
	defer r.unref(p)
	select {
	case p.held <- struct{}{}:
	default:
		return false, nil // in use again
	}
	defer func() { <-p.held }()
	w := r.cat.NewUnit()
	r.own.Store(w)
	defer r.own.Store(nil)
	for _, ns := range []catalog.Namespace{Transactions, Images} {
		if err := r.deleteFrom(ctx, w, ns, lsid); err != nil {
			w.Rollback()
			return false, err
		}
	}
	if w.Entries() == 0 {
		w.Rollback()
		return false, nil
	}
	if _, err := r.cat.Commit(w); err != nil {
		return false, err
	}
	// Whoever uses it next reads again what is there.
	p.loaded, p.txn, p.last, p.incomplete = false, -1, oplog.NullOpTime, false
	p.record, p.image, p.imageKnown = place{}, place{}, false
	clear(p.done)
	return true, nil
}

func (r *Retryable) deleteFrom(ctx context.Context, w *oplog.WriteUnit, ns catalog.Namespace, lsid bson.Raw) error {
	doc, at, err := r.find(w.RU, ns, lsid)
	if err != nil || doc == nil {
		return err
	}
	coll := r.cat.Pin().Lookup(ns)
	if err := coll.LockRecord(ctx, w, at.rid); err != nil {
		return err
	}
	return coll.Delete(ctx, w, at.rid, doc, nil)
}

// dropIdle frees the memory of sessions that nobody used for Timeout. Their records
// stay until they are old enough themselves.
func (r *Retryable) dropIdle(now time.Time) {
	for i := range r.shards {
		s := &r.shards[i]
		s.Lock()
		for id, p := range s.sessions {
			if p.refs == 0 && now.Sub(p.used) >= Timeout {
				delete(s.sessions, id)
			}
		}
		s.Unlock()
	}
}
