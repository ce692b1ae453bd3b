package faults

import (
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// faulty makes operations of a file system fail. Armed, it fails the matching ones
// behind the first skip, all of them or only one.
type faulty struct {
	match func(errorfs.Op) bool
	err   error
	once  bool

	armed atomic.Bool
	skip  atomic.Int64
	hits  atomic.Int64
}

func (f *faulty) wrap(fs vfs.FS) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !f.armed.Load() || !f.match(op) || f.skip.Add(-1) >= 0 {
			return nil
		}
		if f.hits.Add(1) > 1 && f.once {
			return nil
		}
		return f.err
	}))
}

func (f *faulty) arm(skip int64) {
	f.skip.Store(skip)
	f.armed.Store(true)
}

// isWrite leaves out closing and removing, which a full disk allows.
func isWrite(op errorfs.Op) bool {
	switch op.Kind {
	case errorfs.OpFileClose, errorfs.OpRemove, errorfs.OpRemoveAll, errorfs.OpLock:
		return false
	}
	return op.Kind.ReadOrWrite() == errorfs.OpIsWrite
}

func isSync(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
}

func isRead(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileRead || op.Kind == errorfs.OpFileReadAt
}

// on is every operation of the given kind on a path that contains part.
func on(part string, kind func(errorfs.Op) bool) func(errorfs.Op) bool {
	return func(op errorfs.Op) bool { return strings.Contains(op.Path, part) && kind(op) }
}

func both(a, b func(errorfs.Op) bool) func(errorfs.Op) bool {
	return func(op errorfs.Op) bool { return a(op) && b(op) }
}

func not(f func(errorfs.Op) bool) func(errorfs.Op) bool {
	return func(op errorfs.Op) bool { return !f(op) }
}

// smallDisk takes left bytes more. The write that meets the end is done in part, as
// a real disk does it; removed files give nothing back.
type smallDisk struct {
	vfs.FS
	left atomic.Int64
	full atomic.Bool // a write did not fit
}

func newSmallDisk(fs vfs.FS, bytes int64) *smallDisk {
	d := &smallDisk{FS: fs}
	d.left.Store(bytes)
	return d
}

// Create implements vfs.FS.
func (d *smallDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return d.file(f, err)
}

// OpenReadWrite implements vfs.FS.
func (d *smallDisk) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, opts...)
	return d.file(f, err)
}

// ReuseForWrite implements vfs.FS.
func (d *smallDisk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(from, to, c)
	return d.file(f, err)
}

// Unwrap implements vfs.FS.
func (d *smallDisk) Unwrap() vfs.FS { return d.FS }

func (d *smallDisk) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &smallFile{f, d}, nil
}

type smallFile struct {
	vfs.File
	d *smallDisk
}

// fits returns how much of p the disk takes.
func (f *smallFile) fits(p []byte) ([]byte, error) {
	left := f.d.left.Add(-int64(len(p)))
	if left >= 0 {
		return p, nil
	}
	f.d.full.Store(true)
	return p[:max(0, int64(len(p))+left)], syscall.ENOSPC
}

func (f *smallFile) Write(p []byte) (int, error) {
	p, full := f.fits(p)
	n, err := f.File.Write(p)
	if err == nil {
		err = full
	}
	return n, err
}

func (f *smallFile) WriteAt(p []byte, off int64) (int, error) {
	p, full := f.fits(p)
	n, err := f.File.WriteAt(p, off)
	if err == nil {
		err = full
	}
	return n, err
}
