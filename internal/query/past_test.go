package query

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// at is an operation that reads at a time, 0 for now.
func at(ts bson.Timestamp) *OpContext {
	op := newOp()
	op.ReadConcern = ReadConcern{Level: "snapshot", AtClusterTime: ts}
	return op
}

// pastRead does a find, an aggregate and a distinct at ts; they must agree. It returns the _ids
// as text and the time that the replies tell.
func (s *server) pastRead(ts bson.Timestamp, filter bson.Raw) (string, bson.Timestamp) {
	s.t.Helper()
	find, agg, dist := bson.NewBuilder(nil), bson.NewBuilder(nil), bson.NewBuilder(nil)
	sort := bson.D("_id", 1)
	if err := s.Find(at(ts), &FindRequest{NS: testNS, Filter: filter, Sort: sort, Projection: bson.D("_id", 1)}, find); err != nil {
		s.t.Fatal(err)
	}
	if err := s.Aggregate(at(ts), &AggregateRequest{NS: testNS, Pipeline: []bson.Raw{bson.D("$match", filter), bson.D("$sort", sort), bson.D("$project", bson.D("_id", 1))}}, agg); err != nil {
		s.t.Fatal(err)
	}
	if err := s.Distinct(at(ts), &DistinctRequest{NS: testNS, Key: "_id", Query: filter}, dist); err != nil {
		s.t.Fatal(err)
	}
	ids := func(docs []bson.Raw) string {
		out := ""
		for _, d := range docs {
			out += d.Get("_id").String() + " "
		}
		return out
	}
	fd, ad, dd := find.Finish(), agg.Finish(), dist.Finish()
	f, _ := cursorDocs(fd, "firstBatch")
	a, _ := cursorDocs(ad, "firstBatch")
	values := ""
	for v := range dd.Get("values").Doc().Values() {
		values += v.String() + " "
	}
	if ids(f) != ids(a) || ids(f) != values {
		s.t.Fatalf("find %s, aggregate %s, distinct %s", ids(f), ids(a), values)
	}
	t1, t2, t3 := fd.Path("cursor.atClusterTime").Timestamp(), ad.Path("cursor.atClusterTime").Timestamp(), dd.Get("atClusterTime").Timestamp()
	if t1 != t2 || t1 != t3 || t1 == 0 || ts != 0 && t1 != ts {
		s.t.Fatalf("asked for %v, told %v %v %v", ts, t1, t2, t3)
	}
	return ids(f), t1
}

// What a snapshot read saw can be read again at its time, whatever became of the documents,
// the indexes and the collection.
func TestReadsInThePast(t *testing.T) {
	s := newServer(t)
	s.insert(bson.D("_id", 1, "a", 1), bson.D("_id", 2, "a", 2))
	s.index(`{"key": {"a": 1}, "name": "a_1"}`)
	filter := bson.D("a", bson.D("$gte", 0))
	got, first := s.pastRead(0, filter)
	if got != "1 2 " {
		t.Fatal(got)
	}
	s.insert(bson.D("_id", 3, "a", 3))
	if _, err := s.Update(newOp(), &UpdateRequest{NS: testNS, Updates: []UpdateStatement{{Q: bson.D("_id", 1), U: bson.D("$set", bson.D("a", -1)).Value()}}}); err != nil {
		t.Fatal(err)
	}
	got, second := s.pastRead(0, filter)
	if got != "2 3 " || second <= first {
		t.Fatal(got, first, second)
	}
	steps := []struct {
		name string
		do   func() error
	}{
		{"nothing", func() error { return nil }},
		{"index dropped", func() error {
			_, err := s.cat.DropIndexes(context.Background(), testNS, bson.V("a_1"))
			return err
		}},
		{"index of another kind", func() error {
			s.index(`{"key": {"a": -1}, "name": "other", "partialFilterExpression": {"a": {"$gt": 100}}}`)
			return nil
		}},
		{"dropped", func() error {
			_, err := s.cat.Drop(context.Background(), testNS)
			s.eng.WaitDropped()
			return err
		}},
		{"made again", func() error {
			s.insert(bson.D("_id", 4, "a", 4))
			return nil
		}},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatal(step.name, err)
		}
		if got, _ := s.pastRead(first, filter); got != "1 2 " {
			t.Errorf("%s: first state is %s", step.name, got)
		}
		if got, _ := s.pastRead(second, filter); got != "2 3 " {
			t.Errorf("%s: second state is %s", step.name, got)
		}
	}
	if got, _ := s.pastRead(0, filter); got != "4 " {
		t.Errorf("the present is %s", got)
	}
}

