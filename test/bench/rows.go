package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// allRows is every row in the order in which it runs: scan-fresh right behind load.
func allRows() []row {
	rows := []row{
		{"ping", "the empty command: what a round trip costs", pingRow},
		{"insertOne", "one document of --doc-size, w:1", func(ctx context.Context, e *env) (*work, error) { return insertRow(ctx, e, writeconcern.W1()) }},
		{"insertOne-j", "the same, w:1 j:true", func(ctx context.Context, e *env) (*work, error) {
			j := true
			return insertRow(ctx, e, &writeconcern.WriteConcern{W: 1, Journal: &j})
		}},
		{"insertOne-j64", "the same from 64 connections: how well fsyncs are shared", groupCommitRow},
		{"insertMany", "1,000 documents a call", insertManyRow},
		{"load", "the data set through one connection, 1,000 a call", loadRow},
		{"scan-fresh", "filter that matches nothing, no index, right after load", scanRow(false)},
		{"index-build", "createIndexes on k, documents a second", indexRow},
		{"findOne", "by _id", findOneRow},
		{"find-index", "10 documents by a secondary index", findIndexRow},
		{"updateOne", "$set by _id", updateRow},
		{"inc-hot", "$inc on one document from all connections", incRow},
		{"range-100", "100 documents by a range of _id", rangeRow},
		{"scan-settled", "scan-fresh's scan once the server is idle", scanRow(true)},
		{"count", "countDocuments({}): count all by scan", countRow},
		{"group", "$group by c with $sum and $avg", groupRow},
		{"sort-limit", "sort by a field without index, limit 10", sortRow},
		{"updateMany", "$inc on the whole data set by one command, while another client inserts", updateManyRow},
	}
	return append(rows, ycsbRows()...)
}

func pingRow(_ context.Context, e *env) (*work, error) {
	db := e.client.Database("admin")
	cmd := bson.D{{Key: "ping", Value: 1}}
	return &work{unit: "operations", workers: e.connections, op: func(ctx context.Context, _ *worker) (int64, error) {
		return 1, db.RunCommand(ctx, cmd).Err()
	}}, nil
}

// insertRow inserts documents with ever new _ids; afterwards exactly the acknowledged ones are there.
func insertRow(ctx context.Context, e *env, wc *writeconcern.WriteConcern) (*work, error) {
	if _, err := e.fresh(ctx, "inserts"); err != nil {
		return nil, err
	}
	c := e.client.Database(benchDB).Collection("inserts", options.Collection().SetWriteConcern(wc))
	var next atomic.Int64
	return &work{
		unit: "operations", workers: e.connections, pings: pingsAround,
		op: func(ctx context.Context, _ *worker) (int64, error) {
			_, err := c.InsertOne(ctx, e.document(int(next.Add(1))-1))
			return 1, err
		},
		verify: func(ctx context.Context, t *tally) error { return e.verifyIDs(ctx, "inserts", t.units) },
	}, nil
}

func insertManyRow(ctx context.Context, e *env) (*work, error) {
	if _, err := e.fresh(ctx, "inserts"); err != nil {
		return nil, err
	}
	c := e.collection("inserts")
	var next atomic.Int64
	return &work{
		unit: "documents", workers: e.connections,
		op: func(ctx context.Context, _ *worker) (int64, error) {
			from := int(next.Add(1)-1) * 1000
			docs, err := e.batch(from, from+1000)
			if err != nil {
				return 0, err
			}
			res, err := c.InsertMany(ctx, docs)
			if err != nil {
				return 0, err
			}
			if len(res.InsertedIDs) != 1000 {
				return 0, fmt.Errorf("insertMany of 1000 documents acknowledged %d", len(res.InsertedIDs))
			}
			return 1000, nil
		},
		verify: func(ctx context.Context, t *tally) error { return e.verifyIDs(ctx, "inserts", t.units) },
	}, nil
}

// verifyIDs checks that a collection holds exactly the documents 0 … n-1: their number, and a
// hundred of them byte by byte. It then drops the collection, so that it does not weigh on later rows.
func (e *env) verifyIDs(ctx context.Context, name string, n int64) error {
	c := e.collection(name)
	count, err := c.CountDocuments(ctx, bson.D{})
	if err != nil {
		return err
	}
	if count != n {
		return fmt.Errorf("WRONG: %d documents acknowledged, %d are there", n, count)
	}
	for i := range int64(100) {
		if err := e.verifyDocument(ctx, c, int(i*(n-1)/99)); err != nil {
			return err
		}
	}
	return c.Drop(ctx)
}

