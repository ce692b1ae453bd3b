//go:build !unix

package storage

import "time"

func processTime() (time.Duration, bool) { return 0, false }
