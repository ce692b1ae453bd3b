package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cairndb/cairn/internal/backup/pitr"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/repo"
)

// Scripts go by these codes.
func TestBackupExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("anything"), exitFailure},
		{&pitr.GapError{}, exitGap},
		{&repo.CorruptError{}, exitDamage},
		{&chain.NotRestorableError{}, exitRefused},
		{&pitr.SourceError{}, exitRefused},
		{&repo.LockedError{}, exitRepoLocked},
		{&repo.LapsedError{Cause: errors.New("no route to host")}, exitRepoLocked},
		{repo.ErrLockLost, exitRepoLocked},
	} {
		if got := backupExit(fmt.Errorf("signing off: %w", errors.Join(c.err, errors.New("and more")))); got != c.want {
			t.Errorf("%T: %d, want %d", c.err, got, c.want)
		}
	}
}
