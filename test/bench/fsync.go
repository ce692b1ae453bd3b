package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// groupCommitConns is the number of clients that share fsyncs in the row insertOne-j64.
const groupCommitConns = 64

// groupCommitRow inserts with j:true from many connections and notes how many writes shared a sync.
func groupCommitRow(ctx context.Context, e *env) (*work, error) {
	if _, err := e.fresh(ctx, "inserts"); err != nil {
		return nil, err
	}
	client, err := connect(e.uri, groupCommitConns)
	if err != nil {
		return nil, err
	}
	journaled := true
	c := client.Database(benchDB).Collection("inserts", options.Collection().
		SetWriteConcern(&writeconcern.WriteConcern{W: 1, Journal: &journaled}))
	syncs, known := e.journalSyncs(ctx)
	var next atomic.Int64
	w := &work{unit: "operations", workers: groupCommitConns}
	w.op = func(ctx context.Context, _ *worker) (int64, error) {
		_, err := c.InsertOne(ctx, e.document(int(next.Add(1))-1))
		return 1, err
	}
	w.verify = func(ctx context.Context, t *tally) error {
		defer func() { _ = client.Disconnect(ctx) }()
		if now, ok := e.journalSyncs(ctx); ok && known && now > syncs {
			w.note = fmt.Sprintf("%.1f acknowledgements an fsync", float64(t.units)/float64(now-syncs))
		}
		return e.verifyIDs(ctx, "inserts", t.units)
	}
	return w, nil
}

// journalSyncs is how often the server has synced its journal, if serverStatus tells.
func (e *env) journalSyncs(ctx context.Context) (int64, bool) {
	status, err := e.client.Database("admin").RunCommand(ctx, bson.D{{Key: "serverStatus", Value: 1}}).Raw()
	if err != nil {
		return 0, false
	}
	if v, err := status.LookupErr("wiredTiger", "log", "log sync operations"); err == nil {
		return v.AsInt64OK()
	}
	return findSyncs(status, false)
}

// findSyncs looks for "syncs" in a section called journal, wherever that lies.
func findSyncs(doc bson.Raw, inJournal bool) (int64, bool) {
	els, err := doc.Elements()
	if err != nil {
		return 0, false
	}
	for _, el := range els {
		if n, ok := el.Value().AsInt64OK(); ok && inJournal && el.Key() == "syncs" {
			return n, true
		}
		if sub, ok := el.Value().DocumentOK(); ok {
			if n, ok := findSyncs(sub, el.Key() == "journal"); ok {
				return n, true
			}
		}
	}
	return 0, false
}
