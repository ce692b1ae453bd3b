package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/cairndb/cairn/internal/backup/batch"
	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

// Tail hands fn the entry from (with the zero OpTime: the oldest one; an oplog that is still
// empty is waited for), and then every entry that follows, in order, once, as
// soon as it is majority-committed, until ctx ends or fn fails: it returns ctx's error or
// fn's. raw is valid until fn returns. It goes on after lost connections, elections and
// restarts, for as long as ctx lives; see the package comment for the two ways in which it
// cannot.
func (s *Source) Tail(ctx context.Context, from entry.OpTime, fn func(raw bson.Raw) error) error {
	return s.TailBatches(ctx, from, oneByOne(fn))
}

// Item is an entry with what was read of it: the whole head of a plain one, see entry.Head for
// what it tells of others.
type Item struct {
	Raw  bson.Raw
	Head entry.Head
}

// TailBatches is Tail for a reader that takes many entries at a time: as many as there are, at
// most itemsAtOnce. The items are valid until fn returns. What fn fails with ends the tail.
func (s *Source) TailBatches(ctx context.Context, from entry.OpTime, fn func(items []Item) error) error {
	r := &reader{s: s, fn: fn, last: from, tail: true}
	return r.run(ctx)
}

// itemsAtOnce is how many entries a callback gets at most: enough to share what is done once for
// all of them, few enough that they are still in the processor's cache.
const itemsAtOnce = 256

// oneByOne is a callback for each entry.
func oneByOne(fn func(raw bson.Raw) error) func([]Item) error {
	return func(items []Item) error {
		for i := range items {
			if err := fn(items[i].Raw); err != nil {
				return err
			}
		}
		return nil
	}
}

// Read hands fn the entries of the closed interval [from, to], in order, once. The oplog
// must reach back to from before and after: else the error wraps ErrGone and a *GapError.
// to must not be newer than Newest.
func (s *Source) Read(ctx context.Context, from, to bson.Timestamp, fn func(raw bson.Raw) error) error {
	if err := s.reaches(ctx, from); err != nil {
		return err
	}
	r := &reader{s: s, fn: oneByOne(fn), first: from, to: to}
	if err := r.run(ctx); err != nil {
		return err
	}
	return s.reaches(ctx, from)
}

func (s *Source) reaches(ctx context.Context, from bson.Timestamp) error {
	oldest, err := s.Oldest(ctx)
	if err != nil {
		return err
	}
	if oldest.TS > from {
		return fmt.Errorf("%w: %w", ErrGone, &GapError{entry.OpTime{TS: from, Term: -1}, oldest})
	}
	return nil
}

// finalError is what no new cursor can help with: the callback failed, or the entries are wrong.
type finalError struct{ error }

// reader delivers entries over as many cursors as it takes.
type reader struct {
	s    *Source
	fn   func([]Item) error
	tail bool

	heads entry.HeadReader
	items []Item // read, not handed out yet; they alias the reply
	n     int    // entries since the last pause
	bytes int    // of them
	asked int    // how many entries a reply may have
	// first is where an interval begins, which need not be an entry.
	first, to bson.Timestamp

	last     entry.OpTime // delivered last; before the first delivery what a tail begins with
	lastRaw  bson.Raw     // its bytes, a copy, nil before the first delivery
	missing  time.Time    // since when the server does not have last
	point    bson.Timestamp
	progress bool      // something was delivered since the last error
	silent   time.Time // since when no server answers, zero while one does
}

