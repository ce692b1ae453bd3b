package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// failure is the one-way door to read-only. Pebble calls Fatalf where it
// cannot go on; here that, and every failed write of a background job, makes
// the store read-only and parks Pebble's writers of tables until Close, because
// they would otherwise try again at once and for ever.
type failure struct {
	log       *slog.Logger
	cause     atomic.Pointer[error]
	failed    chan struct{} // closed when cause is set
	closing   chan struct{} // closed when the engine closes: parked writers go on with an error
	once      sync.Once
	closeFlag sync.Once
}

func newFailure(log *slog.Logger) *failure {
	return &failure{log: log, failed: make(chan struct{}), closing: make(chan struct{})}
}

// fail sets the cause if it is the first.
func (f *failure) fail(cause error) {
	f.once.Do(func() {
		err := fmt.Errorf("%w: %w", ErrReadOnly, cause)
		f.cause.Store(&err)
		close(f.failed)
		f.log.Error("the store is now read-only", "cause", cause.Error())
	})
}

// err is nil while the store takes writes.
func (f *failure) err() error {
	if p := f.cause.Load(); p != nil {
		return *p
	}
	return nil
}

// park returns nil while the store takes writes. Afterwards it holds the
// caller, one of Pebble's background writers, until the engine closes.
func (f *failure) park() error {
	err := f.err()
	if err != nil {
		<-f.closing
	}
	return err
}

// pebbleLogger carries Pebble's log to ours. Fatalf returns: Pebble's callers
// of it return an error behind it or hold an invariant of its own code.
type pebbleLogger struct {
	log  *slog.Logger
	fail func(error)
}

func (l pebbleLogger) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug(fmt.Sprintf(format, args...))
	}
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error(fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	for _, a := range args {
		if e, ok := a.(error); ok {
			err = fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), e)
			break
		}
	}
	l.fail(err)
}

// eventListener hears of Pebble's background jobs. A flush or compaction that
// failed, for whatever reason, would be tried again at once and for ever, so it
// is the store's end; other errors (statistics that could not be read) are not.
// The calls come with Pebble's mutex held: nothing here may call into it.
func (e *Engine) eventListener() *pebble.EventListener {
	var last atomic.Pointer[string]
	l := &pebble.EventListener{
		BackgroundError: func(err error) {
			msg := err.Error()
			if was := last.Swap(&msg); was == nil || *was != msg {
				e.log.Error("background job of the engine", "err", msg)
			}
		},
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			e.log.Error("corrupt data in the engine", "path", i.Path, "details", fmt.Sprint(i.Details))
		},
		FlushEnd: func(i pebble.FlushInfo) {
			if i.Err != nil && i.Err.Error() != emptyFlush {
				e.fail.fail(fmt.Errorf("flush: %w", convErr(i.Err)))
			}
			e.progress.ring()
		},
		CompactionEnd: func(i pebble.CompactionInfo) {
			if i.Err != nil && !errors.Is(i.Err, pebble.ErrCancelledCompaction) {
				e.fail.fail(fmt.Errorf("compaction: %w", convErr(i.Err)))
			}
			e.progress.ring()
		},
	}
	l.EnsureDefaults(nil)
	return l
}

// emptyFlush is how Pebble reports a flush that had nothing to write.
const emptyFlush = "pebble: empty table"

// bell wakes everyone who listens.
type bell struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *bell) listen() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// closeOnce lets parked writers go.
func (f *failure) closeOnce() { f.closeFlag.Do(func() { close(f.closing) }) }
