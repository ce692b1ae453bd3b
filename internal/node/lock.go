package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairndb/cairn/internal/storage"
)

// IsLocked reports whether err says that another process has the store open.
func IsLocked(err error) bool { return errors.Is(err, storage.ErrLocked) }

// errParameter marks a --setParameter that cannot be.
var errParameter = errors.New("invalid --setParameter")

// IsBadParameter reports whether err says that a --setParameter is unknown or has a bad value.
func IsBadParameter(err error) bool { return errors.Is(err, errParameter) }

// IsCorrupt reports whether err says that the store is damaged or of a newer version.
func IsCorrupt(err error) bool {
	return errors.Is(err, storage.ErrCorruption) || errors.Is(err, storage.ErrVersion)
}

// lockName is the file that an open engine holds a lock on.
const lockName = "cairn.lock"

// RunningPID returns the process that has the store in dir open.
func RunningPID(dir string) (int, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l); err != nil {
		return 0, err
	}
	if l.Type == unix.F_UNLCK {
		return 0, errors.New("nobody has the store open")
	}
	return int(l.Pid), nil
}

// WaitUnlocked returns once nobody has the store in dir open.
func WaitUnlocked(dir string, atMost time.Duration) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(atMost)
	defer late.Stop()
	for {
		pid, err := RunningPID(dir)
		if err != nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-late.C:
			return fmt.Errorf("process %d still has %s open after %v", pid, dir, atMost)
		}
	}
}