func (r *reader) run(ctx context.Context) error {
	pause := time.Duration(0)
	for {
		err := r.once(ctx)
		var fe finalError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &fe):
			return fe.error
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !transient(err):
			return err
		}
		if r.silent.IsZero() {
			r.silent = time.Now()
		} else if limit := r.s.GiveUp; limit > 0 && time.Since(r.silent) > limit {
			return fmt.Errorf("no server answered for %v: %w", limit, err)
		}
		if r.progress {
			r.progress, pause = false, 0
		}
		pause = min(max(2*pause, 50*time.Millisecond), 5*time.Second)
		wait := pause/2 + rand.N(pause/2)
		if r.s.OnRetry != nil {
			r.s.OnRetry(err, wait)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errLagging is a server that does not have the newest delivered entry yet.
var errLagging = errors.New("the server does not have the entry read last yet")

// once reads over one cursor until it ends.
func (r *reader) once(ctx context.Context) error {
	from := max(r.first, r.last.TS)
	rng := bson.D("$gte", from)
	if !r.tail {
		rng = bson.D("$gte", from, "$lte", r.to)
	}
	cur, err := r.s.query(ctx, bson.D("ts", rng), r.tail)
	if err != nil {
		return err
	}
	defer closeCursor(cur)
	r.silent = time.Time{}
	r.items = r.items[:0] // what was not handed out is read again
	r.n, r.bytes, r.asked = 0, 0, batchSize
	if (r.tail && r.last.TS != 0) || r.lastRaw != nil {
		if err := r.begin(ctx, cur); err != nil {
			return err
		}
	}
	followed := r.s.Dialer.Follow(cur.ID())
	defer followed.Close()
	for {
		if r.tail && cur.RemainingBatchLength() == 0 {
			if err := r.pause(ctx, cur); err != nil {
				return err
			}
		}
		if cur.TryNext(ctx) {
			if err := r.add(ctx, bson.Raw(cur.Current)); err != nil {
				return err
			}
			if cur.RemainingBatchLength() == 0 {
				if err := r.deliver(); err != nil {
					return err
				}
			}
			continue
		}
		if err := cur.Err(); err != nil {
			return err
		}
		if b := followed.Take(); b != nil {
			if err := r.batch(ctx, b); err != nil {
				return err
			}
		}
		if cur.ID() == 0 {
			break
		}
	}
	if r.tail {
		return errEnded
	}
	return r.complete(ctx)
}

// errEnded is a tailable cursor that the server ended without an error.
var errEnded = errors.New("the server ended the cursor")

// complete sees that the interval's end was there to be read.
func (r *reader) complete(ctx context.Context) error {
	newest, err := r.s.Newest(ctx)
	if err == nil && newest.TS < r.to {
		err = r.lagging(newest)
	}
	return err
}

// replyBytes is what a reply should have: few round trips, and a buffer that is used again and again
// instead of one of whatever size there was once.
const replyBytes = 4 << 20

// pause lets entries gather before the server is asked again, unless it has more already.
func (r *reader) pause(ctx context.Context, cur *mongo.Cursor) error {
	n, size := r.n, r.bytes
	r.n, r.bytes = 0, 0
	more := n >= r.asked || size >= 2*replyBytes // entries have grown: the server cut the reply
	if n > 0 {
		r.asked = max(100, min(batchSize, replyBytes/max(size/n, 1)))
		cur.SetBatchSize(int32(r.asked))
	}
	if more {
		return context.Cause(ctx)
	}
	pace := r.s.Pace
	switch {
	case pace < 0:
		return nil
	case pace == 0:
		pace = 100 * time.Millisecond
	}
	return sleep(ctx, pace)
}

// begin takes the first entry of a cursor, which must be the one delivered last.
func (r *reader) begin(ctx context.Context, cur *mongo.Cursor) error {
	// Asking for more would wait for entries that are still to be written.
	if cur.RemainingBatchLength() == 0 {
		return r.absent(ctx)
	}
	if !cur.Next(ctx) {
		return cur.Err()
	}
	raw := bson.Raw(cur.Current)
	t, err := optime(raw)
	switch {
	case err != nil:
		return err
	case t.TS != r.last.TS:
		return r.absent(ctx)
	case t != r.last:
		return &RollbackError{Entry: r.last, Found: t}
	case r.lastRaw != nil && !bytes.Equal(raw, r.lastRaw):
		return &RollbackError{Entry: r.last, Found: t, Bytes: true}
	}
	r.missing = time.Time{}
	if r.lastRaw != nil {
		return nil
	}
	if err := r.add(ctx, raw); err != nil || cur.RemainingBatchLength() > 0 {
		return err
	}
	return r.deliver()
}

// absent says why the entry delivered last cannot be found.
func (r *reader) absent(ctx context.Context) error {
	oldest, err := r.s.edge(ctx, 1)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return r.lagging(entry.OpTime{Term: -1})
	}
	if err != nil {
		return err
	}
	old, err := optime(oldest)
	if err != nil {
		return err
	}
	if old.TS > r.last.TS {
		return &GapError{From: r.last, To: old}
	}
	// What this member has, committed or not, tells a rollback from a member that lags.
	raw, err := r.s.one(ctx, readconcern.Local(), bson.Empty, -1)
	if err != nil {
		return err
	}
	newest, err := optime(raw)
	if err != nil {
		return err
	}
	if newest.TS < r.last.TS {
		return r.lagging(newest)
	}
	here, err := r.s.one(ctx, readconcern.Local(), bson.D("ts", r.last.TS), 1)
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		return &RollbackError{Entry: r.last, Found: newest}
	case err != nil:
		return err
	}
	got, err := optime(here)
	if err == nil && got != r.last {
		err = &RollbackError{Entry: r.last, Found: got}
	}
	if err == nil {
		err = r.lagging(newest) // it has the entry and does not know yet that the others do
	}
	return err
}

