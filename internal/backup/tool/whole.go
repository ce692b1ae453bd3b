package tool

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// PartialSuffix ends the name of a file that is being written. Nothing reads such a file
// as data; one that is left over by a crash may be removed.
const PartialSuffix = ".partial"

// WholeFile is a file that appears under its name only when it is whole. It is not safe
// for concurrent use.
type WholeFile struct {
	f     *os.File
	path  string // the name it gets
	temp  string // the name it has; "" if it is written in place (a device, a pipe)
	mode  os.FileMode
	chmod bool
	done  bool // it has its name, or is gone
	shut  bool // Seal was called
}

// CreateWhole creates a file under a temporary name next to path. A path that exists and
// is no regular file (/dev/null, a named pipe) is opened and written in place.
func CreateWhole(path string) (*WholeFile, error) {
	w := &WholeFile{path: path}
	switch fi, err := os.Stat(path); {
	case err == nil && fi.IsDir():
		return nil, &os.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
	case err == nil && !fi.Mode().IsRegular():
		w.f, err = os.OpenFile(path, os.O_WRONLY, 0)
		return w, err
	case err == nil:
		// The file keeps its permissions, and a link keeps pointing to it.
		w.mode, w.chmod = fi.Mode().Perm(), true
		if w.path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, err
		}
	case !errors.Is(err, os.ErrNotExist):
		if pe := (*os.PathError)(nil); errors.As(err, &pe) {
			pe.Op = "open" // what the caller wants done
		}
		return nil, err
	}
	var id [6]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	// The temporary name does not grow with the file's, which may have 255 bytes.
	w.temp = filepath.Join(filepath.Dir(w.path), ".cairn-"+hex.EncodeToString(id[:])+PartialSuffix)
	var err error
	w.f, err = os.OpenFile(w.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		// The name in the message is the one the caller knows.
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = &os.PathError{Op: pe.Op, Path: path, Err: pe.Err}
		}
		return nil, err
	}
	return w, nil
}

// Path is the name the file gets.
func (w *WholeFile) Path() string { return w.path }

// Write implements io.Writer.
func (w *WholeFile) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	if err != nil {
		err = w.named("write", err)
	}
	return n, err
}

// ReadFrom lets io.Copy use the file's own.
func (w *WholeFile) ReadFrom(r io.Reader) (int64, error) { return w.f.ReadFrom(r) }

func (w *WholeFile) named(op string, err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return &os.PathError{Op: op, Path: w.path, Err: pe.Err}
	}
	return err
}

// Seal flushes the file to the disk and closes it; it keeps its temporary name until
// Publish. A file that cannot be flushed is removed.
func (w *WholeFile) Seal() error {
	if w.done || w.shut {
		return nil
	}
	w.shut = true
	if w.temp == "" {
		w.done = true
		return w.f.Close()
	}
	err := w.f.Sync()
	if err == nil && w.chmod {
		err = w.f.Chmod(w.mode)
	}
	if cerr := w.f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		w.done = true
		return errors.Join(w.named("sync", err), os.Remove(w.temp))
	}
	return nil
}

// Temp is the temporary name, "" of a file that is written in place.
func (w *WholeFile) Temp() string { return w.temp }

// Sealed returns the file that an earlier process sealed under a temporary name.
func Sealed(temp, path string) *WholeFile { return &WholeFile{path: path, temp: temp, shut: true} }

// Commit seals the file, gives it its name, and flushes the directory. After an error the
// file is not there under its name.
func (w *WholeFile) Commit() error { return Publish(w) }

// Publish seals files and gives them their names, in order, and flushes their directories.
func Publish(files ...*WholeFile) error {
	for _, w := range files {
		if err := w.Seal(); err != nil {
			return err
		}
	}
	var dirs []string
	for _, w := range files {
		if w.done {
			continue
		}
		w.done = true
		if err := os.Rename(w.temp, w.path); err != nil {
			return errors.Join(err, os.Remove(w.temp))
		}
		if dir := filepath.Dir(w.path); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if err := SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// Abort removes the file. It does nothing after it has its name, so it can be deferred.
func (w *WholeFile) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	var err error
	if !w.shut {
		err = w.f.Close()
	}
	if w.temp == "" {
		return err
	}
	if err := os.Remove(w.temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the unfinished %s: %w", w.path, err)
	}
	return nil
}

// SyncDir flushes a directory's entries to the disk. File systems that cannot are let be.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, d.Close())
}
