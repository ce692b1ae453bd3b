package storage

import "golang.org/x/sys/unix"

// wantLargePages asks for large pages where b has room for them. A system without them says no,
// which costs nothing but time.
func wantLargePages(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
