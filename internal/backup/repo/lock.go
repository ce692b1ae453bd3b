package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// LockKind says what a lock allows beside it.
type LockKind string

const (
	// Shared is for those who add, and for readers that a sweep must wait for. Any number.
	Shared LockKind = "shared"
	// Sweeping is for deleting manifests and sweeping: one at a time, beside shared ones.
	Sweeping LockKind = "sweeping"
	// Exclusive allows no other lock.
	Exclusive LockKind = "exclusive"
)

// LockRequest is what LockWith asks for.
type LockRequest struct {
	Kind    LockKind
	Purpose string        // for people: what the holder does
	Scope   string        // two locks with the same scope exclude each other, whatever their kind; "" is none
	Wait    time.Duration // how long to wait for others to go away; 0 is not at all
}

// LockInfo describes a lock that is in the repository.
type LockInfo struct {
	ID      string        `json:"id"`
	Kind    LockKind      `json:"kind"`
	Purpose string        `json:"purpose,omitempty"`
	Scope   string        `json:"scope,omitempty"`
	Owner   string        `json:"owner"`
	Host    string        `json:"host"`
	PID     int           `json:"pid"`
	Process string        `json:"process,omitempty"` // tells this process apart from all others of this machine; "" if unknown
	TTL     time.Duration `json:"ttl"`
	Created time.Time     `json:"created,omitzero"` // by the store's clock; zero in the first object
	Seen    []string      `json:"seen,omitempty"`   // lists of condemned packs that the holder respects

	// Of a lock that was read; not in its object.
	Refreshed time.Time `json:"refreshed,omitzero"` // by the store's clock
	Stale     string    `json:"stale,omitempty"`    // why it counts no more; "" if it does
}

func (l *LockInfo) String() string {
	s := fmt.Sprintf("%s lock %s of %s (pid %d on %s, refreshed %s", l.Kind, l.ID, l.Owner, l.PID, l.Host, l.Refreshed.UTC().Format(time.RFC3339))
	if l.Purpose != "" {
		s += ", " + l.Purpose
	}
	if l.Stale != "" {
		s += ", stale: " + l.Stale
	}
	return s + ")"
}

// LockedError is that others hold locks that do not go with the one asked for.
type LockedError struct {
	Wanted  LockRequest
	Holders []LockInfo
}

// Error implements error.
func (e *LockedError) Error() string {
	var names []string
	for i := range e.Holders {
		names = append(names, e.Holders[i].String())
	}
	return fmt.Sprintf("the repository is locked: %s; wait for its end, or if that process is certainly gone remove the lock (`cairn backup unlock`)", strings.Join(names, "; "))
}

// ErrLockLost is that a lock is not in the repository any more: it was taken over as stale, or
// removed. Its holder must not sign anything off.
var ErrLockLost = errors.New("the lock is lost: another process took it over or removed it, because it was not refreshed in time; nothing was signed off")

// LapsedError is that a lock could not be renewed until its life was over: from then on another process
// may take it over, so its holder ended. It is an ErrLockLost.
type LapsedError struct {
	Kind  LockKind
	ID    string
	For   time.Duration // since the last renewal
	Cause error         // why it failed last
}

// Error implements error.
func (e *LapsedError) Error() string {
	return fmt.Sprintf("the %s lock %s could not be renewed for %s (%v): another process may take it over now, so nothing more was written; start again when the store answers",
		e.Kind, e.ID, e.For.Round(time.Second), e.Cause)
}

// Unwrap gives the store's last error.
func (e *LapsedError) Unwrap() error { return e.Cause }

// Is makes it an ErrLockLost.
func (e *LapsedError) Is(target error) bool { return target == ErrLockLost }

// Lock is a lock that is held. It refreshes itself until it is released.
//
// It is an object under locks/ that is written anew, under the next number, at each refresh. It
// is held as long as its newest object is there: not clocks decide, but whether somebody who
// considered it stale has deleted it. Staleness is judged by the store's own times of objects,
// so the clocks of the machines may differ.
//
// The other side of it is the holder's: when no renewal succeeds until the lock's life is over, it counts
// as lost without asking, and everything that is done under it ends, before others may consider it stale.
// So two are never at work however long a store is away from one of them.
type Lock struct {
	r    *Repo
	info LockInfo
	stop context.CancelFunc
	done chan struct{}

	mu  sync.Mutex // one refresh at a time; guards seq and info
	seq int

	held   context.Context // ends when the lock is lost, with the reason
	end    context.CancelCauseFunc
	state  sync.Mutex
	since  time.Time // our clock, before the last renewal was sent
	failed error     // why the last attempt since then failed

	users    sync.Mutex
	open     int // writers
	advanced time.Time
}

