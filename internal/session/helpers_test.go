package session

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/query"
	"github.com/cairndb/cairn/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var testColl = catalog.Namespace{DB: "test", Coll: "c"}

// store is a whole node below the query room.
type store struct {
	eng *storage.Engine
	cat *catalog.Catalog
	seq *oplog.Sequencer
	log *oplog.Log
	rw  *Retryable
	ses *Sessions
	now time.Time
}

func openStore(t testing.TB, fs vfs.FS) *store {
	t.Helper()
	s := &store{ses: NewSessions(), now: time.Unix(1_800_000_000, 0)}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	clock := func() time.Time { return s.now }
	var err error
	s.eng, err = storage.Open(storage.Options{Dir: "data", FS: fs, CheckpointInterval: -1})
	check(err)
	s.cat, err = catalog.Open(catalog.Options{Engine: s.eng, Now: clock})
	check(err)
	s.rw = NewRetryable(s.cat, RetryableOptions{Sessions: s.ses, Now: clock})
	s.cat.AddObserver(s.rw)
	_, err = s.cat.Recover(context.Background())
	check(err)
	s.seq, err = oplog.NewSequencer(s.eng, oplog.SequencerOptions{Now: clock})
	check(err)
	s.log, err = oplog.NewLog(s.seq, oplog.LogOptions{Now: clock})
	check(err)
	check(s.cat.Start(s.seq, nil))
	s.rw.Start(s.log)
	return s
}

func (s *store) close(t testing.TB) {
	t.Helper()
	s.rw.Close()
	s.cat.Close()
	s.log.Close()
	if err := errors.Join(s.seq.Close(), s.eng.Close()); err != nil {
		t.Fatal(err)
	}
}

// crash leaves the store as a lost process does: nothing is flushed or synced.
func (s *store) crash() {
	s.rw.Close()
	s.cat.Close()
	s.log.Close()
}

func lsidOf(n byte) bson.Raw { return bson.D("id", bson.UUID{n, 15: n}) }

// statement is one retryable statement as a client sends it.
type statement struct {
	stmt  int32
	op    byte // i, u (sets v), d, or f and g: findAndModify for the pre and the post image
	id    int32
	value int32
}

// run sends statements of one command the way the query room does: what was executed is
// not executed again. It returns the results, prior or new.
func (s *store) run(lsid bson.Raw, txn int64, stmts ...statement) ([]query.PriorResult, error) {
	ctx := context.Background()
	co, err := s.rw.CheckOut(ctx, lsid, txn)
	if err != nil {
		return nil, err
	}
	defer co.Release()
	op := &query.OpContext{Ctx: ctx, LSID: co.LSID(), HasTxn: true, TxnNumber: txn}
	var out []query.PriorResult
	for _, st := range stmts {
		prior, err := s.rw.Executed(op, st.stmt)
		if err != nil {
			return out, err
		}
		if prior == nil {
			if prior, err = s.execute(ctx, op, st); err != nil {
				return out, err
			}
		}
		out = append(out, *prior)
	}
	return out, nil
}

func (s *store) execute(ctx context.Context, op *query.OpContext, st statement) (*query.PriorResult, error) {
	coll, grant, err := s.cat.BeginWrite(ctx, testColl, true)
	if err != nil {
		return nil, err
	}
	defer grant.Release()
	w := s.cat.NewUnit()
	res, err := s.change(ctx, w, coll, op, st)
	if err != nil {
		w.Rollback()
		return nil, err
	}
	_, err = s.cat.Commit(w)
	return res, err
}

func (s *store) change(ctx context.Context, w *oplog.WriteUnit, coll *catalog.Collection, op *query.OpContext, st statement) (*query.PriorResult, error) {
	info := &catalog.WriteInfo{}
	if op.HasTxn {
		info = &catalog.WriteInfo{LSID: op.LSID, TxnNumber: op.TxnNumber, StmtIDs: []int32{st.stmt}}
	}
	if st.op == 'i' {
		doc := bson.D("_id", st.id, "v", st.value)
		return &query.PriorResult{Op: 'i', N: 1, UpsertedID: doc.Get("_id"), Image: doc}, coll.Insert(ctx, w, []bson.Raw{doc}, info)
	}
	rid, err := coll.FindID(s.eng, bson.V(st.id))
	if err != nil {
		return nil, err
	}
	if err := coll.LockRecord(ctx, w, rid); err != nil {
		return nil, err
	}
	old, err := coll.Get(w.RU, rid, nil)
	if err != nil {
		return nil, err
	}
	if st.op == 'd' {
		return &query.PriorResult{Op: 'd', N: 1}, coll.Delete(ctx, w, rid, old, info)
	}
	res := &query.PriorResult{Op: 'u', N: 1, NModified: 1}
	v, _ := old.Get("v").AsInt64()
	next := bson.D("_id", st.id, "v", int32(v)+st.value)
	switch st.op {
	case 'f':
		info.RetryImage, res.ImageKind, res.Image = preImage, preImage, old
	case 'g':
		info.RetryImage, res.ImageKind, res.Image = postImage, postImage, next
	}
	return res, coll.Update(ctx, w, rid, old, next, bson.D("$v", int32(2), "diff", bson.D("u", bson.D("v", next.Get("v")))), info)
}

// docs returns the documents of a collection by natural order.
func (s *store) docs(t testing.TB, ns catalog.Namespace) (docs []bson.Raw) {
	t.Helper()
	coll := s.cat.Pin().Lookup(ns)
	if coll == nil {
		return nil
	}
	cur, err := coll.Cursor(context.Background(), s.eng, storage.Forward)
	if err != nil {
		t.Fatal(err)
	}
	for cur.Next() {
		docs = append(docs, bson.Raw(cur.Value()).Clone())
	}
	if err := errors.Join(cur.Err(), cur.Close()); err != nil {
		t.Fatal(err)
	}
	return docs
}

// cutLog is a log whose entries before a ts are gone.
type cutLog struct {
	entryFinder
	from oplog.Timestamp
}

func (l cutLog) Find(ts oplog.Timestamp) (bson.Raw, error) {
	if ts < l.from {
		return nil, oplog.ErrPositionLost
	}
	return l.entryFinder.Find(ts)
}

// forgetMemory makes r read again what it knows of sessions.
func (r *Retryable) forgetMemory() {
	for i := range r.shards {
		r.shards[i].Lock()
		clear(r.shards[i].sessions)
		r.shards[i].Unlock()
	}
}
