package oplog

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func openLog(t testing.TB, n *node, o LogOptions) *Log {
	t.Helper()
	l, err := NewLog(n.Sequencer, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func openCursor(t testing.TB, l *Log, d storage.Direction) *Cursor {
	t.Helper()
	c, err := l.NewCursor(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rids reads the rid of every entry that is left.
func rids(t testing.TB, c *Cursor) []int64 {
	t.Helper()
	var out []int64
	for c.Next() {
		e, err := c.Entry()
		if err != nil {
			t.Fatal(err)
		}
		if e.OpTime.TS != c.TS() || storage.RecordID(c.TS()) != c.RecordID() {
			t.Fatalf("record id %d, ts %d, entry %v", c.RecordID(), c.TS(), e.OpTime)
		}
		out = append(out, e.RID)
	}
	if c.Err() != nil {
		t.Fatal(c.Err())
	}
	return out
}

func TestCursorMovesAndSeeks(t *testing.T) {
	n := openNode(t, vfs.NewMem(), SequencerOptions{})
	defer n.close(t)
	l := openLog(t, n, LogOptions{})
	defer l.Close()
	var ts []Timestamp
	for i := range int64(50) {
		ts = append(ts, n.mustInsert(t, i+1).OpTime.TS)
	}
	fwd, back := openCursor(t, l, storage.Forward), openCursor(t, l, storage.Backward)
	defer fwd.Close()
	defer back.Close()
	up := rids(t, fwd)
	down := rids(t, back)
	slices.Reverse(down)
	if len(up) != 50 || !slices.Equal(up, down) {
		t.Fatalf("forward %v, backward %v", up, down)
	}
	for i, s := range ts {
		if !fwd.SeekTS(s) || fwd.TS() != s || !back.SeekTS(s) || back.TS() != s {
			t.Fatalf("seek to entry %d", i)
		}
		if i > 0 && (!back.Next() || back.TS() != ts[i-1]) {
			t.Fatalf("backward from entry %d", i)
		}
	}
	if !fwd.Seek(0) || fwd.TS() != ts[0] || back.Seek(storage.RecordID(ts[0]-1)) {
		t.Fatal("seek before the first entry")
	}
	if !back.Seek(storage.MaxRecordID) || back.TS() != ts[49] || fwd.SeekTS(ts[49]+1) {
		t.Fatal("seek behind the last entry")
	}
	doc, err := l.Find(ts[7])
	if err != nil || DecodeTS(doc) != ts[7] {
		t.Fatalf("find: %v %v", doc, err)
	}
	if _, err := l.Find(ts[49] + 1); !errors.Is(err, storage.ErrNotFound) {
		t.Fatalf("find of nothing: %v", err)
	}
	if st := l.Stats(); st.First != ts[0] || st.Last != ts[49] || st.Count != 50 || st.SizeBytes == 0 {
		t.Fatalf("stats %+v", st)
	}
}

func TestTailingCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, vfs.NewMem(), SequencerOptions{CommitInterval: time.Hour})
		l := openLog(t, n, LogOptions{})
		n.mustInsert(t, 1)
		c := openCursor(t, l, storage.Forward)
		if got := rids(t, c); !slices.Equal(got, []int64{1}) {
			t.Fatalf("a new cursor sees %v", got)
		}
		n.mustInsert(t, 2)
		if c.Next() {
			t.Fatal("an entry that is not journaled was seen")
		}
		for want := int64(2); want < 5; want++ {
			done := make(chan error)
			go func() { done <- c.WaitForMore(context.Background()) }()
			synctest.Wait()
			if want > 2 {
				n.mustInsert(t, want)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if !c.Next() || c.TS() != n.LastApplied().TS || n.LastDurable().TS < c.TS() {
				t.Fatalf("tail %d: %v", want, c.Err())
			}
			if c.Next() {
				t.Fatal("more than there is")
			}
		}
		// A place in the future shows nothing that comes before it.
		if c.SeekTS(n.LastApplied().TS + 3) {
			t.Fatal("found an entry of the future")
		}
		n.mustInsert(t, 6, 7, 8)
		if err := c.WaitForMore(context.Background()); err != nil || !c.Next() {
			t.Fatalf("the future has come: %v %v", err, c.Err())
		}
		if e, err := c.Entry(); err != nil || e.RID != 8 {
			t.Fatalf("entry %+v %v", e, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if c.Next() || !errors.Is(c.WaitForMore(ctx), context.DeadlineExceeded) {
			t.Fatal("waited for nothing, and got it")
		}
		_ = c.Close()
		l.Close()
		n.close(t)
	})
}

// fillSegments inserts documents of 10 KB over small segments.
func fillSegments(t *testing.T, n *node, from, to int64) (last Timestamp) {
	t.Helper()
	for i := from; i <= to; i++ {
		w := n.unit()
		insert(w, i, idBytes(i, 10_000))
		f, err := n.Commit(w)
		if err != nil {
			t.Fatal(err)
		}
		last = f.OpTime.TS
	}
	return last
}

func openSmall(t *testing.T, fs vfs.FS, o SequencerOptions) *node {
	t.Helper()
	e := openEngine(t, storage.Options{FS: fs, JournalSegmentBytes: 100_000})
	s, err := NewSequencer(e, o)
	if err != nil {
		t.Fatal(err)
	}
	return &node{s, e}
}

func TestTruncation(t *testing.T) {
	clock := newFakeClock()
	fs := vfs.NewMem()
	n := openSmall(t, fs, SequencerOptions{Now: clock.now})
	l := openLog(t, n, LogOptions{SizeBytes: 300_000, Now: clock.now})
	lost := openCursor(t, l, storage.Forward)
	fillSegments(t, n, 1, 100)
	size := l.Stats().SizeBytes
	cut := func() int64 {
		t.Helper()
		before := l.Stats().SizeBytes
		if err := l.Truncate(); err != nil {
			t.Fatal(err)
		}
		return before - l.Stats().SizeBytes
	}
	if got := cut(); got != 0 {
		t.Fatalf("cut %d bytes that the engine has not flushed", got)
	}
	if err := n.e.Flush(); err != nil {
		t.Fatal(err)
	}
	first := l.Stats().First
	pin, err := l.Pin("backup", first)
	if err != nil {
		t.Fatal(err)
	}
	l.opt.PinLimitBytes = size
	if got := cut(); got != 0 {
		t.Fatalf("cut %d pinned bytes", got)
	}
	if p := l.Pins(); len(p) != 1 || p[0].Owner != "backup" || p[0].TS != first || p[0].Broken {
		t.Fatalf("pins %+v", p)
	}
	pin.Release()
	day := 24 * time.Hour
	if err := l.Resize(0, &day); err != nil {
		t.Fatal(err)
	}
	if got := cut(); got != 0 {
		t.Fatalf("cut %d bytes that are too young", got)
	}
	clock.t = clock.t.Add(25 * time.Hour)
	if got := cut(); got == 0 {
		t.Fatal("nothing was cut")
	}
	st := l.Stats()
	if st.SizeBytes < 300_000 || st.SizeBytes > 500_000 || st.First <= first {
		t.Fatalf("after the cut: %+v", st)
	}
	if _, err := l.Pin("late", first); !errors.Is(err, ErrPositionLost) {
		t.Fatalf("pin of what is gone: %v", err)
	}
	if _, err := l.Find(first); !errors.Is(err, ErrPositionLost) {
		t.Fatalf("find of what is gone: %v", err)
	}
	if lost.Next() || !errors.Is(lost.Err(), ErrPositionLost) {
		t.Fatalf("cursor on what is gone: %v", lost.Err())
	}
	if !lost.SeekTS(first) || lost.TS() != st.First {
		t.Fatalf("seek to what is gone: %v", lost.Err())
	}
	_ = lost.Close()

	if err := l.Resize(150_000, nil); err != nil {
		t.Fatal(err)
	}
	if st := l.Stats(); st.SizeBytes > 300_000 || st.MaxBytes != 150_000 {
		t.Fatalf("after the resize: %+v", st)
	}
	l.Close()
	n.close(t)

	n = openSmall(t, fs, SequencerOptions{Now: clock.now})
	l = openLog(t, n, LogOptions{SizeBytes: 300_000, Now: clock.now})
	if st := l.Stats(); st.MaxBytes != 150_000 || st.MinRetention != day {
		t.Fatalf("resize was forgotten: %+v", st)
	}
	l.Close()
	n.close(t)
}

func TestGreedyPinIsBroken(t *testing.T) {
	n := openSmall(t, vfs.NewMem(), SequencerOptions{})
	defer n.close(t)
	l := openLog(t, n, LogOptions{SizeBytes: 200_000, PinLimitBytes: 200_000})
	defer l.Close()
	ts := fillSegments(t, n, 1, 1)
	pin, err := l.Pin("slow", ts)
	if err != nil {
		t.Fatal(err)
	}
	last := fillSegments(t, n, 2, 100)
	good, err := l.Pin("quick", last)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.e.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := l.Truncate(); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(pin.Err(), ErrPositionLost) || good.Err() != nil {
		t.Fatalf("slow %v, quick %v", pin.Err(), good.Err())
	}
	if st := l.Stats(); st.SizeBytes > 400_000 || st.First <= ts {
		t.Fatalf("stats %+v", st)
	}
}

func TestPeriodicNoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := openNode(t, vfs.NewMem(), SequencerOptions{})
		if _, err := n.WriteNoop(InitiatingSet()); err != nil {
			t.Fatal(err)
		}
		w := n.StartNoops(0)
		<-time.After(15 * time.Second) // the bubble's clock
		n.mustInsert(t, 1)
		<-time.After(16 * time.Second)
		w.Stop()
		var got []string
		for _, e := range entries(t, n.e.Journal()) {
			got = append(got, e.Op.String()+e.NS+bson.Raw(e.O).Get("msg").Str())
		}
		want := []string{"ninitiating set", "nperiodic noop", "itest.c", "nperiodic noop"}
		if !slices.Equal(got, want) {
			t.Errorf("entries %q, want %q", got, want)
		}
		n.close(t)
	})
}
