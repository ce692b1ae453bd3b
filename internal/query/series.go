package query

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"sync"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/update"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

const (
	// maxBucketCount and maxBucketBytes bound a bucket, as MongoDB does.
	maxBucketCount = 1000
	maxBucketBytes = 125 << 10
	// maxOpenBuckets bounds how many buckets are remembered to be filled on.
	maxOpenBuckets = 1000
)

// openBuckets remembers for each value of a meta field the bucket that the newest
// measurements went to.
type openBuckets struct {
	mu    sync.Mutex
	byKey map[string]openBucket
}

type openBucket struct {
	id    bson.ObjectID
	start int64 // ms
	count int
	bytes int
}

func (o *openBuckets) get(key string) (openBucket, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, ok := o.byKey[key]
	return b, ok
}

func (o *openBuckets) set(key string, b openBucket) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byKey == nil {
		o.byKey = map[string]openBucket{}
	}
	if _, known := o.byKey[key]; !known && len(o.byKey) >= maxOpenBuckets {
		for k := range o.byKey { // any one: it only costs a bucket that is not full
			delete(o.byKey, k)
			break
		}
	}
	o.byKey[key] = b
}

// measurements are documents that go into one bucket.
type measurements struct {
	openBucket
	key   string
	meta  bson.Value
	old   bool // the bucket is there already
	docs  []bson.Raw
	index []int // in the batch
}

// insertSeries inserts measurements into a time-series collection: those of one value of
// the meta field and one span of time share a bucket.
func (l *Local) insertSeries(op *OpContext, r *InsertRequest, coll *catalog.Collection) (*WriteReply, error) {
	rep := &WriteReply{}
	ts := coll.Options.Timeseries
	var groups []*measurements
	current := map[string]*measurements{}
	for i, d := range r.Documents {
		prior, err := l.executed(op, i)
		if err != nil {
			return nil, err
		}
		if prior != nil {
			rep.N++
			rep.RetriedStmtIDs = append(rep.RetriedStmtIDs, op.statement(i))
			continue
		}
		doc, err := l.storable(op, d)
		if err == nil && doc.Get(ts.TimeField).Type != bson.TypeDate {
			err = mongoerr.New(mongoerr.BadValue, "'%s' must be present and contain a valid BSON UTC datetime value", ts.TimeField)
		}
		if err != nil {
			e, fatal := statementError(err)
			if fatal != nil {
				return rep, fatal
			}
			rep.Errors = append(rep.Errors, WriteError{i, e})
			if !r.Unordered {
				break
			}
			continue
		}
		key := seriesKey(coll, doc)
		m := current[key]
		if m == nil {
			if b, ok := l.series.get(key); ok {
				m = &measurements{openBucket: b, key: key, old: true}
			}
		}
		if t := int64(doc.Get(ts.TimeField).Date()); m == nil || !m.takes(ts, t, len(doc)) {
			m = &measurements{openBucket: l.newBucket(op, ts, t), key: key}
		}
		if len(m.docs) == 0 {
			groups = append(groups, m)
		}
		current[key] = m
		m.add(ts, doc, i)
	}
	for _, m := range groups {
		if err := op.Interrupt(); err != nil {
			return rep, err
		}
		err := l.writeBucket(op, coll, m)
		if err == nil {
			rep.N += int64(len(m.docs))
			op.Stats.NInserted += int64(len(m.docs))
			l.series.set(m.key, m.openBucket)
			continue
		}
		e, fatal := statementError(err)
		if fatal != nil {
			return rep, fatal
		}
		for _, i := range m.index {
			rep.Errors = append(rep.Errors, WriteError{i, e})
			if !r.Unordered {
				return rep, nil
			}
		}
	}
	return rep, nil
}

// seriesKey tells the open buckets apart.
func seriesKey(coll *catalog.Collection, doc bson.Raw) string {
	key := append([]byte(nil), coll.UUID[:]...)
	if f := coll.Options.Timeseries.MetaField; f != "" {
		var tb keystring.TypeBits
		key = keystring.Append(key, doc.Get(f), false, &tb)
		key = append(key, tb.Bytes()...)
	}
	return string(key)
}

// newBucket is an empty bucket for measurements from t (ms) on.
func (l *Local) newBucket(op *OpContext, ts *catalog.Timeseries, t int64) openBucket {
	unit := ts.Rounding * 1000
	start := t - (t%unit+unit)%unit
	b := openBucket{id: l.ids.objectID(op.Now), start: start}
	binary.BigEndian.PutUint32(b.id[:4], uint32(start/1000)) // buckets are found by their time in the _id
	return b
}

