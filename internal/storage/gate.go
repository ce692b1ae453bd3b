package storage

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// gateFS is the file system that Pebble writes through. It does two things.
//
// The durability gate: a flushed table becomes part of the engine's state by a
// record in a MANIFEST file, so before each write to one the journal is synced
// up to the newest applied position. Before the write, not before its sync:
// written bytes may reach the disk on their own. The applied position is
// raised before the batch enters a memtable, so it covers whatever a flush can
// contain.
//
// Failing loudly: a failed write of any kind turns the store read-only.
type gateFS struct {
	vfs.FS
	fail    *failure
	applied atomic.Uint64             // Pos; newest that a memtable may hold
	sync    func(Pos) error           // the journal's SyncTo
	armed   atomic.Bool               // off while Open runs: it reports errors itself
	onGate  atomic.Pointer[func(Pos)] // tests look on
}

const (
	manifestPrefix = "MANIFEST-"
	markerPrefix   = "marker."
	currentPrefix  = "marker.manifest."
)

// check ends a write operation: its error, if any, is the store's end.
func (g *gateFS) check(op, name string, err error) error {
	if err != nil && g.armed.Load() {
		g.fail.fail(fmt.Errorf("%s %s: %w", op, g.FS.PathBase(name), err))
	}
	return err
}

// begin starts a write operation. In a store that failed, the writer of a table waits
// here for the close; it holds no lock of Pebble's.
func (g *gateFS) begin() error {
	if !g.armed.Load() {
		return nil
	}
	return g.fail.park()
}

// isVersion reports whether a file says which version of the engine's state counts:
// the MANIFEST and the marker that names it. Whoever writes them holds the lock that
// readers need to give back a snapshot, and an error would leave Pebble's state in
// memory half changed, for it expects the process to end there. So a failed store
// lets these writes pass and does nothing: Pebble goes on serving reads from a state
// that no file names. Nothing else may take that state for durable (Checkpoint), and
// the files of the one that is stay (Remove).
func isVersion(base string) bool {
	return strings.HasPrefix(base, manifestPrefix) || strings.HasPrefix(base, markerPrefix)
}

// pretend reports whether a write to a version file is to do nothing.
func (g *gateFS) pretend() bool { return g.armed.Load() && g.fail.err() != nil }

func (g *gateFS) wrap(f vfs.File, name string) vfs.File {
	base := g.FS.PathBase(name)
	return &gateFile{File: f, fs: g, name: base, manifest: strings.HasPrefix(base, manifestPrefix)}
}

func (g *gateFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if base := g.FS.PathBase(name); isVersion(base) {
		return g.createVersion(name, base, c)
	}
	if err := g.begin(); err != nil {
		return nil, err
	}
	f, err := g.FS.Create(name, c)
	if err != nil {
		return nil, g.check("create", name, err)
	}
	return g.wrap(f, name), nil
}

func (g *gateFS) createVersion(name, base string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !g.pretend() {
		err := error(nil)
		if strings.HasPrefix(base, currentPrefix) {
			// Pebble syncs the directory once, behind both. A crash before that may keep the
			// marker and forget the MANIFEST that it names, and no store opens from that.
			err = g.syncDir(g.FS.PathDir(name))
		}
		var f vfs.File
		if err == nil {
			f, err = g.FS.Create(name, c)
		}
		if g.check("create", name, err) == nil {
			return g.wrap(f, name), nil
		}
		if !g.pretend() {
			return nil, err
		}
	}
	f, err := vfs.NewMem().Create(base, c) // a file that goes nowhere
	if err != nil {
		return nil, err
	}
	return g.wrap(f, name), nil
}

func (g *gateFS) syncDir(dir string) error {
	d, err := g.FS.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (g *gateFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := g.begin(); err != nil {
		return nil, err
	}
	f, err := g.FS.OpenReadWrite(name, c, opts...)
	if err != nil {
		return nil, g.check("open", name, err)
	}
	return g.wrap(f, name), nil
}

func (g *gateFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := g.begin(); err != nil {
		return nil, err
	}
	f, err := g.FS.ReuseForWrite(oldname, newname, c)
	if err != nil {
		return nil, g.check("reuse", newname, err)
	}
	return g.wrap(f, newname), nil
}

func (g *gateFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	w := g.wrap(f, name).(*gateFile)
	w.dir = true
	return w, nil
}

// Remove implements vfs.FS. A store that failed keeps its files: what names the
// newer ones may not have reached the disk.
func (g *gateFS) Remove(name string) error {
	if err := g.fail.err(); err != nil && g.armed.Load() {
		return err
	}
	return g.FS.Remove(name)
}

func (g *gateFS) Rename(oldname, newname string) error {
	if err := g.begin(); err != nil {
		return err
	}
	return g.check("rename", newname, g.FS.Rename(oldname, newname))
}

func (g *gateFS) Link(oldname, newname string) error {
	if err := g.begin(); err != nil {
		return err
	}
	return g.FS.Link(oldname, newname) // where links fail Pebble makes a copy
}

// Unwrap is part of vfs.FS.
func (g *gateFS) Unwrap() vfs.FS { return g.FS }

// gateFile is a file opened for writing, or a directory opened for syncing.
type gateFile struct {
	vfs.File
	fs       *gateFS
	name     string
	manifest bool
	dir      bool
}

func (f *gateFile) Write(p []byte) (int, error) {
	return f.write(p, func() (int, error) { return f.File.Write(p) })
}

func (f *gateFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, func() (int, error) { return f.File.WriteAt(p, off) })
}

func (f *gateFile) write(p []byte, do func() (int, error)) (int, error) {
	if !f.manifest {
		if err := f.fs.begin(); err != nil {
			return 0, err
		}
		n, err := do()
		return n, f.fs.check("write", f.name, err)
	}
	if f.fs.pretend() {
		return len(p), nil
	}
	err := f.fs.passGate()
	n := 0
	if err == nil {
		n, err = do()
		err = f.fs.check("write", f.name, err)
	}
	if err != nil && f.fs.pretend() {
		return len(p), nil
	}
	return n, err
}

// passGate makes durable the journal that the next manifest record relies on.
func (g *gateFS) passGate() error {
	pos := Pos(g.applied.Load())
	if h := g.onGate.Load(); h != nil {
		(*h)(pos)
	}
	if pos == 0 || g.sync == nil {
		return nil
	}
	if err := g.sync(pos); err != nil {
		return g.check("sync the journal before", "MANIFEST", err)
	}
	return nil
}

func (f *gateFile) Preallocate(off, n int64) error {
	return f.synced("preallocate", f.File.Preallocate(off, n))
}

// Sync of a directory or a version file hides its error from Pebble, which would
// panic in a goroutine of its own or be left in disorder. It makes no difference to
// what is safe: the store has failed, takes no further write, and removes nothing.
func (f *gateFile) Sync() error { return f.synced("sync", f.File.Sync()) }

func (f *gateFile) SyncData() error { return f.synced("sync", f.File.SyncData()) }

func (f *gateFile) SyncTo(n int64) (bool, error) {
	full, err := f.File.SyncTo(n)
	return full, f.synced("sync", err)
}

func (f *gateFile) synced(op string, err error) error {
	if err = f.fs.check(op, f.name, err); err != nil && (f.dir || f.manifest) && f.fs.pretend() {
		return nil
	}
	return err
}
