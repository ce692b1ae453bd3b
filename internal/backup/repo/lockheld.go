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

// Lost is closed when the lock is found to be lost.
func (lk *Lock) Lost() <-chan struct{} { return lk.lostC }

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
		lk.mu.Lock()
		// An error but the loss is met again by the next check, which reports it. A request that hangs
		// is given up in time for the next.
		one, cancel := context.WithTimeout(ctx, max(lk.info.TTL/4, time.Second))
		err := lk.refresh(one)
		cancel()
		lk.mu.Unlock()
		if errors.Is(err, ErrLockLost) {
			return
		}
	}
}

// refresh writes the lock's next object and only then looks whether the one before is still
// there. Who takes the lock over deletes what he saw and lists again, so either he sees the new
// object and lets go, or we see that the old one is gone, or both.
func (lk *Lock) refresh(ctx context.Context) error {
	if lk.lost != nil {
		return lk.lost
	}
	before := lockName(lk.info.ID, lk.seq)
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
	lk.renewed = lk.r.now()
	return lk.r.store.remove(ctx, before)
}

func (lk *Lock) lose() error {
	if lk.lost == nil {
		lk.lost = fmt.Errorf("%s lock %s: %w", lk.info.Kind, lk.info.ID, ErrLockLost)
		close(lk.lostC)
	}
	return lk.lost
}

// Check asks the store whether the lock is still there: ErrLockLost if not. After a pause in
// which it may have become stale (a suspended machine, a clock that jumped) it is refreshed first.
func (lk *Lock) Check(ctx context.Context) error {
	lk.mu.Lock()
	defer lk.mu.Unlock()
	if lk.lost != nil {
		return lk.lost
	}
	// Round drops the monotonic reading, which stands still while a machine sleeps.
	now := lk.r.now()
	if e := max(now.Sub(lk.renewed), now.Round(0).Sub(lk.renewed.Round(0)).Abs()); e > lk.info.TTL/2 {
		return lk.refresh(ctx)
	}
	_, err := lk.r.store.stat(ctx, lockName(lk.info.ID, lk.seq))
	if isNotFound(err) {
		return lk.lose()
	}
	return err
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
	lk.mu.Lock()
	defer lk.mu.Unlock()
	if lk.lost != nil {
		return lk.lost
	}
	if now := lk.r.now(); now.Sub(lk.advanced).Abs() >= lk.info.TTL/30 {
		_, trash, err := lk.r.readTrash(ctx)
		if err != nil {
			return err
		}
		lk.advanced = now
		seen := slices.Sorted(maps.Keys(trash))
		if slices.Equal(seen, lk.info.Seen) {
			return nil
		}
		lk.info.Seen = seen
		return lk.refresh(ctx)
	}
	return nil
}

// Release removes the lock. It works after ctx has ended, too. A lock that was lost is an error,
// so that nobody takes what was done under it for safe.
func (lk *Lock) Release(ctx context.Context) error {
	lk.stop()
	<-lk.done
	lk.mu.Lock()
	defer lk.mu.Unlock()
	if lk.lost != nil {
		return lk.lost
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	err := lk.r.letGo(ctx, lk.info.ID)
	if err == nil && lk.lost == nil {
		lk.lost = errors.New("the lock was released")
		close(lk.lostC)
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
