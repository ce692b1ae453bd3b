package dump

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/internal/backup/batch"
)

// Sizes of what is on its way from the server to the files.
const (
	// chunkSize is how many bytes of documents go to the writer at a time.
	chunkSize = 512 << 10
	// replySize is what a reply of the server should have: large enough that its round
	// trip costs nothing beside it, small enough that replies do not make up the memory.
	replySize = 512 << 10
	// firstBatch is how many documents the first reply has, before their size is known: few,
	// as they may be large.
	firstBatch = 16
)

// chunk is a piece of a collection: whole documents, one after the other.
type chunk struct {
	buf   []byte
	docs  int64
	batch *batch.Batch // whose memory buf is; nil: its own
	refs  atomic.Int32
}

var chunkPool = sync.Pool{New: func() any { return &chunk{buf: make([]byte, 0, chunkSize)} }}

func newChunk() *chunk {
	c := chunkPool.Get().(*chunk)
	c.buf, c.docs = c.buf[:0], 0
	c.refs.Store(1)
	return c
}

func (c *chunk) release() {
	switch {
	case c == nil || c.refs.Add(-1) > 0:
	case c.batch != nil:
		c.batch.Release()
	case cap(c.buf) <= 2*chunkSize: // one that grew for a long document is not kept
		chunkPool.Put(c)
	}
}

// scan reads one collection, or a range of one, over as many cursors as it takes.
type scan struct {
	d      *Dump
	i      *intent
	db     string
	coll   string // on the server; changes with a rename
	filter any    // a document, nil for everything
	ranged bool   // in order of _id between min and max, else in natural order
	min    bson.RawValue
	max    bson.RawValue // excluded
	view   bool
	check  func(doc []byte) error // nil: nothing to check

	out  chan<- *chunk
	last *chunk // handed out last: where to go on after an interruption
	sent int64  // documents handed out
	gone bool   // the collection is not there any more
}

// open sends the find command.
func (s *scan) open(ctx context.Context) (*mongo.Cursor, error) {
	cmd := bson.D{{Key: "find", Value: s.coll}}
	if s.filter != nil {
		cmd = append(cmd, bson.E{Key: "filter", Value: s.filter})
	}
	switch {
	case s.ranged:
		cmd = append(cmd, bson.E{Key: "hint", Value: bson.D{{Key: "_id", Value: 1}}})
		if s.min.Type != 0 {
			cmd = append(cmd, bson.E{Key: "min", Value: bson.D{{Key: "_id", Value: s.min}}})
		}
		if s.max.Type != 0 {
			cmd = append(cmd, bson.E{Key: "max", Value: bson.D{{Key: "_id", Value: s.max}}})
		}
	case s.filter == nil && !s.view:
		// It says that the whole collection is wanted on purpose.
		cmd = append(cmd, bson.E{Key: "hint", Value: bson.D{{Key: "$natural", Value: 1}}})
	}
	cmd = append(cmd, bson.E{Key: "batchSize", Value: int32(firstBatch)})
	if s.d.byUUID(s.i) && !s.view {
		cmd = append(cmd, bson.E{Key: "collectionUUID", Value: bson.Binary{Subtype: 4, Data: s.i.uuid}})
	}
	if s.d.server.RawData() {
		cmd = append(cmd, bson.E{Key: "rawData", Value: true})
	}
	if rc := s.d.opts.ConnString.ReadConcernLevel; rc != "" {
		cmd = append(cmd, bson.E{Key: "readConcern", Value: bson.D{{Key: "level", Value: rc}}})
	}
	return s.d.client.Database(s.db).RunCommandCursor(ctx, cmd, options.RunCmd().SetReadPreference(s.d.pref))
}

// run reads to the end. The caller closes out.
func (s *scan) run(ctx context.Context) error {
	defer func() { s.last.release() }()
	var tries retries
	for {
		before := s.sent
		err := s.once(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case s.d.opts.Original:
			return err
		}
		if s.sent > before {
			tries = retries{}
		}
		again, rerr := s.resume(ctx, err)
		if rerr != nil {
			return rerr
		}
		if !again {
			return nil // it was dropped
		}
		s.d.log.Info("reading %#q goes on after: %v", s.i.dataNamespace(), err)
		if !tries.wait(ctx, s.d.opts.retryFor()) {
			return fmt.Errorf("it could not be read on for %v: %w", s.d.opts.retryFor(), err)
		}
	}
}