func (e *env) verifyDocument(ctx context.Context, c *mongo.Collection, id int) error {
	got, err := c.FindOne(ctx, bson.D{{Key: "_id", Value: int32(id)}}).Raw()
	if err != nil {
		return fmt.Errorf("document %d: %w", id, err)
	}
	want, err := bson.Marshal(e.document(id))
	if err != nil {
		return err
	}
	if string(got) != string(want) {
		return fmt.Errorf("WRONG: document %d is not what was inserted: %.200s", id, got)
	}
	return nil
}

// loadRow makes the data set once; the time of a whole load is its only sample.
func loadRow(ctx context.Context, e *env) (*work, error) {
	if _, err := e.fresh(ctx, "docs"); err != nil {
		return nil, err
	}
	e.loaded, e.indexed = false, false
	c := e.single.Database(benchDB).Collection("docs")
	from := 0
	return &work{
		unit: "documents", workers: 1, limit: int64((e.docs + 999) / 1000),
		op: func(ctx context.Context, _ *worker) (int64, error) {
			to := min(from+1000, e.docs)
			docs, err := e.batch(from, to)
			if err != nil {
				return 0, err
			}
			_, err = c.InsertMany(ctx, docs)
			n := to - from
			from = to
			return int64(n), err
		},
		verify: func(ctx context.Context, t *tally) error {
			// When the row's time was too short for all, the rest is not measured.
			for ; from < e.docs; from += 1000 {
				docs, err := e.batch(from, min(from+1000, e.docs))
				if err != nil {
					return err
				}
				if _, err := c.InsertMany(ctx, docs); err != nil {
					return err
				}
			}
			e.loaded = true
			n, err := c.EstimatedDocumentCount(ctx)
			if err == nil && n != int64(e.docs) {
				err = fmt.Errorf("WRONG: loaded %d documents, %d are there", e.docs, n)
			}
			return err
		},
	}, nil
}

func findOneRow(ctx context.Context, e *env) (*work, error) {
	c, err := e.dataSet(ctx, false)
	if err != nil {
		return nil, err
	}
	return &work{unit: "operations", workers: e.connections, pings: pingsBetween, op: func(ctx context.Context, w *worker) (int64, error) {
		id := int32(w.rng.IntN(e.docs))
		raw, err := c.FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Raw()
		if err != nil {
			return 0, err
		}
		if got, ok := raw.Lookup("_id").Int32OK(); !ok || got != id {
			return 0, fmt.Errorf("WRONG: asked for _id %d, got %.200s", id, raw)
		}
		if !isText(raw.Lookup("t"), e.pads[int(id)%len(e.pads)]) {
			return 0, fmt.Errorf("WRONG: text of _id %d", id)
		}
		return 1, nil
	}}, nil
}

// isText compares without the copy that RawValue.StringValueOK makes, which would count as the
// client's share of a findOne.
func isText(v bson.RawValue, want string) bool {
	const head, tail = 4, 1 // length, NUL
	return v.Type == bson.TypeString && len(v.Value) == head+len(want)+tail && string(v.Value[head:head+len(want)]) == want
}

func findIndexRow(ctx context.Context, e *env) (*work, error) {
	c, err := e.dataSet(ctx, true)
	if err != nil {
		return nil, err
	}
	keys := e.docs / perKey
	return &work{unit: "operations", workers: e.connections, op: func(ctx context.Context, w *worker) (int64, error) {
		k := int32(w.rng.IntN(keys))
		return 1, each(ctx, c, bson.D{{Key: "k", Value: k}}, nil, perKey, func(i int, d bson.Raw) error {
			if got, ok := d.Lookup("k").Int32OK(); !ok || got != k {
				return fmt.Errorf("WRONG: asked for k %d, got %.200s", k, d)
			}
			return nil
		})
	}}, nil
}

func rangeRow(ctx context.Context, e *env) (*work, error) {
	c, err := e.dataSet(ctx, false)
	if err != nil {
		return nil, err
	}
	return &work{unit: "operations", workers: e.connections, op: func(ctx context.Context, w *worker) (int64, error) {
		lo := int32(w.rng.IntN(e.docs - 100))
		f := bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: lo}, {Key: "$lt", Value: lo + 100}}}}
		sort := options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}).SetBatchSize(101)
		return 1, each(ctx, c, f, sort, 100, func(i int, d bson.Raw) error {
			if got, ok := d.Lookup("_id").Int32OK(); !ok || got != lo+int32(i) {
				return fmt.Errorf("WRONG: document %d of the range from %d is %.100s", i, lo, d)
			}
			return nil
		})
	}}, nil
}

