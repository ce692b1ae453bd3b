package exec

import (
	"context"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query/plan"
	"github.com/cairndb/cairn/internal/storage"
)

const (
	// slice is how many documents a stage may pass over before it lets its driver look
	// for interruption.
	slice = 128
	// yieldAfter and yieldBytes bound how long a storage cursor stays open.
	yieldAfter = 100 * time.Millisecond
	yieldBytes = 16 << 20
	// SortMemory is what a blocking stage holds before it spills.
	SortMemory = 100 << 20
)

// Records is where documents are: a record store, or the log as local.oplog.rs.
type Records interface {
	Get(r storage.Reader, id storage.RecordID, dst []byte) (bson.Raw, error)
	CursorRange(ctx context.Context, r storage.Reader, d storage.Direction, lower, upper storage.RecordID) (storage.RecordCursor, error)
}

// Index is the handle that plan.Index.Ref holds.
type Index struct {
	Store    storage.IndexStore
	Ordering keystring.Ordering
	// Multikey reports whether the index has more than one key for some document by
	// now; nil: it is as it was when the query was planned.
	Multikey func() bool
	// Dropped reports whether the index is gone; nil: it cannot go.
	Dropped func() bool
}

// Collection is what an execution reads.
type Collection struct {
	NS      string
	Records Records
	IDIndex *Index // nil for collections without (the oplog)
	Capped  bool
	// Check returns why a cursor must not go on (dropped, renamed …), or nil.
	Check func() error
}

// Options of an execution.
type Options struct {
	// Ctx is for waits while a cursor is opened; nil: they have no end.
	Ctx    context.Context
	Reader storage.Reader
	// Stable says that Reader never changes (a snapshot), so that nothing must be
	// checked again and no cursor is given up.
	Stable    bool
	Full      *match.Matcher // the query's whole filter, nil: everything
	Interrupt func() error
	Env       *expr.Env // what computed projections are evaluated in, nil: nothing
	NewSorter func(maxMemory int64) *storage.Sorter
	// NoDiskUse makes a sort fail where it would spill.
	NoDiskUse bool
	// Budget ends the execution with ErrBudget after that many works (a cached plan
	// that turns out bad); 0: none.
	Budget int64
}

// Row is one result. Doc, Key and TypeBits are valid until the next one is asked for.
type Row struct {
	ID       storage.RecordID
	Doc      bson.Raw
	Key      []byte // KeyString of the index entry, nil if none
	TypeBits []byte
	Index    *plan.Index
}

type status int8

const (
	eof status = iota
	advanced
	needTime
)

// stage is one running node. next returns needTime now and then so that the driver can
// look for interruption; save gives up storage cursors, which next opens again.
type stage interface {
	next(row *Row) (status, error)
	save()
	close()
}

// Exec is a running plan. One goroutine at a time.
type Exec struct {
	Coll *Collection
	Opts Options
	Plan *plan.Solution

	// Replan, if not nil, gives another plan when Opts.Budget is spent before the first
	// result.
	Replan func() (*plan.Solution, error)

	root  stage
	step  int // slice, or 1 in a trial
	since time.Time
	bytes int64
	works int64

	buffered []bufferedRow // results of a trial that are still to be returned
	atEOF    bool
	closed   bool
}

type bufferedRow struct {
	id  storage.RecordID
	doc bson.Raw
}

// New makes a plan ready to run.
func New(c *Collection, s *plan.Solution, o Options) *Exec {
	x := &Exec{Coll: c, Opts: o, Plan: s, step: slice}
	x.root = x.build(s.Root)
	return x
}

// Next gives the next result, or false at the end.
func (x *Exec) Next(row *Row) (bool, error) {
	if len(x.buffered) > 0 {
		*row = Row{ID: x.buffered[0].id, Doc: x.buffered[0].doc}
		x.buffered = x.buffered[1:]
		return true, nil
	}
	if x.atEOF {
		return false, nil
	}
	for {
		st, err := x.root.next(row)
		if err == ErrBudget && x.Replan != nil {
			if err = x.replan(); err == nil {
				continue
			}
		}
		if err != nil {
			return false, err
		}
		switch st {
		case advanced:
			x.Opts.Budget = 0 // it is productive
			if x.bytes += int64(len(row.Doc)); x.bytes >= yieldBytes {
				// The row must stay valid: the cursors are given up before the next one.
				x.since = time.Time{}
			}
			x.atEOF = ended(x.root)
			return true, nil
		case eof:
			x.atEOF = true
			return false, nil
		}
		if err := x.pause(); err != nil {
			return false, err
		}
	}
}

// replan begins anew with another plan.
func (x *Exec) replan() error {
	s, err := x.Replan()
	if err != nil {
		return err
	}
	x.root.close()
	x.Plan, x.Opts.Budget, x.Replan = s, 0, nil
	x.root = x.build(s.Root)
	return nil
}

