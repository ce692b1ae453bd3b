package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cairndb/cairn/internal/storage/journal"
)

// Engine is an open data directory: the journal, and the keys that it explains.
type Engine struct {
	opts    Options
	log     *slog.Logger
	fs      vfs.FS // as given; the journal and the temporary files use it directly
	gate    *gateFS
	fail    *failure
	lock    io.Closer
	format  int // version of the data directory
	cache   *pebble.Cache
	rows    *rowCache     // nil: the cache is too small for one
	changed rowChange     // room for the next Apply
	group   *pebble.Batch // of the groups of units that Apply merges; nil before the first
	db      *pebble.DB
	journal *journal.Journal

	latches       *Latches
	snapshots     snapshotRegistry
	readSnapshots atomic.Int64 // open and not in the registry
	stall         stall
	drops         dropper
	ckpt          checkpointer
	settle        settler

	// applied is the newest mark whose batch is in the engine.
	applied struct {
		sync.Mutex
		mark Mark
	}
	appliedIndex atomic.Uint64 // applied.mark.Index, for reading without the lock

	closed   atomic.Bool
	quit     chan struct{} // closed when Close begins
	pressure pressure
	ingests  sync.WaitGroup
	progress bell // rung when a flush or compaction ends
	wg       sync.WaitGroup
}

// Open opens the data directory, making it if it is new. Before the first
// Apply the caller must run Recover.
func Open(o Options) (*Engine, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	e := &Engine{
		opts: o,
		log:  o.Logger.With("component", "storage"),
		fs:   o.FS,
		quit: make(chan struct{}),
	}
	e.fail = newFailure(e.log)
	if o.ReadOnly {
		e.fs = readOnlyFS{o.FS}
	}
	e.gate = &gateFS{FS: e.fs, fail: e.fail}
	e.latches = NewLatches(e.OldestSnapshot)
	if err := e.open(); err != nil {
		e.fail.closeOnce()
		return nil, errors.Join(err, e.closeFiles())
	}
	e.gate.armed.Store(true)
	e.start()
	return e, nil
}

func (e *Engine) open() (err error) {
	if err := e.openDir(); err != nil {
		return err
	}
	dir := e.opts.Dir
	if e.journal, err = journal.Open(journal.Options{
		FS: e.fs, Dir: e.fs.PathJoin(dir, journalDir),
		SegmentSize: e.opts.JournalSegmentBytes, ReadOnly: e.opts.ReadOnly, Logger: e.opts.Logger,
		// Whoever meets the failed journal first, the store is read-only from then on.
		OnFail: func(cause error) error { e.fail.fail(cause); return e.fail.err() },
	}); err != nil {
		var c *journal.CorruptionError
		if errors.As(err, &c) {
			err = fmt.Errorf("%w: %w", ErrCorruption, err)
		}
		return fmt.Errorf("storage: open the journal: %w", err)
	}
	e.gate.sync = e.journal.SyncTo
	if err := e.openPebble(); err != nil {
		return err
	}
	mark, err := e.readMark(e.db)
	if err != nil {
		return fmt.Errorf("storage: read the applied mark: %w", err)
	}
	if !e.opts.ReadOnly {
		if err := e.checkPositions(mark); err != nil {
			return err
		}
	}
	e.setApplied(mark)
	e.ckpt.flushed.Store(uint64(mark.Pos))
	return nil
}

// openDir locks the data directory, checks its version and brings it in order.
func (e *Engine) openDir() (err error) {
	dir := e.opts.Dir
	if e.opts.ReadOnly {
		if e.lock, err = lockForReading(e.opts.FS, dir); err != nil {
			return err
		}
		e.format, err = checkVersion(e.fs, dir, true)
		return err
	}
	if err := makeDataDir(e.fs, dir); err != nil {
		return err
	}
	syncParent(e.fs, dir)
	if e.lock, err = lockDir(e.fs, dir); err != nil {
		return err
	}
	if e.format, err = checkVersion(e.fs, dir, false); err != nil {
		return err
	}
	if err := makeDirs(e.fs, dir); err != nil {
		return err
	}
	return emptyTmp(e.fs, dir)
}

func (e *Engine) openPebble() (err error) {
	defer func() { // Pebble panics where a directory cannot be synced
		if p := recover(); p != nil {
			cause, ok := p.(error)
			if _, bug := p.(runtime.Error); bug || !ok {
				panic(p)
			}
			err = fmt.Errorf("storage: open the engine: %w", cause)
		}
	}()
	rows := e.opts.rowCacheBytes()
	e.rows = newRowCache(rows)
	e.cache = pebble.NewCache(e.opts.CacheBytes - rows)
	e.pressure.meter.times = processorTimes
	e.pressure.most = holdMemTables * e.opts.MemTableBytes
	p := e.opts.pebbleOptions()
	p.FS = e.gate
	p.Cache = e.cache
	p.Logger = pebbleLogger{log: e.log, fail: e.fail.fail}
	p.EventListener = e.eventListener()
	sched := newScheduler(e.fail.failed, e.pressure.hold)
	p.Experimental.CompactionScheduler = sched
	defer func() {
		if e.db == nil {
			sched.abandon()
		}
	}()
	db, err := pebble.Open(e.fs.PathJoin(e.opts.Dir, engineDir), p)
	if err != nil {
		return fmt.Errorf("storage: open the engine: %w", convErr(err))
	}
	e.db = db
	return e.fail.err()
}

