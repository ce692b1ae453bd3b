package pitr

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/backup/source"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// RunOptions are the options of Run.
type RunOptions struct {
	// Every is the time after which entries that were captured are stored; default 4 s, which
	// with the time of an upload keeps what may be lost below 5 s.
	Every time.Duration
	// SliceBytes stores sooner when so much has gathered; default 64 MB.
	SliceBytes int64
	// IdleEvery is how often the coverage is extended while nothing but no-ops comes; default 60 s.
	IdleEvery time.Duration
	// FullEvery takes a full backup when the newest is older; 0: only when there is none.
	FullEvery time.Duration
	// FullAt takes one each day at a time of the day, "15:04" in local time; "" does not.
	FullAt string
	// FullOnGap takes one when the chain broke and goes on; otherwise a gap ends the run.
	FullOnGap bool
	// MergeEvery is how often small slices are joined; default 1 h.
	MergeEvery time.Duration
	// LockWait is how long to wait for another one that continues the chain; default 90 s: longer than a
	// process that is gone, with its container, keeps its lock.
	LockWait time.Duration
}

func (o *RunOptions) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.Every, 4*time.Second)
	set(&o.IdleEvery, time.Minute)
	set(&o.MergeEvery, time.Hour)
	set(&o.LockWait, repo.DefaultLockTTL+30*time.Second)
	if o.SliceBytes <= 0 {
		o.SliceBytes = 64 << 20
	}
}

// RunStatus is how a continuous backup stands. All is as of now.
type RunStatus struct {
	Started  time.Time
	Captured chain.OpTime // newest entry that was read
	Stored   chain.OpTime // newest entry that was signed off
	// StoredAt is when that was.
	StoredAt        time.Time
	Slices, Entries int64
	Bytes           int64
	Fulls           int64
	Retries         int64
	Requests        repo.Requests
	LastFull        time.Time
	FullRunning     bool
	Gaps            int64
	LastError       string // of the last attempt that failed; "" once one succeeded
	LastErrorAt     time.Time
	// LastVerify and LastDrill are when the repository was verified and a restore tried last,
	// by whomever; zero if never. They are looked up every few minutes.
	LastVerify, LastDrill     time.Time
	LastVerifyOK, LastDrillOK bool
}

// Lag is how far what is stored is behind what the server was seen to have.
func (s RunStatus) Lag() time.Duration {
	return max(0, time.Duration(int64(s.Captured.TS.Seconds())-int64(s.Stored.TS.Seconds()))*time.Second)
}

// runPace is how long capturing waits for entries to gather: waking up for few of them is what costs most
// beside compressing them, and what is stored every few seconds need not be read sooner.
const runPace = 250 * time.Millisecond

// Runner is a continuous backup.
type Runner struct {
	env *Env
	o   RunOptions

	mu sync.Mutex
	st RunStatus
}

// NewRunner prepares a continuous backup.
func (e *Env) NewRunner(o RunOptions) (*Runner, error) {
	o.defaults()
	if o.FullAt != "" {
		if _, err := time.Parse("15:04", o.FullAt); err != nil {
			return nil, fmt.Errorf("%q is not a time of the day such as 02:30", o.FullAt)
		}
	}
	return &Runner{env: e, o: o, st: RunStatus{Started: e.now()}}, nil
}

// Status says how the run stands.
func (r *Runner) Status() RunStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.st
	s.Requests = r.env.Repo.Requests()
	return s
}

func (r *Runner) update(f func(*RunStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.st)
}

// Run captures until ctx is over, then stores what it has and returns nil. It survives restarts and
// elections of the server and errors of the store; it ends with a *GapError where the chain
// breaks (unless FullOnGap), with an *entry.UnknownError at an entry that could not be restored, and
// with what no repetition helps against.
func (r *Runner) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	wg.Go(func() { r.schedule(ctx) })
	wg.Go(func() { r.housekeep(ctx) })
	pause := time.Second
	for {
		before := r.Status().Stored
		err := r.capture(ctx)
		if ctx.Err() != nil {
			if err != nil && !stopped(ctx, err) {
				return err
			}
			return nil
		}
		var gap *GapError
		switch {
		case errors.As(err, &gap):
			r.update(func(s *RunStatus) { s.Gaps++ })
			if !r.o.FullOnGap {
				return err
			}
			r.env.say("%v", err)
			if err = r.full(ctx); err == nil {
				continue
			}
		case final(err):
			return err
		}
		r.failed(err)
		if r.Status().Stored != before {
			pause = time.Second // it had got on
		}
		r.env.say("the continuous backup was interrupted: %v; again in %s", err, pause)
		wait(ctx, pause+rand.N(pause/4+1))
		pause = min(2*pause, time.Minute)
	}
}

func (r *Runner) failed(err error) {
	r.update(func(s *RunStatus) {
		s.Retries++
		s.LastError, s.LastErrorAt = err.Error(), r.env.now()
	})
}

