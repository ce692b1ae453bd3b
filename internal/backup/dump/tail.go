package dump

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cairndb/cairn/internal/backup/batch"
	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/source"
	"github.com/cairndb/cairn/internal/backup/tool"
	raw "github.com/cairndb/cairn/internal/bson"
)

// tail follows the oplog from before the first collection is looked at, into a file of its
// own, so it does not matter how far the server's oplog reaches back when the dump ends.
//
// It also knows what collections were called when it began. That makes a replay of its
// entries right over copies that were read at any moment:
//
//   - A copy is stored under its collection's name at the start. The entries before a
//     rename then find it under the old name, the rename moves it, and the entries
//     after it find it under the new one, whenever it was read.
//   - A collection that was created after the start is not copied: its creation and all
//     its documents are among the entries. So $out, whose result is a new collection that
//     is renamed into place, replaces the old copy as it did on the server.
//   - A collection that is dropped may be copied in part or not at all: the entries drop it.
//   - Documents that were copied with changes already made are changed again: entries are
//     idempotent as a sequence.
type tail struct {
	d     *Dump
	src   *source.Source
	fail  context.CancelCauseFunc
	rules *entry.Rules
	parts *entry.Rules // rules that take transactions apart
	spool *os.File
	keep  bool // the spool outlives the process
	w     *bufio.Writer
	stop  context.CancelFunc
	ended chan struct{}

	mu      sync.Mutex
	moved   *sync.Cond
	start   entry.OpTime
	last    entry.OpTime
	end     raw.Timestamp // 0: not known yet
	err     error
	names   map[raw.UUID]string // at the start, of collections that were renamed
	created map[raw.UUID]bool
	gone    map[raw.UUID]string // what collections that are dropped by now were called at the start
	entries int64
	skip    bool // the first delivery is in the spool already
}

// tailPace is how long the tail waits after it has caught up.
const tailPace = 20 * time.Millisecond

// startTail opens the oplog and follows it until finish or abort. When it fails later, it
// calls fail.
func (d *Dump) startTail(ctx context.Context, fail context.CancelCauseFunc) (*tail, error) {
	t := &tail{d: d, fail: fail}
	t.forget()
	t.moved = sync.NewCond(&t.mu)
	var err error
	if t.src, err = source.Open(ctx, d.client); err != nil {
		return nil, fmt.Errorf("error finding oplog: %w", err)
	}
	t.src.Pace = tailPace
	t.src.Dialer = &d.dialer
	t.src.GiveUp = d.opts.retryFor()
	t.src.OnRetry = func(err error, pause time.Duration) {
		d.log.Always("following the oplog: %v; trying again in %v", err, pause.Round(time.Millisecond))
	}
	if err := t.makeRules(); err != nil {
		return nil, err
	}
	if err := t.openSpool(ctx); err != nil {
		return nil, err
	}
	t.run(ctx)
	// The condition is waited for with ctx: it wakes the waiters.
	context.AfterFunc(ctx, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.moved.Broadcast()
	})
	return t, nil
}

// forget empties what is known of names.
func (t *tail) forget() {
	t.names, t.created, t.gone = map[raw.UUID]string{}, map[raw.UUID]bool{}, map[raw.UUID]string{}
}

// run follows the oplog from t.last until t.stop.
func (t *tail) run(ctx context.Context) {
	t.d.log.Info("following the oplog from %d:%d", t.last.TS.Seconds(), t.last.TS.Increment())
	run, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	t.stop, t.ended = stop, ended
	from := t.last
	go func() {
		defer close(ended)
		err := t.src.Tail(run, from, t.take)
		t.mu.Lock()
		defer t.mu.Unlock()
		if !errors.Is(err, errTailDone) && run.Err() == nil {
			t.err = fmt.Errorf("error following the oplog: %w", err)
			t.fail(t.err)
		}
		t.moved.Broadcast()
	}()
}

