package pitr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/repo"
)

// PruneOptions are the options of Prune.
type PruneOptions struct {
	Policy chain.Policy
	DryRun bool
	// Zone is where hours, days, weeks and months begin.
	Zone *time.Location
	// Wait is how long to wait for running backups before their packs are left for the next time.
	Wait time.Duration
}

// Pruned is what a Prune did, or with DryRun would do.
type Pruned struct {
	Decisions []chain.Decision
	Deleted   int
	Sweep     repo.SweepStats
	// Windows are the recoverable ones afterwards.
	Windows []chain.Window
}

// Prune deletes what a policy does not keep, and the data that nothing refers to any more. It is
// safe beside a running backup, and never takes away what a kept moment needs.
func (e *Env) Prune(ctx context.Context, o PruneOptions) (out Pruned, err error) {
	lk, unlock, err := e.lock(ctx, repo.LockRequest{Kind: repo.Sweeping, Purpose: "prune", Wait: o.Wait})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	st, err := e.State(ctx)
	if err != nil {
		return out, err
	}
	if st.Damaged != nil {
		return out, fmt.Errorf("nothing is deleted while manifests are damaged, as it is not known what they need: %w", st.Damaged)
	}
	zone := o.Zone
	if zone == nil {
		zone = time.UTC
	}
	if out.Decisions, err = st.Coverage.Retain(o.Policy, zone); err != nil {
		return out, err
	}
	var kept []chain.Backup
	var gone []string
	// The newest first: a slice goes before what it continues.
	for i := len(out.Decisions) - 1; i >= 0; i-- {
		if d := out.Decisions[i]; d.Keep {
			kept = append(kept, d.Backup)
		} else {
			gone = append(gone, d.Backup.ID)
		}
	}
	after := chain.New(kept, st.Coverage.Gaps)
	if err := stillRestorable(out.Decisions, after); err != nil {
		return out, err
	}
	out.Deleted, out.Windows = len(gone), after.Windows
	if !o.DryRun {
		if err := e.Repo.Delete(ctx, lk, gone...); err != nil {
			return out, err
		}
		if err := e.forgetGaps(ctx, after); err != nil {
			return out, err
		}
	}
	out.Sweep, err = e.Repo.Sweep(ctx, lk, repo.SweepOptions{DryRun: o.DryRun, Without: gone, Wait: o.Wait})
	return out, err
}

// stillRestorable checks, before anything is deleted, that each kept full backup is.
func stillRestorable(ds []chain.Decision, after *chain.Coverage) error {
	for _, d := range ds {
		if d.Keep && d.Backup.Kind == chain.Full && !after.Covers(d.Backup.End.TS) {
			return fmt.Errorf("backup %s is to be kept but could not be restored any more: nothing was deleted", d.Backup.ID)
		}
	}
	return nil
}

// forgetGaps removes the records of gaps that lie before everything that is kept.
func (e *Env) forgetGaps(ctx context.Context, after *chain.Coverage) error {
	if len(after.Windows) == 0 {
		return nil
	}
	for _, g := range after.Gaps {
		if g.To.TS < after.Windows[0].From.TS {
			if err := e.Repo.DeleteRecord(ctx, recordGap, g.ID); err != nil {
				return err
			}
		}
	}
	return nil
}
