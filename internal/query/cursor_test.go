package query

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func numbered(n int) []bson.Raw {
	docs := make([]bson.Raw, n)
	for i := range docs {
		docs[i] = bson.D("_id", i, "a", i%10, "pad", fmt.Sprintf("%050d", i))
	}
	return docs
}

// open runs a find and returns the ids of its first batch and the cursor.
func (s *server) open(op *OpContext, r *FindRequest) ([]bson.Raw, int64) {
	s.t.Helper()
	r.NS = testNS
	b := bson.NewBuilder(nil)
	if err := s.Find(op, r, b); err != nil {
		s.t.Fatal(err)
	}
	return cursorDocs(b.Finish(), "firstBatch")
}

func (s *server) more(op *OpContext, id, size int64) ([]bson.Raw, int64, error) {
	b := bson.NewBuilder(nil)
	if err := s.GetMore(op, &GetMoreRequest{NS: testNS, CursorID: id, BatchSize: size, HasBatchSize: size > 0}, b); err != nil {
		return nil, 0, err
	}
	docs, id := cursorDocs(b.Finish(), "nextBatch")
	return docs, id, nil
}

func TestBatches(t *testing.T) {
	s := newServer(t)
	s.insert(numbered(250)...)
	docs, id := s.open(newOp(), &FindRequest{})
	if len(docs) != 101 || id == 0 {
		t.Fatalf("first batch: %d documents, cursor %d", len(docs), id)
	}
	docs, id, err := s.more(newOp(), id, 100)
	if err != nil || len(docs) != 100 || id == 0 {
		t.Fatalf("second batch: %d documents, cursor %d, %v", len(docs), id, err)
	}
	last := docs[99].Get("_id").Int32()
	docs, id, err = s.more(newOp(), id, 0)
	if err != nil || len(docs) != 49 || id != 0 || docs[0].Get("_id").Int32() != last+1 {
		t.Fatalf("last batch: %d documents, cursor %d, %v", len(docs), id, err)
	}
	if n := s.Cursors().Stats().Open; n != 0 {
		t.Fatalf("%d cursors are open", n)
	}
	// A batch ends before 16 MB; the document that did not fit begins the next.
	big := make([]bson.Raw, 5)
	for i := range big {
		big[i] = bson.D("_id", 1000+i, "big", string(make([]byte, 5<<20)))
	}
	s.insert(big...)
	if got := s.find(&FindRequest{Filter: bson.D("big", bson.D("$exists", true))}); len(got) != 5 {
		t.Fatalf("%d large documents", len(got))
	}
}

func TestCursorOwnership(t *testing.T) {
	s := newServer(t)
	s.insert(numbered(10)...)
	op := newOp()
	op.LSID = bson.D("id", bson.UUID{1})
	_, id := s.open(op, &FindRequest{BatchSize: 2, HasBatchSize: true})
	if _, _, err := s.more(newOp(), id, 1); !mongoerr.Is(err, 50736) {
		t.Fatalf("getMore without the session: %v", err)
	}
	if _, _, err := s.more(op, id+1, 1); !mongoerr.Is(err, mongoerr.CursorNotFound) {
		t.Fatalf("unknown cursor: %v", err)
	}
	if n := s.Cursors().Reap(time.Now().Add(time.Hour)); n != 1 {
		t.Fatalf("reaped %d cursors", n)
	}
	if _, _, err := s.more(op, id, 1); !mongoerr.Is(err, mongoerr.CursorNotFound) {
		t.Fatalf("reaped cursor: %v", err)
	}
	_, id = s.open(newOp(), &FindRequest{BatchSize: 2, HasBatchSize: true, NoTimeout: true})
	if n := s.Cursors().Reap(time.Now().Add(time.Hour)); n != 0 {
		t.Fatal("a cursor without timeout was reaped")
	}
	rep, err := s.KillCursors(newOp(), &KillCursorsRequest{NS: testNS, Cursors: []int64{id, 7}})
	if err != nil || !slices.Equal(rep.Killed, []int64{id}) || !slices.Equal(rep.NotFound, []int64{7}) {
		t.Fatalf("killCursors: %+v %v", rep, err)
	}
}