func (m *measurements) takes(ts *catalog.Timeseries, t int64, size int) bool {
	return t >= m.start && t < m.start+ts.MaxSpan*1000 && m.count < maxBucketCount && m.bytes+size <= maxBucketBytes
}

func (m *measurements) add(ts *catalog.Timeseries, doc bson.Raw, i int) {
	if ts.MetaField != "" {
		m.meta = doc.Get(ts.MetaField)
	}
	m.docs, m.index = append(m.docs, doc), append(m.index, i)
	m.count++
	m.bytes += len(doc)
}

// writeBucket puts measurements into their bucket, or into a new one if that is gone or full.
func (l *Local) writeBucket(op *OpContext, coll *catalog.Collection, m *measurements) error {
	info := op.writeInfo(m.index[0])
	if info != nil && op.HasTxn {
		info.Grouped, info.StmtIDs = true, nil
		for _, i := range m.index {
			info.StmtIDs = append(info.StmtIDs, op.statement(i))
		}
	}
	err := l.unit(op, coll.NS, false, func(ctx context.Context, c *catalog.Collection, w *oplog.WriteUnit) (bool, error) {
		if c.UUID != coll.UUID {
			return false, mongoerr.New(mongoerr.QueryPlanKilled, "collection dropped. UUID %s", coll.UUID)
		}
		ts := c.Options.Timeseries
		if m.old {
			done, err := m.append(ctx, c, w, info)
			if done || err != nil {
				return done, err
			}
			first := int64(m.docs[0].Get(ts.TimeField).Date())
			m.old, m.openBucket = false, l.newBucket(op, ts, first)
			for _, d := range m.docs {
				m.count, m.bytes = m.count+1, m.bytes+len(d)
			}
		}
		doc := m.bucket(ts, nil, c.Options.Collation)
		err := c.Insert(ctx, w, []bson.Raw{doc}, info)
		if d := (*catalog.DocError)(nil); errors.As(err, &d) {
			err = d.Err
		}
		return true, err
	})
	if errors.Is(err, errNoCollection) {
		return mongoerr.New(mongoerr.NamespaceNotFound, "the buckets %s are gone", coll.NS)
	}
	return err
}

