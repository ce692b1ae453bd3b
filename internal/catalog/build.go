package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/keystring"
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

// side1 adds a side row: op u8 (0 put, 1 remove) | index ident u32 | RecordId 8 bytes |
// KeyString length u32 | KeyString | type bits.
func (b *buildState) side1(u *storage.RecoveryUnit, ix *Index, remove bool, key []byte, id storage.RecordID, bits []byte) {
	seq, err := b.seq.take(b.side, u, 1)
	if err == nil && seq <= loadedRow {
		seq, err = b.seq.take(b.side, u, 1)
	}
	if err != nil {
		b.fail(err)
		return
	}
	row := make([]byte, 0, 17+len(key)+len(bits))
	op := byte(0)
	if remove {
		op = 1
	}
	row = binary.BigEndian.AppendUint32(append(row, op), uint32(ix.Store.Ident))
	row = storage.AppendRecordID(row, id)
	row = binary.BigEndian.AppendUint32(row, uint32(len(key)))
	row = append(append(row, key...), bits...)
	b.side.Put(u, seq, row)
}

// sideOp is a decoded side row.
type sideOp struct {
	remove    bool
	ident     storage.Ident
	id        storage.RecordID
	key, bits []byte
}

func decodeSide(row []byte) (o sideOp, err error) {
	if len(row) < 17 {
		return o, fmt.Errorf("%w: side row of an index build has %d bytes", storage.ErrCorruption, len(row))
	}
	o.remove, o.ident = row[0] == 1, storage.Ident(binary.BigEndian.Uint32(row[1:]))
	o.id = storage.DecodeRecordID(row[5:])
	n := int(binary.BigEndian.Uint32(row[13:]))
	if n > len(row)-17 {
		return o, fmt.Errorf("%w: side row of an index build is cut", storage.ErrCorruption)
	}
	o.key, o.bits = row[17:17+n], row[17+n:]
	return o, nil
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

// duplicates are the keys of unique indexes that were seen twice. They may be gone
// when the build is committed.
type duplicates struct {
	keys []suspect
}

type suspect struct {
	ident storage.Ident
	key   []byte
}

// maxSuspects is how many doubled keys are looked at again; more are an error at once.
const maxSuspects = 10_000

func (d *duplicates) add(c *Collection, ix *Index, key, bits []byte) error {
	if len(d.keys) >= maxSuspects {
		return duplicateKey(c, ix, key, bits)
	}
	d.keys = append(d.keys, suspect{ix.Store.Ident, append([]byte(nil), key...)})
	return nil
}

// loadBuild is step 2.
func (c *Catalog) loadBuild(b *buildState, dups *duplicates) (err error) {
	coll := c.Pin().ByUUID(b.coll)
	if coll == nil || len(coll.buildIndexes(b)) == 0 {
		return context.Cause(b.ctx)
	}
	list := coll.buildIndexes(b)
	for _, ix := range list {
		b.tables = append(b.tables, ix.Store.Table)
	}
	snap, err := c.eng.Snapshot()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	b.total.Store(coll.Count())
	loaders := make([]*storage.BulkLoader, len(list))
	for i, ix := range list {
		loaders[i] = c.eng.NewBulkLoader(ix.Store.Table, c.opt.BuildMemory/int64(len(list)))
		defer func() { err = errors.Join(err, loaders[i].Close()) }()
	}
	if err := b.scan(coll, snap, list, loaders); err != nil {
		return err
	}
	for i, ix := range list {
		var check func(rest, value []byte) error
		if ix.Spec.Unique {
			check = adjacentCheck(coll, ix, dups)
		}
		if err := loaders[i].Load(b.ctx, check); err != nil {
			return err
		}
	}
	ws := c.eng.NewWriteSet()
	defer ws.Release()
	ws.Set(b.side.AppendRecordKey(nil, loadedRow), nil)
	for _, ix := range list {
		// No entry tells a replay what arrays the scan met.
		bits := ix.state.multikey.load()
		storeMultikey(ws, ix.Store.Table, &bits)
	}
	if err := c.eng.ApplyUnlogged(ws); err != nil {
		return err
	}
	return c.eng.Flush()
}

// scan adds the entries of all documents of the snapshot to the loaders.
func (b *buildState) scan(coll *Collection, snap *storage.Snapshot, list []*Index, loaders []*storage.BulkLoader) (err error) {
	cur := coll.store.Cursor(snap, storage.Forward)
	defer func() { err = errors.Join(err, cur.Close()) }()
	s := getScratch()
	defer s.put()
	for cur.Next() {
		if n := b.scanned.Add(1); n%128 == 0 && b.ctx.Err() != nil {
			return context.Cause(b.ctx)
		}
		s.relaxed = b.lenient
		for i, ix := range list {
			s.keys.reset()
			s.ops = s.ops[:0]
			if err := s.addKeys(ix, bson.Raw(cur.Value()), 0, false); err != nil {
				return err
			}
			for _, op := range s.ops {
				if err := loaders[i].AddIndexEntry(ix.Store, s.keys.key(op.span), cur.RecordID(), s.keys.bits(op.span)); err != nil {
					return err
				}
			}
		}
	}
	return cur.Err()
}

// adjacentCheck notes keys that stand there twice among sorted entries.
func adjacentCheck(c *Collection, ix *Index, dups *duplicates) func(rest, value []byte) error {
	var last []byte
	noted := false
	return func(rest, value []byte) error {
		key := rest[:len(rest)-8]
		if string(key) != string(last) {
			last, noted = append(last[:0], key...), false
			return nil
		}
		if noted {
			return nil
		}
		noted = true
		return dups.add(c, ix, key, value)
	}
}

// fewRows is how many side rows may be left for the time when writers are kept out.
const fewRows = 200

// drainBuild is step 3. It ends early if writers are as fast: then the rest is done while
// they are kept out.
func (c *Catalog) drainBuild(b *buildState, dups *duplicates) error {
	last := math.MaxInt
	for {
		if b.ctx.Err() != nil {
			return context.Cause(b.ctx)
		}
		n, err := c.drainRound(b, dups)
		if err != nil || n < fewRows || n > last/2 {
			return err
		}
		last = n
	}
}

// drainBatch is how many side rows are done at a time.
const drainBatch = 256

// drainRound does the side rows that are there now to the indexes.
func (c *Catalog) drainRound(b *buildState, dups *duplicates) (n int, err error) {
	coll := c.Pin().ByUUID(b.coll)
	if coll == nil {
		return 0, context.Cause(b.ctx)
	}
	cur := b.side.CursorRange(c.eng, storage.Forward, loadedRow+1, 0)
	defer func() { err = errors.Join(err, cur.Close()) }()
	d := drainer{cat: c, coll: coll, ws: c.eng.NewWriteSet(), dups: dups}
	defer d.ws.Release()
	for cur.Next() {
		op, err := decodeSide(cur.Value())
		if err != nil {
			return n, err
		}
		if coll.byIdent(op.ident) == nil {
			return n, context.Cause(b.ctx)
		}
		d.do(op)
		d.ws.Delete(b.side.AppendRecordKey(nil, cur.RecordID()))
		b.drained.Add(1)
		if n++; n%drainBatch == 0 {
			if b.ctx.Err() != nil {
				return n, context.Cause(b.ctx)
			}
			if err := d.flush(); err != nil {
				return n, err
			}
		}
	}
	if err := cur.Err(); err != nil {
		return n, err
	}
	return n, d.flush()
}

// drainer does side rows to indexes, unlogged, batch by batch.
type drainer struct {
	cat  *Catalog
	coll *Collection
	ws   *storage.WriteSet
	put  []suspect // unique keys of the batch
	dups *duplicates
}

func (d *drainer) do(op sideOp) {
	ix := d.coll.byIdent(op.ident)
	entry := storage.AppendRecordID(ix.Store.AppendKey(nil, op.key), op.id)
	if op.remove {
		d.ws.Delete(entry)
		return
	}
	d.ws.Set(entry, op.bits)
	if ix.Spec.Unique {
		d.put = append(d.put, suspect{op.ident, append([]byte(nil), op.key...)})
	}
}

// flush applies the batch and looks whether it doubled a key.
func (d *drainer) flush() error {
	if err := d.cat.eng.ApplyUnlogged(d.ws); err != nil {
		return err
	}
	d.ws.Reset()
	for _, s := range d.put {
		ix := d.coll.byIdent(s.ident)
		n, bits, err := ix.countKey(d.cat.eng, s.key)
		if err != nil {
			return err
		}
		if n > 1 {
			if err := d.dups.add(d.coll, ix, s.key, bits); err != nil {
				return err
			}
		}
	}
	d.put = d.put[:0]
	return nil
}

// countKey counts the entries of a key, up to two.
func (ix *Index) countKey(r storage.Reader, key []byte) (n int, bits []byte, err error) {
	cur := ix.Store.Cursor(r, storage.Forward, storage.IndexBounds{Lower: key, Upper: append(append([]byte(nil), key...), keystring.Above)})
	for n < 2 && cur.Next() {
		if n++; n == 1 {
			bits = append([]byte(nil), cur.TypeBits()...)
		}
	}
	return n, bits, errors.Join(cur.Err(), cur.Close())
}

func (c *Collection) byIdent(id storage.Ident) *Index {
	for _, ix := range c.indexes {
		if ix.Store.Ident == id {
			return ix
		}
	}
	return nil
}

// commitBuild is step 4.
func (c *Catalog) commitBuild(b *buildState, dups *duplicates) (*oplog.Future, error) {
	return c.runDDL(b.ctx, func(d *ddl, ch *change) error {
		coll := ch.e.v.ByUUID(b.coll)
		if coll == nil || len(coll.buildIndexes(b)) == 0 {
			return context.Cause(b.ctx)
		}
		if err := d.lock(coll); err != nil {
			return err
		}
		if p := b.broken.Load(); p != nil && b.lenient == nil {
			return *p
		}
		if _, err := c.drainRound(b, dups); err != nil { // no writer adds rows now
			return err
		}
		o := buildEntry("commitIndexBuild", coll, b).Finish()
		more, err := ch.finishBuild(coll, b)
		if err != nil {
			return err
		}
		for _, s := range append(dups.keys, more...) {
			if b.lenient != nil {
				b.lenient(coll.byIdent(s.ident), s.key)
				continue
			}
			if err := ch.checkSuspect(coll, s); err != nil {
				return err
			}
		}
		return ch.log(coll, coll.NS, coll.UUID, o, nil)
	})
}

// finishBuild makes the indexes of a build complete and readable, and returns the
// keys that it put into unique ones.
func (ch *change) finishBuild(c *Collection, b *buildState) (touched []suspect, err error) {
	list := c.buildIndexes(b)
	if _, err := b.side.Get(ch.u, loadedRow, nil); err == nil {
		touched, err = ch.drainLast(c, b)
		if err != nil {
			return nil, err
		}
	} else if errors.Is(err, storage.ErrNotFound) {
		if err := ch.fill(c, list, false); err != nil {
			return nil, err
		}
	} else {
		return nil, err
	}
	indexes := append([]*Index(nil), c.indexes...)
	for i, ix := range indexes {
		if ix.build == nil || ix.build.uuid != b.uuid {
			continue
		}
		n := *ix
		n.build = nil
		indexes[i] = &n
		// What the scan met was shown to readers, but no unit has stored it.
		bits := n.state.multikey.load()
		storeMultikey(ch.u, n.Store.Table, &bits)
		ch.u.RegisterChange(func() { n.state.multikey.committed(&bits) }, nil)
	}
	ch.u.DropIdent(b.side.Table)
	ch.put(c.withIndexes(indexes))
	return touched, nil
}

// drainLast does the remaining side rows inside the unit.
func (ch *change) drainLast(c *Collection, b *buildState) (touched []suspect, err error) {
	cur := b.side.CursorRange(ch.u, storage.Forward, loadedRow+1, 0)
	defer func() { err = errors.Join(err, cur.Close()) }()
	for cur.Next() {
		op, err := decodeSide(cur.Value())
		if err != nil {
			return nil, err
		}
		ix := c.byIdent(op.ident)
		switch {
		case ix == nil:
			return nil, fmt.Errorf("%w: side row for the unknown index %d", storage.ErrCorruption, op.ident)
		case op.remove:
			ix.Store.Remove(ch.u, op.key, op.id)
		default:
			ix.Store.Put(ch.u, op.key, op.id, op.bits)
			if ix.Spec.Unique {
				touched = append(touched, suspect{op.ident, append([]byte(nil), op.key...)})
			}
		}
	}
	return touched, cur.Err()
}

// checkSuspect is an error if a unique index has a key twice.
func (ch *change) checkSuspect(c *Collection, s suspect) error {
	ix := c.byIdent(s.ident)
	n, bits, err := ix.countKey(ch.u, s.key)
	if err != nil || n < 2 {
		return err
	}
	return duplicateKey(c, ix, s.key, bits)
}

// abortFailed undoes a build that failed.
func (c *Catalog) abortFailed(b *buildState, cause error) error {
	_, err := c.runDDL(context.WithoutCancel(b.ctx), func(d *ddl, ch *change) error {
		coll := ch.e.v.ByUUID(b.coll)
		if coll == nil || len(coll.buildIndexes(b)) == 0 {
			return errNothing
		}
		_, err := d.abortBuild(ch, coll, b, cause)
		return err
	})
	if err != nil && !errors.Is(err, errNothing) {
		return err
	}
	// If somebody else aborted the build, the load may have written behind the deletion.
	for _, t := range b.tables {
		if err := c.eng.DropIdent(t); err != nil {
			return err
		}
	}
	return nil
}

// abortBuild undoes a build with its entry and makes whoever runs it stop.
func (d *ddl) abortBuild(ch *change, c *Collection, b *buildState, cause error) (*Collection, error) {
	if len(c.buildIndexes(b)) == 0 {
		return c, nil // a build of several indexes, met at its second one
	}
	if err := d.lock(c); err != nil {
		return nil, err
	}
	o := buildEntry("abortIndexBuild", c, b)
	o.Doc("cause").Bool("ok", false).Int32("code", int32(mongoerr.CodeOf(cause))).Str("codeName", mongoerr.CodeOf(cause).String()).Str("errmsg", message(cause)).End()
	if err := ch.log(c, c.NS, c.UUID, o.Finish(), nil); err != nil {
		return nil, err
	}
	ch.u.RegisterChange(func() { b.cancel(cause) }, nil)
	return ch.removeBuild(c, b)
}

func message(err error) string {
	if e, ok := mongoerr.As(err); ok {
		return e.Message
	}
	return err.Error()
}

// removeBuild removes the indexes and tables of a build.
func (ch *change) removeBuild(c *Collection, b *buildState) (*Collection, error) {
	ch.u.DropIdent(b.side.Table)
	for _, ix := range c.buildIndexes(b) {
		n, err := ch.removeIndex(c, ix)
		if err != nil {
			return nil, err
		}
		c = n
	}
	return c, nil
}

// abortBuilds aborts all builds on a collection.
func (d *ddl) abortBuilds(ch *change, c *Collection, cause error) (*Collection, error) {
	for _, ix := range c.indexes {
		if ix.build == nil {
			continue
		}
		n, err := d.abortBuild(ch, c, ix.build, cause)
		if err != nil {
			return nil, err
		}
		c = n
	}
	return c, nil
}

// resumeBuilds begins the builds anew that were not committed when the store closed.
func (c *Catalog) resumeBuilds() error {
	for _, coll := range c.Pin().byUUID {
		started := map[*buildState]bool{}
		for _, ix := range coll.indexes {
			if b := ix.build; b != nil && !started[b] {
				started[b] = true
				if err := c.resetBuild(coll, b); err != nil {
					return err
				}
				c.opt.Logger.Info("index build begins anew", "component", "catalog", "ns", coll.NS.String(), "build", b.uuid.String())
				c.startBuild(b)
			}
		}
	}
	return nil
}

// resetBuild empties the tables of a build. Nobody writes yet.
func (c *Catalog) resetBuild(coll *Collection, b *buildState) error {
	b.coll = coll.UUID
	ws := c.eng.NewWriteSet()
	defer ws.Release()
	ws.DeleteRange(b.side.Bounds())
	for _, ix := range coll.buildIndexes(b) {
		ws.DeleteRange(ix.Store.Bounds())
	}
	return c.eng.ApplyUnlogged(ws)
}
