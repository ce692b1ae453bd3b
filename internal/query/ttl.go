package query

import (
	"context"
	"encoding/binary"
	"math"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
)

// defaultTTLInterval is the pause between two rounds (ttlMonitorSleepSecs).
const defaultTTLInterval = 60 * time.Second

// ttlMonitor deletes expired documents.
type ttlMonitor struct {
	l       *Local
	every   atomic.Int64 // nanoseconds
	enabled atomic.Bool
	changed chan struct{}
	passes  atomic.Int64
	deleted atomic.Int64
}

func newTTLMonitor(l *Local, every time.Duration) *ttlMonitor {
	if every <= 0 {
		every = defaultTTLInterval
	}
	m := &ttlMonitor{l: l, changed: make(chan struct{}, 1)}
	m.every.Store(int64(every))
	m.enabled.Store(true)
	return m
}

// SetTTL changes the pause between rounds of the TTL monitor (ttlMonitorSleepSecs) and
// whether it works at all (ttlMonitorEnabled).
func (l *Local) SetTTL(every time.Duration, enabled bool) {
	if every > 0 {
		l.ttl.every.Store(int64(every))
	}
	l.ttl.enabled.Store(enabled)
	select {
	case l.ttl.changed <- struct{}{}:
	default:
	}
}

// TTL returns the pause between rounds and whether the monitor works.
func (l *Local) TTL() (every time.Duration, enabled bool) {
	return time.Duration(l.ttl.every.Load()), l.ttl.enabled.Load()
}

// TTLStats are serverStatus's metrics.ttl.
func (l *Local) TTLStats() (passes, deleted int64) { return l.ttl.passes.Load(), l.ttl.deleted.Load() }

func (m *ttlMonitor) run() {
	for {
		t := time.NewTimer(time.Duration(m.every.Load()))
		select {
		case <-m.l.life.Done():
			t.Stop()
			return
		case <-m.changed:
			t.Stop()
		case <-t.C:
			if m.enabled.Load() {
				m.l.ExpireTTL(m.l.life, time.Now())
			}
		}
	}
}

// ExpireTTL is one round of the TTL monitor at now: it deletes the documents of all TTL
// indexes that are expired. Errors are logged; the next round tries again.
func (l *Local) ExpireTTL(ctx context.Context, now time.Time) {
	v := l.cat.Pin()
	for _, db := range v.Databases() {
		for _, c := range v.Collections(db) {
			if c.Options.Expires {
				n, err := l.expireClustered(ctx, c, now)
				l.ttl.deleted.Add(n)
				if err != nil && ctx.Err() == nil {
					l.logger.Error("TTL round failed", "namespace", c.NS.String(), "error", err)
				}
			}
			for _, ix := range c.Indexes() {
				if !ix.Spec.TTL || ix.Spec.Kept() || ctx.Err() != nil || c.IsCapped() {
					continue
				}
				field, _ := ix.Spec.Key.First()
				if ts := c.Options.Timeseries; ts != nil { // a bucket is expired once its newest measurement is
					field = "control.max." + ts.TimeField
				}
				n, err := l.expire(ctx, c.NS, ix.Spec, field, now)
				l.ttl.deleted.Add(n)
				if err != nil && ctx.Err() == nil {
					l.logger.Error("TTL round failed", "namespace", c.NS.String(), "index", ix.Spec.Name, "error", err)
				}
			}
		}
	}
	l.ttl.passes.Add(1)
}

// expireClustered deletes what is expired by the time in its _id.
func (l *Local) expireClustered(ctx context.Context, c *catalog.Collection, now time.Time) (int64, error) {
	if c.Options.Timeseries != nil {
		return l.expireBuckets(ctx, c, now)
	}
	spec := *c.IDIndex().Spec
	spec.ExpireAfter = c.Options.ExpireAfter
	return l.expire(ctx, c.NS, &spec, "_id", now)
}

// expireBuckets deletes the buckets of a time-series collection whose newest measurement is
// expired: the _id of a bucket begins with the time that it begins at.
func (l *Local) expireBuckets(ctx context.Context, c *catalog.Collection, now time.Time) (int64, error) {
	before := now.Unix() - c.Options.ExpireAfter - c.Options.Timeseries.MaxSpan
	if before < 0 {
		return 0, nil
	}
	var id bson.ObjectID
	binary.BigEndian.PutUint32(id[:4], uint32(min(before, math.MaxUint32)))
	op := NewOpContext(ctx)
	rep, err := l.Delete(op, &DeleteRequest{NS: c.NS, Deletes: []DeleteStatement{{Q: bson.D("_id", bson.D("$lt", id)), Multi: true}}})
	if err != nil {
		return 0, err
	}
	if len(rep.Errors) > 0 {
		err = rep.Errors[0].Err
	}
	return rep.N, err
}

func (l *Local) expire(ctx context.Context, ns Namespace, spec *catalog.IndexSpec, field string, now time.Time) (int64, error) {
	before := now.UnixMilli() - spec.ExpireAfter*1000
	q := bson.D(field, bson.D("$gte", bson.DateTime(math.MinInt64), "$lte", bson.DateTime(before)))
	if spec.PartialFilter != nil {
		q = bson.D("$and", []bson.Raw{q, spec.PartialFilter})
	}
	op := NewOpContext(ctx)
	rep, err := l.Delete(op, &DeleteRequest{NS: ns, Deletes: []DeleteStatement{{Q: q, Multi: true, Hint: bson.V(spec.Name)}}})
	if err != nil {
		return 0, err
	}
	if len(rep.Errors) > 0 {
		err = rep.Errors[0].Err
	}
	return rep.N, err
}
