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
// that was opened read-only it applies nothing: what Unapplied shows is missing
// from its view.
func (e *Engine) Recover(ctx context.Context, fn func(u *RecoveryUnit, unit []journal.Record) error) (RecoveryStats, error) {
	start := time.Now()
	st := RecoveryStats{From: e.Applied(), To: e.Applied()}
	if e.opts.ReadOnly {
		return st, nil
	}
	err := e.eachUnapplied(ctx, &st, func(unit []journal.Record) error { return e.replayUnit(unit, fn) })
	st.To = e.Applied()
	st.Took = time.Since(start)
	if err != nil {
		return st, fmt.Errorf("storage: recover from position %d: %w", st.To.Pos, err)
	}
	return st, e.drops.resume()
}

// Unapplied shows what Recover would replay, without doing it: it calls fn (nil:
// it only counts) with each whole unit behind the applied position, local
// records too. The records are valid during the call only. It is for a store
// that was opened read-only, or before Recover.
func (e *Engine) Unapplied(ctx context.Context, fn func(unit []journal.Record) error) (RecoveryStats, error) {
	start := time.Now()
	st := RecoveryStats{From: e.Applied(), To: e.Applied()}
	err := e.eachUnapplied(ctx, &st, func(unit []journal.Record) error {
		if fn != nil {
			return fn(unit)
		}
		return nil
	})
	st.Took = time.Since(start)
	return st, err
}

// checkPositions compares the engine with the journal under it. The gate sees
// to it that no engine is ever ahead of its journal, and no segment is removed
// that holds what is not flushed: either means that files are missing or come
// from somewhere else.
func (e *Engine) checkPositions(from Mark) error {
	first, end := e.journal.First().Pos, e.journal.Appended()
	switch {
	case from.Pos > end.Pos:
		return corruptf("the engine holds the journal up to position %d (index %d), but the journal ends at position %d (index %d): part of the journal is missing",
			from.Pos, from.Index, end.Pos, end.Index)
	case from.Pos < first:
		return corruptf("the engine holds the journal up to position %d (index %d), but the journal begins at position %d: part of the journal is missing",
			from.Pos, from.Index, first)
	case from.Pos == end.Pos && from.Index != end.Index:
		return corruptf("at position %d the engine has index %d and the journal index %d: they do not belong together", from.Pos, from.Index, end.Index)
	}
	return nil
}

// eachUnapplied walks the units behind the applied position and counts them.
func (e *Engine) eachUnapplied(ctx context.Context, st *RecoveryStats, fn func([]journal.Record) error) error {
	from, end := st.From, e.journal.Appended().Pos
	if err := e.checkPositions(from); err != nil || from.Pos == end {
		return err
	}
	r, err := e.journal.NewReader(journal.FromPos(from.Pos).Undurable())
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
		if st.Units == 0 && len(unit.recs) == 0 && rec.Index != follows(from.Index, rec.Kind) {
			return corruptf("at position %d the engine has index %d, but the journal goes on with index %d: they do not belong together", from.Pos, from.Index, rec.Index)
		}
		unit.add(rec)
		st.Bytes += int64(rec.End - rec.Pos)
		if rec.More {
			continue
		}
		if err := fn(unit.recs); err != nil {
			return fmt.Errorf("unit at position %d, index %d: %w", unit.recs[0].Pos, unit.recs[0].Index, err)
		}
		st.count(unit.recs)
		unit.reset()
	}
	if err := r.Err(); err != nil {
		return err
	}
	if len(unit.recs) > 0 {
		return corruptf("the journal ends inside a unit, at position %d", end)
	}
	if st.To.Pos != end {
		return corruptf("the journal's reader stopped at position %d of %d", st.To.Pos, end)
	}
	return nil
}

// follows is the index that a record of kind k has behind one of the given index.
func follows(index uint64, k journal.Kind) uint64 {
	if k.Indexed() {
		return index + 1
	}
	return index
}

func (st *RecoveryStats) count(unit []journal.Record) {
	local := 0
	for _, rec := range unit {
		if rec.Kind == journal.KindLocal {
			local++
		}
	}
	last := unit[len(unit)-1]
	st.To = Mark{Pos: last.End, Index: last.Index, TS: last.TS}
	st.Units++
	st.Entries += len(unit) - local
	if local > 0 {
		st.LocalUnits++
	}
}

func (e *Engine) replayUnit(unit []journal.Record, fn func(*RecoveryUnit, []journal.Record) error) error {
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
	return nil
}

// unitBuffer collects the records of a unit, whose payloads the reader reuses.
type unitBuffer struct {
	recs []journal.Record
}

func (b *unitBuffer) add(r journal.Record) {
	if r.More || len(b.recs) > 0 {
		r.Payload = append([]byte(nil), r.Payload...)
	}
	b.recs = append(b.recs, r)
}

func (b *unitBuffer) reset() { b.recs = b.recs[:0] }