func lockName(id string, seq int) string { return fmt.Sprintf("%s%s-%08d", kindLock.prefix(), id, seq) }

// lockOfName splits a lock object's name.
func lockOfName(name string) (id string, ok bool) {
	base := strings.TrimPrefix(name, kindLock.prefix())
	id, seq, ok := strings.Cut(base, "-")
	return id, ok && len(id) == 16 && len(seq) == 8
}

// Lock takes a lock of a kind; see LockWith.
func (r *Repo) Lock(ctx context.Context, kind LockKind) (*Lock, error) {
	return r.LockWith(ctx, LockRequest{Kind: kind})
}

// LockWith takes a lock, or fails with a *LockedError that names who holds those in the way. A
// stale lock in the way is taken over: it is deleted first, which its holder, should he come
// back, finds out before he signs anything off.
//
// Two takers cannot both succeed: each writes its lock first and lists all locks then. The one
// that sees another's steps back; of two that see each other, the one with the smaller id waits
// for the other to step back.
func (r *Repo) LockWith(ctx context.Context, req LockRequest) (*Lock, error) {
	deadline := r.now().Add(req.Wait)
	for {
		lk, err := r.tryLock(ctx, req)
		var locked *LockedError
		if !errors.As(err, &locked) || !r.now().Before(deadline) {
			return lk, err
		}
		if err := pause(ctx, r.poll()); err != nil {
			return nil, err
		}
	}
}

// poll is how long to wait between two looks at something that another process has to do.
func (r *Repo) poll() time.Duration {
	if r.opts.poll > 0 {
		return r.opts.poll
	}
	return time.Second
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *Repo) tryLock(ctx context.Context, req LockRequest) (*Lock, error) {
	switch req.Kind {
	case Shared, Sweeping, Exclusive:
	default:
		return nil, fmt.Errorf("unknown kind of lock %q", req.Kind)
	}
	host, _ := os.Hostname() // for people only
	lk := &Lock{r: r, done: make(chan struct{}), since: r.now(), info: LockInfo{
		ID: randomHex(8), Kind: req.Kind, Purpose: req.Purpose, Scope: req.Scope, Owner: r.owner(host), Host: host, PID: os.Getpid(),
		Process: processIdentity(os.Getpid()), TTL: r.opts.LockTTL,
	}}
	lk.held, lk.end = context.WithCancelCause(context.WithoutCancel(ctx))
	if err := lk.put(ctx); err != nil {
		r.abandon(lk.info.ID) // the request may have arrived all the same
		return nil, err
	}
	err := lk.acquire(ctx, req)
	if err == nil && lk.age() > lk.info.TTL/2 { // the store is slow
		err = lk.renew(ctx)
	}
	if err != nil {
		// What was asked for is gone, but our object must not stay, even if ctx has ended.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return nil, errors.Join(err, r.letGo(ctx, lk.info.ID))
	}
	background, stop := context.WithCancel(lk.held)
	lk.stop = stop
	go lk.keep(background)
	go lk.watch(background, time.NewTimer(lk.life()-lk.age()))
	return lk, nil
}

func (r *Repo) owner(host string) string {
	if r.opts.Owner != "" {
		return r.opts.Owner
	}
	// Not os/user: it may call into the C library, which not every build can.
	name := os.Getenv("USER")
	if name == "" {
		name = fmt.Sprint("uid ", os.Getuid())
	}
	return name + "@" + host
}

// settle is how many times the taker with the smaller id looks again, a tenth of a poll apart.
const settle = 10

// acquire returns nil when a listing made after our object was written shows none in the way.
func (lk *Lock) acquire(ctx context.Context, req LockRequest) error {
	for n := 0; ; n++ {
		others, err := lk.r.lockInfos(ctx, lk.info.ID, &lk.info.Created)
		if err != nil {
			return err
		}
		var inWay []LockInfo
		tookOver, yield := false, false
		for _, o := range others {
			if !conflicts(&lk.info, &o) {
				continue
			}
			if o.Stale != "" {
				tookOver = true
				if err := lk.r.RemoveLock(ctx, o.ID); err != nil {
					return err
				}
				continue
			}
			inWay = append(inWay, o)
			yield = yield || o.ID < lk.info.ID || n >= settle
		}
		switch {
		case yield:
			return &LockedError{req, inWay}
		case len(inWay) > 0:
			if err := pause(ctx, lk.r.poll()/10); err != nil {
				return err
			}
		case !tookOver: // else list again: its holder may have refreshed it just then
			return nil
		}
	}
}

