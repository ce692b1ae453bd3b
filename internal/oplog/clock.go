package oplog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/storage"
	"github.com/cairndb/cairn/internal/storage/journal"
)

// stateTable is the oplog's own private table: single numbers under the keys
// below (docs/FORMATS.md).
var stateTable = storage.Table{Space: storage.SpacePrivate, Ident: 2}

// Keys of the state table.
const (
	stateCeiling   = "ceiling"
	stateSize      = "size"
	stateRetention = "retention"
)

const (
	// ceilingAhead is how far ahead of the clock the ceiling is put. After a
	// crash ts go on behind the ceiling, so it is also how far they may then be
	// ahead of the clock.
	ceilingAhead = 10 * time.Second
	// ceilingLow is the distance at which it is raised in the background.
	ceilingLow = 5 * time.Second
)

// nextTS takes the next ts: that of the clock, or the one behind the last if
// the clock has not moved, or has moved back. Leader only.
func (s *Sequencer) nextTS(now time.Time) (Timestamp, error) {
	ts := timestampAt(now)
	if ts <= s.lead.ts {
		ts = s.lead.ts + 1
		if ts.Increment() == 0 {
			ts++ // increments begin at 1
		}
	}
	if uint64(ts) >= s.ceiling.Load() {
		s.metrics.ceilingWaits.Add(1)
		if err := s.raiseCeiling(now); err != nil {
			return 0, err
		}
	}
	s.lead.ts = ts
	return ts, nil
}

func timestampAt(t time.Time) Timestamp {
	sec := t.Unix()
	if sec < 0 || sec >= 1<<32 {
		sec = 0
	}
	return bson.NewTimestamp(uint32(sec), 1)
}

// ceilingFor is the ceiling to set at a time.
func (s *Sequencer) ceilingFor(now time.Time) Timestamp {
	sec := max(timestampAt(now).Seconds(), s.lead.ts.Seconds())
	return bson.NewTimestamp(sec+uint32(ceilingAhead/time.Second), 0)
}

// raiseCeiling makes a new ceiling durable and then takes it into use. It runs
// in the leader, or before the first commit.
func (s *Sequencer) raiseCeiling(now time.Time) error {
	c := s.ceilingFor(now)
	if err := s.writeState(stateCeiling, uint64(c)); err != nil {
		return err
	}
	s.ceiling.Store(uint64(c))
	return nil
}

// writeState commits one number of the state table on its own, durably. It
// runs where a leader would: nothing else is being appended.
func (s *Sequencer) writeState(key string, v uint64) error {
	ws := s.engine.NewWriteSet()
	defer ws.Release()
	putState(ws, key, v)
	p, err := ws.AppendLocal(nil)
	if err != nil {
		return err
	}
	end, err := s.j.Append([]journal.Record{{Kind: journal.KindLocal, Term: uint64(s.term.Load()), Payload: p}})
	if err == nil {
		err = s.engine.Apply(s.markAt(end), ws)
	}
	if err == nil {
		err = s.j.SyncTo(end)
	}
	if err != nil {
		s.engine.Fail(err)
		return fmt.Errorf("oplog: persist %s: %w", key, errors.Join(s.engine.Failure(), err))
	}
	return nil
}

// markAt is the mark at the end of what was appended so far.
func (s *Sequencer) markAt(end journal.Pos) journal.Mark {
	m := s.j.Appended()
	m.Pos = end
	return m
}

func putState(ws interface{ Set(key, value []byte) }, key string, v uint64) {
	ws.Set(stateTable.AppendKey(nil, []byte(key)), binary.BigEndian.AppendUint64(nil, v))
}

// loadState reads a number of the state table; ok is false if it was never set.
func loadState(r storage.Reader, key string) (v uint64, ok bool, err error) {
	b, err := r.Get(stateTable.AppendKey(nil, []byte(key)), nil)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("oplog: read %s: %w", key, err)
	case len(b) != 8:
		return 0, false, fmt.Errorf("oplog: read %s: %w: %d bytes", key, storage.ErrCorruption, len(b))
	}
	return binary.BigEndian.Uint64(b), true, nil
}

func loadCeiling(e *storage.Engine) (Timestamp, error) {
	v, _, err := loadState(e, stateCeiling)
	return Timestamp(v), err
}