func TestCursorAfterDrop(t *testing.T) {
	for _, filter := range []bson.Raw{nil, bson.D("a", 3)} {
		s := newServer(t)
		s.index(`{"key": {"a": 1}, "name": "a_1"}`)
		s.insert(numbered(200)...)
		_, id := s.open(newOp(), &FindRequest{Filter: filter, BatchSize: 2, HasBatchSize: true})
		if _, err := s.cat.Drop(context.Background(), testNS); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.more(newOp(), id, 5); !mongoerr.Is(err, mongoerr.QueryPlanKilled) {
			t.Fatalf("getMore after drop: %v", err)
		}
	}
}

// TestCursorSeesChanges goes on after the document it stands on is deleted, and meets
// what was inserted behind it.
func TestCursorSeesChanges(t *testing.T) {
	s := newServer(t)
	s.index(`{"key": {"a": 1}, "name": "a_1"}`)
	s.insert(numbered(100)...)
	for _, r := range []*FindRequest{{BatchSize: 10, HasBatchSize: true}, {BatchSize: 10, HasBatchSize: true, Sort: bson.D("a", 1)}} {
		docs, id := s.open(newOp(), r)
		last := docs[len(docs)-1].Get("_id")
		rep, err := s.Delete(newOp(), &DeleteRequest{NS: testNS, Deletes: []DeleteStatement{{Q: bson.NewBuilder(nil).Append("_id", last).Finish()}}})
		if err != nil || rep.N != 1 {
			t.Fatalf("%+v %v", rep, err)
		}
		n := len(docs)
		for id != 0 {
			if docs, id, err = s.more(newOp(), id, 0); err != nil {
				t.Fatal(err)
			}
			n += len(docs)
		}
		if want := int(s.cat.Pin().Lookup(testNS).Count()) + 1; n != want {
			t.Fatalf("met %d documents, want %d", n, want)
		}
	}
}

func TestTailable(t *testing.T) {
	s := newServer(t)
	if _, err := s.cat.Create(context.Background(), testNS, bson.D("capped", true, "size", 4096, "max", 4)); err != nil {
		t.Fatal(err)
	}
	s.insert(bson.D("_id", 1), bson.D("_id", 2))
	docs, id := s.open(newOp(), &FindRequest{Tailable: true, AwaitData: true})
	if len(docs) != 2 || id == 0 {
		t.Fatalf("%v %d", docs, id)
	}
	got := make(chan []bson.Raw)
	go func() {
		docs, _, err := s.more(newOp(), id, 0)
		if err != nil {
			t.Error(err)
		}
		got <- docs
	}()
	s.insert(bson.D("_id", 3))
	if docs := <-got; len(docs) != 1 || docs[0].Get("_id").Int32() != 3 {
		t.Fatalf("awaited %v", docs)
	}
	b := bson.NewBuilder(nil)
	if err := s.GetMore(newOp(), &GetMoreRequest{NS: testNS, CursorID: id, MaxAwait: 5}, b); err != nil {
		t.Fatal(err)
	}
	if docs, again := cursorDocs(b.Finish(), "nextBatch"); len(docs) != 0 || again != id {
		t.Fatalf("nothing came, but %v %d", docs, again)
	}
	s.insert(bson.D("_id", 4), bson.D("_id", 5), bson.D("_id", 6), bson.D("_id", 7))
	if _, _, err := s.more(newOp(), id, 0); !mongoerr.Is(err, mongoerr.CappedPositionLost) {
		t.Fatalf("overtaken cursor: %v", err)
	}
}

