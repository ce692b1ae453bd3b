package oplog

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/storage"
	"github.com/cairndb/cairn/internal/storage/journal"
)

// Committer gives units their place in the order and makes them happen. There
// is one in front of each store: the Sequencer on a single node, the Raft group
// in a replica set.
type Committer interface {
	// Commit ends the unit. It returns once the unit is applied and visible;
	// what the caller's write concern asks for beyond that is waited for on the
	// future. On an error nothing of the unit exists and its recovery unit is
	// rolled back; only if the node has failed (the error wraps
	// storage.ErrReadOnly) may the log hold it after a restart.
	Commit(w *WriteUnit) (*Future, error)
}

// WriteUnit is one unit of change: the recovery unit with what it does to
// tables, and the oplog entries that say so. Use one goroutine at a time; end
// it by Commit or by Rollback.
type WriteUnit struct {
	// RU is the recovery unit. Commit and Rollback end it.
	RU *storage.RecoveryUnit

	enc        *encoder
	local      bool
	onSequence func() error
	onStamp    func(Stamped) error
	wake       chan wakeUp
	err        error
	future     Future
}

// encoder holds the encoded entries of a unit. It is reused.
type encoder struct {
	b       bson.Builder
	buf     []byte
	entries []encoded
	local   []byte
	wall    bson.DateTime
}

// encoded is one entry in an encoder's buffer.
type encoded struct {
	layout
	start, end int
	chained    bool // prevOpTime is the entry before
	optime     OpTime
}

// keepEncoder bounds the buffers that are kept for reuse.
const keepEncoder = 1 << 20

var encoders = sync.Pool{New: func() any { return new(encoder) }}

// NewWriteUnit begins a unit on ru, which it owns from now on.
func NewWriteUnit(ru *storage.RecoveryUnit) *WriteUnit { return &WriteUnit{RU: ru} }

// BeginUnit begins a unit on a recovery unit of its own, on the latest state of e.
func BeginUnit(e *storage.Engine) *WriteUnit {
	u := new(struct { // one allocation
		w  WriteUnit
		ru storage.RecoveryUnit
	})
	u.ru.Init(e, nil)
	u.w.RU = &u.ru
	return &u.w
}

// Log adds an entry to the unit. It is encoded at once, so e and what it
// points to may be reused. Each entry explains the changes made for it.
func (w *WriteUnit) Log(e *Entry) {
	enc := w.encoder()
	start := len(enc.buf)
	l := e.appendTo(&enc.b, enc.buf)
	enc.buf = enc.b.Buffer()
	enc.entries = append(enc.entries, encoded{
		layout: l, start: start, end: len(enc.buf), chained: e.PrevInUnit,
	})
}

// Reserve makes room for entries of about size bytes.
func (w *WriteUnit) Reserve(size int) {
	enc := w.encoder()
	enc.buf = slices.Grow(enc.buf, size)
}

// LogLocal says that the unit touches private tables only. It gets no entry
// and no ts: it is journaled as the physical changes themselves.
func (w *WriteUnit) LogLocal() { w.local = true }

// OnSequence has fn called when the unit's turn has come: all units before it
// are stamped (though perhaps not applied), none behind it is. fn may change
// tables through RU and may Log. Its error fails this unit alone. It is for
// what must be decided in the order of the log, such as the RecordIds of a
// capped collection; it holds up every other writer, so it must be short.
func (w *WriteUnit) OnSequence(fn func() error) { w.onSequence = chain(w.onSequence, fn) }

// OnStamp has fn called when the entries of the unit have their ts, before
// anything is appended. fn may change tables through RU, for records that hold
// an optime; it may not Log. Its error fails this unit alone.
func (w *WriteUnit) OnStamp(fn func(Stamped) error) {
	first := w.onStamp
	if first == nil {
		w.onStamp = fn
		return
	}
	w.onStamp = func(s Stamped) error {
		if err := first(s); err != nil {
			return err
		}
		return fn(s)
	}
}

func chain(first, then func() error) func() error {
	if first == nil {
		return then
	}
	return func() error {
		if err := first(); err != nil {
			return err
		}
		return then()
	}
}

// Entries is the number of entries logged so far.
func (w *WriteUnit) Entries() int {
	if w.enc == nil {
		return 0
	}
	return len(w.enc.entries)
}

// Size is the number of bytes of the entries logged so far.
func (w *WriteUnit) Size() int {
	if w.enc == nil {
		return 0
	}
	return len(w.enc.buf)
}

// Savepoint is a state of a unit that RollbackTo returns to.
type Savepoint struct {
	ru            storage.Savepoint
	entries, size int
}

// Savepoint returns the present state. Hooks (OnSequence, OnStamp) are not
// part of it.
func (w *WriteUnit) Savepoint() Savepoint {
	return Savepoint{w.RU.Savepoint(), w.Entries(), w.Size()}
}

// RollbackTo undoes changes and entries behind s.
func (w *WriteUnit) RollbackTo(s Savepoint) error {
	if w.enc != nil {
		w.enc.entries = w.enc.entries[:s.entries]
		w.enc.buf = w.enc.buf[:s.size]
	}
	return w.RU.RollbackTo(s.ru)
}

// Rollback ends the unit without a trace.
func (w *WriteUnit) Rollback() {
	w.release()
	w.RU.Rollback()
}

func (w *WriteUnit) encoder() *encoder {
	if w.enc == nil {
		w.enc = encoders.Get().(*encoder)
	}
	return w.enc
}

// release gives the encoder back for reuse.
func (w *WriteUnit) release() {
	enc := w.enc
	w.enc = nil
	if enc == nil || cap(enc.buf)+cap(enc.local) > keepEncoder {
		return
	}
	enc.buf, enc.entries, enc.local = enc.buf[:0], enc.entries[:0], enc.local[:0]
	encoders.Put(enc)
}

// Stamped tells the optimes of a unit's entries.
type Stamped struct{ enc *encoder }

// Len is the number of entries; 0 for a local unit.
func (s Stamped) Len() int { return len(s.enc.entries) }

// At is the optime of entry i.
func (s Stamped) At(i int) OpTime { return s.enc.entries[i].optime }

// Last is the optime of the last entry.
func (s Stamped) Last() OpTime { return s.enc.entries[len(s.enc.entries)-1].optime }

// Wall is the wall clock time that the entries carry.
func (s Stamped) Wall() bson.DateTime { return s.enc.wall }

// Future is a committed unit on its way to durability.
type Future struct {
	// OpTime and Index are those of the unit's last entry. A unit without
	// entries has those of the newest entry before it: what a client must wait
	// for to know that the state it saw is safe.
	OpTime OpTime
	Index  uint64

	pos journal.Pos
	j   *journal.Journal
}

// WaitJournaled returns when the unit is on disk.
func (f *Future) WaitJournaled(ctx context.Context) error { return f.j.SyncWait(ctx, f.pos) }

// WaitMajority returns when a majority of the voting members has the unit on
// disk: on a single node, when this one has.
func (f *Future) WaitMajority(ctx context.Context) error { return f.WaitJournaled(ctx) }

var (
	// ErrNoEntry is a unit that changes tables and has logged nothing that
	// would tell a replay so.
	ErrNoEntry = errors.New("oplog: a unit changes tables without an entry")
	// ErrClosed is a commit after the end.
	ErrClosed = errors.New("oplog: closed")
)
