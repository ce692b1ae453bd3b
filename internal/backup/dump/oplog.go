package dump

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/cairndb/cairn/internal/backup/tool"
)

// oplogPart is how the oplog gets into the dump.
type oplogPart interface {
	// finish writes the oplog after the last collection.
	finish(ctx context.Context) error
	// abort takes back what is left after an error; it does nothing after finish.
	abort()
}

type noOplog struct{}

func (noOplog) finish(context.Context) error { return nil }
func (noOplog) abort()                       {}

// startOplog remembers where the oplog of the dump begins, or begins to follow it.
func (d *Dump) startOplog(ctx context.Context, fail context.CancelCauseFunc) (oplogPart, error) {
	if !d.opts.Output.Oplog {
		return noOplog{}, nil
	}
	if d.opts.tails() {
		t, err := d.startTail(ctx, fail)
		if err != nil {
			return nil, err
		}
		d.tail = t
		return t, nil
	}
	w := &window{d: d}
	switch {
	case d.server.Hosts:
		d.log.Debug("determined cluster to be a replica set")
		w.coll = "oplog.rs"
	case !d.server.Primary:
		d.log.Info("mongodump is not connected to a master")
		return nil, errors.New("error finding oplog: not connected to master")
	default:
		d.log.Debug("not connected to a replica set, assuming master/slave")
		w.coll = "oplog.$main"
	}
	d.log.DebugHigh("oplog located in local.%s", w.coll)
	d.log.Info("getting most recent oplog timestamp")
	var err error
	if w.start, err = w.startTime(ctx); err != nil {
		return nil, fmt.Errorf("error getting oplog start: %w", err)
	}
	return w, nil
}

// window is the original's way: the interval between two moments, read at the end.
type window struct {
	d          *Dump
	coll       string
	start, end bson.Timestamp
}

func (*window) abort() {}

// startTime is the beginning of the oldest transaction that is not finished, else now.
func (w *window) startTime(ctx context.Context) (bson.Timestamp, error) {
	txns := w.d.client.Database("config").Collection("transactions", options.Collection().SetReadConcern(readconcern.Local()))
	filter := bson.D{{Key: "state", Value: bson.D{{Key: "$in", Value: bson.A{"prepared", "inProgress"}}}}}
	raw, err := txns.FindOne(ctx, filter, options.FindOne().SetSort(bson.D{{Key: "startOpTime", Value: 1}})).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return oplogEdge(ctx, w.d.client, w.coll, -1)
	}
	if err != nil {
		return bson.Timestamp{}, fmt.Errorf("config.transactions.findOne error: %w", err)
	}
	v, err := raw.LookupErr("startOpTime", "ts")
	if err != nil {
		return bson.Timestamp{}, errors.New("config.transactions row had no startOpTime.ts field")
	}
	t, i, ok := v.TimestampOK()
	if !ok {
		return bson.Timestamp{}, errors.New("config.transactions startOpTime.ts was not a BSON timestamp")
	}
	return bson.Timestamp{T: t, I: i}, nil
}

// oplogEdge is the ts of the oldest (1) or newest (-1) entry.
func oplogEdge(ctx context.Context, c *mongo.Client, coll string, direction int) (bson.Timestamp, error) {
	raw, err := c.Database("local").Collection(coll).FindOne(ctx, bson.D{}, options.FindOne().SetSort(bson.D{{Key: "$natural", Value: direction}})).Raw()
	if err != nil {
		return bson.Timestamp{}, fmt.Errorf("error getting recent oplog entry: %w", err)
	}
	t, i, ok := raw.Lookup("ts").TimestampOK()
	if !ok {
		return bson.Timestamp{}, errors.New("an oplog entry has no ts")
	}
	return bson.Timestamp{T: t, I: i}, nil
}

// check makes sure that the oplog still reaches back to the start.
func (w *window) check(ctx context.Context) error {
	oldest, err := oplogEdge(ctx, w.d.client, w.coll, 1)
	if err != nil {
		return fmt.Errorf("unable to check oplog for overflow: %w", err)
	}
	w.d.log.DebugHigh("oldest oplog entry has timestamp %v", oldest)
	if oldest.After(w.start) {
		w.d.log.Info("oldest oplog entry of timestamp %v is newer than %v", oldest, w.start)
		return errors.New("oplog overflow: mongodump was unable to capture all new oplog entries during execution")
	}
	w.d.log.DebugHigh("oplog entry %v still exists", w.start)
	return nil
}

func (w *window) finish(ctx context.Context) error {
	d := w.d
	var err error
	if w.end, err = oplogEdge(ctx, d.client, w.coll, -1); err != nil {
		return fmt.Errorf("error getting oplog end: %w", err)
	}
	d.log.Debug("checking if oplog entry %v still exists", w.start)
	if err := w.check(ctx); err != nil {
		return err
	}
	i := d.man.oplog
	d.log.Always("writing captured oplog to %#q", i.location)
	i.location = d.oplogPath()
	s := &scan{d: d, i: i, db: "local", coll: w.coll, check: validateEntry,
		filter: bson.D{{Key: "ts", Value: bson.D{{Key: "$gte", Value: w.start}, {Key: "$lte", Value: w.end}}}}}
	if err := d.copyScans(ctx, i, []*scan{s}); err != nil {
		return fmt.Errorf("error dumping oplog: %w", err)
	}
	d.log.Always("\tdumped %v oplog %v", i.docs, tool.Plural(i.docs, "entry", "entries"))
	d.log.Debug("checking again if oplog entry %v still exists", w.start)
	if err := w.check(ctx); err != nil {
		return err
	}
	d.result.OplogStart, d.result.OplogEnd, d.result.Entries = w.start, w.end, i.docs
	return nil
}

// oplogPath is the oplog's file. Like the original it has no suffix when it is gzipped.
func (d *Dump) oplogPath() string {
	suffix := d.method.suffix()
	if d.method == methodGzip {
		suffix = ""
	}
	return filepath.Join(d.opts.root(), "oplog.bson"+suffix)
}

// validateEntry refuses what the original does not dump.
func validateEntry(doc []byte) error {
	raw := bson.Raw(doc)
	ns, ok := raw.Lookup("ns").StringValueOK()
	if ok && ns == "admin.system.version" {
		return fmt.Errorf("cannot dump with oplog if admin.system.version is modified by %v", raw)
	}
	for _, c := range []struct{ field, why string }{
		{"renameCollection", "cannot dump with oplog while renames occur"},
		{"importCollection", "cannot dump with oplog while importCollection occurs"},
		{"upgradeDowngradeViewlessTimeseries", "cannot dump with oplog while a timeseries format conversion caused by an FCV change between 8.x and 9.0 occurs"},
	} {
		if _, err := raw.LookupErr("o", c.field); err == nil {
			return errors.New(c.why)
		}
	}
	if db, _, _ := strings.Cut(ns, "."); ok && db == "config" {
		if coll, ok := raw.Lookup("o", "create").StringValueOK(); ok && resharding(coll) {
			return errors.New("cannot dump with oplog while resharding")
		}
	}
	return nil
}
