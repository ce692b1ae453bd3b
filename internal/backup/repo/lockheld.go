package repo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Info describes the lock.
func (lk *Lock) Info() LockInfo {
	lk.mu.Lock()
	defer lk.mu.Unlock()
	return lk.info
}

// Lost is closed when the lock is found to be lost, or its life is over.
func (lk *Lock) Lost() <-chan struct{} { return lk.held.Done() }

// lost is why the lock is not held any more, nil while it is.
func (lk *Lock) lost() error { return context.Cause(lk.held) }

// life is how long after its last renewal a holder counts on the lock. It is shorter than the time to
// live, so that what is on its way to the store then arrives before another may take over.
func (lk *Lock) life() time.Duration { return lk.info.TTL - lk.info.TTL/8 }

// age is the time since the last renewal, by the clock that says more: one stands still while a machine
// sleeps, the other one can be set.
func (lk *Lock) age() time.Duration {
	lk.state.Lock()
	defer lk.state.Unlock()
	now := lk.r.now()
	return max(now.Sub(lk.since), now.Round(0).Sub(lk.since.Round(0)).Abs())
}

// renewed notes a renewal that was sent at a time.
func (lk *Lock) renewed(sent time.Time) {
	lk.state.Lock()
	defer lk.state.Unlock()
	lk.since, lk.failed = sent, nil
}

// fails notes an attempt that failed; failure is the last one since the last renewal.
func (lk *Lock) fails(err error) {
	lk.state.Lock()
	defer lk.state.Unlock()
	lk.failed = err
}

func (lk *Lock) failure() error {
	lk.state.Lock()
	defer lk.state.Unlock()
	return lk.failed
}

// within is ctx until the lock is lost.
func (lk *Lock) within(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(lk.held, func() { cancel(lk.lost()) })
	return ctx, func() { stop(); cancel(nil) }
}

// hold returns nil while the holder may count on the lock. Beyond its life, which is over if nobody came
// to renew it, the store is asked. It is called before every write.
func (lk *Lock) hold(ctx context.Context) error {
	if err := lk.lost(); err != nil {
		return err
	}
	if lk.age() < lk.life() {
		return nil
	}
	return lk.Check(ctx)
}

// keep refreshes the lock four times in its time to live.
func (lk *Lock) keep(ctx context.Context) {
	defer close(lk.done)
	t := time.NewTicker(max(lk.info.TTL/4, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		// An error but the loss is met again by the next check, which reports it.
		if err := lk.renew(ctx); errors.Is(err, ErrLockLost) {
			return
		}
	}
}

// watch ends the lock when its life is over, whatever a renewal waits for then: a request may hang for
// longer than it was told to. The timer is set to its first look.
func (lk *Lock) watch(ctx context.Context, t *time.Timer) {
	defer t.Stop()
	slept := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		switch {
		case lk.age() < lk.life():
			slept = false
		case lk.failure() == nil && !slept:
			// Nobody has tried, as the machine slept or its clock was set, or the only attempt still waits.
			slept = true
			go func() { _ = lk.renew(ctx) }() // what it finds the lock says
		default:
			_ = lk.lapse() // who works under it is told by its context
			return
		}
		wait := lk.life() - lk.age()
		if slept {
			wait = lk.info.TTL / 16
		}
		t.Reset(max(wait, time.Millisecond))
	}
}

// renew refreshes the lock. A request that hangs is given up and tried again. When its life is over and
// it cannot be renewed, it is lost.
func (lk *Lock) renew(ctx context.Context) error {
	lk.mu.Lock()
	defer lk.mu.Unlock()
	for {
		over := lk.age() >= lk.life()
		switch {
		case lk.lost() != nil:
			return lk.lost()
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case over && lk.failure() != nil:
			return lk.lapse()
		}
		within, done := lk.within(ctx)
		one, cancel := context.WithTimeoutCause(within, max(lk.info.TTL/4, time.Second), errHangs)
		err := lk.refresh(one)
		hangs := context.Cause(one) == errHangs
		cancel()
		done()
		if err == nil || errors.Is(err, ErrLockLost) || ctx.Err() != nil {
			return err
		}
		lk.fails(err)
		if !hangs && lk.age() < lk.life() {
			return err
		}
	}
}

// refresh writes the lock's next object and only then looks whether the one before is still
// there. Who takes the lock over deletes what he saw and lists again, so either he sees the new
// object and lets go, or we see that the old one is gone, or both. It is called with mu.
func (lk *Lock) refresh(ctx context.Context) error {
	if err := lk.lost(); err != nil {
		return err
	}
	before := lockName(lk.info.ID, lk.seq)
	sent := lk.r.now()
	lk.seq++
	if err := lk.put(ctx); err != nil {
		lk.seq--
		return err
	}
	if _, err := lk.r.store.stat(ctx, before); err != nil {
		if !isNotFound(err) {
			return err
		}
		return errors.Join(lk.lose(), lk.r.store.remove(ctx, lockName(lk.info.ID, lk.seq)))
	}
	lk.renewed(sent)
	return lk.r.store.remove(ctx, before)
}

