package session

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query"
)

// Operation is one running command, as currentOp shows it and killOp ends it.
type Operation struct {
	ID       int32
	ConnID   int64
	Client   string
	Metadata bson.Raw
	Start    time.Time
	LSID     bson.Raw
	// Query is the operation as the query room sees it; Kill reaches it too.
	Query *query.OpContext

	ctx      query.LazyContext
	query    query.OpContext // what Query points at
	deadline time.Time       // zero without maxTimeMS
	killed   atomic.Int32
	reg      *Operations
	// Neighbours in the registry, under its lock.
	prev, next *Operation
	ended      bool

	mu struct {
		sync.Mutex
		command string
		ns      string
		body    bson.Raw // aliases the request; nil once the operation ended
	}
}

// Operations is the registry of what runs.
type Operations struct {
	nextID atomic.Int32
	mu     struct {
		sync.Mutex
		running *Operation // a list, newest first: most operations come and go without being looked for
		count   int
		ending  mongoerr.Code // what every operation to come is killed with; 0 for none
	}
}

// NewOperations returns an empty registry.
func NewOperations() *Operations { return &Operations{} }

// Begin registers an operation that began at now and lives until End. ctx ends when the client is gone.
// What others look at, who it is of and in which session, is there from the start.
func (r *Operations) Begin(ctx context.Context, now time.Time, connID int64, client string, metadata, lsid bson.Raw) *Operation {
	op := &Operation{ID: r.nextID.Add(1), ConnID: connID, Client: client, Metadata: metadata, LSID: lsid, Start: now, reg: r}
	op.ctx.Init(ctx, time.Time{})
	op.Query = &op.query
	op.Query.Ctx, op.Query.OpID, op.Query.ConnID, op.Query.Now = &op.ctx, int64(op.ID), connID, op.Start
	r.mu.Lock()
	if op.next = r.mu.running; op.next != nil {
		op.next.prev = op
	}
	r.mu.running = op
	r.mu.count++
	ending := r.mu.ending
	r.mu.Unlock()
	if ending != 0 {
		op.Kill(ending)
	}
	return op
}

// KillAll kills what runs and, from now on, what begins: the server stops.
func (r *Operations) KillAll(code mongoerr.Code) {
	r.mu.Lock()
	r.mu.ending = code
	r.mu.Unlock()
	r.KillWhere(code, func(*Operation) bool { return true })
}

// End takes op out of the registry. Afterwards nobody reads the request's bytes.
func (op *Operation) End() {
	op.mu.Lock()
	op.mu.command, op.mu.body = "", nil
	op.mu.Unlock()
	op.ctx.End(nil)
	r := op.reg
	r.mu.Lock()
	defer r.mu.Unlock()
	if op.ended {
		return
	}
	op.ended = true
	if op.prev != nil {
		op.prev.next = op.next
	} else {
		r.mu.running = op.next
	}
	if op.next != nil {
		op.next.prev = op.prev
	}
	op.prev, op.next = nil, nil
	r.mu.count--
}

// Describe sets what currentOp shows of op.
func (op *Operation) Describe(command, ns string, body bson.Raw) {
	op.mu.Lock()
	op.mu.command, op.mu.ns, op.mu.body = command, ns, body
	op.mu.Unlock()
}

// SetMaxTime starts maxTimeMS; 0 means none.
func (op *Operation) SetMaxTime(d time.Duration) {
	if d > 0 {
		op.deadline = op.Start.Add(d)
		op.Query.Deadline, op.Query.MaxTime = op.deadline, d
	}
}

// Kill ends op with code: waiters wake at once, loops see it at their next look.
func (op *Operation) Kill(code mongoerr.Code) {
	if op.killed.CompareAndSwap(0, int32(code)) {
		e := killError(code)
		op.Query.Kill(e)
		op.ctx.End(e)
	}
}

func killError(code mongoerr.Code) *mongoerr.Error {
	if code == mongoerr.InterruptedAtShutdown {
		return mongoerr.New(code, "interrupted at shutdown")
	}
	return mongoerr.New(code, "operation was interrupted")
}

// Interrupt returns why op has to stop, or nil.
func (op *Operation) Interrupt() error {
	if c := op.killed.Load(); c != 0 {
		return killError(mongoerr.Code(c))
	}
	if !op.deadline.IsZero() && time.Now().After(op.deadline) {
		return mongoerr.New(mongoerr.MaxTimeMSExpired, "operation exceeded time limit")
	}
	if op.ctx.Err() != nil {
		return mongoerr.New(mongoerr.ClientDisconnect, "operation was interrupted because a client disconnected")
	}
	return nil
}

// Context returns a context for waiting: it ends with op's deadline, with its client
// and with Kill. After it ended, Interrupt says why. The caller calls the CancelFunc.
func (op *Operation) Context() (context.Context, context.CancelFunc) {
	if op.deadline.IsZero() {
		return &op.ctx, func() {}
	}
	return query.WithLazyDeadline(&op.ctx, op.deadline)
}

// Kill ends the operation with that id, and reports whether it was there.
func (r *Operations) Kill(id int32) bool {
	r.mu.Lock()
	op := r.mu.running
	for op != nil && op.ID != id {
		op = op.next
	}
	r.mu.Unlock()
	if op != nil {
		op.Kill(mongoerr.Interrupted)
	}
	return op != nil
}

// KillWhere ends all operations for which match is true and counts them. match sees each
// while it cannot end, so that the bytes of its request are still its own.
func (r *Operations) KillWhere(code mongoerr.Code, match func(*Operation) bool) int {
	var ops []*Operation
	r.mu.Lock()
	for op := r.mu.running; op != nil; op = op.next {
		if match(op) {
			ops = append(ops, op)
		}
	}
	r.mu.Unlock()
	for _, op := range ops {
		op.Kill(code)
	}
	return len(ops)
}

func (r *Operations) list() []*Operation {
	r.mu.Lock()
	ops := make([]*Operation, 0, r.mu.count)
	for op := r.mu.running; op != nil; op = op.next {
		ops = append(ops, op)
	}
	r.mu.Unlock()
	slices.SortFunc(ops, func(a, b *Operation) int { return int(a.ID - b.ID) })
	return ops
}

// Count returns how many operations run.
func (r *Operations) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.count
}

// Info is a copy of what currentOp shows of one operation.
type Info struct {
	*Operation
	Command, NS string
	Body        bson.Raw // a copy
	Killed      bool
}

// Snapshot returns what runs now, oldest first.
func (r *Operations) Snapshot() []Info {
	ops := r.list()
	infos := make([]Info, 0, len(ops))
	for _, op := range ops {
		op.mu.Lock()
		if op.mu.command != "" {
			infos = append(infos, Info{op, op.mu.command, op.mu.ns, op.mu.body.Clone(), op.killed.Load() != 0})
		}
		op.mu.Unlock()
	}
	return infos
}
