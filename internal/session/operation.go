package session

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Operation is one running command, as currentOp shows it and killOp ends it.
type Operation struct {
	ID       int32
	ConnID   int64
	Client   string
	AppName  string
	Metadata bson.Raw
	Start    time.Time
	LSID     bson.Raw

	ctx      context.Context
	deadline time.Time // zero without maxTimeMS
	killed   atomic.Int32
	reg      *Operations

	mu struct {
		sync.Mutex
		command  string
		ns       string
		body     bson.Raw // aliases the request; read only while the operation runs
		planInfo string
		cancel   []context.CancelFunc
	}
}

// Operations is the registry of what runs.
type Operations struct {
	nextID atomic.Int32
	mu     struct {
		sync.Mutex
		running map[int32]*Operation
	}
	free sync.Pool
}

// NewOperations returns an empty registry.
func NewOperations() *Operations {
	r := &Operations{}
	r.mu.running = map[int32]*Operation{}
	return r
}

// Begin registers an operation that lives until End. ctx ends when the client is gone.
func (r *Operations) Begin(ctx context.Context, connID int64, client string) *Operation {
	op := &Operation{ID: r.nextID.Add(1), ConnID: connID, Client: client, Start: time.Now(), ctx: ctx, reg: r}
	r.mu.Lock()
	r.mu.running[op.ID] = op
	r.mu.Unlock()
	return op
}

// End takes op out of the registry. Afterwards nobody reads the request's bytes.
func (op *Operation) End() {
	op.mu.Lock()
	op.mu.command, op.mu.body = "", nil
	op.mu.Unlock()
	r := op.reg
	r.mu.Lock()
	delete(r.mu.running, op.ID)
	r.mu.Unlock()
}

// Describe sets what currentOp shows of op.
func (op *Operation) Describe(command, ns string, body bson.Raw) {
	op.mu.Lock()
	op.mu.command, op.mu.ns, op.mu.body = command, ns, body
	op.mu.Unlock()
}

// SetPlan notes the plan summary for currentOp.
func (op *Operation) SetPlan(summary string) {
	op.mu.Lock()
	op.mu.planInfo = summary
	op.mu.Unlock()
}

// SetMaxTime starts maxTimeMS; 0 means none.
func (op *Operation) SetMaxTime(d time.Duration) {
	if d > 0 {
		op.deadline = op.Start.Add(d)
	}
}

// Deadline returns when maxTimeMS runs out, zero if never.
func (op *Operation) Deadline() time.Time { return op.deadline }

// Kill makes op's next Interrupt return code.
func (op *Operation) Kill(code mongoerr.Code) {
	op.killed.CompareAndSwap(0, int32(code))
	op.mu.Lock()
	cancel := op.mu.cancel
	op.mu.Unlock()
	for _, f := range cancel {
		f()
	}
}

// Interrupt returns why op has to stop, or nil. It is cheap enough for inner loops
// that call it every few hundred documents.
func (op *Operation) Interrupt() error {
	if c := op.killed.Load(); c != 0 {
		if mongoerr.Code(c) == mongoerr.InterruptedAtShutdown {
			return mongoerr.New(mongoerr.InterruptedAtShutdown, "interrupted at shutdown")
		}
		return mongoerr.New(mongoerr.Code(c), "operation was interrupted")
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
	var ctx context.Context
	var cancel context.CancelFunc
	if op.deadline.IsZero() {
		ctx, cancel = context.WithCancel(op.ctx)
	} else {
		ctx, cancel = context.WithDeadline(op.ctx, op.deadline)
	}
	op.mu.Lock()
	op.mu.cancel = append(op.mu.cancel, cancel)
	op.mu.Unlock()
	if op.killed.Load() != 0 {
		cancel()
	}
	return ctx, cancel
}

// Kill ends the operation with that id, and reports whether it was there.
func (r *Operations) Kill(id int32) bool {
	r.mu.Lock()
	op := r.mu.running[id]
	r.mu.Unlock()
	if op != nil {
		op.Kill(mongoerr.Interrupted)
	}
	return op != nil
}

// KillWhere ends all operations for which match is true and counts them.
func (r *Operations) KillWhere(code mongoerr.Code, match func(*Operation) bool) int {
	n := 0
	for _, op := range r.list() {
		if match(op) {
			op.Kill(code)
			n++
		}
	}
	return n
}

func (r *Operations) list() []*Operation {
	r.mu.Lock()
	ops := make([]*Operation, 0, len(r.mu.running))
	for _, op := range r.mu.running {
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
	return len(r.mu.running)
}

// Info is a copy of what currentOp shows of one operation.
type Info struct {
	*Operation
	Command, NS, PlanSummary string
	Body                     bson.Raw // a copy
	Killed                   bool
}

// Snapshot returns what runs now, oldest first.
func (r *Operations) Snapshot() []Info {
	ops := r.list()
	infos := make([]Info, 0, len(ops))
	for _, op := range ops {
		op.mu.Lock()
		if op.mu.command != "" {
			infos = append(infos, Info{op, op.mu.command, op.mu.ns, op.mu.planInfo, op.mu.body.Clone(), op.killed.Load() != 0})
		}
		op.mu.Unlock()
	}
	return infos
}
