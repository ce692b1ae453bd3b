package session

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// all is a batch of every kind of statement.
var all = []statement{
	{0, 'i', 1, 10}, {1, 'i', 2, 20}, {2, 'u', 1, 5}, {3, 'd', 2, 0}, {4, 'f', 1, 7},
}

func show(rs []query.PriorResult) string {
	var b strings.Builder
	for _, r := range rs {
		fmt.Fprintf(&b, "%c n=%d nModified=%d id=%s image=%s%s\n", r.Op, r.N, r.NModified, r.UpsertedID, r.ImageKind, r.Image)
	}
	return b.String()
}

// TestRetryReturnsTheOriginalResult sends a batch twice: on the same store, after a
// clean restart, and after a crash with a sync.
func TestRetryReturnsTheOriginalResult(t *testing.T) {
	reopen := map[string]func(*testing.T, *store, *vfs.MemFS) *store{
		"same store": func(_ *testing.T, s *store, _ *vfs.MemFS) *store { return s },
		"restart": func(t *testing.T, s *store, fs *vfs.MemFS) *store {
			s.close(t)
			return openStore(t, fs)
		},
		"crash": func(t *testing.T, s *store, fs *vfs.MemFS) *store {
			if err := s.seq.Sync(context.Background()); err != nil {
				t.Fatal(err)
			}
			clone := fs.CrashClone(vfs.CrashCloneCfg{})
			s.crash()
			return openStore(t, clone)
		},
	}
	for name, again := range reopen {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			s := openStore(t, fs)
			first, err := s.run(lsidOf(1), 5, all...)
			if err != nil {
				t.Fatal(err)
			}
			before := fmt.Sprint(s.docs(t, testColl), s.docs(t, Transactions), s.docs(t, Images))
			s = again(t, s, fs)
			retry, err := s.run(lsidOf(1), 5, all...)
			if err != nil {
				t.Fatal(err)
			}
			if show(first) != show(retry) {
				t.Fatalf("first:\n%s\nretry:\n%s", show(first), show(retry))
			}
			if after := fmt.Sprint(s.docs(t, testColl), s.docs(t, Transactions), s.docs(t, Images)); after != before {
				t.Fatalf("a retry changed something:\n%s\n%s", before, after)
			}
			s.close(t)
		})
	}
}

func TestRecordsAsMongoDBShowsThem(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer s.close(t)
	if _, err := s.run(lsidOf(1), 5, all...); err != nil {
		t.Fatal(err)
	}
	recs, images := s.docs(t, Transactions), s.docs(t, Images)
	if len(recs) != 1 || len(images) != 1 {
		t.Fatalf("%d records, %d images", len(recs), len(images))
	}
	last := s.seq.LastApplied()
	want := bson.D("_id", ID{bson.UUID{1, 15: 1}, Nobody}.Doc(), "txnNum", int64(5),
		"lastWriteOpTime", bson.D("ts", last.TS, "t", last.Term), "lastWriteDate", bson.NewDateTime(s.now))
	if !bytes.Equal(recs[0], want) {
		t.Errorf("record %s, want %s", recs[0], want)
	}
	want = bson.D("_id", ID{bson.UUID{1, 15: 1}, Nobody}.Doc(), "txnNum", int64(5), "ts", last.TS,
		"imageKind", "preImage", "image", bson.D("_id", int32(1), "v", int32(15)), "invalidated", false)
	if !bytes.Equal(images[0], want) {
		t.Errorf("image %s, want %s", images[0], want)
	}
	if coll := s.cat.Pin().Lookup(Transactions); coll.Count() != 1 || coll.DataSize() != int64(len(recs[0])) {
		t.Errorf("counters %d, %d", coll.Count(), coll.DataSize())
	}
}

func TestHalfDoneBatchGoesOn(t *testing.T) {
	fs := vfs.NewMem()
	s := openStore(t, fs)
	if _, err := s.run(lsidOf(1), 1, all[:3]...); err != nil {
		t.Fatal(err)
	}
	s.close(t)
	s = openStore(t, fs)
	defer s.close(t)
	if _, err := s.run(lsidOf(1), 1, all...); err != nil {
		t.Fatal(err)
	}
	docs := s.docs(t, testColl)
	if len(docs) != 1 || !bytes.Equal(docs[0], bson.D("_id", int32(1), "v", int32(22))) {
		t.Fatalf("docs %s", docs)
	}
}

func TestTransactionTooOld(t *testing.T) {
	fs := vfs.NewMem()
	s := openStore(t, fs)
	if _, err := s.run(lsidOf(1), 2, statement{0, 'i', 1, 1}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := s.run(lsidOf(1), 1, statement{0, 'i', 2, 1})
		want := "Retryable write with txnNumber 1 is prohibited on session 01000000-0000-0000-0000-000000000001 - 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU= -  -  because a newer retryable write with txnNumber 2 has already started on this session."
		if !mongoerr.Is(err, mongoerr.TransactionTooOld) || !strings.HasPrefix(err.Error(), want) {
			t.Fatalf("got %v", err)
		}
		s.close(t)
		s = openStore(t, fs)
	}
	// A newer one begins anew: the same stmtId is another statement.
	if _, err := s.run(lsidOf(1), 3, statement{0, 'u', 1, 1}); err != nil {
		t.Fatal(err)
	}
	if docs := s.docs(t, testColl); !bytes.Equal(docs[0], bson.D("_id", int32(1), "v", int32(2))) {
		t.Fatalf("docs %s", docs)
	}
	s.close(t)
}

