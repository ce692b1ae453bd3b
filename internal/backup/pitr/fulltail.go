package pitr

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/snapshot"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/backup/source"
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
	err := org.TailBatches(ctx, from, t.take)
	if errors.Is(err, errReached) || errors.Is(context.Cause(ctx), errReached) {
		err = nil
	}
	t.mu.Lock()
	t.ended = true
	t.moved.Broadcast()
	t.mu.Unlock()
	return err
}

// take adds entries.
func (t *fullTail) take(items []source.Item) error {
	t.mu.Lock()
	until := t.until
	t.mu.Unlock()
	// The entry at the end may have been delivered before anybody knew that it is the end;
	// what was taken behind it belongs to the backup too.
	reached := slices.IndexFunc(items, func(i source.Item) bool { return i.Head.OpTime.TS > until })
	if reached >= 0 {
		items = items[:reached]
	}
	if len(items) == 0 {
		return errReached
	}
	other := make([]entry.Entry, 0, 8)
	for i := range items {
		raw, h := items[i].Raw, &items[i].Head
		if _, err := t.s.Write(raw); err != nil {
			return err
		}
		parsed := h.Kind == entry.Unknown
		if parsed {
			e, err := entry.Parse(raw)
			if err != nil {
				return err
			}
			other = append(other, e)
		}
		switch {
		case t.first.IsNull():
			t.first = h.OpTime
			continue
		case !parsed:
			t.written.plain(h)
		default:
			if err := t.written.add(&other[len(other)-1]); err != nil {
				return err
			}
		}
		t.entries++
		t.bytes += int64(len(raw))
	}
	end := &items[len(items)-1]
	t.last = end.Head.OpTime
	t.lastRaw = append(t.lastRaw[:0], end.Raw...)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.noteAll(items, other); err != nil {
		return err
	}
	t.at = t.last.TS
	t.moved.Broadcast()
	if reached >= 0 || t.at >= t.until {
		return errReached
	}
	return nil
}

// noteAll notes entries, of which others are those that are not plain. Of plain ones of one collection
// that follow each other the last tells all.
func (t *fullTail) noteAll(items []source.Item, others []entry.Entry) error {
	var run *entry.Head
	settle := func() {
		if run != nil && run.Kind.IsCRUD() {
			t.touch(run.UUID, string(run.NS), run.OpTime.TS)
		}
		run = nil
	}
	for i := range items {
		h := &items[i].Head
		if h.Kind == entry.Unknown {
			settle()
			if err := t.note(&others[0]); err != nil {
				return err
			}
			others = others[1:]
			continue
		}
		if run != nil && (h.UUID != run.UUID || h.Kind.IsCRUD() != run.Kind.IsCRUD() || !bytes.Equal(h.NS, run.NS)) {
			settle()
		}
		run = h
	}
	settle()
	return nil
}

// note remembers which collections an entry writes, and whether it may change names.
func (t *fullTail) note(e *entry.Entry) error {
	switch {
	case e.Kind == entry.Noop:
		return nil
	case e.Kind.IsCRUD():
		t.touch(e.UUID, e.Namespace(), e.OpTime.TS)
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
		t.touch(e.UUID, e.Namespace(), at)
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

func (t *fullTail) touch(id bson.UUID, ns string, at bson.Timestamp) {
	if id != (bson.UUID{}) {
		t.byUUID[id] = max(at, t.byUUID[id])
	}
	t.touchName(ns, at)
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