// resume says whether reading can go on after an error. An error that it does not know
// comes back.
func (s *scan) resume(ctx context.Context, err error) (bool, error) {
	switch {
	case isGone(err):
		now, found, lerr := s.d.locate(ctx, s.i)
		if lerr != nil {
			return false, errors.Join(err, lerr)
		}
		if !found {
			s.gone = true
			return false, nil
		}
		s.coll = now
		if s.i.buckets {
			s.coll = "system.buckets." + now
		}
	case !isTransient(err), s.view:
		return false, err
	}
	if s.sent > 0 && !s.ranged && (s.filter != nil || !s.d.oneServer && isLost(err)) {
		// Another member has its documents in another order, a filter may take another
		// index: where to go on is not known.
		return false, err
	}
	return true, nil
}

// once reads over one cursor, from where the one before ended.
func (s *scan) once(ctx context.Context) error {
	skip := s.seen()
	if s.ranged && skip != nil {
		s.min = skip.lastID
	}
	byUUID := s.d.byUUID(s.i)
	cur, err := s.open(ctx)
	if err != nil && byUUID && hasCode(err, 40415, 72 /* InvalidOptions */, 8000) {
		s.d.noUUIDArg.Store(true) // servers before 6.0
		cur, err = s.open(ctx)
	}
	if err != nil {
		return err
	}
	defer func() {
		// The server is told even when ctx has ended: a cursor holds its resources.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = cur.Close(end)
	}()
	if err := s.d.onUUID(ctx, s.i, s.coll); err != nil {
		return err
	}
	followed := s.d.dialer.Follow(cur.ID())
	defer followed.Close()
	r := reading{s: s, skip: skip, c: newChunk()}
	defer func() { r.c.release() }()
	if err := r.all(ctx, cur, followed); err != nil {
		return err
	}
	if skip != nil && !skip.found {
		return fmt.Errorf("reading the collection was interrupted, and none of the documents read last is there any more to go on from: dump it again")
	}
	return nil
}

// reading is the way of a cursor's documents into chunks.
type reading struct {
	s     *scan
	skip  *skipper // nil: everything is new
	c     *chunk   // being filled
	bytes int      // of the reply that is read
	docs  int
}

