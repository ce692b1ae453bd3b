package oplog

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/storage"
	"github.com/cairndb/cairn/internal/storage/journal"
)

// leaderRounds is how many groups a leader commits before it hands on: its own
// caller waits for its answer meanwhile.
const leaderRounds = 4

// SequencerOptions configure NewSequencer.
type SequencerOptions struct {
	// Term is the t of the entries. Default 1.
	Term int64
	// CommitInterval is the longest time that an applied unit stays unsynced
	// when nobody waits for it. Default 100 ms.
	CommitInterval time.Duration
	// Now is the wall clock. Default time.Now.
	Now func() time.Time
	// Logger gets what the operator should see. Default: discard.
	Logger *slog.Logger
}

func (o *SequencerOptions) ensureDefaults() {
	if o.Term == 0 {
		o.Term = 1
	}
	if o.CommitInterval <= 0 {
		o.CommitInterval = 100 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Sequencer is the Committer of a single node. It has no goroutine on the way
// of a commit: the first committer to come leads, takes all that wait, stamps
// them, appends them to the journal in one call, applies them to the engine in
// one batch, and wakes the others. It is not held during an fsync, but for one
// case: the clock moved beyond the ts ceiling that is safe on disk (the first
// write after some idle time).
type Sequencer struct {
	opt    SequencerOptions
	engine *storage.Engine
	j      *journal.Journal

	mu struct {
		sync.Mutex
		queue   []*WriteUnit
		spare   []*WriteUnit
		leading bool
		closed  bool
	}

	// The leader's own: handed from one leader to the next under mu.
	lead struct {
		index uint64
		ts    Timestamp
		recs  []journal.Record
		sets  []*storage.WriteSet
	}
	term     atomic.Int64
	interval atomic.Int64  // CommitInterval
	ceiling  atomic.Uint64 // every ts given out is below; safe on disk

	visible visible
	bg      background
	metrics metrics
}

// wakeUp is what a waiting committer is told.
type wakeUp bool

const (
	wakeDone wakeUp = false // the unit is committed or failed
	wakeLead wakeUp = true  // take over as the leader
)

var wakers = sync.Pool{New: func() any { return make(chan wakeUp, 1) }}

// NewSequencer begins at the end of the journal. The engine must be recovered.
// Close it before the engine.
func NewSequencer(e *storage.Engine, o SequencerOptions) (*Sequencer, error) {
	o.ensureDefaults()
	s := &Sequencer{opt: o, engine: e, j: e.Journal()}
	s.term.Store(o.Term)
	s.interval.Store(int64(o.CommitInterval))
	end := s.j.Appended()
	if applied := e.Applied(); applied.Pos != end.Pos {
		return nil, fmt.Errorf("oplog: the engine is at position %d, the journal ends at %d: recover first", applied.Pos, end.Pos)
	}
	used, err := loadCeiling(e)
	if err != nil {
		return nil, err
	}
	s.lead.index = end.Index
	s.lead.ts = Timestamp(end.TS)
	if used > 0 {
		s.lead.ts = max(s.lead.ts, used-1)
	}
	s.visible.publish(end, OpTime{Timestamp(end.TS), o.Term})
	if err := s.raiseCeiling(o.Now()); err != nil {
		return nil, err
	}
	s.startBackground()
	return s, nil
}

// Engine is the store that units are committed to.
func (s *Sequencer) Engine() *storage.Engine { return s.engine }

// Term is the t of new entries.
func (s *Sequencer) Term() int64 { return s.term.Load() }

// SetTerm raises the t of entries to come, as winning an election does.
func (s *Sequencer) SetTerm(t int64) { s.term.Store(t) }

// Commit implements Committer.
func (s *Sequencer) Commit(w *WriteUnit) (*Future, error) {
	if err := s.admit(w); err != nil {
		w.Rollback()
		return nil, err
	}
	return s.enqueue(w, false)
}

// enqueue commits w in its turn. The last unit of all is let in though closed.
func (s *Sequencer) enqueue(w *WriteUnit, last bool) (*Future, error) {
	s.mu.Lock()
	if s.mu.closed && !last {
		s.mu.Unlock()
		w.Rollback()
		return nil, ErrClosed
	}
	s.mu.queue = append(s.mu.queue, w)
	if s.mu.leading {
		wake := wakers.Get().(chan wakeUp)
		w.wake = wake
		s.mu.Unlock()
		told := <-wake
		wakers.Put(wake)
		if told == wakeDone {
			return w.result()
		}
		w.wake = nil
	} else {
		s.mu.leading = true
		s.mu.Unlock()
	}
	s.leadGroups()
	return w.result()
}

func (w *WriteUnit) result() (*Future, error) {
	if w.err != nil {
		return nil, w.err
	}
	return &w.future, nil
}

// admit refuses what must not reach the log.
func (s *Sequencer) admit(w *WriteUnit) error {
	if err := s.engine.Failure(); err != nil {
		return err
	}
	if w.local && w.Entries() > 0 {
		return errors.New("oplog: a local unit has logged an entry")
	}
	return nil
}

// leadGroups commits what waits, group by group, until nothing does or the
// lead is handed on.
func (s *Sequencer) leadGroups() {
	var group []*WriteUnit
	ok := false
	defer func() {
		if !ok {
			s.abandon(group, recover())
		}
	}()
	for round := 0; ; round++ {
		s.mu.Lock()
		group = s.mu.queue
		if len(group) == 0 {
			s.mu.leading = false
			s.mu.Unlock()
			break
		}
		if round >= leaderRounds {
			next := group[0]
			s.mu.Unlock()
			next.wake <- wakeLead
			break
		}
		s.mu.queue = s.mu.spare[:0]
		s.mu.spare = nil
		s.mu.Unlock()

		s.commitGroup(group)
		for i, w := range group {
			if w.wake != nil {
				w.wake <- wakeDone
			}
			group[i] = nil
		}
		s.mu.Lock()
		s.mu.spare = group[:0]
		s.mu.Unlock()
	}
	ok = true
}

// abandon fails the node when a hook or callback panicked in the leader: units
// may be half done. Those that wait are answered, then the panic goes on.
func (s *Sequencer) abandon(group []*WriteUnit, cause any) {
	err := fmt.Errorf("oplog: panic in the sequencer: %v", cause)
	s.engine.Fail(err)
	s.mu.Lock()
	s.mu.closed = true
	s.mu.leading = false
	waiting := append(group, s.mu.queue...)
	s.mu.queue = nil
	s.mu.Unlock()
	for _, w := range waiting {
		if w != nil && w.wake != nil {
			w.err = err
			w.wake <- wakeDone
		}
	}
	if cause != nil {
		panic(cause)
	}
}

// commitGroup brings the units of a group through all states, in order.
func (s *Sequencer) commitGroup(group []*WriteUnit) {
	now := s.opt.Now()
	wall := bson.NewDateTime(now)
	term := s.term.Load()
	recs, sets := s.lead.recs[:0], s.lead.sets[:0]
	for _, w := range group {
		recs, w.err = s.stampUnit(w, recs, now, wall, term)
		if w.err == nil && w.RU.Changed() {
			sets = append(sets, w.RU.WriteSet())
		}
	}
	if len(recs) > 0 {
		s.appendAndApply(group, recs, sets)
	}
	s.finish(group)
	clear(recs)
	clear(sets)
	s.lead.recs, s.lead.sets = recs[:0], sets[:0]
}

// stampUnit gives the unit's entries index and ts and adds its records. A
// failed unit leaves no record; the ts that it took are never used.
func (s *Sequencer) stampUnit(w *WriteUnit, recs []journal.Record, now time.Time, wall bson.DateTime, term int64) ([]journal.Record, error) {
	if w.onSequence != nil {
		if err := w.onSequence(); err != nil {
			return recs, err
		}
	}
	enc := w.encoder()
	enc.wall = wall
	for i := range enc.entries {
		e := &enc.entries[i]
		ts, err := s.nextTS(now)
		if err != nil {
			return recs, err
		}
		e.optime = OpTime{ts, term}
		doc := enc.buf[e.start:e.end]
		e.stamp(doc, e.optime, wall)
		if e.chained {
			prev := NullOpTime
			if i > 0 {
				prev = enc.entries[i-1].optime
			}
			e.stampPrev(doc, prev)
		}
	}
	if w.onStamp != nil {
		n := len(enc.entries)
		if err := w.onStamp(Stamped{enc}); err != nil {
			return recs, err
		}
		if len(enc.entries) != n {
			return recs, errors.New("oplog: an entry was logged behind the stamping")
		}
	}
	return s.records(w, recs, term)
}

// records adds the journal records of a stamped unit.
func (s *Sequencer) records(w *WriteUnit, recs []journal.Record, term int64) ([]journal.Record, error) {
	enc := w.enc
	switch {
	case len(enc.entries) > 0:
		for i := range enc.entries {
			e := &enc.entries[i]
			s.lead.index++
			recs = append(recs, journal.Record{
				Kind: journal.KindEntry, More: i+1 < len(enc.entries),
				Index: s.lead.index, Term: uint64(term), TS: uint64(e.optime.TS),
				Payload: enc.buf[e.start:e.end],
			})
		}
		s.metrics.entries.Add(uint64(len(enc.entries)))
	case !w.RU.Changed():
	case w.local:
		var err error
		if enc.local, err = w.RU.WriteSet().AppendLocal(enc.local[:0]); err != nil {
			return recs, err
		}
		recs = append(recs, journal.Record{Kind: journal.KindLocal, Term: uint64(term), Payload: enc.local})
		s.metrics.locals.Add(1)
	default:
		return recs, ErrNoEntry
	}
	w.future.Index = s.lead.index
	return recs, nil
}

// appendAndApply is the point of no return. An error here is the node's: the
// log may hold what the engine does not, so nothing is written any more.
func (s *Sequencer) appendAndApply(group []*WriteUnit, recs []journal.Record, sets []*storage.WriteSet) {
	end, err := s.j.Append(recs)
	if err == nil {
		err = s.engine.Apply(journal.Mark{Pos: end, Index: s.lead.index, TS: lastTS(recs, s.visible.mark().TS)}, sets...)
	}
	if err == nil {
		return
	}
	s.engine.Fail(err)
	err = errors.Join(s.engine.Failure(), err)
	for _, w := range group {
		if w.err == nil {
			w.err = err
		}
	}
}

// lastTS is the ts of the newest entry in recs, or before if there is none.
func lastTS(recs []journal.Record, before uint64) uint64 {
	for i := len(recs) - 1; i >= 0; i-- {
		if recs[i].Kind == journal.KindEntry {
			return recs[i].TS
		}
	}
	return before
}

// finish ends the units of a group: callbacks and latches in the order of the
// log, then they are visible.
func (s *Sequencer) finish(group []*WriteUnit) {
	mark := s.engine.Applied()
	optime := OpTime{Timestamp(mark.TS), s.visible.opTime().Term}
	for _, w := range group {
		if w.err != nil {
			w.Rollback()
			s.metrics.rollbacks.Add(1)
			continue
		}
		if enc := w.enc; len(enc.entries) > 0 {
			optime = enc.entries[len(enc.entries)-1].optime
			w.future.OpTime = optime
		}
		w.future.pos, w.future.j = mark.Pos, s.j
		w.release()
		w.RU.Commit(w.future.Index)
		s.metrics.units.Add(1)
	}
	s.metrics.groups.Add(1)
	s.visible.publish(mark, optime)
	for _, w := range group {
		if w.err == nil && w.future.OpTime.IsNull() {
			w.future.OpTime = optime
		}
	}
	if s.j.Durable().Pos < mark.Pos {
		s.bg.note()
	}
}
