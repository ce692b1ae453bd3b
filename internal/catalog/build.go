package catalog

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// An index build on a collection that has documents and writers:
//
//  1. startIndexBuild: the indexes are in the catalog, not readable; from now on every
//     writer adds what it would do to them as rows of the build's side table.
//  2. A snapshot is scanned into a sorter, the sorted entries are loaded, unlogged; then a
//     row says so and the engine is flushed: what the log cannot explain is on disk.
//  3. The side rows so far are done to the indexes, unlogged, again until few are left.
//  4. commitIndexBuild: writers are kept out, the last rows are done and the keys that were
//     there twice looked at again; one unit makes the indexes readable.
//
// Recovery that meets a commitIndexBuild finds either the loaded tables and the side rows
// that the replayed writers left, and does step 4 again; or, if the flushed state is older
// than the load (on another member, which only applies entries), builds the indexes from
// the records inside the unit. A build without its commit begins anew after a restart.

// buildState is one build of one or more indexes.
type buildState struct {
	uuid bson.UUID
	// side is the side table: rows by sequence number, see side1. Row 1 says that the
	// tables are loaded.
	side storage.RecordStore
	seq  ridAllocator

	// lenient, if set, takes what breaks the indexes instead of the build failing: while
	// the log is replayed over newer data.
	lenient func(ix *Index, key []byte)

	coll   bson.UUID
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{}
	once   sync.Once
	err    error         // behind done
	future *oplog.Future // behind done

	tables []storage.Table // that the load fills

	broken atomic.Pointer[error] // a writer met a document that cannot be indexed

	total, scanned atomic.Int64
	drained        atomic.Int64
}

// loadedRow is the side row that says that the tables are loaded.
const loadedRow storage.RecordID = 1

func newBuildState(uuid bson.UUID, side storage.Table) *buildState {
	b := &buildState{uuid: uuid, side: storage.RecordStore{Table: side}, done: make(chan struct{})}
	b.ctx, b.cancel = context.WithCancelCause(context.Background())
	return b
}

// fail makes the build fail when it would be committed.
func (b *buildState) fail(err error) { b.broken.CompareAndSwap(nil, &err) }

// finish ends the build for those who wait.
func (b *buildState) finish(f *oplog.Future, err error) {
	b.once.Do(func() {
		b.future, b.err = f, err
		close(b.done)
	})
}

// wait returns the build's result, or ctx's error.
func (b *buildState) wait(ctx context.Context) error {
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// builds are the index builds that run in this process.
type builds struct {
	mu struct {
		sync.Mutex
		running map[bson.UUID]*buildState
	}
}

func (b *builds) init() { b.mu.running = map[bson.UUID]*buildState{} }

// BuildProgress describes a running build, for currentOp.
type BuildProgress struct {
	UUID           bson.UUID
	NS             Namespace
	Indexes        []bson.Raw
	Scanned, Total int64
	Drained        int64
}

// Builds lists the running index builds.
func (c *Catalog) Builds() (list []BuildProgress) {
	v := c.Pin()
	c.builds.mu.Lock()
	defer c.builds.mu.Unlock()
	for _, b := range c.builds.mu.running {
		coll := v.ByUUID(b.coll)
		if coll == nil {
			continue
		}
		p := BuildProgress{UUID: b.uuid, NS: coll.NS, Scanned: b.scanned.Load(), Total: b.total.Load(), Drained: b.drained.Load()}
		for _, ix := range coll.buildIndexes(b) {
			p.Indexes = append(p.Indexes, ix.Spec.Raw)
		}
		list = append(list, p)
	}
	return list
}

// AbortBuild interrupts a running build; whoever waits for it gets cause.
func (c *Catalog) AbortBuild(uuid bson.UUID, cause *mongoerr.Error) bool {
	c.builds.mu.Lock()
	b := c.builds.mu.running[uuid]
	c.builds.mu.Unlock()
	if b != nil {
		b.cancel(cause)
	}
	return b != nil
}

// buildIndexes are the indexes that b builds.
func (c *Collection) buildIndexes(b *buildState) (list []*Index) {
	for _, ix := range c.indexes {
		if ix.build != nil && ix.build.uuid == b.uuid {
			list = append(list, ix)
		}
	}
	return list
}

// buildEntry is the o of the entries of a build.
func buildEntry(command string, c *Collection, b *buildState) *bson.Builder {
	o := bson.NewBuilder(nil).Str(command, c.NS.Coll).UUID("indexBuildUUID", b.uuid).Array("indexes")
	for _, ix := range c.buildIndexes(b) {
		o.AppendDoc("", ix.Spec.Raw)
	}
	return o.End()
}

// startBuild registers a build: step 1.
func (ch *change) startBuild(c *Collection, uuid bson.UUID, specs []*IndexSpec) (*buildState, error) {
	side, err := ch.newTable(c.store.Space)
	if err != nil {
		return nil, err
	}
	b := newBuildState(uuid, side)
	b.coll = c.UUID
	for _, s := range specs {
		if c, err = ch.addIndex(c, s, b); err != nil {
			return nil, err
		}
	}
	return b, ch.log(c, c.NS, c.UUID, buildEntry("startIndexBuild", c, b).Finish(), nil)
}

// startBuild runs a registered build in the background.
func (c *Catalog) startBuild(b *buildState) {
	c.builds.mu.Lock()
	c.builds.mu.running[b.uuid] = b
	c.builds.mu.Unlock()
	stop := context.AfterFunc(c.life.ctx, func() { b.cancel(context.Cause(c.life.ctx)) })
	c.life.wg.Go(func() {
		defer stop()
		f, err := c.runBuild(b)
		c.builds.mu.Lock()
		delete(c.builds.mu.running, b.uuid)
		c.builds.mu.Unlock()
		b.finish(f, err)
	})
}

// runBuild does steps 2 to 4; if one fails the build is aborted, unless the catalog
// closes: then it begins anew at the next start.
func (c *Catalog) runBuild(b *buildState) (*oplog.Future, error) {
	dups := &duplicates{}
	err := c.loadBuild(b, dups)
	if err == nil {
		err = c.drainBuild(b, dups)
	}
	var f *oplog.Future
	if err == nil {
		f, err = c.commitBuild(b, dups)
	}
	if err == nil || c.life.ctx.Err() != nil {
		return f, err
	}
	if aerr := c.abortFailed(b, err); aerr != nil {
		err = errors.Join(err, aerr)
	}
	return nil, err
}