func TestIncompleteHistory(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer s.close(t)
	if _, err := s.run(lsidOf(1), 1, all[:2]...); err != nil {
		t.Fatal(err)
	}
	s.rw.log = cutLog{s.log, s.seq.LastApplied().TS}
	s.rw.forgetMemory()
	// What the log still has is known; what it lacks may have been executed or not.
	if _, err := s.run(lsidOf(1), 1, all[1]); err != nil {
		t.Fatal(err)
	}
	for _, st := range []statement{all[0], {9, 'i', 9, 9}} {
		_, err := s.run(lsidOf(1), 1, st)
		if !mongoerr.Is(err, mongoerr.IncompleteTransactionHistory) || !strings.HasPrefix(err.Error(), "Incomplete history detected for transaction { txnNumber: 1 } on session ") {
			t.Fatalf("statement %d: %v", st.stmt, err)
		}
	}
	if _, err := s.run(lsidOf(1), 2, statement{0, 'i', 3, 3}); err != nil {
		t.Fatalf("a newer txnNumber needs no history: %v", err)
	}
}

func TestOneOperationAtATime(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer s.close(t)
	first, err := s.rw.CheckOut(context.Background(), lsidOf(1), 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.rw.CheckOut(ctx, lsidOf(1), 1); err == nil {
		t.Fatal("two operations have the session")
	}
	got := make(chan error)
	go func() {
		co, err := s.rw.CheckOut(context.Background(), lsidOf(1), 1)
		if err == nil {
			co.Release()
		}
		got <- err
	}()
	first.Release()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

func TestDirectWritesAreRefused(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer s.close(t)
	ctx := context.Background()
	if err := s.rw.EnsureCollections(ctx); err != nil {
		t.Fatal(err)
	}
	coll, grant, err := s.cat.BeginWrite(ctx, Transactions, false)
	if err != nil {
		t.Fatal(err)
	}
	w := s.cat.NewUnit()
	err = coll.Insert(ctx, w, []bson.Raw{bson.D("_id", 1)}, nil)
	w.Rollback()
	grant.Release()
	if !mongoerr.Is(err, mongoerr.IllegalOperation) {
		t.Fatalf("insert: %v", err)
	}
	if err := s.rw.OnCommand(nil, coll, nil); !mongoerr.Is(err, mongoerr.IllegalOperation) {
		t.Fatalf("command: %v", err)
	}
}

func TestSavepointsAreForgotten(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer s.close(t)
	ctx := context.Background()
	co, err := s.rw.CheckOut(ctx, lsidOf(1), 1)
	if err != nil {
		t.Fatal(err)
	}
	op := &query.OpContext{Ctx: ctx, LSID: co.LSID(), HasTxn: true, TxnNumber: 1}
	coll, grant, err := s.cat.BeginWrite(ctx, testColl, true)
	if err != nil {
		t.Fatal(err)
	}
	w := s.cat.NewUnit()
	insert := func(stmt int32) {
		t.Helper()
		info := &catalog.WriteInfo{LSID: op.LSID, TxnNumber: 1, StmtIDs: []int32{stmt}}
		if err := coll.Insert(ctx, w, []bson.Raw{bson.D("_id", stmt)}, info); err != nil {
			t.Fatal(err)
		}
	}
	undone := func(stmt int32) {
		t.Helper()
		sp := w.Savepoint()
		insert(stmt)
		if err := w.RollbackTo(sp); err != nil {
			t.Fatal(err)
		}
	}
	undone(0)
	insert(1)
	undone(2)
	insert(3)
	undone(4)
	if _, err := s.cat.Commit(w); err != nil {
		t.Fatal(err)
	}
	grant.Release()
	co.Release()
	for range 2 {
		co, err := s.rw.CheckOut(ctx, lsidOf(1), 1)
		if err != nil {
			t.Fatal(err)
		}
		for stmt := range int32(5) {
			prior, err := s.rw.Executed(op, stmt)
			if err != nil || (prior != nil) != (stmt == 1 || stmt == 3) {
				t.Errorf("statement %d: %v, %v", stmt, prior, err)
			}
		}
		co.Release()
		s.rw.forgetMemory() // and again from the log
	}
}

func TestReap(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer s.close(t)
	ctx := context.Background()
	for n := byte(1); n <= 3; n++ {
		if _, err := s.run(lsidOf(n), 1, statement{0, 'i', int32(n), 0}, statement{1, 'g', int32(n), 1}); err != nil {
			t.Fatal(err)
		}
	}
	s.now = s.now.Add(20 * time.Minute)
	if _, err := s.run(lsidOf(2), 2, statement{0, 'u', 2, 1}); err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(15 * time.Minute)
	s.ses.Touch(bson.UUID{3, 15: 3}, s.now)
	if n, err := s.rw.Reap(ctx); n != 1 || err != nil {
		t.Fatalf("Reap: %d, %v", n, err)
	}
	if recs, images := s.docs(t, Transactions), s.docs(t, Images); len(recs) != 2 || len(images) != 2 {
		t.Fatalf("left: %s %s", recs, images)
	}
	// The reaped session may begin again, at any number.
	if _, err := s.run(lsidOf(1), 0, statement{0, 'u', 1, 1}); err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(31 * time.Minute)
	if n, err := s.rw.Reap(ctx); n != 3 || err != nil {
		t.Fatalf("Reap: %d, %v", n, err)
	}
	for i := range s.rw.shards {
		if n := len(s.rw.shards[i].sessions); n != 0 {
			t.Fatalf("%d sessions left in memory", n)
		}
	}
}
