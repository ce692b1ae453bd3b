package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// updateManyRow changes the whole data set by one command, while one other client inserts,
// and notes what that client felt and how much more memory the server took at the worst
// moment. A scan before fills the caches: they are not what the command is to blame for.
func updateManyRow(ctx context.Context, e *env) (*work, error) {
	c, err := e.dataSet(ctx, false)
	if err != nil {
		return nil, err
	}
	if _, err := e.fresh(ctx, "inserts"); err != nil {
		return nil, err
	}
	if _, err := c.CountDocuments(ctx, bson.D{{Key: "u", Value: -1}}); err != nil {
		return nil, err
	}
	if err := e.settle(ctx); err != nil {
		return nil, err
	}
	var side bystander
	before, _ := memory(e.serverPID)
	w := &work{unit: "documents", workers: 1, limit: 1}
	w.op = func(ctx context.Context, _ *worker) (int64, error) {
		stop := side.start(ctx, e)
		res, err := c.UpdateMany(ctx, bson.D{}, bson.D{{Key: "$inc", Value: bson.D{{Key: "v", Value: 1}}}})
		stop()
		if err != nil {
			return 0, err
		}
		return res.ModifiedCount, side.err
	}
	w.verify = func(ctx context.Context, t *tally) error {
		e.loaded = false // the documents are no longer those of the data set
		if t.units != int64(e.docs) {
			return fmt.Errorf("WRONG: updateMany of %d documents modified %d", e.docs, t.units)
		}
		w.note = fmt.Sprintf("meanwhile %d insertOne, p99 %s, max %s; memory %+d MB",
			side.n, short(side.hist.quantile(0.99)), short(side.hist.max), (side.peak-before)>>20)
		return e.verifyIDs(ctx, "inserts", int64(side.n))
	}
	return w, nil
}

// bystander is a client that inserts, and a look at the server's memory now and then.
type bystander struct {
	n    int
	hist histogram
	peak int64
	err  error
}

// start begins; the returned function ends it and waits.
func (b *bystander) start(ctx context.Context, e *env) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		c := e.collection("inserts")
		for {
			select {
			case <-done:
				return
			default:
			}
			begin := time.Now()
			if _, b.err = c.InsertOne(ctx, e.document(b.n)); b.err != nil {
				return
			}
			b.hist.record(time.Since(begin))
			b.n++
		}
	})
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			rss, _ := memory(e.serverPID)
			b.peak = max(b.peak, rss)
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	return func() { close(done); wg.Wait() }
}