// all reads a cursor to its end. Documents that were read are handed out also if it
// breaks off.
func (r *reading) all(ctx context.Context, cur *mongo.Cursor, followed *batch.Cursor) error {
	for {
		var err error
		if cur.TryNext(ctx) {
			err = r.document(ctx, cur.Current)
			if cur.RemainingBatchLength() == 0 {
				r.resize(cur)
			}
		} else if err = cur.Err(); err != nil {
			if ferr := r.flush(ctx); ferr != nil {
				return ferr
			}
			return err
		} else if b := followed.Take(); b != nil {
			err = r.batch(ctx, b)
			r.resize(cur)
		} else if cur.ID() == 0 {
			return r.flush(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// resize asks for as many documents as make up a reply, if they are like the last ones.
func (r *reading) resize(cur *mongo.Cursor) {
	if r.docs > 0 {
		cur.SetBatchSize(int32(max(1, min(replySize/(r.bytes/r.docs), 1<<20))))
	}
	r.bytes, r.docs = 0, 0
}

// document takes one that the driver has.
func (r *reading) document(ctx context.Context, doc []byte) error {
	if n := len(doc); n < 5 || n > batch.MaxDocument || int(binary.LittleEndian.Uint32(doc)) != n || doc[n-1] != 0 {
		return fmt.Errorf("the server sent %d bytes that are no document", n)
	}
	r.bytes += len(doc)
	r.docs++
	if r.skip != nil && r.skip.drop(doc) {
		return nil
	}
	if r.s.check != nil {
		if err := r.s.check(doc); err != nil {
			return err
		}
	}
	if len(r.c.buf) > 0 && len(r.c.buf)+len(doc) > chunkSize {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	r.c.buf = append(r.c.buf, doc...)
	r.c.docs++
	return nil
}

// batch takes a reply that passed the driver by.
func (r *reading) batch(ctx context.Context, b *batch.Batch) error {
	docs, n, err := b.Documents()
	if err != nil || r.skip != nil || r.s.check != nil || n == 0 {
		defer b.Release()
		for err == nil && len(docs) > 0 {
			size := binary.LittleEndian.Uint32(docs)
			err = r.document(ctx, docs[:size])
			docs = docs[size:]
		}
		return err
	}
	r.bytes += len(docs)
	r.docs += n
	if err := r.flush(ctx); err != nil {
		b.Release()
		return err
	}
	c := &chunk{buf: docs, docs: int64(n), batch: b}
	c.refs.Store(1)
	return r.s.send(ctx, c)
}

// flush hands out what is there.
func (r *reading) flush(ctx context.Context) error {
	if r.c.docs == 0 {
		return nil
	}
	full := r.c
	r.c = newChunk()
	return r.s.send(ctx, full)
}

func (s *scan) send(ctx context.Context, c *chunk) error {
	c.refs.Add(1) // one for the writer, one for s.last
	select {
	case s.out <- c:
	case <-ctx.Done():
		c.release()
		c.release()
		return context.Cause(ctx)
	}
	s.last.release()
	s.last = c
	s.sent += c.docs
	return nil
}

// skipper leaves out what was handed out over an earlier cursor. Both cursors go the same
// way, so behind the last document that was handed out everything is new. It looks for
// any document of the last chunk, as the very last one may be deleted by now.
type skipper struct {
	ids    map[string]bool
	found  bool
	lastID bson.RawValue
}

// seen returns nil if nothing was handed out yet.
func (s *scan) seen() *skipper {
	if s.sent == 0 {
		return nil
	}
	k := &skipper{ids: map[string]bool{}, found: s.ranged || s.last.docs == s.sent}
	for p := s.last.buf; len(p) > 0; {
		n := binary.LittleEndian.Uint32(p)
		id := idOf(p[:n])
		k.ids[idKey(id)] = true
		k.lastID = bson.RawValue{Type: id.Type, Value: bytes.Clone(id.Value)}
		p = p[n:]
	}
	return k
}

func idOf(doc []byte) bson.RawValue { return bson.Raw(doc).Lookup("_id") }

func idKey(v bson.RawValue) string { return string(append([]byte{byte(v.Type)}, v.Value...)) }

func (k *skipper) drop(doc []byte) bool {
	if k.ids[idKey(idOf(doc))] {
		k.found = true
		return true
	}
	return !k.found
}

// retries spaces out the attempts after errors that follow each other without a document
// in between, for a time in all.
type retries struct {
	n     int
	since time.Time
}

func (r *retries) wait(ctx context.Context, limit time.Duration) bool {
	if r.n == 0 {
		r.since = time.Now()
	} else if time.Since(r.since) > limit {
		return false
	}
	pause := min(100*time.Millisecond<<min(r.n, 6), 5*time.Second)
	r.n++
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return true // the next attempt says why
	}
}

// isGone says that the collection is not there under its name any more.
func isGone(err error) bool {
	return errors.Is(err, errReplaced) || hasCode(err, 26 /* NamespaceNotFound */, 175 /* QueryPlanKilled */, 361 /* CollectionUUIDMismatch */)
}

// isLost says that the server may have changed.
func isLost(err error) bool {
	return mongo.IsNetworkError(err) || mongo.IsTimeout(err) || errors.Is(err, mongo.ErrClientDisconnected) ||
		hasCode(err, 6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436) || isSelection(err) || isDriver(err)
}

// isDriver says that the driver gave up a connection before it asked anything, as another
// operation had found the server gone.
func isDriver(err error) bool {
	var again interface{ Retryable() bool }
	return errors.As(err, &again) && again.Retryable()
}

// isTransient says that another cursor may do better.
func isTransient(err error) bool {
	return isLost(err) || hasCode(err, 43 /* CursorNotFound */, 237 /* CursorKilled */, 11601 /* Interrupted */)
}

// isSelection says that no server could be found for now.
func isSelection(err error) bool {
	var se interface{ ServerSelection() bool }
	return errors.As(err, &se) || err != nil && bytes.Contains([]byte(err.Error()), []byte("server selection error"))
}

func hasCode(err error, codes ...int) bool {
	var se mongo.ServerError
	if !errors.As(err, &se) {
		return false
	}
	for _, c := range codes {
		if se.HasErrorCode(c) {
			return true
		}
	}
	return false
}
