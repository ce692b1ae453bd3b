//go:build unix

package storage

import (
	"time"

	"golang.org/x/sys/unix"
)

// processTime is the processor time, user and system, that the process has used.
func processTime() (time.Duration, bool) {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return 0, false
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), true
}
