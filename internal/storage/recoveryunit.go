package storage

import (
	"context"
	"fmt"
)

// RecoveryUnit is one unit of change while it is being made: a view, the
// changes laid over it, what else is to be done or undone with them, and the
// latches that keep others off. Either all of it happens (Commit) or nothing
// (Rollback).
//
// It is a value with one owner at a time, and may outlive the operation that
// made it: a proposed or prepared unit is handed on whole. Cursors of it must
// be closed before it ends.
type RecoveryUnit struct {
	e       *Engine
	view    *Snapshot // nil: the latest state
	ws      *WriteSet // nil until the first change
	own     WriteSet  // what ws points at
	changes []change
	few     [3]change // room for the first ones
	held    Held
	noWait  bool
	once    bool
	keep    bool
	ended   bool
}

type change struct {
	onCommit   func()
	onRollback func()
}

// NewRecoveryUnit begins a unit on the latest state, or, if view is not nil,
// on that snapshot, which stays the caller's and must stay open until the unit
// has ended.
func (e *Engine) NewRecoveryUnit(view *Snapshot) *RecoveryUnit {
	u := new(RecoveryUnit)
	u.Init(e, view)
	return u
}

// Init is NewRecoveryUnit in memory of the caller's, which holds a zero RecoveryUnit.
func (u *RecoveryUnit) Init(e *Engine, view *Snapshot) {
	u.e, u.view = e, view
	u.changes = u.few[:0]
}

// Engine is the engine that the unit belongs to.
func (u *RecoveryUnit) Engine() *Engine { return u.e }

// View is the unit's snapshot, or nil if it reads the latest state.
func (u *RecoveryUnit) View() *Snapshot { return u.view }

func (u *RecoveryUnit) base() Reader {
	if u.view != nil {
		return u.view
	}
	return u.e
}

func (u *RecoveryUnit) mustRun() {
	if u.ended {
		panic("storage: recovery unit used after its end")
	}
}

// WriteSet holds the unit's changes, in order. It is the unit's own.
func (u *RecoveryUnit) WriteSet() *WriteSet {
	u.mustRun()
	if u.ws == nil {
		u.newWriteSet(4 << 10)
	}
	return u.ws
}

// Reserve makes room for changes of about size bytes, if nothing was changed yet: it
// saves the growing, which for a unit of many documents costs more than the writing.
func (u *RecoveryUnit) Reserve(size int) {
	u.mustRun()
	if u.ws == nil {
		u.newWriteSet(max(size, 4<<10))
	}
}

func (u *RecoveryUnit) newWriteSet(size int) {
	u.own.init(u.e, size)
	u.own.keep = u.keep
	u.ws = &u.own
}

// Changed reports whether the unit has changed any key.
func (u *RecoveryUnit) Changed() bool { return u.ws != nil && !u.ws.Empty() }

// Set stores value at key.
func (u *RecoveryUnit) Set(key, value []byte) { u.WriteSet().Set(key, value) }

// Delete removes key.
func (u *RecoveryUnit) Delete(key []byte) { u.WriteSet().Delete(key) }

// DeleteRange removes [lower, upper); see WriteSet.DeleteRange for its cost.
func (u *RecoveryUnit) DeleteRange(lower, upper []byte) { u.WriteSet().DeleteRange(lower, upper) }

// Get reads through the unit's own changes.
func (u *RecoveryUnit) Get(key, dst []byte) ([]byte, error) {
	u.mustRun()
	if u.Changed() {
		x, err := u.ws.index()
		if err != nil {
			return nil, err
		}
		if e, ok := x.get(key); ok {
			if e.deleted {
				return nil, ErrNotFound
			}
			return append(dst[:0], e.value...), nil
		}
		if len(x.ranges) > 0 && x.hides(key) {
			return nil, ErrNotFound
		}
	}
	return u.base().Get(key, dst)
}

// ReadsOnce says that what the unit reads is not worth keeping in the row cache: it is one
// of many of a statement that passes over a table.
func (u *RecoveryUnit) ReadsOnce() { u.once = true }

// KeepRows has the row cache keep the records and `_id` entries that the unit puts, new ones
// too, which otherwise it does only of what was read before: for who will read many of them
// soon. Called before the first change.
func (u *RecoveryUnit) KeepRows() { u.keep = true }

// NewCursor opens a cursor over the view as it is now with the unit's own
// changes, also the later ones, laid over it. A unit that has changed nothing
// yet gives a plain cursor of its view, which later changes do not reach.
func (u *RecoveryUnit) NewCursor(lower, upper []byte) Cursor {
	u.mustRun()
	c := u.base().NewCursor(lower, upper)
	if !u.Changed() {
		return c
	}
	return newMergedCursor(c, u.ws, lower, upper)
}

