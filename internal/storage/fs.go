package storage

import "github.com/cockroachdb/pebble/v2/vfs"

// FS is the file system that a store lives on: the disk, memory, or one that a test
// crashes.
type FS = vfs.FS

// DiskFS returns the operating system's file system.
func DiskFS() FS { return vfs.Default }

// NewMemFS returns an empty file system in memory.
func NewMemFS() FS { return vfs.NewMem() }
