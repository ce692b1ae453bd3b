package catalog

import (
	"context"
	"sync"
)

// intentLock keeps writers of a collection and DDL on it apart: any number of
// writers or one DDL. A waiting DDL keeps new writers out. Waits end with their context.
// It is not reentrant: a writer that asks twice while a DDL waits would wait for itself.
type intentLock struct {
	mu      sync.Mutex
	writers int
	ddl     bool          // held, or waited for
	drained chan struct{} // closed when the last writer leaves while a DDL waits
	free    chan struct{} // closed when the DDL leaves
}

func (l *intentLock) lockShared(ctx context.Context) error {
	for {
		l.mu.Lock()
		if !l.ddl {
			l.writers++
			l.mu.Unlock()
			return nil
		}
		free := l.free
		l.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tryShared is lockShared that returns false instead of waiting.
func (l *intentLock) tryShared() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ddl {
		return false
	}
	l.writers++
	return true
}

func (l *intentLock) unlockShared() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writers--; l.writers == 0 && l.drained != nil {
		close(l.drained)
		l.drained = nil
	}
}

func (l *intentLock) lockExclusive(ctx context.Context) error {
	for {
		l.mu.Lock()
		if !l.ddl {
			break
		}
		free := l.free
		l.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	l.ddl, l.free = true, make(chan struct{})
	if l.writers == 0 {
		l.mu.Unlock()
		return nil
	}
	drained := make(chan struct{})
	l.drained = drained
	l.mu.Unlock()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	l.drained = nil
	l.releaseLocked()
	l.mu.Unlock()
	return context.Cause(ctx)
}

func (l *intentLock) unlockExclusive() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releaseLocked()
}

func (l *intentLock) releaseLocked() {
	l.ddl = false
	close(l.free)
}