// Lock takes the latches of keys (engine keys) as one sorted group; they are
// released when the unit ends. On a snapshot view it is ErrWriteConflict if
// one of them was written behind the snapshot; the latches are then held all
// the same, until the unit's end. See Latches for the order to keep.
func (u *RecoveryUnit) Lock(ctx context.Context, keys ...[]byte) error {
	u.mustRun()
	from := len(u.held.hashes)
	if u.noWait {
		if !u.e.latches.TryLock(&u.held, keys...) {
			return ErrWouldWait
		}
	} else if err := u.e.latches.Lock(ctx, &u.held, keys...); err != nil {
		return err
	}
	if u.view == nil {
		return nil
	}
	return u.held.conflict(from, u.view.Index())
}

// NoWait makes Lock return ErrWouldWait, with nothing of the group held, where it would have
// to wait. Such a unit may lock in any order: since it waits for nobody it is in no circle.
func (u *RecoveryUnit) NoWait() { u.noWait = true }

// Waits reports whether Lock waits: NoWait was not called.
func (u *RecoveryUnit) Waits() bool { return !u.noWait }

// RegisterChange has onCommit called when the unit commits, in the order of
// registration, and onRollback when it rolls back, in reverse. Either may be
// nil. onCommit runs in the sequencer: it must be short and must not fail.
func (u *RecoveryUnit) RegisterChange(onCommit, onRollback func()) {
	u.mustRun()
	u.changes = append(u.changes, change{onCommit, onRollback})
}

// Savepoint names the unit's present state.
type Savepoint struct {
	size, n, dels, changes int
}

// Savepoint returns the present state, for RollbackTo.
func (u *RecoveryUnit) Savepoint() Savepoint {
	u.mustRun()
	s := Savepoint{changes: len(u.changes)}
	if u.ws != nil {
		s.size, s.n, s.dels = u.ws.Size(), u.ws.Len(), u.ws.dels
	}
	return s
}

// RollbackTo undoes what the unit did behind s: its changes of keys and its
// registered changes (onRollback in reverse). Latches stay held.
func (u *RecoveryUnit) RollbackTo(s Savepoint) error {
	u.mustRun()
	u.undo(s.changes)
	if u.ws == nil || u.ws.Len() == s.n {
		return nil
	}
	if err := u.ws.truncate(s.size, s.n, s.dels); err != nil {
		return fmt.Errorf("storage: roll back to savepoint: %w", err)
	}
	return nil
}

func (u *RecoveryUnit) undo(from int) {
	for i := len(u.changes) - 1; i >= from; i-- {
		if f := u.changes[i].onRollback; f != nil {
			f()
		}
	}
	u.changes = u.changes[:from]
}

// Commit ends the unit after its write set was applied as the part of the
// journal that ends at index: onCommit functions in order, then the latches.
// Called by whoever applied it.
func (u *RecoveryUnit) Commit(index uint64) {
	u.mustRun()
	for _, c := range u.changes {
		if c.onCommit != nil {
			c.onCommit()
		}
	}
	u.end(index)
}

// Rollback ends the unit without a trace. To end a unit twice is a programming
// error and panics.
func (u *RecoveryUnit) Rollback() {
	u.mustRun()
	u.undo(0)
	u.end(0)
}

// Ended reports whether Commit or Rollback was called.
func (u *RecoveryUnit) Ended() bool { return u.ended }

func (u *RecoveryUnit) end(index uint64) {
	u.ended = true
	u.changes, u.few = nil, [3]change{}
	if u.ws != nil {
		u.ws.Release()
		u.ws = nil
	}
	u.held.Release(index)
}

// NextIdent takes the next ident of a space. The counter is part of the unit:
// idents come out as first written when entries are replayed in order. The
// caller serializes DDL.
func (u *RecoveryUnit) NextIdent(s Space) (Ident, error) {
	key := nextIdentKey(s)
	next := FirstIdent
	v, err := u.Get(key, nil)
	switch {
	case err == nil && len(v) == 4:
		next = Ident(v[0])<<24 | Ident(v[1])<<16 | Ident(v[2])<<8 | Ident(v[3])
	case err == nil:
		return 0, corruptf("ident counter has %d bytes", len(v))
	case err != ErrNotFound:
		return 0, err
	}
	after := next + 1
	u.Set(key, []byte{byte(after >> 24), byte(after >> 16), byte(after >> 8), byte(after)})
	return next, nil
}

// DropIdent drops a table with the unit: the unit marks it, and once the unit
// has committed its range is deleted in the background, after a crash too.
func (u *RecoveryUnit) DropIdent(t Table) {
	u.Set(droppedKey(t), nil)
	u.RegisterChange(func() { u.e.drops.add(t) }, nil)
}

// adoptDrops finds the marks of dropped tables that a local unit brought, and
// has the tables deleted when the unit commits.
func (u *RecoveryUnit) adoptDrops() {
	if !u.Changed() {
		return
	}
	_, _ = u.ws.each(0, func(op wsOp) error { // it was just built from checked operations
		if op.kind == opSet && op.key[0] == byte(spaceMeta) {
			if t, _, ok := SplitKey(op.key[2:]); ok {
				u.RegisterChange(func() { u.e.drops.add(t) }, nil)
			}
		}
		return nil
	})
}
