package query

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestLazyContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("why")
		for _, waited := range []bool{false, true} {
			parent, cancel := context.WithCancelCause(context.Background())
			fresh := func(d time.Duration) *LazyContext {
				c := new(LazyContext)
				at := time.Time{}
				if d > 0 {
					at = time.Now().Add(d)
				}
				c.Init(parent, at)
				if waited {
					<-time.After(1)
					select {
					case <-c.Done():
						t.Error("ended at once")
					default:
					}
				}
				if c.Err() != nil {
					t.Error(c.Err())
				}
				return c
			}
			is := func(c context.Context, err, cause error) {
				t.Helper()
				if c.Err() != err || (waited && context.Cause(c) != cause) {
					t.Errorf("waited %v: %v, cause %v; want %v, cause %v", waited, c.Err(), context.Cause(c), err, cause)
				}
				<-c.Done()
				if c.Err() != err || context.Cause(c) != cause {
					t.Errorf("waited %v, behind Done: %v, cause %v; want %v, cause %v", waited, c.Err(), context.Cause(c), err, cause)
				}
			}
			c := fresh(0)
			c.End(nil)
			is(c, context.Canceled, context.Canceled)
			c = fresh(time.Second)
			if at, ok := c.Deadline(); !ok || time.Until(at) > time.Second {
				t.Error(at, ok)
			}
			child, stop := context.WithCancel(c)
			<-child.Done()
			stop()
			is(c, context.DeadlineExceeded, context.DeadlineExceeded)
			c = fresh(time.Second)
			<-time.After(2 * time.Second)
			is(c, context.DeadlineExceeded, context.DeadlineExceeded)
			c = fresh(time.Hour)
			child, stop = context.WithCancel(c)
			c.End(why)
			<-child.Done()
			stop()
			is(c, context.Canceled, why)
			c = fresh(0)
			cancel(why)
			is(c, context.Canceled, why)
		}
	})
}
