package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

// Options say what to apply to what.
type Options struct {
	// Client is connected to the target. Its write concern is used.
	Client *mongo.Client
	// Workers apply document writes at the same time. Default: one for each of the target's
	// CPUs but one, if it is a Cairn: there one of them does most of the work of a command, and
	// another the rest, while the next is made. Else as many as CPUs here, 2 to 8.
	Workers int
	// BatchBytes is how much one worker sends in one command. Default 2 MB.
	BatchBytes int
	// Rules filter and rename; nil keeps everything.
	Rules *entry.Rules
	// PreserveUUID tells that the target's collections have the source's UUIDs, and gives
	// them to collections that entries create.
	PreserveUUID bool
	// Copy, if not empty, names this copy of the source. Then what was restored before has
	// the UUIDs that CopyUUID gives, and so has what entries create: an interrupted replay
	// finds each of them again, whatever it is called by then. The target must take UUIDs.
	Copy string
	// Foreign are collections of the target that have nothing to do with the replay. One that
	// has the UUID of a collection of the source (it was that collection, and has another name
	// by now) is not touched: with PreserveUUID the copy gets the UUID of CopyUUID instead.
	Foreign map[bson.UUID]bool
	// Collections are, by the source's UUIDs, the names on the target of all the
	// collections that were restored before the replay, as a backup's metadata knows them.
	// A write to a collection that is neither there nor created by an entry is passed over:
	// that collection was gone when the data was read. nil: not known; then an entry means
	// the collection that has its name.
	Collections map[bson.UUID]string
	// Resume tells that the entries, or the first of them, were replayed into this target
	// before: what they write to and the target does not have is taken for dropped by an
	// entry that follows.
	Resume bool
	// Until is the last ts that counts; 0: none.
	Until bson.Timestamp
	// Applied is told, never backwards, up to where everything is applied. A replay that
	// was interrupted goes on with the entry behind it, or any before. nil: nobody.
	Applied func(entry.OpTime)

	// Validate has the target check documents against its validators, so that one that fails
	// ends the replay. Without it they are written as the source has them.
	Validate bool
	// RetryFor is how long document writes are sent again to a target that cannot be
	// reached, restarts or elects. Default 30 s; negative: not at all.
	RetryFor time.Duration

	// plain has a Cairn treated as a MongoDB; for tests.
	plain bool
	// dropped are the source's collections that were dropped in this replay.
	dropped map[bson.UUID]struct{}
}

// Stats are what a replay did.
type Stats struct {
	Entries      int64            // handed in, up to Until
	Applied      int64            // operations that were sent and accepted
	Skipped      map[string]int64 // operations that were passed over, by reason
	Transactions int64            // applied whole
	Aborted      int64            // transactions of which entries were seen and that were aborted
	Bytes        int64            // of the entries handed in
	// Last is the newest entry that counted.
	Last entry.OpTime
	// Unfinished are the transactions that had no end at the end of the replay. Nothing of
	// them is applied.
	Unfinished []entry.OpenTxn
}

// Replayer applies entries. Its methods are called by one goroutine.
type Replayer struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc
	asm    entry.Assembler
	target *target
	colls  *collections
	stats  Stats
	err    error

	now    entry.Entry // being added
	round  *round
	spare  *round          // landed, its memory to be used again; nil: none
	flight *round          // being applied; nil: none
	landed chan error      // gets the result of flight
	last   entry.OpTime    // newest entry seen
	added  entry.OpTime    // newest entry that is in a round as a whole, or done
	before []boundary      // per open transaction: the entry before its first
	unique map[string]bool // namespaces whose unique indexes are to be looked at again
	told   entry.OpTime
}

