package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// YCSB's record: ten fields of a hundred bytes.
const (
	ycsbFields   = 10
	ycsbFieldLen = 100
	ycsbMaxScan  = 100
)

// mix is one of the core workloads: shares of a hundred.
type mix struct {
	name, about                     string
	read, update, insert, scan, rmw int
	latest                          bool // choose what was inserted last
}

var mixes = []mix{
	{name: "ycsb-A", about: "50 % read, 50 % update, zipfian", read: 50, update: 50},
	{name: "ycsb-B", about: "95 % read, 5 % update, zipfian", read: 95, update: 5},
	{name: "ycsb-C", about: "read only, zipfian", read: 100},
	{name: "ycsb-D", about: "95 % read of the latest, 5 % insert", read: 95, insert: 5, latest: true},
	{name: "ycsb-E", about: "95 % scan of 1 to 100 from a zipfian key, 5 % insert", scan: 95, insert: 5},
	{name: "ycsb-F", about: "50 % read, 50 % read-modify-write, zipfian", read: 50, rmw: 50},
}

func ycsbRows() []row {
	var rows []row
	for _, m := range mixes {
		rows = append(rows, row{m.name, m.about, func(ctx context.Context, e *env) (*work, error) {
			return ycsbRow(ctx, e, m)
		}})
	}
	return rows
}

// ycsbKey names record i: hashed, so that neighbours in time are not neighbours in the index.
func ycsbKey(i int) string { return fmt.Sprintf("user%020d", hash64(uint64(i))) }

var ycsbFieldNames = [ycsbFields]string{"field0", "field1", "field2", "field3", "field4", "field5", "field6", "field7", "field8", "field9"}

func (e *env) ycsbRecord(i int) bson.D {
	d := bson.D{{Key: "_id", Value: ycsbKey(i)}}
	for f, name := range ycsbFieldNames {
		d = append(d, bson.E{Key: name, Value: e.ycsbValue(i + f)})
	}
	return d
}

// ycsbValue cuts a field's text out of the pads, at a place that depends on n.
func (e *env) ycsbValue(n int) string {
	p := e.pads[n%len(e.pads)]
	return p[:ycsbFieldLen]
}

// usertable is the loaded table; it is made anew when a row before has inserted into it.
func (e *env) usertable(ctx context.Context) (*mongo.Collection, error) {
	db := e.client.Database(ycsbDB)
	c := db.Collection("usertable")
	if e.ycsb == e.docs {
		return c, nil
	}
	if err := c.Drop(ctx); err != nil {
		return nil, err
	}
	if err := db.CreateCollection(ctx, "usertable"); err != nil {
		return nil, err
	}
	for from := 0; from < e.docs; from += 1000 {
		var docs []bson.D
		for i := from; i < min(from+1000, e.docs); i++ {
			docs = append(docs, e.ycsbRecord(i))
		}
		raws, err := encode(docs)
		if err != nil {
			return nil, err
		}
		if _, err := c.InsertMany(ctx, raws); err != nil {
			return nil, err
		}
	}
	e.ycsb = e.docs
	return c, nil
}

// ycsbRun is one workload at work.
type ycsbRun struct {
	e    *env
	c    *mongo.Collection
	m    mix
	zipf *zipfian
	next atomic.Int64 // next record to insert
	done atomic.Int64 // inserts acknowledged
	// all records below newest are acknowledged; late are those beyond, of which one before is not.
	newest atomic.Int64
	mu     sync.Mutex
	late   map[int64]bool
}

func ycsbRow(ctx context.Context, e *env, m mix) (*work, error) {
	c, err := e.usertable(ctx)
	if err != nil {
		return nil, err
	}
	y := &ycsbRun{e: e, c: c, m: m, zipf: newZipfian(e.docs)}
	y.next.Store(int64(e.docs))
	y.newest.Store(int64(e.docs))
	y.late = map[int64]bool{}
	if m.insert > 0 {
		e.ycsb = 0 // the next row needs a new table
	}
	return &work{unit: "operations", workers: e.connections, op: y.op, verify: y.verify}, nil
}