// start begins the background work.
func (e *Engine) start() {
	e.stall.init(e)
	e.drops.init(e)
	e.ckpt.init(e)
	e.settle.init(e)
}

// Format is the version of the data directory, and Pebble's of the files in it.
func (e *Engine) Format() (directory, engine int) {
	return e.format, int(e.db.FormatMajorVersion())
}

// Journal is the log under the engine.
func (e *Engine) Journal() *journal.Journal { return e.journal }

// Latches are the latches of all units of this engine.
func (e *Engine) Latches() *Latches { return e.latches }

// Failed is closed when the store has turned read-only; Failure names the cause.
func (e *Engine) Failed() <-chan struct{} { return e.fail.failed }

// Failure is nil, or the ErrReadOnly that every write gets.
func (e *Engine) Failure() error { return e.fail.err() }

// Fail turns the store read-only: for the sequencer, when the journal may hold
// what the engine does not.
func (e *Engine) Fail(cause error) { e.fail.fail(cause) }

// writable is the error of a write, if it must not happen.
func (e *Engine) writable() error {
	if e.closed.Load() {
		return ErrClosed
	}
	if e.opts.ReadOnly {
		return fmt.Errorf("%w: opened read-only", ErrReadOnly)
	}
	return e.fail.err()
}

// Apply makes the changes of one unit, or of a group of units in the order of
// the journal, visible at once. end is the journal's mark behind them. Called
// by one goroutine at a time (the sequencer, or Recover), in journal order,
// after the append. sets may be empty: entries that change nothing still move
// the mark. The write sets are used up, but still the caller's to release.
//
// An error is final: the journal holds what the engine does not, and the store
// is read-only.
func (e *Engine) Apply(end Mark, sets ...*WriteSet) error {
	if err := e.writable(); err != nil {
		return err
	}
	if last := e.Applied(); end.Pos <= last.Pos || end.Index < last.Index {
		return fmt.Errorf("storage: apply out of order: %+v behind %+v", end, last)
	}
	e.stall.wait(end.Pos, sets)
	if err := e.fail.err(); err != nil {
		return err // it failed while this waited
	}
	if err := e.apply(end, sets); err != nil {
		e.fail.fail(err)
		return e.fail.err()
	}
	return nil
}

func (e *Engine) apply(end Mark, sets []*WriteSet) error {
	change := e.beginChange(e.changed, sets...)
	b, err := e.merge(sets)
	if err != nil {
		return err
	}
	op := b.SetDeferred(len(appliedKeyBytes), markLen)
	copy(op.Key, appliedKeyBytes)
	appendMark(op.Value[:0], end)
	finish(op)
	// First the gate, then the batch: whatever a flush can contain is covered.
	e.gate.applied.Store(uint64(end.Pos))
	if err := e.db.Apply(b, pebble.NoSync); err != nil {
		return fmt.Errorf("storage: apply: %w", convErr(err))
	}
	change.end()
	e.changed = change
	e.setApplied(end)
	e.ckpt.dirty.Store(true)
	e.ckpt.note(end.Pos)
	return nil
}

// merge returns the batch of all sets: that of the only one, or one that is used again for every
// group, as a new one of some megabytes would cost more in fresh memory than in copying.
func (e *Engine) merge(sets []*WriteSet) (*pebble.Batch, error) {
	var only *pebble.Batch
	n := 0
	for _, w := range sets {
		if w != nil && !w.Empty() {
			only = w.b
			n++
		}
	}
	if n == 1 {
		return only, nil
	}
	if e.group == nil {
		e.group = e.db.NewBatch(pebble.WithMaxRetainedSizeBytes(groupBytes))
	}
	e.group.Reset()
	for _, w := range sets {
		if w == nil || w.Empty() {
			continue
		}
		if err := e.group.Apply(w.b, nil); err != nil {
			return nil, fmt.Errorf("storage: merge write sets: %w", err)
		}
	}
	return e.group, nil
}

// groupBytes is what the batch of a group may keep: sixteen clients' units of an insert of many.
const groupBytes = 6 << 20

// ApplyUnlogged applies changes that no journal record explains. Only for
// bytes that nothing refers to until a later flush and a logged entry make
// them meaningful (a bulk-loaded index), or to remove what nothing refers to
// any more. Any goroutine.
func (e *Engine) ApplyUnlogged(w *WriteSet) error {
	if err := e.writable(); err != nil {
		return err
	}
	if w.Empty() {
		return nil
	}
	e.stall.waitBulk(w.Size())
	if err := e.writable(); err != nil {
		return err
	}
	change := e.beginChange(rowChange{}, w)
	if err := e.db.Apply(w.b, pebble.NoSync); err != nil {
		return fmt.Errorf("storage: apply unlogged: %w", convErr(err))
	}
	change.end()
	e.ckpt.dirty.Store(true)
	return nil
}

