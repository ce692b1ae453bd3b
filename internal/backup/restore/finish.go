package restore

import (
	"context"
	"fmt"
)

// beforeOplog does what must be there before the oplog is replayed, once.
func (r *Restore) beforeOplog(ctx context.Context) error {
	if r.usersDone {
		return nil
	}
	if !r.o.Original {
		if err := r.restoreViews(ctx); err != nil {
			return err
		}
	}
	if err := r.restoreUsers(ctx); err != nil {
		return fmt.Errorf("restore error: %w", err)
	}
	r.usersDone = true
	return nil
}

// finishUp restores what comes after the collections: views, users and roles, the oplog,
// and last the indexes, which the oplog may have changed.
func (r *Restore) finishUp(ctx context.Context) error {
	if err := r.beforeOplog(ctx); err != nil {
		return err
	}
	if r.o.Input.OplogReplay && !r.oplogDone {
		if err := r.replayOplog(ctx); err != nil {
			return fmt.Errorf("restore error: %w", err)
		}
	}
	return r.buildIndexes(ctx)
}