// A time between two writes is that of the state before it; one that nobody read at is too old.
func TestReadsBetweenWrites(t *testing.T) {
	s := newServer(t)
	s.insert(bson.D("_id", 1))
	_, ts := s.pastRead(0, bson.Empty)
	if got, _ := s.pastRead(ts+5, bson.Empty); got != "1 " {
		t.Fatal(got)
	}
	s.insert(bson.D("_id", 2))
	unread := s.seq.LastApplied().TS
	s.insert(bson.D("_id", 3))
	if unread <= ts {
		t.Fatal(unread, ts)
	}
	if err := s.Find(at(unread), &FindRequest{NS: testNS}, bson.NewBuilder(nil)); !mongoerr.Is(err, mongoerr.SnapshotTooOld) {
		t.Fatalf("a state that is not kept: %v", err)
	}
	if got, _ := s.pastRead(ts, bson.Empty); got != "1 " {
		t.Fatal(got)
	}
}

// A time that nobody read at is as good as another if nothing came in between to what is read.
func TestReadsAtUnreadTimes(t *testing.T) {
	s := newServer(t)
	other := Namespace{DB: testNS.DB, Coll: "other"}
	elsewhere := Namespace{DB: "elsewhere", Coll: "c"}
	write := func(ns Namespace, doc bson.Raw) bson.Timestamp {
		t.Helper()
		if _, err := s.Insert(newOp(), &InsertRequest{NS: ns, Documents: []bson.Raw{doc}}); err != nil {
			t.Fatal(err)
		}
		return s.seq.LastApplied().TS
	}
	for _, ns := range []Namespace{testNS, other} {
		write(ns, bson.D("_id", 0))
	}
	start := write(testNS, bson.D("_id", 1))
	write(other, bson.D("_id", 1))
	// Nobody has read at all: the present state is still that of testNS.
	if got, _ := s.pastRead(start, bson.Empty); got != "0 1 " {
		t.Fatal(got)
	}
	read := func(ts bson.Timestamp, ns Namespace) error {
		return s.Find(at(ts), &FindRequest{NS: ns}, bson.NewBuilder(nil))
	}
	if err := read(start, other); !mongoerr.Is(err, mongoerr.SnapshotTooOld) {
		t.Error(err)
	}
	// The state of another read, before and behind.
	_, kept := s.pastRead(0, bson.Empty)
	between := write(other, bson.D("_id", 2))
	last := write(testNS, bson.D("_id", 2))
	if got, _ := s.pastRead(between, bson.Empty); got != "0 1 " || between <= kept {
		t.Error(got)
	}
	if got, _ := s.pastRead(last, bson.Empty); got != "0 1 2 " {
		t.Error(got)
	}
	elsewhereAt := write(elsewhere, bson.D("_id", 1))
	write(testNS, bson.D("_id", 3))
	if got, _ := s.pastRead(elsewhereAt, bson.Empty); got != "0 1 2 " { // last was read: it is kept
		t.Error(got)
	}
	unread := write(testNS, bson.D("_id", 4))
	write(testNS, bson.D("_id", 5))
	// DDL beside it counts for the database, not for others.
	if err := read(unread, testNS); !mongoerr.Is(err, mongoerr.SnapshotTooOld) {
		t.Error(err)
	}
	ts := write(testNS, bson.D("_id", 6))
	if _, err := s.cat.Create(context.Background(), Namespace{DB: testNS.DB, Coll: "new"}, bson.Empty); err != nil {
		t.Fatal(err)
	}
	if err := read(ts, testNS); !mongoerr.Is(err, mongoerr.SnapshotTooOld) {
		t.Error(err)
	}
	if err := read(elsewhereAt, elsewhere); err != nil {
		t.Error(err)
	}
	// A pipeline that reads others needs all of them untouched.
	ts = write(testNS, bson.D("_id", 7))
	write(other, bson.D("_id", 7))
	join := []bson.Raw{bson.D("$lookup", bson.D("from", "other", "localField", "_id", "foreignField", "_id", "as", "o"))}
	if err := s.Aggregate(at(ts), &AggregateRequest{NS: testNS, Pipeline: join}, bson.NewBuilder(nil)); !mongoerr.Is(err, mongoerr.SnapshotTooOld) {
		t.Error(err)
	}
	if err := s.Aggregate(at(ts), &AggregateRequest{NS: testNS}, bson.NewBuilder(nil)); err != nil {
		t.Error(err)
	}
}