// append adds the measurements to the bucket that is there; false if it cannot take them.
func (m *measurements) append(ctx context.Context, c *catalog.Collection, w *oplog.WriteUnit, info *catalog.WriteInfo) (bool, error) {
	rid, err := c.FindID(w.RU, bson.V(m.id))
	if err == nil {
		err = c.LockRecord(ctx, w, rid)
	}
	var old bson.Raw
	if err == nil {
		old, err = c.Get(w.RU, rid, nil)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	control := old.Get("control").Doc()
	n := old.Get("data").Doc().Get(c.Options.Timeseries.TimeField).Doc().Len()
	meta := old.Get("meta")
	if v, _ := control.Get("version").AsInt64(); v != 1 || meta.Type != m.meta.Type || !bytes.Equal(meta.Data, m.meta.Data) || control.Get("closed").Truthy() || n+len(m.docs) > maxBucketCount {
		return false, nil
	}
	next := m.bucket(c.Options.Timeseries, old, c.Options.Collation)
	o := next
	if diff, ok := update.Diff(old, next); ok {
		o = bson.D("$v", 2, "diff", diff)
	}
	return true, c.Update(ctx, w, rid, old, next, o, info)
}

// bucket makes the document of a bucket: that of old with the measurements behind its own.
func (m *measurements) bucket(ts *catalog.Timeseries, old bson.Raw, coll *collate.Collator) bson.Raw {
	lo, hi := old.Get("control").Doc().Get("min"), old.Get("control").Doc().Get("max")
	oldData := old.Get("data").Doc()
	first := oldData.Get(ts.TimeField).Doc().Len()
	var names []string
	cols := map[string]*bson.Builder{}
	for k, v := range oldData.Elems() {
		names = append(names, k)
		cols[k] = bson.NewBuilder(nil).AppendElems(v.Doc())
	}
	for i, d := range m.docs {
		row := strconv.Itoa(first + i)
		values := bson.NewBuilder(nil)
		for k, v := range d.Elems() {
			if k == ts.MetaField {
				continue
			}
			if cols[k] == nil {
				names = append(names, k)
				cols[k] = bson.NewBuilder(nil)
			}
			cols[k].Append(row, v)
			values.Append(k, v)
		}
		one := values.Finish().Value()
		lo, hi = extremes(lo, one, -1, coll), extremes(hi, one, 1, coll)
	}
	b := bson.NewBuilder(nil).ObjectID("_id", m.id).Doc("control").Int32("version", 1)
	b.Doc("min")
	for k, v := range lo.Doc().Elems() {
		if k == ts.TimeField {
			v = bson.V(bson.DateTime(m.start))
		}
		b.Append(k, v)
	}
	b.End().Append("max", hi).End()
	if !m.meta.IsMissing() {
		b.Append("meta", m.meta)
	}
	b.Doc("data")
	for _, k := range names {
		b.AppendDoc(k, cols[k].Finish())
	}
	return b.End().Finish()
}

// extremes is the lesser (sign -1) or greater (1) of two values, field by field and element
// by element.
func extremes(a, b bson.Value, sign int, coll *collate.Collator) bson.Value {
	switch {
	case a.IsMissing():
		return b
	case b.IsMissing():
		return a
	case a.Type != b.Type || (a.Type != bson.TypeDocument && a.Type != bson.TypeArray):
		if coll.Err() != nil {
			coll = nil
		}
		if coll.Compare(b, a)*sign > 0 {
			return b
		}
		return a
	}
	out := bson.NewBuilder(nil)
	for k, v := range a.Doc().Elems() {
		out.Append(k, extremes(v, b.Doc().Get(k), sign, coll))
	}
	for k, v := range b.Doc().Elems() {
		if !a.Doc().Has(k) {
			out.Append(k, v)
		}
	}
	return bson.Value{Type: a.Type, Data: out.Finish()}
}

// seriesBuckets is the collection of buckets if ns is a time-series collection.
func (l *Local) seriesBuckets(ns Namespace) *catalog.Collection {
	return l.cat.Pin().Timeseries(ns)
}

// seriesDelete is a delete from a time-series collection as one of whole buckets.
func seriesDelete(s DeleteStatement, ts *catalog.Timeseries) (DeleteStatement, error) {
	q, ok := ts.MetaFilter(s.Q)
	switch {
	case !ok:
		return s, mongoerr.New(mongoerr.InvalidOptions, "Cannot perform a delete on a time-series collection when querying on a field that is not the metaField '%s'", ts.MetaField)
	case !s.Multi:
		return s, mongoerr.New(mongoerr.InvalidOptions, "Cannot perform a non-multi delete on a time-series collection")
	case !s.Hint.IsMissing():
		return s, mongoerr.New(mongoerr.InvalidOptions, "Cannot perform a delete with a hint on a time-series collection")
	}
	s.Q = q
	return s, nil
}

// seriesUpdate is an update of a time-series collection as one of buckets: of the meta field
// alone.
func seriesUpdate(s UpdateStatement, ts *catalog.Timeseries) (UpdateStatement, error) {
	refuse := func(why string) (UpdateStatement, error) {
		return s, mongoerr.New(mongoerr.InvalidOptions, "Cannot perform %s", why)
	}
	q, ok := ts.MetaFilter(s.Q)
	first, _ := s.U.Doc().First()
	switch {
	case ts.MetaField == "":
		return refuse("an update on a time-series collection that does not have a metaField")
	case s.Upsert:
		return refuse("an upsert on a time-series collection")
	case !s.Multi:
		return refuse("a non-multi update on a time-series collection")
	case s.U.Type != bson.TypeDocument || first == "" || first[0] != '$':
		return refuse("an update on a time-series collection that is not made of update operators")
	case !ok:
		return refuse("an update on a time-series collection when querying on a field that is not the metaField '" + ts.MetaField + "'")
	case !s.Hint.IsMissing():
		return refuse("an update with a hint on a time-series collection")
	}
	u := bson.NewBuilder(nil)
	for op, fields := range s.U.Doc().Elems() {
		renamed, ok := ts.MetaFilter(fields.Doc())
		if fields.Type != bson.TypeDocument || !ok || op == "$rename" {
			return refuse("an update on a time-series collection which updates a field that is not the metaField '" + ts.MetaField + "'")
		}
		u.AppendDoc(op, renamed)
	}
	s.Q, s.U = q, u.Finish().Value()
	return s, nil
}

// bucketCount is how many measurements a bucket holds.
func bucketCount(bucket bson.Raw, ts *catalog.Timeseries) int64 {
	if n, ok := bucket.Get("control").Doc().Get("count").AsInt64(); ok {
		return n
	}
	return int64(bucket.Get("data").Doc().Get(ts.TimeField).Doc().Len())
}
