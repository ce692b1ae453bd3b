package oplog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/storage"
	"github.com/cairndb/cairn/internal/storage/journal"
)

// ErrPositionLost is a reader's error when what it stood on, or asked for, was
// cut off the front of the log.
var ErrPositionLost = errors.New("oplog: position was truncated")

// LogOptions configure NewLog.
type LogOptions struct {
	// SizeBytes is how much of the log is kept at least; what is older may go,
	// whole journal segments at a time. A size set by Resize is remembered and
	// takes its place. Default 64 MB.
	SizeBytes int64
	// MinRetention keeps entries of this age whatever the size. Default: none.
	MinRetention time.Duration
	// PinLimitBytes is how much more than SizeBytes the pins together may keep;
	// beyond it the oldest are broken. Default: SizeBytes.
	PinLimitBytes int64
	// TruncateEvery is how often the front is looked at. Default 10 s.
	TruncateEvery time.Duration
	// Now is the wall clock. Default time.Now.
	Now func() time.Time
	// Logger gets what the operator should see. Default: discard.
	Logger *slog.Logger
}

func (o *LogOptions) ensureDefaults() {
	if o.SizeBytes <= 0 {
		o.SizeBytes = 64 << 20
	}
	if o.TruncateEvery <= 0 {
		o.TruncateEvery = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Log is local.oplog.rs: the entries of the journal as a capped collection
// whose RecordIds are their ts. Readers see what is journaled and applied.
type Log struct {
	opt LogOptions
	s   *Sequencer
	j   *journal.Journal

	mu struct {
		sync.Mutex
		size      int64
		retention time.Duration
		pins      map[*Pin]struct{}
		cut       Timestamp // entries up to here may be gone any moment
	}

	quit chan struct{}
	wg   sync.WaitGroup
}

// NewLog gives the view of a sequencer's journal and starts cutting its front.
// Close it before the sequencer.
func NewLog(s *Sequencer, o LogOptions) (*Log, error) {
	o.ensureDefaults()
	l := &Log{opt: o, s: s, j: s.j, quit: make(chan struct{})}
	l.mu.size, l.mu.retention = o.SizeBytes, o.MinRetention
	l.mu.pins = map[*Pin]struct{}{}
	if v, ok, err := loadState(s.engine, stateSize); err != nil {
		return nil, err
	} else if ok {
		l.mu.size = int64(v)
	}
	if v, ok, err := loadState(s.engine, stateRetention); err != nil {
		return nil, err
	} else if ok {
		l.mu.retention = time.Duration(v)
	}
	l.wg.Go(l.truncateLoop)
	return l, nil
}

// Close stops the background work. Cursors may still be read.
func (l *Log) Close() {
	close(l.quit)
	l.wg.Wait()
}

// LogStats describe the log.
type LogStats struct {
	First, Last  Timestamp // 0 if the log is empty
	Count        int64
	SizeBytes    int64
	MaxBytes     int64
	MinRetention time.Duration
	Pins         []PinStats
}

// Stats describes the log as a reader would find it, but that Last may not be
// journaled yet.
func (l *Log) Stats() LogStats {
	first, last := l.j.First(), l.s.visible.mark()
	st := LogStats{SizeBytes: l.j.Size(), Pins: l.Pins()}
	l.mu.Lock()
	st.MaxBytes, st.MinRetention = l.mu.size, l.mu.retention
	l.mu.Unlock()
	if first.Index > 0 && last.Index >= first.Index {
		st.First, st.Last = Timestamp(first.TS), Timestamp(last.TS)
		st.Count = int64(last.Index - first.Index + 1)
	}
	return st
}

// Find returns a copy of the entry with the given ts, journaled or not:
// storage.ErrNotFound if there is none, ErrPositionLost if it may have been
// cut off. It is for a session that rebuilds the reply of a retried write.
func (l *Log) Find(ts Timestamp) (bson.Raw, error) {
	if first := l.j.First(); first.Index == 0 || uint64(ts) < first.TS {
		return nil, ErrPositionLost
	}
	r, err := l.j.NewReader(journal.FromTS(uint64(ts)).Undurable())
	if err != nil {
		return nil, readError(err)
	}
	defer r.Close()
	for r.Next() {
		rec := r.Record()
		if rec.Kind != journal.KindEntry {
			continue
		}
		if rec.TS != uint64(ts) {
			break
		}
		return bson.Raw(rec.Payload).Clone(), nil
	}
	if r.Err() != nil {
		return nil, readError(r.Err())
	}
	return nil, storage.ErrNotFound
}

// readError turns the journal's words into this package's.
func readError(err error) error {
	var c *journal.CorruptionError
	switch {
	case errors.Is(err, journal.ErrTruncated):
		return ErrPositionLost
	case errors.As(err, &c):
		return fmt.Errorf("%w: %w", storage.ErrCorruption, err)
	}
	return err
}

// Resize changes size and retention at run time and remembers them. A size of
// 0 and a nil retention leave things as they are. What is too much is cut
// before it returns, as far as it may be.
func (l *Log) Resize(size int64, retention *time.Duration) error {
	if size < 0 || retention != nil && *retention < 0 {
		return fmt.Errorf("oplog: resize to %d bytes: the size must not be negative", size)
	}
	w := NewWriteUnit(l.s.engine.NewRecoveryUnit(nil))
	w.LogLocal()
	if size > 0 {
		putState(w.RU, stateSize, uint64(size))
	}
	if retention != nil {
		putState(w.RU, stateRetention, uint64(*retention))
	}
	f, err := l.s.Commit(w)
	if err != nil {
		return err
	}
	if err := f.WaitJournaled(context.Background()); err != nil {
		return err
	}
	l.mu.Lock()
	if size > 0 {
		l.mu.size = size
	}
	if retention != nil {
		l.mu.retention = *retention
	}
	l.mu.Unlock()
	return l.Truncate()
}

// TimestampOf returns the ts of the entry with that journal index, if it is still there.
func (l *Log) TimestampOf(index uint64) (Timestamp, bool) {
	r, err := l.j.NewReader(journal.FromIndex(index).Undurable())
	if err != nil {
		return 0, false
	}
	defer r.Close()
	for r.Next() {
		if rec := r.Record(); rec.Index >= index && rec.TS != 0 {
			return Timestamp(rec.TS), true
		}
	}
	return 0, false
}
