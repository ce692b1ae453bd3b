package tool

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// ErrTerminated is the cause of a context that a signal cancelled.
var ErrTerminated = errors.New("received termination signal")

// WithSignals returns a context that the first SIGINT, SIGTERM or SIGHUP cancels, with
// ErrTerminated as its cause; the second calls kill, which ends the process. A broken
// pipe becomes an error of the write instead of a signal. stop takes the handlers away.
func WithSignals(parent context.Context, log *Log, kill func()) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signal.Ignore(syscall.SIGPIPE)
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case s := <-ch:
			log.Always("signal '%s' received; attempting to shut down", s)
			cancel(ErrTerminated)
		case <-done:
			return
		}
		select {
		case s := <-ch:
			log.Always("signal '%s' received; forcefully terminating", s)
			kill()
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		close(done)
		<-ended
		cancel(nil)
	}
}
