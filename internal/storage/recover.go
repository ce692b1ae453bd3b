package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/cairndb/cairn/internal/storage/journal"
)

// RecoveryStats says what Recover did.
type RecoveryStats struct {
	From, To   Mark
	Units      int
	Entries    int
	LocalUnits int
	Bytes      int64
	Took       time.Duration
}

// Recover brings the engine up to the end of the journal: every unit behind
// the applied position, whole and in order. For each it calls fn with a
// recovery unit on the latest state and the unit's records but the local ones,
// which the engine applies itself; fn makes the changes that the records
// explain in the recovery unit and may register changes with it. It neither
// commits nor rolls back. The records are valid during the call only. fn is
// not called for units that hold nothing but local records.
//
// It must be called once, after Open and before the first Apply. In a store
// that was opened read-only it does nothing: what is to be replayed is missing
// from its view.
func (e *Engine) Recover(ctx context.Context, fn func(u *RecoveryUnit, unit []journal.Record) error) (RecoveryStats, error) {
	start := time.Now()
	st := RecoveryStats{From: e.Applied(), To: e.Applied()}
	if e.opts.ReadOnly {
		return st, nil
	}
	err := e.replay(ctx, &st, fn)
	st.To = e.Applied()
	st.Took = time.Since(start)
	if err != nil {
		return st, fmt.Errorf("storage: recover from position %d: %w", st.To.Pos, err)
	}
	return st, e.drops.resume()
}

func (e *Engine) replay(ctx context.Context, st *RecoveryStats, fn func(*RecoveryUnit, []journal.Record) error) error {
	end := e.journal.Appended().Pos
	if st.From.Pos >= end {
		return nil
	}
	from := st.From.Pos
	if first := e.journal.First().Pos; from < first {
		return corruptf("the journal begins at position %d, behind the engine's", first)
	}
	r, err := e.journal.NewReader(journal.FromPos(from).Undurable())
	if err != nil {
		return err
	}
	defer r.Close()
	var unit unitBuffer
	for r.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec := *r.Record()
		unit.add(rec)
		st.Bytes += int64(rec.End - rec.Pos)
		if rec.More {
			continue
		}
		if err := e.replayUnit(st, unit.records(), fn); err != nil {
			return fmt.Errorf("unit at position %d, index %d: %w", unit.recs[0].Pos, unit.recs[0].Index, err)
		}
		unit.reset()
	}
	if err := r.Err(); err != nil {
		return err
	}
	if len(unit.recs) > 0 {
		return corruptf("the journal ends inside a unit, at position %d", end)
	}
	if got := e.Applied().Pos; got != end {
		return corruptf("the journal's reader stopped at position %d of %d", got, end)
	}
	return nil
}

func (e *Engine) replayUnit(st *RecoveryStats, unit []journal.Record, fn func(*RecoveryUnit, []journal.Record) error) error {
	last := unit[len(unit)-1]
	u := e.NewRecoveryUnit(nil)
	entries := make([]journal.Record, 0, 8)
	for _, rec := range unit {
		switch rec.Kind {
		case journal.KindLocal:
			if err := u.WriteSet().applyLocal(rec.Payload); err != nil {
				u.Rollback()
				return err
			}
		default:
			entries = append(entries, rec)
		}
	}
	u.adoptDrops()
	if len(entries) > 0 {
		if err := fn(u, entries); err != nil {
			u.Rollback()
			return err
		}
	}
	if err := e.Apply(Mark{Pos: last.End, Index: last.Index, TS: last.TS}, u.ws); err != nil {
		u.Rollback()
		return err
	}
	u.Commit(last.Index)
	st.Units++
	st.Entries += len(entries)
	if len(entries) < len(unit) {
		st.LocalUnits++
	}
	return nil
}

// unitBuffer collects the records of a unit, whose payloads the reader reuses.
type unitBuffer struct {
	recs []journal.Record
	buf  []byte
}

func (b *unitBuffer) add(r journal.Record) {
	if r.More || len(b.recs) > 0 {
		r.Payload = append([]byte(nil), r.Payload...)
	}
	b.recs = append(b.recs, r)
}

func (b *unitBuffer) records() []journal.Record { return b.recs }

func (b *unitBuffer) reset() { b.recs = b.recs[:0] }