// New begins a replay.
func New(ctx context.Context, o Options) (*Replayer, error) {
	if o.BatchBytes <= 0 {
		o.BatchBytes = 2 << 20
	}
	if o.RetryFor == 0 {
		o.RetryFor = 30 * time.Second
	}
	o.BatchBytes = min(o.BatchBytes, maxBatchBytes)
	r := &Replayer{o: o, landed: make(chan error, 1), unique: map[string]bool{}}
	r.stats.Skipped = map[string]int64{}
	r.ctx, r.cancel = context.WithCancel(ctx)
	t, err := openTarget(r.ctx, o.Client, o.plain)
	if err != nil {
		r.cancel()
		return nil, fmt.Errorf("asking the target what it is: %w", err)
	}
	t.bypass = !o.Validate
	t.retryFor = o.RetryFor
	r.target = t
	if r.o.Workers <= 0 {
		r.o.Workers = t.workers(r.ctx)
	}
	r.colls = newCollections(t, &r.o)
	r.round = newRound(&r.o)
	return r, nil
}

// Add takes the next entry. Entries behind Until do nothing. An error is final; it may
// be of an entry before. raw may be reused once Add returns.
func (r *Replayer) Add(raw bson.Raw) error {
	if r.err != nil {
		return r.err
	}
	e, err := entry.Parse(raw)
	if err != nil {
		return r.fail(err)
	}
	return r.AddEntry(e)
}

// AddEntry is Add for an entry that is parsed.
func (r *Replayer) AddEntry(e entry.Entry) error {
	if r.err != nil {
		return r.err
	}
	if r.o.Until != 0 && e.OpTime.TS > r.o.Until {
		return nil
	}
	r.stats.Entries++
	r.stats.Bytes += int64(len(e.Raw))
	r.stats.Last = e.OpTime
	prev := r.last
	if !e.Kind.IsTxn() { // it takes effect by itself: no unit is made for it
		r.last = e.OpTime
		r.holdBack(prev)
		r.now = e
		if err := r.alone(&r.now); err != nil {
			return r.fail(err)
		}
	} else {
		units, err := r.asm.Add(e)
		if err != nil {
			return r.fail(err)
		}
		r.last = e.OpTime
		r.holdBack(prev)
		for i := range units {
			if err := r.unit(&units[i]); err != nil {
				return r.fail(err)
			}
		}
	}
	r.added = e.OpTime
	switch {
	case r.round.full():
		if err := r.launch(); err != nil {
			return r.fail(err)
		}
	case r.flight == nil && r.round.empty():
		r.tell(r.bound())
	}
	return nil
}

func (r *Replayer) fail(err error) error {
	r.err = err
	r.cancel()
	return err
}

// alone adds an entry that is no part of a transaction.
func (r *Replayer) alone(e *entry.Entry) error {
	if r.o.Rules.Trivial() {
		return r.entry(e)
	}
	out, keep, err := r.o.Rules.Map(*e)
	if err != nil {
		return err
	}
	if !keep {
		r.stats.Skipped["not selected"]++
		return nil
	}
	return r.entry(&out)
}

// unit adds a transaction.
func (r *Replayer) unit(u *entry.Unit) error {
	out, keep, err := r.o.Rules.MapUnit(*u)
	if err != nil {
		return err
	}
	if !keep {
		r.stats.Skipped["not selected"]++
		return nil
	}
	r.stats.Transactions++
	r.round.beginJoin()
	defer r.round.endJoin()
	for i := range out.Entries {
		if err := r.entry(&out.Entries[i]); err != nil {
			return err
		}
	}
	return nil
}

