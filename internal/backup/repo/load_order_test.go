package repo

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
)

// TestInOrder: results come in order, and nothing runs any more when it returns, whoever failed.
func TestInOrder(t *testing.T) {
	failed := errors.New("failed")
	for name, c := range map[string]struct {
		getFails, useFails, cancel int // the item at which, -1: none
		want                       error
	}{
		"all":       {-1, -1, -1, nil},
		"get fails": {3, -1, -1, failed},
		"use fails": {-1, 2, -1, failed},
		"cancelled": {-1, -1, 4, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var running atomic.Int64
			items := make([]int, 50)
			for i := range items {
				items[i] = i
			}
			next := 0
			err := inOrder(ctx, 8, items, func(ctx context.Context, i int) (int, error) {
				running.Add(1)
				defer running.Add(-1)
				if i == c.getFails {
					return 0, failed
				}
				if c.want != nil && i > 5 { // the first error ends what would take for ever
					<-ctx.Done()
					return 0, ctx.Err()
				}
				return i * i, nil
			}, func(i, v int) error {
				if i != next || v != i*i {
					t.Errorf("item %d gave %d, want the one of item %d", i, v, next)
				}
				next++
				switch i {
				case c.useFails:
					return failed
				case c.cancel:
					cancel()
				}
				return nil
			})
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if n := running.Load(); n != 0 {
				t.Errorf("%d still running", n)
			}
			if c.want == nil && next != len(items) {
				t.Errorf("%d items of %d", next, len(items))
			}
		})
	}
}