// final tells errors that come again.
func final(err error) bool {
	var unknown *entry.UnknownError
	var format *entry.FormatError
	var src *SourceError
	return errors.As(err, &unknown) || errors.As(err, &format) || errors.As(err, &src) || errors.Is(err, repo.ErrWrongKey)
}

// stopped tells an error that says only that ctx is over.
func stopped(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)))
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// capture continues the chain until something fails or ctx is over.
func (r *Runner) capture(ctx context.Context) (err error) {
	org, err := r.env.openSource(ctx)
	if err != nil {
		return err
	}
	if r.env.Pace == 0 {
		org.Pace = runPace
	}
	said := org.OnRetry
	org.OnRetry = func(err error, pause time.Duration) {
		r.failed(err) // a server that is away is not a backup that keeps up
		said(err, pause)
	}
	st, err := r.env.State(ctx)
	if err != nil {
		return err
	}
	head, err := st.head(ctx, org)
	if errors.Is(err, ErrNoFull) {
		r.env.say("the repository has no full backup yet: taking one")
		if err := r.full(ctx); err != nil {
			return err
		}
		if st, err = r.env.State(ctx); err != nil {
			return err
		}
		head, err = st.head(ctx, org)
	}
	if err != nil {
		return err
	}
	if was := st.Manifests[head.ID].Source; !sameSource(was, org.name) {
		return &SourceError{was, org.name}
	}
	r.noteFulls(st)
	if err := r.noteChecks(ctx); err != nil {
		return err
	}
	lk, unlock, err := r.env.lock(ctx, repo.LockRequest{Kind: repo.Shared, Purpose: "continuous backup", Scope: scopeOplog, Wait: r.o.LockWait})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	c := &capturer{r: r, org: org, lk: lk, full: make(chan struct{}, 1)}
	c.next = &slicer{env: r.env, org: org, lk: lk, parent: head.ID, joint: st.Manifests[head.ID].Options[optionEnd]}
	c.stored = head.End
	r.update(func(s *RunStatus) { s.Captured, s.Stored, s.StoredAt = head.End, head.End, head.Created })
	return c.run(ctx, head.End)
}

// capturer tails the oplog into slices. One goroutine adds entries, one cuts and stores.
type capturer struct {
	r    *Runner
	org  *origin
	lk   *repo.Lock
	full chan struct{} // a slice has become large

	mu      sync.Mutex // next
	next    *slicer
	stored  chain.OpTime
	storedT time.Time
	advance time.Time
}

func (c *capturer) run(ctx context.Context, from chain.OpTime) error {
	// Writers outlive ctx for as long as it takes to store what was captured when it ended.
	store := context.WithoutCancel(ctx)
	tailCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tail := make(chan error, 1)
	go func() {
		tail <- c.org.TailBatches(tailCtx, from, func(items []source.Item) error { return c.take(store, items) })
	}()
	c.storedT = time.Now()
	tick := time.NewTicker(max(c.r.o.Every/16, 10*time.Millisecond))
	defer tick.Stop()
	var err, tailErr error
	ended := false
	for !ended && err == nil {
		select {
		case tailErr = <-tail:
			ended = true
		case <-c.full:
			err = c.cut(store, true)
		case <-tick.C:
			err = c.cut(store, false)
		}
	}
	if err != nil {
		cancel(err)
	}
	if !ended {
		tailErr = <-tail
	}
	if err == nil {
		err = c.cut(store, true) // what was captured before the end
	}
	if gap, ok := asGap(tailErr, c.stored); ok {
		tailErr = c.r.env.foundGap(ctx, gap)
	}
	if tailErr != nil && stopped(ctx, tailErr) {
		tailErr = nil
	}
	if err != nil {
		tailErr = nil // it was ended by err
	}
	return errors.Join(err, tailErr, c.next.abort())
}

// take adds entries.
func (c *capturer) take(ctx context.Context, items []source.Item) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.next.add(ctx, items); err != nil {
		return err
	}
	if c.next.bytes >= c.r.o.SliceBytes {
		select {
		case c.full <- struct{}{}:
		default:
		}
	}
	return nil
}

// cut stores the slice if it is due. Capturing goes on into the next one meanwhile, except once
// in a while, when the lock needs a moment without a writer.
func (c *capturer) cut(ctx context.Context, now bool) error {
	c.mu.Lock()
	s := c.next
	due := c.r.o.Every
	if s.idle() {
		due = c.r.o.IdleEvery
	}
	c.r.update(func(st *RunStatus) {
		if !s.last.IsNull() {
			st.Captured = s.last
		}
	})
	if s.empty() || !now && time.Since(c.storedT) < due {
		c.mu.Unlock()
		return nil
	}
	c.next = &slicer{env: c.r.env, org: c.org, lk: c.lk}
	if err := c.next.add(ctx, []source.Item{{Raw: s.lastRaw}}); err != nil {
		c.mu.Unlock()
		return err
	}
	hold := time.Since(c.advance) > time.Minute
	if !hold {
		c.mu.Unlock()
	}
	c.storedT = time.Now()
	m, err := s.commit(ctx)
	if hold {
		if err == nil {
			err = c.lk.Advance(ctx)
			c.advance = time.Now()
		}
		c.mu.Unlock()
	}
	if err != nil {
		return errors.Join(err, s.abort())
	}
	c.mu.Lock()
	c.next.parent = m.ID
	c.mu.Unlock()
	c.stored = toOpTime(m.End)
	c.r.update(func(st *RunStatus) {
		st.Stored, st.StoredAt = c.stored, c.r.env.now()
		st.Slices++
		st.Entries += s.entries
		st.Bytes += s.bytes
		st.LastError = ""
	})
	return nil
}