// restart begins again now: nothing was copied yet.
func (t *tail) restart(ctx context.Context) error {
	t.stop()
	<-t.ended
	if err := t.spool.Truncate(0); err != nil {
		return err
	}
	if _, err := t.spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	t.w.Reset(t.spool)
	t.forget()
	t.entries, t.d.result.NotReplayable = 0, nil
	var err error
	if t.start, err = t.src.Start(ctx); err != nil {
		return fmt.Errorf("error getting oplog start: %w", err)
	}
	t.last = t.start
	t.run(ctx)
	return nil
}

// vanished are the collections that were there at the start and are dropped by now, by
// their UUIDs, without those in have.
func (t *tail) vanished(have map[raw.UUID]bool) map[raw.UUID]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := map[raw.UUID]string{}
	for id, ns := range t.gone {
		if _, keep := t.rules.Namespace(ns); keep && !have[id] {
			m[id] = ns
		}
	}
	return m
}

// makeRules limits the entries to what is dumped.
func (t *tail) makeRules() error {
	ns, out := t.d.opts.Namespace, t.d.opts.Output
	if ns.DB == "" {
		return nil
	}
	escape := strings.NewReplacer(`\`, `\\`, `*`, `\*`)
	var in, ex []entry.Pattern
	if ns.Collection != "" {
		in = append(in, entry.ExactPattern(ns.DB+"."+ns.Collection))
	} else {
		p, err := entry.ParsePattern(escape.Replace(ns.DB) + ".*")
		if err != nil {
			return err
		}
		in = append(in, p)
	}
	for _, c := range out.Excluded {
		ex = append(ex, entry.ExactPattern(ns.DB+"."+c))
	}
	for _, c := range out.ExcludedPrefixes {
		p, err := entry.ParsePattern(escape.Replace(ns.DB+"."+c) + "*")
		if err != nil {
			return err
		}
		ex = append(ex, p)
	}
	t.rules = &entry.Rules{Include: in, Exclude: ex}
	t.parts = &entry.Rules{Include: in, Exclude: ex, SplitTransactions: true}
	return nil
}

// openSpool makes the file for the entries and says where the tail begins: now, or where
// an interrupted dump was.
func (t *tail) openSpool(ctx context.Context) error {
	d := t.d
	dir := os.TempDir()
	switch out := &d.opts.Output; {
	case out.Archive == "-":
	case out.Archive != "":
		dir = filepath.Dir(out.Archive)
		if fi, err := os.Stat(out.Archive); err == nil && fi.IsDir() {
			dir = out.Archive
		}
	default:
		dir = d.opts.root()
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return fmt.Errorf("error creating directory for the oplog: %w", err)
		}
	}
	var err error
	if d.state != nil {
		t.keep = true
		if t.spool, err = os.OpenFile(filepath.Join(dir, ".cairn-oplog"+tool.PartialSuffix), os.O_RDWR|os.O_CREATE, 0o666); err == nil {
			err = t.reload()
		}
	} else if t.spool, err = os.CreateTemp(dir, ".cairn-oplog-*"+tool.PartialSuffix); err == nil {
		// Without a name it goes away with the process, however that ends.
		err = os.Remove(t.spool.Name())
	}
	if err != nil {
		return fmt.Errorf("error creating a file for the oplog: %w", err)
	}
	t.w = bufio.NewWriterSize(t.spool, 256<<10)
	if t.entries > 0 {
		t.skip = true
		return nil
	}
	if t.start, err = t.src.Start(ctx); err != nil {
		return fmt.Errorf("error getting oplog start: %w", err)
	}
	t.last = t.start
	return nil
}

// reload reads the spool of an interrupted dump: the entries that are whole.
func (t *tail) reload() error {
	var at int64
	err := eachDocument(t.spool, func(doc []byte) error {
		e, err := entry.Parse(doc)
		if err != nil {
			return err
		}
		if t.entries == 0 {
			t.start = e.OpTime
		}
		t.entries++
		t.last = e.OpTime
		at += int64(len(doc))
		return t.learn(&e)
	})
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if err := t.spool.Truncate(at); err != nil {
		return err
	}
	_, err = t.spool.Seek(at, io.SeekStart)
	return err
}

// eachDocument hands out the documents of a file one by one. A last one that is not whole
// is io.ErrUnexpectedEOF.
func eachDocument(f *os.File, fn func(doc []byte) error) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(f, 256<<10)
	var buf []byte
	for {
		head, err := r.Peek(4)
		if len(head) == 0 && err == io.EOF {
			return nil
		}
		if err != nil {
			return io.ErrUnexpectedEOF
		}
		n := int(binary.LittleEndian.Uint32(head))
		if n < 5 || n > 2*batch.MaxDocument {
			return io.ErrUnexpectedEOF
		}
		buf = slices.Grow(buf[:0], n)[:n]
		if _, err := io.ReadFull(r, buf); err != nil {
			return io.ErrUnexpectedEOF
		}
		if err := fn(buf); err != nil {
			return err
		}
	}
}

// errTailDone ends the tail at its last entry.
var errTailDone = errors.New("the oplog is read to its end")

// take is called for every entry, in order.
func (t *tail) take(doc raw.Raw) error {
	e, err := entry.Parse(doc)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.end != 0 && e.OpTime.TS > t.end {
		return errTailDone
	}
	first := t.skip
	t.skip = false
	if !first {
		if err := t.write(e); err != nil {
			return err
		}
	}
	t.last = e.OpTime
	t.moved.Broadcast()
	if t.end != 0 && e.OpTime.TS >= t.end {
		return errTailDone
	}
	return nil
}

func (t *tail) write(e entry.Entry) error {
	if err := t.learn(&e); err != nil {
		return err
	}
	if class, why := e.Class(); class == entry.Refuse {
		return fmt.Errorf("the oplog entry %s cannot be replayed: %s", e.Place(), why)
	}
	if isFCV(&e) {
		return fmt.Errorf("cannot dump with oplog if admin.system.version is modified by %s", bson.Raw(e.Raw))
	}
	kept, keep, err := t.rules.Map(e)
	var split *entry.SplitTransactionError
	if errors.As(err, &split) {
		t.d.note("the transaction at %d:%d also writes %s, which is not part of this dump: only its part for what is dumped is kept",
			split.OpTime.TS.Seconds(), split.OpTime.TS.Increment(), split.Dropped)
		kept, keep, err = t.parts.Map(e)
	}
	if err != nil || !keep {
		return err
	}
	if why := kept.OriginalReplays(); why != "" && !slices.Contains(t.d.result.NotReplayable, why) {
		t.d.result.NotReplayable = append(t.d.result.NotReplayable, why)
	}
	t.entries++
	_, err = t.w.Write(kept.Raw)
	return err
}

// isFCV says that an entry changes what the server is compatible with.
func isFCV(e *entry.Entry) bool {
	return e.NS == "admin.system.version" && (e.O.Get("_id").Str() == "featureCompatibilityVersion" || e.O2.Get("_id").Str() == "featureCompatibilityVersion")
}

// learn keeps what an entry says of names.
func (t *tail) learn(e *entry.Entry) error {
	if e.Kind.HasOps() {
		ops, err := e.Ops()
		if err != nil {
			return err
		}
		for i := range ops {
			if err := t.learn(&ops[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if !e.HasUUID() {
		return nil
	}
	switch e.Kind {
	case entry.Create:
		t.created[e.UUID] = true
	case entry.Drop:
		t.lost(e.UUID, e.Namespace())
	case entry.RenameCollection:
		if victim, ok := e.O.Get("dropTarget").UUID(); ok {
			t.lost(victim, e.RenameTarget())
		}
		if t.names[e.UUID] == "" && !t.created[e.UUID] {
			t.names[e.UUID] = strings.Clone(e.Namespace())
		}
	}
	return nil
}

// lost keeps that a collection was dropped that was there at the start.
func (t *tail) lost(id raw.UUID, ns string) {
	if t.created[id] {
		return
	}
	if first := t.names[id]; first != "" {
		ns = first
	}
	t.gone[id] = strings.Clone(ns)
}

// nameAtStart is what a collection was called when the tail began; there is false if it
// did not exist then.
func (t *tail) nameAtStart(uuid []byte, db, now string) (name string, there bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := raw.UUID(uuid)
	if t.created[id] {
		return "", false
	}
	if ns := t.names[id]; ns != "" {
		_, name, _ = strings.Cut(ns, ".")
		return name, true
	}
	return now, true
}

// catchUp waits until the tail has everything that is in the oplog now, and returns the
// newest entry's ts.
func (t *tail) catchUp(ctx context.Context) (raw.Timestamp, error) {
	coll := strings.TrimPrefix(t.src.Namespace(), "local.")
	newest, err := oplogEdge(ctx, t.d.client, coll, -1)
	if err != nil {
		return 0, err
	}
	ts := raw.NewTimestamp(newest.T, newest.I)
	visible, err := t.src.Visible(ctx)
	if err != nil {
		return 0, err
	}
	ts = max(ts, visible)
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.last.TS < ts {
		if t.err != nil {
			return 0, t.err
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		t.moved.Wait()
	}
	return ts, nil
}

// finish waits for the last entry and writes the oplog into the dump.
func (t *tail) finish(ctx context.Context) error {
	d := t.d
	end, err := t.catchUp(ctx)
	if err != nil {
		return fmt.Errorf("error getting oplog end: %w", err)
	}
	t.mu.Lock()
	// What came since is in the spool already, and is part of the dump.
	t.end = max(end, t.last.TS)
	end = t.end
	t.mu.Unlock()
	t.stop()
	<-t.ended
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("error dumping oplog: %w", err)
	}
	i := d.man.oplog
	if i.location = d.oplogPath(); d.archive != nil {
		i.location = "archive"
	}
	d.log.Always("writing captured oplog to %#q", i.location)
	if err := t.copy(i); err != nil {
		return fmt.Errorf("error dumping oplog: error writing data for collection %#q to disk: %w", "oplog", err)
	}
	d.log.Always("\tdumped %v oplog %v", i.docs, tool.Plural(i.docs, "entry", "entries"))
	d.result.OplogStart = bson.Timestamp{T: t.start.TS.Seconds(), I: t.start.TS.Increment()}
	d.result.OplogEnd = bson.Timestamp{T: end.Seconds(), I: end.Increment()}
	d.result.Entries = i.docs
	t.close()
	return nil
}

// copy moves the spool's entries into the dump.
func (t *tail) copy(i *intent) error {
	w, err := t.d.sink(i)
	if err != nil {
		return err
	}
	c := newChunk()
	defer func() { c.release() }()
	flush := func() error {
		_, err := w.Write(c.buf)
		i.docs += c.docs
		c.buf, c.docs = c.buf[:0], 0
		return err
	}
	err = eachDocument(t.spool, func(doc []byte) error {
		if len(c.buf) > 0 && len(c.buf)+len(doc) > chunkSize {
			if err := flush(); err != nil {
				return err
			}
		}
		c.buf = append(c.buf, doc...)
		c.docs++
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err == nil && i.docs != t.entries {
		err = fmt.Errorf("%d entries were captured, %d were written", t.entries, i.docs)
	}
	if err != nil {
		w.abort()
		return err
	}
	if err := w.finish(); err != nil {
		return err
	}
	i.done = true
	return nil
}

func (t *tail) close() {
	if t.spool != nil {
		_ = t.spool.Close()
		t.spool = nil
	}
}

// abort ends the tail; a spool that is to be resumed from keeps what it has.
func (t *tail) abort() {
	if t.spool == nil {
		return
	}
	t.stop()
	<-t.ended
	if t.keep {
		_ = t.w.Flush()
	}
	t.close()
}
