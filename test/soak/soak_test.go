package soak

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn"
)

var length = flag.Duration("soak", 4*time.Second, "how long the load runs")

const (
	workers = 8
	// keys bounds the data: what the load writes replaces what it wrote.
	keys = 2000
	// The last third of the run may exceed the first by this much: the Go heap after a
	// collection by a fifth and 16 MB; the resident size, which has the engine's cache
	// and memtables too, by a fifth and 64 MB; goroutines by 20.
	factor, heapSlack, residentSlack, goroutineSlack = 1.2, 16 << 20, 64 << 20, 20
)

func d(kv ...any) bson.D {
	out := bson.D{}
	for i := 0; i < len(kv); i += 2 {
		out = append(out, bson.E{Key: kv[i].(string), Value: kv[i+1]})
	}
	return out
}

type sample struct {
	heap, resident uint64
	goroutines     int
}

func take() sample {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return sample{m.HeapAlloc, resident(), runtime.NumGoroutine()}
}

// resident is this process's resident size, 0 where the system does not tell.
func resident() (bytes uint64) {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, pages uint64
	if _, err := fmt.Sscan(string(statm), &size, &pages); err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

// TestSoak: run it with -soak=10m -timeout 20m for the real thing.
func TestSoak(t *testing.T) {
	before := runtime.NumGoroutine()
	db, err := cairn.Open(cairn.Options{Dir: t.TempDir(), ReplSet: "rs0", CacheBytes: 32 << 20, OplogBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	client, err := mongo.Connect(options.Client().ApplyURI(db.URI()).SetMaxPoolSize(workers + 2))
	if err != nil {
		t.Fatal(err)
	}
	samples, ops := load(t, client)
	if err := client.Disconnect(context.Background()); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	third := len(samples) / 3
	if third == 0 {
		t.Fatalf("only %d samples", len(samples))
	}
	first, last := average(samples[:third]), average(samples[len(samples)-third:])
	t.Logf("%d operations; first third: heap %d MB, resident %d MB, %d goroutines; last third: %d MB, %d MB, %d",
		ops, first.heap>>20, first.resident>>20, first.goroutines, last.heap>>20, last.resident>>20, last.goroutines)
	if float64(last.heap) > factor*float64(first.heap)+heapSlack || float64(last.resident) > factor*float64(first.resident)+residentSlack {
		t.Errorf("memory grows: %v", samples)
	}
	if last.goroutines > first.goroutines+goroutineSlack {
		t.Errorf("goroutines grow: %v", samples)
	}
	left := runtime.NumGoroutine()
	for deadline := time.Now().Add(10 * time.Second); left > before+5 && time.Now().Before(deadline); left = runtime.NumGoroutine() {
		runtime.Gosched()
	}
	if left > before+5 { // the driver's own take a moment to end
		t.Errorf("%d goroutines are left of the server, %d were there before", left, before)
	}
}

func average(list []sample) (a sample) {
	for _, s := range list {
		a.heap += s.heap / uint64(len(list))
		a.resident += s.resident / uint64(len(list))
		a.goroutines += s.goroutines
	}
	a.goroutines /= len(list)
	return a
}

// load runs the workers and samples meanwhile, from a tenth of the time on.
func load(t *testing.T, client *mongo.Client) (samples []sample, ops int64) {
	ctx := context.Background()
	c := client.Database("soak").Collection("c")
	if _, err := c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: d("k", 1)}); err != nil {
		t.Fatal(err)
	}
	stop, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	var done atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for i := 0; stop.Err() == nil; i++ {
				if err := step(ctx, client, c, rng, w, i); err != nil {
					t.Errorf("worker %d, step %d: %v", w, i, err)
					return
				}
				done.Add(1)
			}
		})
	}
	tick := time.NewTicker(*length / 30)
	defer tick.Stop()
	for n := 0; stop.Err() == nil; n++ {
		select {
		case <-tick.C:
			if n >= 3 {
				samples = append(samples, take())
			}
		case <-stop.Done():
		}
	}
	wg.Wait()
	return samples, done.Load()
}

// step does one of many things.
func step(ctx context.Context, client *mongo.Client, c *mongo.Collection, rng *rand.Rand, w, i int) error {
	id := rng.IntN(keys)
	pad := strings.Repeat("s", rng.IntN(800))
	var err error
	switch rng.IntN(14) {
	case 0, 1, 2:
		_, err = c.UpdateOne(ctx, d("_id", id), d("$set", d("k", i%100, "pad", pad)), options.UpdateOne().SetUpsert(true))
	case 3:
		_, err = c.DeleteOne(ctx, d("_id", id))
	case 4, 5:
		err = c.FindOne(ctx, d("_id", id)).Err()
	case 6:
		err = drain(ctx, c, d("k", i%100), options.Find().SetBatchSize(5).SetLimit(30))
	case 7:
		err = abandon(ctx, c)
	case 8:
		_, err = c.UpdateMany(ctx, d("k", rng.IntN(100)), d("$inc", d("n", 1)))
	case 9:
		err = c.FindOneAndUpdate(ctx, d("_id", id), d("$push", d("a", d("$each", bson.A{i}, "$slice", -5))), options.FindOneAndUpdate().SetUpsert(true)).Err()
	case 10:
		err = aggregate(ctx, c)
	case 11:
		err = inSession(ctx, client, c, id)
	case 12:
		err = refused(ctx, c, id)
	case 13:
		if i%20 == 0 {
			err = churn(ctx, client.Database("soak").Collection(fmt.Sprint("own", w)))
		}
	}
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil
	}
	return err
}

func drain(ctx context.Context, c *mongo.Collection, filter bson.D, o *options.FindOptionsBuilder) error {
	cur, err := c.Find(ctx, filter, o)
	if err != nil {
		return err
	}
	var out []bson.Raw
	return cur.All(ctx, &out)
}

// abandon leaves a cursor in the middle.
func abandon(ctx context.Context, c *mongo.Collection) error {
	cur, err := c.Find(ctx, d(), options.Find().SetBatchSize(2))
	if err != nil {
		return err
	}
	for range 3 {
		cur.Next(ctx)
	}
	return cur.Close(ctx)
}

func aggregate(ctx context.Context, c *mongo.Collection) error {
	cur, err := c.Aggregate(ctx, bson.A{d("$match", d("k", d("$lt", 20))), d("$group", d("_id", "$k", "n", d("$sum", 1))), d("$sort", d("n", -1))})
	if err != nil {
		return err
	}
	var out []bson.Raw
	return cur.All(ctx, &out)
}

func inSession(ctx context.Context, client *mongo.Client, c *mongo.Collection, id int) error {
	s, err := client.StartSession()
	if err != nil {
		return err
	}
	defer s.EndSession(ctx)
	_, err = c.UpdateOne(mongo.NewSessionContext(ctx, s), d("_id", id), d("$inc", d("s", 1)))
	return err
}

// refused is a write that must fail.
func refused(ctx context.Context, c *mongo.Collection, id int) error {
	_, err := c.InsertMany(ctx, []any{d("_id", keys+id, "k", -1), d("_id", keys+id)})
	if !mongo.IsDuplicateKeyError(err) {
		return fmt.Errorf("a duplicate _id: %w", err)
	}
	_, err = c.DeleteOne(ctx, d("_id", keys+id))
	return err
}

// churn makes a collection with an index and drops it.
func churn(ctx context.Context, c *mongo.Collection) error {
	if _, err := c.InsertMany(ctx, []any{d("x", 1), d("x", 2)}); err != nil {
		return err
	}
	if _, err := c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: d("x", 1)}); err != nil {
		return err
	}
	return c.Drop(ctx)
}