// full takes a full backup.
func (r *Runner) full(ctx context.Context) error {
	org, err := r.env.openSource(ctx)
	if err != nil {
		return err
	}
	r.update(func(s *RunStatus) { s.FullRunning = true })
	m, err := r.env.full(ctx, org, chain.OpTime{})
	r.update(func(s *RunStatus) {
		s.FullRunning = false
		if err == nil {
			s.Fulls++
			s.LastFull = m.Created
		}
	})
	if err == nil {
		r.env.say("full backup %s: %s, restorable from %s", m.ID, tool.Count(m.Counts[countDocuments], "document", "documents"), m.End)
	}
	return err
}

// noteFulls finds the newest full backup. One from the future was made by a clock that was wrong, and
// must not keep the next one from being made until then.
func (r *Runner) noteFulls(st *State) {
	now := r.env.now()
	r.update(func(s *RunStatus) {
		if s.LastFull.After(now) {
			s.LastFull = time.Time{}
		}
		for _, b := range st.Coverage.Backups {
			if b.Kind != chain.Full {
				continue
			}
			at := b.Created
			if at.After(now.Add(time.Minute)) {
				at = time.Unix(0, 0)
			}
			if at.After(s.LastFull) {
				s.LastFull = at
			}
		}
	})
}

// schedule takes full backups when they are due.
func (r *Runner) schedule(ctx context.Context) {
	if r.o.FullEvery <= 0 && r.o.FullAt == "" {
		return
	}
	tick := time.NewTicker(min(max(r.o.FullEvery/20, 10*time.Millisecond), 10*time.Second))
	if r.o.FullEvery <= 0 {
		tick.Reset(10 * time.Second)
	}
	defer tick.Stop()
	pause, notBefore := time.Minute, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := r.env.now()
		last := r.Status().LastFull
		if last.IsZero() || now.Before(notBefore) || !r.due(now, last) {
			continue // the first one is taken by capture
		}
		if err := r.full(ctx); err != nil && ctx.Err() == nil {
			r.failed(err)
			r.env.say("the scheduled full backup failed: %v; again in %s", err, pause)
			notBefore = now.Add(pause)
			pause = min(2*pause, time.Hour)
			continue
		}
		pause = time.Minute
	}
}

// noteChecks looks up the last verification and drill.
func (r *Runner) noteChecks(ctx context.Context) error {
	verify, err := r.env.lastVerify(ctx)
	if err != nil {
		return err
	}
	var drill DrillRecord
	drilled, err := r.env.Repo.Record(ctx, recordLast, recordDrill, &drill)
	if err != nil {
		return fmt.Errorf("reading the result of the last drill: %w", err)
	}
	r.update(func(s *RunStatus) {
		if verify != nil {
			s.LastVerify, s.LastVerifyOK = verify.Finished, verify.OK
		}
		if drilled {
			s.LastDrill, s.LastDrillOK = drill.Finished, drill.OK
		}
	})
	return nil
}

func (r *Runner) due(now, last time.Time) bool {
	if last.After(now.Add(time.Minute)) {
		return true // the clock was set back
	}
	if r.o.FullEvery > 0 && now.Sub(last) >= r.o.FullEvery {
		return true
	}
	if at, err := time.Parse("15:04", r.o.FullAt); err == nil && r.o.FullAt != "" {
		y, m, d := now.Local().Date()
		today := time.Date(y, m, d, at.Hour(), at.Minute(), 0, 0, time.Local)
		return !now.Before(today) && last.Before(today)
	}
	return false
}

// housekeep joins small slices now and then, and looks whether somebody verified the repository.
func (r *Runner) housekeep(ctx context.Context) {
	tick := time.NewTicker(r.o.MergeEvery)
	defer tick.Stop()
	checks := time.NewTicker(5 * time.Minute)
	defer checks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-checks.C:
			if err := r.noteChecks(ctx); err != nil && ctx.Err() == nil {
				r.env.say("looking up the last verification: %v", err) // what is known stays
			}
			continue
		case <-tick.C:
		}
		if n, err := r.env.merge(ctx); err != nil && ctx.Err() == nil {
			r.env.say("joining small slices: %v", err) // they stay as they are, until the next time
		} else if n > 0 {
			r.env.say("%s joined", tool.Count(n, "small slice was", "small slices were"))
		}
	}
}
