package query

import (
	"context"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
)

// TestExpireBuckets: buckets go once all that they can hold is expired, and those that a TTL
// index names once their newest measurement is.
func TestExpireBuckets(t *testing.T) {
	s := newServer(t)
	ctx := context.Background()
	ns := Namespace{DB: "test", Coll: "s"}
	now := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	options := bson.D("timeseries", bson.D("timeField", "t", "metaField", "m"), "expireAfterSeconds", 3600)
	if _, err := s.cat.Create(ctx, ns, options); err != nil {
		t.Fatal(err)
	}
	index := bson.D("key", bson.D("t", 1), "name", "part", "partialFilterExpression", bson.D("m", "brief"), "expireAfterSeconds", 60)
	if _, err := s.cat.CreateIndexes(ctx, ns, []bson.Raw{index}); err != nil {
		t.Fatal(err)
	}
	at := func(before time.Duration) bson.DateTime { return bson.NewDateTime(now.Add(-before)) }
	rep, err := s.Insert(newOp(), &InsertRequest{NS: ns, Documents: []bson.Raw{
		bson.D("_id", 1, "t", at(3*time.Hour), "m", "a"),
		bson.D("_id", 2, "t", at(90*time.Minute), "m", "a"), // its bucket may hold measurements that are not expired
		bson.D("_id", 3, "t", at(10*time.Minute), "m", "brief"),
		bson.D("_id", 4, "t", at(10*time.Minute), "m", "a"),
		bson.D("_id", 5, "t", at(10*time.Second), "m", "brief"),
	}})
	if err != nil || len(rep.Errors) > 0 {
		t.Fatal(rep, err)
	}
	s.ExpireTTL(ctx, now)
	got := ids(s.find(&FindRequest{NS: ns}))
	if len(got) != 4 || got[0] != "2" {
		t.Errorf("left after a round: %v", got)
	}
	s.ExpireTTL(ctx, now.Add(70*time.Second))
	if got := ids(s.find(&FindRequest{NS: ns})); len(got) != 2 || got[0] != "2" || got[1] != "4" {
		t.Errorf("left after a minute: %v", got)
	}
}

// TestSeriesBucketsFill: single inserts fill one bucket up to its bounds, and concurrent ones
// lose nothing.
func TestSeriesBucketsFill(t *testing.T) {
	s := newServer(t)
	ns := Namespace{DB: "test", Coll: "s"}
	if _, err := s.cat.Create(context.Background(), ns, bson.D("timeseries", bson.D("timeField", "t", "metaField", "m"))); err != nil {
		t.Fatal(err)
	}
	const writers, each = 4, 300
	done := make(chan error, writers)
	for w := range writers {
		go func() {
			var err error
			for i := range each {
				var rep *WriteReply
				rep, err = s.Insert(newOp(), &InsertRequest{NS: ns, Documents: []bson.Raw{bson.D("_id", w*each+i, "t", bson.DateTime(1714557600000+int64(i)), "m", 1)}})
				if err == nil && len(rep.Errors) > 0 {
					err = rep.Errors[0].Err
				}
				if err != nil {
					break
				}
			}
			done <- err
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Count(newOp(), &CountRequest{NS: ns}); n != writers*each || err != nil {
		t.Errorf("%d measurements of %d: %v", n, writers*each, err)
	}
	buckets := s.find(&FindRequest{NS: ns.Buckets()})
	for _, b := range buckets {
		if n := b.Get("data").Doc().Get("t").Doc().Len(); n > maxBucketCount {
			t.Errorf("a bucket of %d", n)
		}
	}
	if len(buckets) > 50 {
		t.Errorf("%d measurements in %d buckets", writers*each, len(buckets))
	}
}