func conflicts(a, b *LockInfo) bool {
	return a.Kind == Exclusive || b.Kind == Exclusive || (a.Kind == Sweeping && b.Kind == Sweeping) || (a.Scope != "" && a.Scope == b.Scope)
}

// lockInfos reads all locks but our own, by the store's time at which our newest object was
// written; created gets the time of our first. The newest object of a lock counts.
func (r *Repo) lockInfos(ctx context.Context, ownID string, created *time.Time) ([]LockInfo, error) {
	for range 10 {
		out, err := r.listLocks(ctx, ownID, created)
		if !isNotFound(err) {
			return out, err
		}
		// One was released, or refreshed under its next number, after it was listed.
	}
	return nil, errors.New("the repository's locks change all the time")
}

func (r *Repo) listLocks(ctx context.Context, ownID string, created *time.Time) ([]LockInfo, error) {
	objects, err := r.store.list(ctx, kindLock.prefix())
	if err != nil {
		return nil, err
	}
	newest := map[string]objectInfo{}
	for _, o := range objects {
		if id, ok := lockOfName(o.name); ok && o.name > newest[id].name {
			newest[id] = o
		}
	}
	own, ok := newest[ownID]
	if !ok {
		return nil, ErrLockLost // removed since it was written
	}
	if created.IsZero() {
		*created = own.modTime
	}
	var out []LockInfo
	for id, o := range newest {
		if id == ownID {
			continue
		}
		info, err := r.readLock(ctx, id, o, own.modTime)
		if err != nil {
			return nil, err
		}
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b LockInfo) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// readLock reads one. A damaged one is taken for an exclusive lock until it is stale.
func (r *Repo) readLock(ctx context.Context, id string, o objectInfo, storeNow time.Time) (LockInfo, error) {
	data, err := r.store.get(ctx, o.name)
	if err != nil {
		return LockInfo{}, err
	}
	var info LockInfo
	if err := r.openJSON(kindLock, o.name, data, &info); err != nil {
		var v *VersionError
		if errors.As(err, &v) {
			return LockInfo{}, err
		}
		info = LockInfo{Kind: Exclusive, Owner: "unknown: " + err.Error(), TTL: r.opts.LockTTL}
	}
	info.ID, info.Refreshed, info.Stale = id, o.modTime, ""
	if info.Created.IsZero() {
		info.Created = o.modTime
	}
	switch age := storeNow.Sub(o.modTime); {
	case r.abandoned(id):
		info.Stale = "it was let go, and could not be removed then"
	case age > info.TTL:
		info.Stale = fmt.Sprintf("not refreshed for %s", age.Round(time.Second))
	case processGone(info.PID, info.Process):
		info.Stale = "its process is gone"
	}
	return info, nil
}

// Locks lists the locks in the repository. It writes one of its own to learn the store's time.
func (r *Repo) Locks(ctx context.Context) ([]LockInfo, error) {
	probe := &Lock{r: r, info: LockInfo{ID: randomHex(8), Kind: Shared, Purpose: "listing locks", Owner: r.owner(""), PID: os.Getpid(),
		Process: processIdentity(os.Getpid()), TTL: r.opts.LockTTL}}
	if err := probe.put(ctx); err != nil {
		return nil, err
	}
	out, err := r.lockInfos(ctx, probe.info.ID, &probe.info.Created)
	return out, errors.Join(err, r.store.remove(ctx, lockName(probe.info.ID, 0)))
}

// letGo removes a lock of ours. If the store is away it cannot be removed, and would be in our own
// way when the store is back: it counts as stale from now on.
func (r *Repo) letGo(ctx context.Context, id string) error {
	r.abandon(id)
	return r.RemoveLock(ctx, id)
}

func (r *Repo) abandon(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.letGoLocks == nil {
		r.letGoLocks = map[string]bool{}
	}
	r.letGoLocks[id] = true
}

func (r *Repo) abandoned(id string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.letGoLocks[id]
}

// RemoveLock deletes a lock by its id. Its holder, if there is one, signs nothing off any more.
func (r *Repo) RemoveLock(ctx context.Context, id string) error {
	objects, err := r.store.list(ctx, kindLock.prefix()+id)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if got, ok := lockOfName(o.name); ok && got == id {
			if err := r.store.remove(ctx, o.name); err != nil {
				return err
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.letGoLocks, id)
	return nil
}

func (lk *Lock) put(ctx context.Context) error {
	name := lockName(lk.info.ID, lk.seq)
	data, err := lk.r.sealJSON(kindLock, name, &lk.info)
	if err != nil {
		return err
	}
	return lk.r.store.put(ctx, name, data)
}