func (e *Engine) setApplied(m Mark) {
	e.applied.Lock()
	e.applied.mark = m
	e.appliedIndex.Store(m.Index)
	e.applied.Unlock()
}

// Applied is the mark of the newest batch in the engine.
func (e *Engine) Applied() Mark {
	e.applied.Lock()
	defer e.applied.Unlock()
	return e.applied.mark
}

func (e *Engine) readMark(r pebble.Reader) (Mark, error) {
	v, closer, err := r.Get(appliedKeyBytes)
	if errors.Is(err, pebble.ErrNotFound) {
		return Mark{}, nil
	}
	if err != nil {
		return Mark{}, convErr(err)
	}
	m, err := decodeMark(v)
	return m, errors.Join(err, closer.Close())
}

// Get reads the latest state.
func (e *Engine) Get(key, dst []byte) ([]byte, error) {
	if e.closed.Load() {
		return nil, ErrClosed
	}
	if e.rows == nil {
		return getFrom(e.db, key, dst)
	}
	v, ok, fill := e.rows.get(key, dst)
	if ok {
		return v, nil
	}
	return e.getMissed(key, dst, fill, keep{})
}

// keep says what the row cache is to keep when it is asked for what it has not.
type keep struct {
	// once: nothing. It is for who passes over many keys and does not come back.
	once bool
	// ahead is which neighbours to bring in with a miss.
	ahead aheadKind
	// key makes hints to what is kept; nil makes none.
	key *UniqueKey
}

// getMissed reads what the row cache had not.
func (e *Engine) getMissed(key, dst []byte, fill rowFill, k keep) ([]byte, error) {
	v, err := getFrom(e.db, key, dst)
	if err != nil || k.once {
		return v, err
	}
	var h *hinter
	if k.key != nil {
		h = &hinter{key: k.key}
	}
	e.rows.fill(fill, key, v, h)
	e.readAhead(key, len(v), k.ahead, h)
	h.end(e.rows)
	return v, nil
}

// latestOf returns the engine if r reads the latest state through its row cache, else nil. once
// says that what is read is not to be kept there.
func latestOf(r Reader) (e *Engine, once bool) {
	switch r := r.(type) {
	case *Engine:
		e = r
	case *RecoveryUnit:
		if r.mustRun(); r.view == nil && !r.Changed() {
			e, once = r.e, r.once
		}
	}
	if e == nil || e.rows == nil || e.closed.Load() {
		return nil, false
	}
	return e, once
}

// getPoint is r.Get of a key on the caller's stack: on the way of a hit nothing holds it.
func getPoint(r Reader, key, dst []byte, k keep) ([]byte, error) {
	e, once := latestOf(r)
	if e == nil {
		return r.Get(bytes.Clone(key), dst)
	}
	v, ok, fill := e.rows.get(key, dst)
	if ok {
		return v, nil
	}
	k.once = once
	return e.getMissed(bytes.Clone(key), dst, fill, k)
}

// NewCursor opens a cursor over the latest state as it is now.
func (e *Engine) NewCursor(lower, upper []byte) Cursor {
	if e.closed.Load() {
		return errCursor{ErrClosed}
	}
	return newBaseCursor(e.db, &e.pressure.cursors, lower, upper)
}

// Close ends the background work, leaves nothing to replay (unless the store
// has failed), and closes everything. All cursors, snapshots and units must
// have ended; what still runs gets ErrClosed. The error of a failed store is
// its cause. A second call does nothing.
func (e *Engine) Close() error {
	if !e.closed.CompareAndSwap(false, true) {
		return nil
	}
	close(e.quit)
	e.wg.Wait()
	var err error
	if !e.opts.ReadOnly {
		err = e.flush()
	}
	e.fail.closeOnce()
	e.ingests.Wait()
	cerr := e.closeFiles()
	if ferr := e.fail.err(); ferr != nil {
		if cerr != nil {
			e.log.Warn("closing the failed store", "err", cerr.Error())
		}
		return ferr
	}
	return errors.Join(err, cerr)
}

// Crash closes without the final checkpoint, as if the process had ended, but
// gives the memory back: what was not synced may or may not survive. For tests.
func (e *Engine) Crash() {
	if !e.closed.CompareAndSwap(false, true) {
		return
	}
	close(e.quit)
	e.wg.Wait()
	e.fail.fail(errors.New("crashed by a test"))
	e.fail.closeOnce()
	e.ingests.Wait()
	_ = e.closeFiles()
}

func (e *Engine) closeFiles() error {
	var errs []error
	if e.group != nil {
		errs = append(errs, e.group.Close())
	}
	if e.db != nil {
		errs = append(errs, convErr(e.db.Close()))
	}
	if e.cache != nil {
		e.cache.Unref()
	}
	if e.journal != nil {
		errs = append(errs, e.journal.Close())
	}
	if e.lock != nil {
		errs = append(errs, e.lock.Close())
	}
	return errors.Join(errs...)
}
