package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// readOnlyFS is the file system of a store that is opened read-only: whatever
// Pebble or the journal may think of, nothing is changed. Pebble's own lock is
// left alone, since the data directory's covers it.
type readOnlyFS struct{ vfs.FS }

func refuse(op, name string) error {
	return fmt.Errorf("%w: %s %s in a store that was opened read-only", ErrReadOnly, op, name)
}

type noLock struct{}

func (noLock) Close() error { return nil }

func (f readOnlyFS) Lock(string) (io.Closer, error) { return noLock{}, nil }

func (f readOnlyFS) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, refuse("create", name)
}

func (f readOnlyFS) OpenReadWrite(name string, _ vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	return nil, refuse("open", name)
}

func (f readOnlyFS) ReuseForWrite(_, name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, refuse("reuse", name)
}

func (f readOnlyFS) Link(_, name string) error                 { return refuse("link", name) }
func (f readOnlyFS) Rename(_, name string) error               { return refuse("rename", name) }
func (f readOnlyFS) Remove(name string) error                  { return refuse("remove", name) }
func (f readOnlyFS) RemoveAll(name string) error               { return refuse("remove", name) }
func (f readOnlyFS) MkdirAll(name string, _ os.FileMode) error { return refuse("make", name) }

// Unwrap is part of vfs.FS.
func (f readOnlyFS) Unwrap() vfs.FS { return f.FS }

// lockForReading keeps a server from starting while the directory is looked
// at, and notices one that runs. Where nobody can run one, on a read-only disk
// or in a copy without the file, there is nothing to lock.
func lockForReading(fs vfs.FS, dir string) (io.Closer, error) {
	if _, err := fs.Stat(fs.PathJoin(dir, lockFile)); errors.Is(err, os.ErrNotExist) {
		return noLock{}, nil
	}
	l, err := lockDir(fs, dir)
	if errors.Is(err, syscall.EROFS) {
		return noLock{}, nil
	}
	return l, err
}