// each runs a find, checks every document and their number.
func each(ctx context.Context, c *mongo.Collection, filter any, o *options.FindOptionsBuilder, want int, check func(i int, d bson.Raw) error) error {
	if o == nil {
		o = options.Find()
	}
	cur, err := c.Find(ctx, filter, o)
	if err != nil {
		return err
	}
	defer cur.Close(ctx)
	n := 0
	for ; cur.Next(ctx); n++ {
		if err := check(n, cur.Current); err != nil {
			return err
		}
	}
	if err := cur.Err(); err != nil {
		return err
	}
	if n != want {
		return fmt.Errorf("WRONG: %v gave %d documents, want %d", filter, n, want)
	}
	return nil
}

// updateRow gives every worker ids of its own, so that it knows what it wrote last.
func updateRow(ctx context.Context, e *env) (*work, error) {
	c, err := e.dataSet(ctx, true)
	if err != nil {
		return nil, err
	}
	last := make([][]int64, e.connections) // by a worker's ids; 0: never
	for i := range last {
		last[i] = make([]int64, e.docs/e.connections)
	}
	return &work{
		unit: "operations", workers: e.connections, pings: pingsAround,
		op: func(ctx context.Context, w *worker) (int64, error) {
			i := w.rng.IntN(e.docs / e.connections)
			id := int32(i*e.connections + w.id)
			v := (w.calls+1)<<20 | int64(id)
			res, err := c.UpdateOne(ctx, bson.D{{Key: "_id", Value: id}}, bson.D{{Key: "$set", Value: bson.D{{Key: "u", Value: v}}}})
			if err != nil {
				return 0, err
			}
			if res.MatchedCount != 1 {
				return 0, fmt.Errorf("WRONG: update of _id %d matched %d", id, res.MatchedCount)
			}
			last[w.id][i] = v
			return 1, nil
		},
		verify: func(ctx context.Context, _ *tally) error {
			for worker, values := range last {
				n := 0
				for i, v := range values {
					if v == 0 {
						continue
					}
					if n++; n > 10 {
						break
					}
					id := int32(i*e.connections + worker)
					raw, err := c.FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Raw()
					if err != nil {
						return err
					}
					if got, ok := raw.Lookup("u").Int64OK(); !ok || got != v {
						return fmt.Errorf("WRONG: _id %d was last set to %d, holds %v", id, v, raw.Lookup("u"))
					}
				}
			}
			return nil
		},
	}, nil
}

func incRow(ctx context.Context, e *env) (*work, error) {
	c, err := e.fresh(ctx, "hot")
	if err != nil {
		return nil, err
	}
	if _, err := c.InsertOne(ctx, bson.D{{Key: "_id", Value: "hot"}, {Key: "n", Value: int64(0)}}); err != nil {
		return nil, err
	}
	filter := bson.D{{Key: "_id", Value: "hot"}}
	inc := bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: int64(1)}}}}
	return &work{
		unit: "operations", workers: e.connections,
		op: func(ctx context.Context, _ *worker) (int64, error) {
			res, err := c.UpdateOne(ctx, filter, inc)
			if err == nil && res.ModifiedCount != 1 {
				err = fmt.Errorf("WRONG: $inc modified %d documents", res.ModifiedCount)
			}
			return 1, err
		},
		verify: func(ctx context.Context, t *tally) error {
			raw, err := c.FindOne(ctx, filter).Raw()
			if err != nil {
				return err
			}
			if n, _ := raw.Lookup("n").AsInt64OK(); n != t.units {
				return fmt.Errorf("WRONG: %d increments acknowledged, the document holds %d", t.units, n)
			}
			return nil
		},
	}, nil
}

// scanRow scans the whole data set with one connection. settled waits for compactions first.
func scanRow(settled bool) func(context.Context, *env) (*work, error) {
	return func(ctx context.Context, e *env) (*work, error) {
		c, err := e.dataSet(ctx, settled)
		if err != nil {
			return nil, err
		}
		note := "right after load"
		if settled {
			note = "settled"
			if err := e.settle(ctx); err != nil {
				return nil, err
			}
		}
		return e.scan(note, func(ctx context.Context) error {
			return each(ctx, c, bson.D{{Key: "n", Value: int64(-1)}}, nil, 0, nil)
		}), nil
	}
}