// entry adds one entry or operation, with the rules applied.
func (r *Replayer) entry(e *entry.Entry) error {
	switch class, why := e.Class(); class {
	case entry.Ignore:
		r.stats.Skipped[why]++
		return nil
	case entry.Refuse:
		return r.failed(e, &RefusedError{why})
	}
	if e.Kind.HasOps() {
		ops, err := e.Ops()
		if err != nil {
			return err
		}
		for i := range ops {
			if err := r.entry(&ops[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if e.Kind.IsCRUD() && !catalogWrite(e) {
		return r.write(e)
	}
	return r.command(e)
}

// write adds a document write to the round.
func (r *Replayer) write(e *entry.Entry) error {
	if why := ownDocument(e); why != "" {
		r.stats.Skipped[why]++
		return nil
	}
	c, why, err := r.colls.resolve(r.ctx, e)
	if err != nil {
		return r.failed(e, err)
	}
	if c == nil {
		r.stats.Skipped[why]++
		return nil
	}
	r.round.add(e, c, r.target)
	return nil
}

// command applies what must be alone: all before is done first, nothing else meanwhile.
func (r *Replayer) command(e *entry.Entry) error {
	if err := r.drain(); err != nil {
		return err
	}
	n, why, err := r.apply(e)
	if err != nil {
		return r.failed(e, err)
	}
	r.stats.Applied += int64(n)
	if why != "" {
		r.stats.Skipped[why]++
	}
	return nil
}

func (r *Replayer) failed(e *entry.Entry, err error) error {
	var re *Error
	if errors.As(err, &re) {
		return err
	}
	return &Error{e.OpTime, e.Namespace(), e.Kind.String(), err}
}

// launch sends the round off once the one before has landed.
func (r *Replayer) launch() error {
	if err := r.land(); err != nil {
		return err
	}
	if r.round.empty() {
		return nil
	}
	r.round.upTo = r.bound()
	r.flight = r.round
	r.round = newRound(&r.o)
	if r.spare != nil {
		r.round.buf, r.round.ops = r.spare.buf[:0], r.spare.ops[:0]
		r.spare = nil
	}
	go func(f *round) { r.landed <- f.apply(r.ctx, r.target) }(r.flight)
	return nil
}

// land waits for the round that is being applied.
func (r *Replayer) land() error {
	if r.flight == nil {
		return nil
	}
	err := <-r.landed
	f := r.flight
	r.flight = nil
	if err != nil {
		return err
	}
	r.spare = f
	r.stats.Applied += f.applied
	for why, n := range f.skipped {
		r.stats.Skipped[why] += n
	}
	for ns := range f.unique {
		r.unique[ns] = true
	}
	r.tell(f.upTo)
	return nil
}

// drain applies everything that was added.
func (r *Replayer) drain() error {
	if err := r.launch(); err != nil {
		return err
	}
	return r.land()
}

// Flush applies everything that was added before.
func (r *Replayer) Flush() error {
	if r.err != nil {
		return r.err
	}
	if err := r.drain(); err != nil {
		return r.fail(err)
	}
	r.tell(r.bound())
	return nil
}

// Close applies what is left, looks again at unique indexes that were broken on the way,
// and ends the replay. It is called once, also after an error, which it returns again.
func (r *Replayer) Close() (Stats, error) {
	defer r.cancel()
	err := r.Flush()
	if err != nil && r.flight != nil {
		<-r.landed // its workers end with the context
		r.flight = nil
	}
	r.stats.Unfinished = r.asm.Unfinished()
	r.stats.Aborted = r.asm.Aborted
	if err == nil {
		err = r.target.checkUnique(r.ctx, r.unique)
	}
	return r.stats, err
}

// boundary is where a transaction that is under way began.
type boundary struct {
	first  entry.OpTime // its first entry
	before entry.OpTime // the entry before that
}

// holdBack remembers, when a transaction begins, the entry before it: a later replay must
// see it from its first entry on.
func (r *Replayer) holdBack(prev entry.OpTime) {
	oldest, ok := r.asm.Open()
	if !ok {
		r.before = r.before[:0]
		return
	}
	if n := len(r.asm.Unfinished()); n > 0 && r.isFirst() {
		r.before = append(r.before, boundary{r.last, prev})
	}
	for len(r.before) > 0 && r.before[0].first.Compare(oldest) < 0 {
		r.before = r.before[1:]
	}
}

// isFirst reports whether the newest entry began a transaction.
func (r *Replayer) isFirst() bool {
	for _, t := range r.asm.Unfinished() {
		if t.First == r.last {
			return true
		}
	}
	return false
}

// bound is up to where a replay need not be repeated once everything added is applied.
func (r *Replayer) bound() entry.OpTime {
	if len(r.before) > 0 {
		return r.before[0].before
	}
	return r.added
}

// tell says how far everything is applied.
func (r *Replayer) tell(t entry.OpTime) {
	if t.TS == 0 || t.TS <= r.told.TS {
		return
	}
	r.told = t
	if r.o.Applied != nil {
		r.o.Applied(t)
	}
}

func raw(b bson.Raw) dbson.Raw { return dbson.Raw(b) }
