package command

import (
	"sync/atomic"

	"github.com/cairndb/cairn/internal/bson"
)

// DocCounters sum what operations did to documents, for serverStatus's metrics.
type DocCounters struct {
	inserted, updated, deleted, returned atomic.Int64
	keys, docs, collScans                atomic.Int64
	sorts, conflicts                     atomic.Int64
}

// add counts a finished command.
func (d *DocCounters) add(c *Ctx) {
	if c.Op == nil {
		return
	}
	s := &c.Op.Query.Stats
	for _, a := range [...]struct {
		to *atomic.Int64
		n  int64
	}{{&d.inserted, s.NInserted + s.Upserts}, {&d.updated, s.NModified}, {&d.deleted, s.NDeleted}, {&d.returned, s.NReturned},
		{&d.keys, s.KeysExamined}, {&d.docs, s.DocsExamined}, {&d.conflicts, s.Conflicts}} {
		if a.n != 0 { // most are: a reader touches two of them
			a.to.Add(a.n)
		}
	}
	if s.HasSortStage {
		d.sorts.Add(1)
	}
	if s.PlanSummary == "COLLSCAN" {
		d.collScans.Add(1)
	}
}

// write appends the groups of serverStatus's metrics that monitoring tools read.
func (d *DocCounters) write(b *bson.Builder) {
	b.Doc("document").Int64("deleted", d.deleted.Load()).Int64("inserted", d.inserted.Load()).
		Int64("returned", d.returned.Load()).Int64("updated", d.updated.Load()).End()
	b.Doc("operation").Int64("scanAndOrder", d.sorts.Load()).Int64("writeConflicts", d.conflicts.Load()).End()
	b.Doc("queryExecutor").Doc("collectionScans").Int64("total", d.collScans.Load()).End().
		Int64("scanned", d.keys.Load()).Int64("scannedObjects", d.docs.Load()).End()
}
