package query

import (
	"context"
	"sync"
	"time"
)

// LazyContext is a context that costs nothing until somebody waits on it: most
// operations end before they had to. It ends with its parent, at its deadline if it
// has one, or by End. Init comes first.
type LazyContext struct {
	parent   context.Context
	deadline time.Time

	mu     sync.Mutex
	ended  error           // what End left before anybody waited
	made   context.Context // once somebody waits
	cancel context.CancelCauseFunc
	stop   context.CancelFunc
}

// Init sets the parent and the deadline; the zero time means none.
func (c *LazyContext) Init(parent context.Context, deadline time.Time) {
	c.parent, c.deadline = parent, deadline
}

// Deadline implements context.Context.
func (c *LazyContext) Deadline() (time.Time, bool) {
	at, ok := c.parent.Deadline()
	if c.deadline.IsZero() || (ok && at.Before(c.deadline)) {
		return at, ok
	}
	return c.deadline, true
}

// Done implements context.Context.
func (c *LazyContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.make().Done()
}

// make returns the context that can be waited on. c.mu is held.
func (c *LazyContext) make() context.Context {
	if c.made != nil {
		return c.made
	}
	c.made, c.cancel = context.WithCancelCause(c.parent)
	if !c.deadline.IsZero() {
		c.made, c.stop = context.WithDeadline(c.made, c.deadline)
	}
	if c.ended != nil {
		c.release(c.ended)
	}
	return c.made
}

func (c *LazyContext) release(cause error) {
	c.cancel(cause)
	if c.stop != nil {
		c.stop()
	}
}

// Err implements context.Context.
func (c *LazyContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made != nil {
		return c.made.Err()
	}
	if c.ended != nil {
		return context.Canceled
	}
	if err := c.parent.Err(); err != nil {
		return err
	}
	if !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// Value implements context.Context. Through it package context finds the cause, and
// hangs children onto what can be waited on.
func (c *LazyContext) Value(key any) any {
	c.mu.Lock()
	made := c.made
	c.mu.Unlock()
	if made != nil {
		return made.Value(key)
	}
	return c.parent.Value(key)
}

// End ends the context; cause, which must not be nil if anybody may still ask, is what
// context.Cause tells.
func (c *LazyContext) End(cause error) {
	if cause == nil {
		cause = context.Canceled
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made == nil && cause != context.Canceled {
		c.make()
	}
	if c.made != nil {
		c.release(cause)
	} else if c.ended == nil {
		c.ended = cause
	}
}

// WithLazyDeadline is context.WithDeadline for waits that are rarely needed.
func WithLazyDeadline(parent context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	c := new(LazyContext)
	c.Init(parent, deadline)
	return c, c.endQuietly
}

func (c *LazyContext) endQuietly() { c.End(nil) }