// lagging lets a server catch up for a while.
func (r *reader) lagging(newest entry.OpTime) error {
	limit := r.s.StaleWait
	if limit == 0 {
		limit = 30 * time.Second
	}
	if r.missing.IsZero() {
		r.missing = time.Now()
	}
	if time.Since(r.missing) < limit {
		return errLagging
	}
	if !r.tail && r.lastRaw == nil {
		return finalError{fmt.Errorf("the oplog ends at %s, before the end of the interval", at(newest))}
	}
	return &RollbackError{Entry: r.last, Found: newest}
}

// batch delivers a reply that passed the driver by.
func (r *reader) batch(ctx context.Context, b *batch.Batch) error {
	for {
		doc, ok, err := b.Next()
		switch {
		case err != nil:
			return finalError{err}
		case !ok:
			err := r.deliver()
			if err == nil {
				b.Release()
			}
			return err // which may tell of the entry by its bytes: they stay
		}
		if err := r.add(ctx, bson.Raw(doc)); err != nil {
			return err
		}
	}
}

// add takes the next entry. It is handed out by deliver, at the latest before its reply's memory is
// used again, or by itself when there are many.
func (r *reader) add(ctx context.Context, raw bson.Raw) error {
	h := r.heads.Read(raw)
	if h.Kind == entry.Unknown {
		var err error
		if h.OpTime, err = optime(raw); err != nil {
			return errors.Join(r.deliver(), finalError{err})
		}
	}
	t, before := h.OpTime, r.last
	if n := len(r.items); n > 0 {
		before = r.items[n-1].Head.OpTime
	}
	if (r.lastRaw != nil || len(r.items) > 0) && t.TS <= before.TS {
		return errors.Join(r.deliver(), finalError{fmt.Errorf("the oplog is not in order: %s came after %s", at(t), at(before))})
	}
	if r.s.bounded && r.point < t.TS {
		if err := r.deliver(); err != nil {
			return err
		}
		if err := r.await(ctx, t.TS); err != nil {
			return err
		}
	}
	r.n++
	r.bytes += len(raw)
	r.items = append(r.items, Item{raw, h})
	if len(r.items) == itemsAtOnce {
		return r.deliver()
	}
	return nil
}

// deliver hands what was read to the callback.
func (r *reader) deliver() error {
	n := len(r.items)
	if n == 0 {
		return nil
	}
	items := r.items
	r.items = items[:0]
	if err := r.fn(items); err != nil {
		return finalError{err}
	}
	last := &items[n-1]
	r.last, r.lastRaw, r.progress = last.Head.OpTime, append(r.lastRaw[:0], last.Raw...), true
	return nil
}

// await returns when the majority has the entry.
func (r *reader) await(ctx context.Context, ts bson.Timestamp) error {
	for r.point < ts {
		point, err := r.s.majorityPoint(ctx)
		if err != nil {
			return err
		}
		if r.point = point; point < ts {
			if err := sleep(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// transient reports whether a new cursor may help.
func transient(err error) bool {
	switch {
	case errors.Is(err, errEnded), errors.Is(err, errLagging):
		return true
	case mongo.IsNetworkError(err), mongo.IsTimeout(err), errors.Is(err, mongo.ErrClientDisconnected):
		return !errors.Is(err, mongo.ErrClientDisconnected)
	}
	var gap *GapError
	var back *RollbackError
	if errors.As(err, &gap) || errors.As(err, &back) || errors.Is(err, ErrNoOplog) {
		return false
	}
	var ce mongo.CommandError
	if errors.As(err, &ce) && ce.Code == 0 {
		return true // the driver's own, of a connection: no answer has come
	}
	var se mongo.ServerError
	if errors.As(err, &se) {
		if se.HasErrorLabel("RetryableError") || se.HasErrorLabel("ResumableChangeStreamError") {
			return true
		}
		for _, code := range transientCodes {
			if se.HasErrorCode(code) {
				return true
			}
		}
		return false
	}
	// No server answered: no server to select, a connection refused or cut off.
	return true
}

// transientCodes are answers of servers that shut down, step down, or ended a cursor.
var transientCodes = []int{6, 7, 43, 63, 89, 91, 133, 136, 150, 175, 189, 202, 234, 237, 262, 279, 290, 384, 9001, 10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436}

func isCode(err error, code int) bool {
	var se mongo.ServerError
	return errors.As(err, &se) && se.HasErrorCode(code)
}