func (y *ycsbRun) op(ctx context.Context, w *worker) (int64, error) {
	p := w.rng.IntN(100)
	switch m := y.m; {
	case p < m.read:
		return 1, y.read(ctx, y.choose(w.rng))
	case p < m.read+m.update:
		return 1, y.update(ctx, y.choose(w.rng), w.rng)
	case p < m.read+m.update+m.insert:
		return 1, y.insert(ctx)
	case p < m.read+m.update+m.insert+m.scan:
		return 1, y.scan(ctx, y.choose(w.rng), 1+w.rng.IntN(ycsbMaxScan))
	}
	i := y.choose(w.rng)
	if err := y.read(ctx, i); err != nil {
		return 0, err
	}
	return 1, y.update(ctx, i, w.rng)
}

// choose picks a record; "latest" counts back from the last one before which all are
// acknowledged: inserts finish out of order.
func (y *ycsbRun) choose(r *rand.Rand) int {
	if !y.m.latest {
		return y.zipf.scrambled(r)
	}
	return max(int(y.newest.Load())-1-y.zipf.next(r), 0)
}

func (y *ycsbRun) read(ctx context.Context, i int) error {
	key := ycsbKey(i)
	raw, err := y.c.FindOne(ctx, bson.D{{Key: "_id", Value: key}}).Raw()
	if err != nil {
		return fmt.Errorf("read of record %d: %w", i, err)
	}
	return checkRecord(raw, key)
}

func checkRecord(raw bson.Raw, key string) error {
	els, err := raw.Elements()
	if err != nil {
		return err
	}
	if len(els) != 1+ycsbFields {
		return fmt.Errorf("WRONG: record %s has %d fields", key, len(els))
	}
	for _, el := range els {
		v, ok := el.Value().StringValueOK()
		if isID := el.Key() == "_id"; !ok || (isID && v != key) || (!isID && len(v) != ycsbFieldLen) {
			return fmt.Errorf("WRONG: record %s, field %s is %.100s", key, el.Key(), el.Value())
		}
	}
	return nil
}

func (y *ycsbRun) update(ctx context.Context, i int, r *rand.Rand) error {
	set := bson.D{{Key: ycsbFieldNames[r.IntN(ycsbFields)], Value: y.e.ycsbValue(r.IntN(1 << 20))}}
	res, err := y.c.UpdateOne(ctx, bson.D{{Key: "_id", Value: ycsbKey(i)}}, bson.D{{Key: "$set", Value: set}})
	if err == nil && res.MatchedCount != 1 {
		err = fmt.Errorf("WRONG: update of record %d matched %d", i, res.MatchedCount)
	}
	return err
}

func (y *ycsbRun) insert(ctx context.Context) error {
	i := y.next.Add(1) - 1
	_, err := y.c.InsertOne(ctx, y.e.ycsbRecord(int(i)))
	if err != nil {
		return err
	}
	y.done.Add(1)
	y.mu.Lock()
	defer y.mu.Unlock()
	y.late[i] = true
	newest := y.newest.Load()
	for ; y.late[newest]; newest++ {
		delete(y.late, newest)
	}
	y.newest.Store(newest)
	return nil
}

// scan reads up to n records in key order; how many there are behind the key is not known here.
func (y *ycsbRun) scan(ctx context.Context, i, n int) error {
	key := ycsbKey(i)
	f := bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: key}}}}
	o := options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}).SetLimit(int64(n)).SetBatchSize(int32(n) + 1)
	cur, err := y.c.Find(ctx, f, o)
	if err != nil {
		return err
	}
	defer cur.Close(ctx)
	got, last := 0, ""
	for ; cur.Next(ctx); got++ {
		id, _ := cur.Current.Lookup("_id").StringValueOK()
		if (got == 0 && id != key) || id <= last || got >= n {
			return fmt.Errorf("WRONG: document %d of the scan of %d from %s is %s, behind %s", got, n, key, id, last)
		}
		last = id
	}
	if cur.Err() == nil && got == 0 {
		return fmt.Errorf("WRONG: the scan from %s, which exists, gave nothing", key)
	}
	return cur.Err()
}

// verify counts: exactly the acknowledged inserts have come to the loaded records.
func (y *ycsbRun) verify(ctx context.Context, _ *tally) error {
	if y.m.insert == 0 {
		return nil
	}
	want := int64(y.e.docs) + y.done.Load()
	n, err := y.c.CountDocuments(ctx, bson.D{})
	if err == nil && n != want {
		err = fmt.Errorf("WRONG: %d records should be there, %d are", want, n)
	}
	return err
}
