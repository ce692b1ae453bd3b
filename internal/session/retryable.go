package session

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// Retryable makes the statements of sessions happen once. It knows, for each session
// in use, the newest txnNumber and which of its statements were executed, and where in
// the log; it writes config.transactions and config.image_collection, inside the unit
// of the write itself, and reads them and the log for a session that it does not
// know (again).
//
// It is the query room's SessionHook and an OpObserver of the catalog:
//
//	cat, err := catalog.Open(…)
//	rw := session.NewRetryable(cat, …)
//	cat.AddObserver(rw)
//	… cat.Recover, cat.Start …
//	rw.Start(log)
type Retryable struct {
	opt    RetryableOptions
	cat    *catalog.Catalog
	log    entryFinder
	shards [16]shard
	// own is the unit in which the reaper deletes records: the only one that may.
	own atomic.Pointer[oplog.WriteUnit]

	life struct {
		ctx    context.Context // ends with Close
		cancel context.CancelFunc
		wg     sync.WaitGroup
	}
}

// RetryableOptions configure NewRetryable.
type RetryableOptions struct {
	// Sessions knows which sessions are in use. Required for reaping.
	Sessions *Sessions
	// ReapEvery is how often expired sessions are looked for. Default five minutes.
	ReapEvery time.Duration
	// Expired is told of sessions that were forgotten because nobody used them; may be nil.
	Expired func(ids []bson.UUID)
	// Now is the wall clock. Default time.Now.
	Now func() time.Time
	// Logger gets what the operator should see. Default: discard.
	Logger *slog.Logger
}

func (o *RetryableOptions) ensureDefaults() {
	if o.ReapEvery <= 0 {
		o.ReapEvery = 5 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// entryFinder reads the log; oplog.Log is one.
type entryFinder interface {
	Find(ts oplog.Timestamp) (bson.Raw, error)
}

type shard struct {
	sync.Mutex
	sessions map[ID]*participant
}

// participant is one session's state. What is below held belongs to the operation
// that has the session checked out, or to the sequencer while that operation's unit is
// committed.
type participant struct {
	id   ID
	lsid bson.Raw
	held chan struct{} // holds one token while the session is checked out
	refs int           // guarded by the shard: who holds it or waits for it
	used time.Time     // guarded by the shard

	loaded     bool
	txn        int64        // the newest txnNumber seen, -1: none
	last       oplog.OpTime // its newest entry, null: none
	incomplete bool         // the log no longer holds all that txn wrote
	done       map[int32]oplog.OpTime

	record     place // in config.transactions
	image      place // in config.image_collection, once imageKnown
	imageKnown bool

	buf  []byte   // of the record that is written
	unit *pending // what the unit that is being made has done
}

// place is where a session's document lies in a table, and its length.
type place struct {
	rid storage.RecordID
	len int
}

// keepDone bounds the map that is kept from one txnNumber to the next.
const keepDone = 128

// NewRetryable returns a registry that keeps its collections in c. It is to be made an
// observer of c before c recovers, and takes sessions after Start.
func NewRetryable(c *catalog.Catalog, o RetryableOptions) *Retryable {
	o.ensureDefaults()
	r := &Retryable{opt: o, cat: c}
	for i := range r.shards {
		r.shards[i].sessions = map[ID]*participant{}
	}
	r.life.ctx, r.life.cancel = context.WithCancel(context.Background())
	return r
}

// Start lets it take sessions, whose history it reads in log, and begins to reap the
// expired ones.
func (r *Retryable) Start(log *oplog.Log) {
	r.log = log
	r.life.wg.Go(r.reapLoop)
}

// Close stops reaping.
func (r *Retryable) Close() {
	r.life.cancel()
	r.life.wg.Wait()
}

func (r *Retryable) shard(id ID) *shard { return &r.shards[id.UUID[15]%byte(len(r.shards))] }

// Checkout is a session in the hands of one operation.
type Checkout struct {
	r *Retryable
	p *participant
}

// LSID is the session's full lsid: what entries and records carry.
func (c *Checkout) LSID() bson.Raw { return c.p.lsid }

// Release gives the session back.
func (c *Checkout) Release() {
	<-c.p.held
	c.r.unref(c.p)
}

// CheckOut gives the session to the caller for a command with this txnNumber, waiting
// for an operation that has it. An older txnNumber than the newest one of the session is
// TransactionTooOld.
func (r *Retryable) CheckOut(ctx context.Context, lsid bson.Raw, txnNumber int64) (*Checkout, error) {
	id, err := ParseID(lsid)
	if err != nil {
		return nil, err
	}
	p := r.ref(id)
	select {
	case p.held <- struct{}{}:
	default:
		select {
		case p.held <- struct{}{}:
		case <-ctx.Done():
			r.unref(p)
			return nil, context.Cause(ctx)
		}
	}
	if err := r.begin(ctx, p, txnNumber); err != nil {
		<-p.held
		r.unref(p)
		return nil, err
	}
	return &Checkout{r, p}, nil
}

func (r *Retryable) ref(id ID) *participant {
	s := r.shard(id)
	s.Lock()
	defer s.Unlock()
	p := s.sessions[id]
	if p == nil {
		p = &participant{id: id, lsid: id.Doc(), held: make(chan struct{}, 1), txn: -1, last: oplog.NullOpTime, done: map[int32]oplog.OpTime{}}
		s.sessions[id] = p
	}
	p.refs++
	return p
}

func (r *Retryable) unref(p *participant) {
	s := r.shard(p.id)
	s.Lock()
	defer s.Unlock()
	p.refs--
	p.used = r.opt.Now()
	if p.refs == 0 && !p.loaded {
		delete(s.sessions, p.id) // nothing is known of it: it can be asked again
	}
}

// begin makes txnNumber the session's, or goes on with it.
func (r *Retryable) begin(ctx context.Context, p *participant, txnNumber int64) error {
	if !p.loaded {
		if err := r.load(ctx, p); err != nil {
			return err
		}
	}
	switch {
	case txnNumber < p.txn:
		return mongoerr.New(mongoerr.TransactionTooOld, "Retryable write with txnNumber %d is prohibited on session %s because a newer retryable write with txnNumber %d has already started on this session.", txnNumber, p.id, p.txn)
	case txnNumber > p.txn:
		p.txn, p.last, p.incomplete = txnNumber, oplog.NullOpTime, false
		if len(p.done) > keepDone {
			p.done = map[int32]oplog.OpTime{}
		}
		clear(p.done)
	}
	return nil
}

// checkedOut returns the session that an operation with this lsid has checked out.
func (r *Retryable) checkedOut(lsid bson.Raw) (*participant, error) {
	id, err := ParseID(lsid)
	if err != nil {
		return nil, err
	}
	s := r.shard(id)
	s.Lock()
	p := s.sessions[id]
	s.Unlock()
	if p == nil || len(p.held) == 0 {
		return nil, errNotCheckedOut
	}
	return p, nil
}

var errNotCheckedOut = errors.New("session: a retryable write on a session that is not checked out")
