package command

import (
	"context"
	"sync"
)

// FsyncLock blocks writers while fsync {lock: true} holds. Locks are counted.
type FsyncLock struct {
	mu    sync.Mutex
	count int64
	free  chan struct{} // closed when count returns to 0
}

// Lock adds one and returns the count.
func (f *FsyncLock) Lock() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == 0 {
		f.free = make(chan struct{})
	}
	f.count++
	return f.count
}

// Unlock takes one away; ok is false if none was held.
func (f *FsyncLock) Unlock() (left int64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == 0 {
		return 0, false
	}
	f.count--
	if f.count == 0 {
		close(f.free)
	}
	return f.count, true
}

// Locked returns how many locks are held.
func (f *FsyncLock) Locked() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// Wait returns when no lock is held, or with ctx's error.
func (f *FsyncLock) Wait(ctx context.Context) error {
	for {
		f.mu.Lock()
		held, free := f.count > 0, f.free
		f.mu.Unlock()
		if !held {
			return nil
		}
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