// Probe opens the cursors of the plan's first scan, so that ErrReplan comes before any
// result.
func (x *Exec) Probe() error {
	var err error
	probe := func(s *ixScan) {
		if err == nil && !s.kb.empty && s.cur == nil {
			if err = s.open(); err != nil {
				x.Close()
			}
		}
	}
	s := x.root
	for {
		switch k := s.(type) {
		case *ixScan:
			probe(k)
			return err
		case *fetch:
			s = k.kid
		case *sortStage:
			s = k.kid
		case *limit:
			s = k.kid
		case *skip:
			s = k.kid
		case *projection:
			s = k.kid
		case *pass:
			s = k.kid
		default:
			return nil
		}
	}
}

// Tick must be called between results now and then: it looks for interruption and
// gives up cursors that were open for too long. The last row becomes invalid.
func (x *Exec) Tick() error { return x.pause() }

func (x *Exec) pause() error {
	if x.Opts.Interrupt != nil {
		if err := x.Opts.Interrupt(); err != nil {
			return err
		}
	}
	if x.Opts.Stable || x.step == 1 {
		return nil
	}
	now := time.Now()
	if x.since.IsZero() && x.bytes < yieldBytes {
		x.since = now
		return nil
	}
	if x.bytes >= yieldBytes || now.Sub(x.since) >= yieldAfter {
		x.Save()
		x.Plan.Root.Walk(func(n *plan.Node) { n.Stats.NeedYield++ })
		x.since = now
	}
	return nil
}

// Save gives up all storage cursors; the execution goes on from its position.
func (x *Exec) Save() {
	x.root.save()
	x.bytes, x.since = 0, time.Time{}
	x.Plan.Root.Walk(func(n *plan.Node) { n.Stats.Saves++; n.Stats.Restores++ })
}

// SetReader makes the execution go on in another view; call Save before.
func (x *Exec) SetReader(r storage.Reader) { x.Opts.Reader = r }

// Rewake lets a tailable execution that was at its end look for more.
func (x *Exec) Rewake() { x.atEOF = false }

// EOF reports whether the end was met.
func (x *Exec) EOF() bool { return x.atEOF && len(x.buffered) == 0 }

// Close gives up everything. It may be called twice.
func (x *Exec) Close() {
	if !x.closed {
		x.closed = true
		x.root.close()
	}
}

func (x *Exec) ctx() context.Context {
	if x.Opts.Ctx == nil {
		return context.Background()
	}
	return x.Opts.Ctx
}

// check is asked whenever a cursor is opened.
func (x *Exec) check() error {
	if x.Coll.Check == nil {
		return nil
	}
	return x.Coll.Check()
}

// spend counts n units of work against the budget.
func (x *Exec) spend(n int) error {
	x.works += int64(n)
	if x.Opts.Budget > 0 && x.works > x.Opts.Budget {
		return ErrBudget
	}
	return nil
}

// ErrReplan says that an index became multikey between planning and the first look: the
// query must be planned again.
var ErrReplan = mongoerr.New(mongoerr.QueryPlanKilled, "the index became multikey while the query was planned")

// ErrBudget says that a plan needed more work than it was given.
var ErrBudget error = mongoerr.New(mongoerr.InternalError, "plan needs more work than its cache entry promised")

// ended reports whether a stage knows that it has no more rows without being asked.
func ended(s stage) bool {
	switch s := s.(type) {
	case *limit:
		return s.left == 0 || ended(s.kid)
	case *express:
		return s.done
	case *sortStage:
		return s.done && (s.left == 0 || s.top != nil && s.out == len(s.top.rows))
	case *projection:
		return ended(s.kid)
	case *returnKey:
		return ended(s.kid)
	case *pass:
		return ended(s.kid)
	}
	return false
}

// build makes the stage of a node and all below.
func (x *Exec) build(n *plan.Node) stage {
	n.Stats = &plan.Stats{}
	var kid stage
	if len(n.Kids) > 0 && n.Stage != plan.Or && n.Stage != plan.SortMerge {
		kid = x.build(n.Kids[0])
	}
	switch n.Stage {
	case plan.CollScan:
		return newCollScan(x, n)
	case plan.IxScan, plan.CountScan:
		return newIxScan(x, n)
	case plan.Express:
		return &express{x: x, n: n}
	case plan.DistinctScan:
		return newDistinctScan(x, n)
	case plan.Fetch:
		return newFetch(x, n, kid)
	case plan.Or, plan.SortMerge:
		kids := make([]stage, len(n.Kids))
		for i, k := range n.Kids {
			kids[i] = x.build(k)
		}
		if n.Stage == plan.Or {
			return &union{x: x, n: n, kids: kids, seen: map[storage.RecordID]struct{}{}}
		}
		return newSortMerge(x, n, kids)
	case plan.Sort:
		return newSort(x, n, kid)
	case plan.Skip:
		return &skip{n: n, kid: kid, left: n.LimitAmount}
	case plan.Limit:
		return &limit{n: n, kid: kid, left: n.LimitAmount}
	case plan.ProjectionSimple, plan.ProjectionCovered, plan.ProjectionDefault:
		return &projection{x: x, n: n, kid: kid}
	case plan.ReturnKey:
		return &returnKey{x: x, n: n, kid: kid}
	case plan.Subplan:
		return &pass{n: n, kid: kid}
	}
	n.Stats.IsEOF = true
	return empty{n}
}
