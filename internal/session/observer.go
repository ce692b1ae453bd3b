package session

import (
	"errors"
	"fmt"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

var _ catalog.OpObserver = (*Retryable)(nil)

// pending is what a unit of a session does, until it is committed.
type pending struct {
	p     *participant
	w     *oplog.WriteUnit
	prev  oplog.OpTime // before the unit's first entry
	stmts []pendingStmt
	one   [1]pendingStmt // where stmts begins
	image *imageRecord
}

type pendingStmt struct {
	id    int32
	entry int // its number among the unit's entries
	at    oplog.OpTime
}

// OnInserts implements catalog.OpObserver.
func (r *Retryable) OnInserts(w *oplog.WriteUnit, c *catalog.Collection, _ []bson.Raw, entries []oplog.Entry) error {
	if err := r.guard(w, c); err != nil || len(entries) == 0 || entries[0].LSID == nil {
		return err
	}
	u, err := r.join(w, &entries[0])
	if err != nil {
		return err
	}
	for i := range entries {
		entries[i].NeedsRetryImage = "" // the entry holds the whole document
		if err := u.add(&entries[i], w.Entries()+i); err != nil {
			return err
		}
	}
	return nil
}

// OnUpdate implements catalog.OpObserver.
func (r *Retryable) OnUpdate(w *oplog.WriteUnit, c *catalog.Collection, old, new bson.Raw, e *oplog.Entry) error {
	if err := r.guard(w, c); err != nil || e.LSID == nil {
		return err
	}
	return r.one(w, imageOf(e, old, new), e)
}

// OnDelete implements catalog.OpObserver.
func (r *Retryable) OnDelete(w *oplog.WriteUnit, c *catalog.Collection, old bson.Raw, e *oplog.Entry) error {
	if err := r.guard(w, c); err != nil || e.LSID == nil {
		return err
	}
	return r.one(w, imageOf(e, old, nil), e)
}

// OnCommand implements catalog.OpObserver: nobody changes the sessions' collections
// once they are there.
func (r *Retryable) OnCommand(_ *oplog.WriteUnit, c *catalog.Collection, e *oplog.Entry) error {
	if c != nil && IsOwn(c.NS) {
		return refuse(c.NS)
	}
	if to := e.O.Get("to").Str(); to == Transactions.String() || to == Images.String() {
		return mongoerr.New(mongoerr.IllegalOperation, "cannot change '%s': it is kept by the server", to)
	}
	return nil
}

// guard refuses direct writes to the sessions' collections.
func (r *Retryable) guard(w *oplog.WriteUnit, c *catalog.Collection) error {
	if c.NS.DB != catalog.ConfigDB || !IsOwn(c.NS) || r.own.Load() == w {
		return nil
	}
	return refuse(c.NS)
}

func refuse(ns catalog.Namespace) error {
	return mongoerr.New(mongoerr.IllegalOperation, "cannot change '%s': it is kept by the server", ns)
}

// imageOf picks the image that an entry asks for, nil if none.
func imageOf(e *oplog.Entry, old, new bson.Raw) bson.Raw {
	switch e.NeedsRetryImage {
	case preImage:
		return old
	case postImage:
		return new
	}
	return nil
}

// one notes a unit's update or delete.
func (r *Retryable) one(w *oplog.WriteUnit, image bson.Raw, e *oplog.Entry) error {
	u, err := r.join(w, e)
	if err != nil {
		return err
	}
	if err := u.add(e, w.Entries()); err != nil || image == nil {
		return err
	}
	if p := u.p; !p.imageKnown {
		if _, p.image, err = r.find(r.cat.Engine(), Images, p.lsid); err != nil {
			return err
		}
		p.imageKnown = true
	}
	rec := newImageRecord(u.p.lsid, u.p.txn, e.NeedsRetryImage, image)
	u.image = &rec
	return nil
}

// join returns what the unit w, which e is about to be logged in, has done so far.
func (r *Retryable) join(w *oplog.WriteUnit, e *oplog.Entry) (*pending, error) {
	p, err := r.checkedOut(e.LSID)
	if err != nil {
		return nil, err
	}
	if e.TxnNumber != p.txn {
		return nil, fmt.Errorf("session: write of txnNumber %d on session %s, which is at %d", e.TxnNumber, p.id, p.txn)
	}
	u := p.unit
	if u == nil || u.w != w {
		u = &pending{p: p, w: w, prev: p.last}
		u.stmts = u.one[:0]
		p.unit = u
		w.OnStamp(func(s oplog.Stamped) error { return r.stamp(u, s) })
	}
	n := len(u.stmts)
	w.RU.RegisterChange(nil, func() { u.truncate(n) })
	return u, nil
}

// truncate forgets statements that the unit rolled back; with the first goes all.
func (u *pending) truncate(n int) {
	u.stmts, u.image = u.stmts[:n], nil
	if n == 0 && u.p.unit == u {
		u.p.unit = nil
	}
}

var errChain = errors.New("session: another entry between those of one retryable write's unit")

// add chains entry number n of the unit to the one before.
func (u *pending) add(e *oplog.Entry, n int) error {
	switch last := len(u.stmts) - 1; {
	case len(e.StmtIDs) == 0:
		return errors.New("session: entry of a retryable write without a stmtId")
	case last < 0:
		e.PrevOpTime = &u.prev
	case u.stmts[last].entry == n-1:
		e.PrevInUnit = true
	default:
		return errChain
	}
	for _, id := range e.StmtIDs {
		u.stmts = append(u.stmts, pendingStmt{id: id, entry: n})
	}
	return nil
}

// stamp writes the session's record, now that the optimes are known, and has the
// statements remembered if the unit commits.
func (r *Retryable) stamp(u *pending, s oplog.Stamped) (err error) {
	if len(u.stmts) == 0 {
		return nil // rolled back to a savepoint
	}
	for i := range u.stmts {
		u.stmts[i].at = s.At(u.stmts[i].entry)
	}
	p, ru := u.p, u.w.RU
	last := u.stmts[len(u.stmts)-1].at
	recAt, imgAt := p.record, p.image
	p.buf = appendRecord(p.buf[:0], p.lsid, record{p.txn, last, s.Wall()})
	if recAt, err = r.put(ru, Transactions, recAt, p.buf); err != nil {
		return err
	}
	if u.image != nil {
		if imgAt, err = r.put(ru, Images, imgAt, u.image.stamp(last.TS)); err != nil {
			return err
		}
	}
	ru.RegisterChange(func() {
		p.record, p.image, p.last, p.unit = recAt, imgAt, last, nil
		for _, st := range u.stmts {
			p.done[st.id] = st.at
		}
	}, nil)
	return nil
}

// OnApply implements catalog.OpObserver: recovery makes the record and the image of
// an entry again, as its unit did.
func (r *Retryable) OnApply(u *storage.RecoveryUnit, _ *catalog.Collection, old, new bson.Raw, e *oplog.Entry) error {
	if e.LSID == nil || len(e.StmtIDs) == 0 {
		return nil
	}
	doc := appendRecord(make([]byte, 0, 192), e.LSID, record{e.TxnNumber, e.OpTime, e.Wall})
	if err := r.replace(u, Transactions, e.LSID, doc); err != nil {
		return err
	}
	image := imageOf(e, old, new)
	if image == nil {
		return nil
	}
	rec := newImageRecord(e.LSID, e.TxnNumber, e.NeedsRetryImage, image)
	return r.replace(u, Images, e.LSID, rec.stamp(e.OpTime.TS))
}

func (r *Retryable) replace(u *storage.RecoveryUnit, ns catalog.Namespace, lsid, doc bson.Raw) error {
	_, at, err := r.find(u, ns, lsid)
	if err == nil {
		_, err = r.put(u, ns, at, doc)
	}
	return err
}