// States are given up behind the window, beyond their greatest number, and at the end; cursors
// that stand on one keep it.
func TestPastIsGivenUp(t *testing.T) {
	s := newServer(t)
	s.insert(numbered(10)...)
	_, ts := s.pastRead(0, bson.Empty)
	op := at(ts)
	b := bson.NewBuilder(nil)
	if err := s.Find(op, &FindRequest{NS: testNS, BatchSize: 3, HasBatchSize: true}, b); err != nil {
		t.Fatal(err)
	}
	_, id := cursorDocs(b.Finish(), "firstBatch")
	s.past.expire(time.Now().Add(DefaultSnapshotWindow / 2))
	if got, _ := s.pastRead(ts, bson.D("_id", 1)); got != "1 " {
		t.Fatal(got)
	}
	s.insert(bson.D("_id", 100))
	s.past.expire(time.Now().Add(DefaultSnapshotWindow + time.Second))
	if err := s.Find(at(ts), &FindRequest{NS: testNS}, bson.NewBuilder(nil)); !mongoerr.Is(err, mongoerr.SnapshotTooOld) {
		t.Fatalf("behind the window: %v", err)
	}
	if n := s.eng.Stats().OpenSnapshots; n != 2 { // the cursor's and that of the read that just failed
		t.Errorf("%d snapshots are open", n)
	}
	docs, id, err := s.more(newOp(), id, 0)
	if err != nil || len(docs) != 7 || id != 0 {
		t.Fatalf("the cursor gave %d documents more, %v", len(docs), err)
	}
	for i := range maxPast + 20 {
		s.insert(bson.D("_id", fmt.Sprint(i)))
		if err := s.Find(at(0), &FindRequest{NS: testNS, Limit: 1}, bson.NewBuilder(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.eng.Stats().OpenSnapshots; n != maxPast {
		t.Errorf("%d snapshots are open", n)
	}
	s.SetSnapshotWindow(0)
	if err := s.Find(at(0), &FindRequest{NS: testNS, Limit: 1}, bson.NewBuilder(nil)); err != nil {
		t.Fatal(err)
	}
	if n := s.eng.Stats().OpenSnapshots; n != 0 {
		t.Errorf("%d snapshots are open with no window", n)
	}
}

// Readers that read twice at one time see the same twice, while others write, make and drop
// indexes and collections.
func TestPastUnderWriters(t *testing.T) {
	s := newServer(t)
	s.insert(numbered(200)...)
	ctx, stop := context.WithCancel(context.Background())
	var writers, readers sync.WaitGroup
	writers.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := s.Update(newOp(), &UpdateRequest{NS: testNS, Updates: []UpdateStatement{{Q: bson.D("_id", i%200), U: bson.D("$set", bson.D("a", i)).Value(), Upsert: true}}}); err != nil {
				t.Error(err)
			}
		}
	})
	writers.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := s.cat.CreateIndexes(ctx, testNS, []bson.Raw{bson.D("key", bson.D("a", 1), "name", "a_1")}); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			if _, err := s.cat.DropIndexes(ctx, testNS, bson.V("a_1")); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			if i%10 == 9 {
				if _, err := s.cat.Drop(ctx, testNS); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		}
	})
	read := func(ts bson.Timestamp) (string, bson.Timestamp) {
		b := bson.NewBuilder(nil)
		if err := s.Find(at(ts), &FindRequest{NS: testNS, Filter: bson.D("a", bson.D("$gte", 0)), Sort: bson.D("_id", 1), BatchSize: 1000, HasBatchSize: true}, b); err != nil {
			if !mongoerr.Is(err, mongoerr.SnapshotTooOld) && !mongoerr.Is(err, mongoerr.QueryPlanKilled) {
				t.Error(err)
			}
			return "", 0
		}
		reply := b.Finish()
		return reply.Path("cursor.firstBatch").String(), reply.Path("cursor.atClusterTime").Timestamp()
	}
	for range 3 {
		readers.Go(func() {
			for range 60 {
				first, ts := read(0)
				if ts == 0 {
					continue
				}
				if again, same := read(ts); same == ts && again != first {
					t.Errorf("at %v\n%s\nthen\n%s", ts, first, again)
				}
			}
		})
	}
	readers.Wait()
	stop()
	writers.Wait()
}