func TestTailOplog(t *testing.T) {
	s := newServer(t)
	s.insert(numbered(3)...)
	start := s.seq.LastApplied().TS
	s.insert(bson.D("_id", 10), bson.D("_id", 11))
	oplogNS := Namespace{DB: "local", Coll: "oplog.rs"}
	r := &FindRequest{NS: oplogNS, Filter: bson.D("ts", bson.D("$gt", start)), Tailable: true, AwaitData: true}
	b := bson.NewBuilder(nil)
	if err := s.Find(newOp(), r, b); err != nil {
		t.Fatal(err)
	}
	docs, id := cursorDocs(b.Finish(), "firstBatch")
	if len(docs) != 2 || id == 0 {
		t.Fatalf("%d entries, cursor %d", len(docs), id)
	}
	if _, err := s.Delete(newOp(), &DeleteRequest{NS: testNS, Deletes: []DeleteStatement{{Q: bson.D("_id", 10)}}}); err != nil {
		t.Fatal(err)
	}
	b = bson.NewBuilder(nil)
	if err := s.GetMore(newOp(), &GetMoreRequest{NS: oplogNS, CursorID: id}, b); err != nil {
		t.Fatal(err)
	}
	if docs, _ = cursorDocs(b.Finish(), "nextBatch"); len(docs) != 1 || docs[0].Get("op").Str() != "d" {
		t.Fatalf("tailed %v", docs)
	}
	e := bson.NewBuilder(nil)
	if err := s.Explain(newOp(), &ExplainRequest{Verbosity: "executionStats", Find: &FindRequest{NS: oplogNS, Filter: bson.D("ts", bson.D("$gte", start))}}, e); err != nil {
		t.Fatal(err)
	}
	reply := e.Finish()
	if n, _ := reply.Path("executionStats.totalDocsExamined").AsInt64(); n != 4 {
		t.Fatalf("%d entries examined: %s", n, reply)
	}
	if got := s.find(&FindRequest{NS: oplogNS, Sort: bson.D("$natural", -1), Limit: 1}); len(got) != 1 || got[0].Get("op").Str() != "d" {
		t.Fatalf("last entry: %v", got)
	}
	if got := s.find(&FindRequest{NS: oplogNS, Filter: bson.D("ts", start)}); len(got) != 1 {
		t.Fatalf("entry by ts: %v", got)
	}
}

func TestMaxTimeAndKill(t *testing.T) {
	s := newServer(t)
	s.insert(numbered(300)...)
	op := newOp()
	op.Deadline = time.Now().Add(-time.Second)
	if err := s.Find(op, &FindRequest{NS: testNS, Filter: bson.D("nosuch", 1)}, bson.NewBuilder(nil)); !mongoerr.Is(err, mongoerr.MaxTimeMSExpired) {
		t.Fatalf("deadline passed: %v", err)
	}
	op = newOp()
	op.Kill(mongoerr.New(mongoerr.Interrupted, "operation was interrupted"))
	if _, err := s.Update(op, &UpdateRequest{NS: testNS, Updates: []UpdateStatement{{Q: bson.Empty, U: bson.D("$inc", bson.D("n", 1)).Value(), Multi: true}}}); !mongoerr.Is(err, mongoerr.Interrupted) {
		t.Fatalf("killed: %v", err)
	}
	if n := len(s.find(&FindRequest{Filter: bson.D("n", 1)})); n != 0 {
		t.Fatalf("%d documents changed by a killed update", n)
	}
}

func TestReadConcerns(t *testing.T) {
	s := newServer(t)
	s.insert(numbered(150)...)
	op := newOp()
	op.ReadConcern.Level = "snapshot"
	b := bson.NewBuilder(nil)
	if err := s.Find(op, &FindRequest{NS: testNS}, b); err != nil {
		t.Fatal(err)
	}
	reply := b.Finish()
	docs, id := cursorDocs(reply, "firstBatch")
	at := reply.Path("cursor.atClusterTime").Timestamp()
	s.insert(bson.D("_id", 9999))
	rest, _, err := s.more(newOp(), id, 0)
	if err != nil || len(docs)+len(rest) != 150 {
		t.Fatalf("snapshot read gave %d documents, %v", len(docs)+len(rest), err)
	}
	op = newOp()
	op.ReadConcern.Level, op.ReadConcern.AtClusterTime = "snapshot", at-1
	if err := s.Find(op, &FindRequest{NS: testNS}, bson.NewBuilder(nil)); !mongoerr.Is(err, mongoerr.SnapshotTooOld) {
		t.Fatalf("read in the past: %v", err)
	}
	op = newOp()
	op.ReadConcern.Level = "majority"
	if err := s.Find(op, &FindRequest{NS: testNS, Filter: bson.D("_id", 1)}, bson.NewBuilder(nil)); err != nil {
		t.Fatal(err)
	}
	if s.seq.LastDurable() != s.seq.LastApplied() {
		t.Fatal("a majority read showed what is not durable")
	}
}

// Those who look on see which plan runs.
func TestPlanSummaryShown(t *testing.T) {
	s := newServer(t)
	s.insert(numbered(10)...)
	op := newOp()
	if got := op.PlanSummary(); got != "" {
		t.Error(got)
	}
	s.open(op, &FindRequest{Filter: bson.D("a", 1)})
	if got := op.PlanSummary(); got != "COLLSCAN" {
		t.Error(got)
	}
}