// lose says that the lock was taken over.
func (lk *Lock) lose() error {
	lk.end(fmt.Errorf("%s lock %s: %w", lk.info.Kind, lk.info.ID, ErrLockLost))
	return lk.lost()
}

// lapse says that the lock's life is over.
func (lk *Lock) lapse() error {
	cause := lk.failure()
	if cause == nil {
		cause = errHangs
	}
	lk.end(&LapsedError{Kind: lk.info.Kind, ID: lk.info.ID, For: lk.age(), Cause: cause})
	return lk.lost()
}

// Check asks the store whether the lock is still there: ErrLockLost if not. After a pause in
// which it may have become stale (a suspended machine, a clock that jumped) it is refreshed first.
func (lk *Lock) Check(ctx context.Context) error {
	if err := lk.lost(); err != nil {
		return err
	}
	if lk.age() > lk.info.TTL/2 {
		return lk.renew(ctx)
	}
	ctx, done := lk.within(ctx)
	defer done()
	for {
		seq := lk.number()
		_, err := lk.r.store.stat(ctx, lockName(lk.info.ID, seq))
		if !isNotFound(err) {
			return err
		}
		if lk.number() == seq { // else it was refreshed meanwhile
			return lk.lose()
		}
	}
}

func (lk *Lock) number() int {
	lk.mu.Lock()
	defer lk.mu.Unlock()
	return lk.seq
}

// Advance says that the holder needs nothing of what it read before now, so that packs which were
// condemned since may be deleted. A process that holds a lock for long calls it between its
// backups; more often than every TTL/30 it does nothing.
func (lk *Lock) Advance(ctx context.Context) error {
	lk.users.Lock()
	defer lk.users.Unlock()
	if lk.open > 0 {
		return errors.New("a writer is open under the lock: it may rely on condemned packs")
	}
	if err := lk.lost(); err != nil {
		return err
	}
	now := lk.r.now()
	if now.Sub(lk.advanced).Abs() < lk.info.TTL/30 {
		return nil
	}
	within, done := lk.within(ctx)
	defer done()
	_, trash, err := lk.r.readTrash(within)
	if err != nil {
		return err
	}
	lk.advanced = now
	seen := slices.Sorted(maps.Keys(trash))
	lk.mu.Lock()
	same := slices.Equal(seen, lk.info.Seen)
	lk.info.Seen = seen
	lk.mu.Unlock()
	if same {
		return nil
	}
	return lk.renew(ctx)
}

// Release removes the lock. It works after ctx has ended, too. A lock that was lost is an error,
// so that nobody takes what was done under it for safe.
func (lk *Lock) Release(ctx context.Context) error {
	lk.stop()
	select {
	case <-lk.done:
	case <-lk.held.Done(): // keep may wait for a request that hangs
	}
	ctx = context.WithoutCancel(ctx)
	if err := lk.lost(); err != nil {
		var lapsed *LapsedError
		if errors.As(err, &lapsed) {
			// Its work has ended. The store may be away still, then it becomes stale by itself.
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_ = lk.r.letGo(ctx, lk.info.ID)
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	lk.mu.Lock() // no renewal is under way, and none comes
	defer lk.mu.Unlock()
	err := lk.r.letGo(ctx, lk.info.ID)
	if err == nil {
		lk.end(errors.New("the lock was released"))
	}
	return err
}

// processIdentity tells a process apart from all others that ever ran on this machine: boot id,
// namespace of process ids, time of its start. "" where the system does not say.
func processIdentity(pid int) string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	start, err := startTime(pid)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + " " + ns + " " + start
}

// startTime is field 22 of /proc/PID/stat; field 2 is a name in parentheses that may hold blanks.
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(stat[max(0, strings.LastIndexByte(string(stat), ')')):]), " ")
	f := strings.Fields(rest)
	if len(f) < 20 {
		return "", fmt.Errorf("process %d: stat has %d fields", pid, len(f))
	}
	return f[19], nil
}

// processGone says that the process certainly does not run any more: it was on this very boot,
// in this namespace, and its number is free or another's.
func processGone(pid int, identity string) bool {
	if identity == "" {
		return false
	}
	mine := processIdentity(os.Getpid())
	theirs := identity[:max(0, strings.LastIndexByte(identity, ' '))]
	if mine == "" || mine[:strings.LastIndexByte(mine, ' ')] != theirs {
		return false
	}
	start, err := startTime(pid)
	if os.IsNotExist(err) {
		return true
	}
	return err == nil && theirs+" "+start != identity
}
