package pitr

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/snapshot"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/bson"
)

// fullTail writes the oplog of a full backup's own duration, and remembers what it touches.
type fullTail struct {
	s              *repo.Stream
	first, last    entry.OpTime
	entries, bytes int64
	written        written
	lastRaw        []byte

	mu    sync.Mutex
	moved *sync.Cond // last, until or err changed
	at    bson.Timestamp
	until bson.Timestamp
	ended bool
	// keep tells that entries which change names are still needed; see changes.
	keep   bool
	names  []entry.Entry
	byUUID map[bson.UUID]bson.Timestamp
	byNS   map[string]bson.Timestamp
	base   bson.Timestamp
}

func newFullTail(s *repo.Stream) *fullTail {
	t := &fullTail{s: s, until: math.MaxUint64, keep: true, byUUID: map[bson.UUID]bson.Timestamp{}, byNS: map[string]bson.Timestamp{}}
	t.moved = sync.NewCond(&t.mu)
	return t
}

// run tails from an entry until finish's moment is reached.
func (t *fullTail) run(ctx context.Context, org *origin, from entry.OpTime) error {
	err := org.Tail(ctx, from, t.take)
	if errors.Is(err, errReached) || errors.Is(context.Cause(ctx), errReached) {
		err = nil
	}
	t.mu.Lock()
	t.ended = true
	t.moved.Broadcast()
	t.mu.Unlock()
	return err
}

func (t *fullTail) take(raw bson.Raw) error {
	e, err := entry.Parse(raw)
	if err != nil {
		return err
	}
	t.mu.Lock()
	until := t.until
	t.mu.Unlock()
	// The entry at the end may have been delivered before anybody knew that it is the end;
	// what was taken behind it belongs to the backup too.
	if e.OpTime.TS > until {
		return errReached
	}
	if _, err := t.s.Write(raw); err != nil {
		return err
	}
	if t.first.IsNull() {
		t.first = e.OpTime
	} else {
		t.entries++
		t.bytes += int64(len(raw))
		if err := t.written.add(&e); err != nil {
			return err
		}
	}
	t.last = e.OpTime
	t.lastRaw = append(t.lastRaw[:0], raw...)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.note(&e); err != nil {
		return err
	}
	t.at = e.OpTime.TS
	t.moved.Broadcast()
	if t.at >= t.until {
		return errReached
	}
	return nil
}

// note remembers which collections an entry writes, and whether it may change names.
func (t *fullTail) note(e *entry.Entry) error {
	switch {
	case e.Kind == entry.Noop:
		return nil
	case e.Kind.IsCRUD():
		t.touch(e, e.OpTime.TS)
		return nil
	}
	if t.keep {
		c := *e
		c.Raw = e.Raw.Clone()
		again, err := entry.Parse(c.Raw)
		if err != nil {
			return err
		}
		t.names = append(t.names, again)
	}
	return t.touchAll(e, e.OpTime.TS)
}

func (t *fullTail) touchAll(e *entry.Entry, at bson.Timestamp) error {
	if e.Kind.IsTxn() {
		at = math.MaxUint64 // it takes effect with its commit, wherever that is
	}
	if !e.Kind.HasOps() {
		t.touch(e, at)
		if to := e.RenameTarget(); to != "" {
			t.touchName(to, at)
		}
		return nil
	}
	ops, err := e.Ops()
	if err != nil {
		return err
	}
	for i := range ops {
		if err := t.touchAll(&ops[i], at); err != nil {
			return err
		}
	}
	return nil
}

func (t *fullTail) touch(e *entry.Entry, at bson.Timestamp) {
	if e.HasUUID() {
		t.byUUID[e.UUID] = max(at, t.byUUID[e.UUID])
	}
	t.touchName(e.Namespace(), at)
}

func (t *fullTail) touchName(ns string, at bson.Timestamp) {
	if old, there := t.byNS[ns]; there && old >= at {
		return
	}
	t.byNS[strings.Clone(ns)] = at
}

// touched reports whether a collection, or its name, was written after the base.
func (t *fullTail) touched(c *snapshot.Collection) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byUUID[c.UUID] > t.base && c.UUID != (bson.UUID{}) || t.byNS[c.Namespace()] > t.base || t.byNS[c.DB] > t.base
}

// changes waits until the tail has come to an entry and returns what changed names after one and
// up to the other.
func (t *fullTail) changes(ctx context.Context, after, upTo bson.Timestamp) (*snapshot.Rewinder, error) {
	stop := context.AfterFunc(ctx, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.moved.Broadcast()
	})
	defer stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.at < upTo && !t.ended && ctx.Err() == nil {
		t.moved.Wait()
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if t.at < upTo {
		return nil, errors.New("the oplog beside the copy ended early")
	}
	t.base = after
	w := &snapshot.Rewinder{}
	for _, e := range t.names {
		if e.OpTime.TS > after && e.OpTime.TS <= upTo {
			if err := w.Add(e); err != nil {
				return nil, err
			}
		}
	}
	return w, nil
}

// forgetChanges frees what changes needed.
func (t *fullTail) forgetChanges() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keep, t.names = false, nil
}

// finish lets the tail end behind a moment; stop ends its waiting for more if it is there already.
func (t *fullTail) finish(ts bson.Timestamp, stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = ts
	if t.at >= ts {
		stop()
	}
}

// close ends the stream.
func (t *fullTail) close() (repo.StreamRef, error) { return t.s.Finish() }