// scan is a row that reads the whole data set each call, on one connection.
func (e *env) scan(note string, call func(ctx context.Context) error) *work {
	return &work{unit: "documents", workers: 1, note: note, op: func(ctx context.Context, _ *worker) (int64, error) {
		return int64(e.docs), call(ctx)
	}}
}

func countRow(ctx context.Context, e *env) (*work, error) {
	c, err := e.dataSet(ctx, false)
	if err != nil {
		return nil, err
	}
	return e.scan("", func(ctx context.Context) error {
		n, err := c.CountDocuments(ctx, bson.D{})
		if err == nil && n != int64(e.docs) {
			err = fmt.Errorf("WRONG: counted %d of %d", n, e.docs)
		}
		return err
	}), nil
}

func groupRow(ctx context.Context, e *env) (*work, error) {
	c, err := e.dataSet(ctx, false)
	if err != nil {
		return nil, err
	}
	pipeline := bson.A{bson.D{{Key: "$group", Value: bson.D{{Key: "_id", Value: "$c"},
		{Key: "sum", Value: bson.D{{Key: "$sum", Value: "$n"}}}, {Key: "avg", Value: bson.D{{Key: "$avg", Value: "$n"}}}}}}}
	return e.scan("", func(ctx context.Context) error {
		cur, err := c.Aggregate(ctx, pipeline)
		if err != nil {
			return err
		}
		var out []struct {
			ID  int64   `bson:"_id"`
			Sum int64   `bson:"sum"`
			Avg float64 `bson:"avg"`
		}
		if err := cur.All(ctx, &out); err != nil {
			return err
		}
		if len(out) != groups {
			return fmt.Errorf("WRONG: %d groups, want %d", len(out), groups)
		}
		for _, g := range out {
			n := int64((e.docs - int(g.ID) + groups - 1) / groups)
			want := n*g.ID + groups*n*(n-1)/2
			if g.Sum != want || g.Avg != float64(want)/float64(n) {
				return fmt.Errorf("WRONG: group %d has sum %d and avg %v, want %d and %v", g.ID, g.Sum, g.Avg, want, float64(want)/float64(n))
			}
		}
		return nil
	}), nil
}

func sortRow(ctx context.Context, e *env) (*work, error) {
	c, err := e.dataSet(ctx, false)
	if err != nil {
		return nil, err
	}
	lowest := int64(1<<63 - 1)
	for id := range e.docs {
		lowest = min(lowest, sortValue(id))
	}
	o := options.Find().SetSort(bson.D{{Key: "s", Value: 1}}).SetLimit(10)
	return e.scan("", func(ctx context.Context) error {
		prev := lowest
		return each(ctx, c, bson.D{}, o, 10, func(i int, d bson.Raw) error {
			s, ok := d.Lookup("s").Int64OK()
			if !ok || s < prev || (i == 0 && s != lowest) {
				return fmt.Errorf("WRONG: document %d of the sort has s %d behind %d", i, s, prev)
			}
			prev = s
			return nil
		})
	}), nil
}

// indexRow builds the index on k once, over the whole data set.
func indexRow(ctx context.Context, e *env) (*work, error) {
	c, err := e.dataSet(ctx, false)
	if err != nil {
		return nil, err
	}
	if e.indexed {
		if err := c.Indexes().DropOne(ctx, "k_1"); err != nil {
			return nil, err
		}
		e.indexed = false
	}
	return &work{
		unit: "documents", workers: 1, limit: 1,
		op: func(ctx context.Context, _ *worker) (int64, error) {
			_, err := c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: "k", Value: 1}}})
			return int64(e.docs), err
		},
		verify: func(ctx context.Context, _ *tally) error {
			e.indexed = true
			k := int32(e.docs / perKey / 2)
			o := options.Find().SetHint(bson.D{{Key: "k", Value: 1}})
			if err := each(ctx, c, bson.D{{Key: "k", Value: k}}, o, perKey, func(int, bson.Raw) error { return nil }); err != nil {
				return fmt.Errorf("through the new index: %w", err)
			}
			return nil
		},
	}, nil
}
