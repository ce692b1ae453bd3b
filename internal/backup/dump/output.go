package dump

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/cairndb/cairn/internal/backup/archive"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// sink takes the documents of one namespace, several whole ones at a time.
type sink interface {
	io.Writer
	// finish makes what was written durable. It is called once, and then no abort.
	finish() error
	// abort takes back what can be taken back.
	abort()
}

// stored is what the manifest says of one file.
type stored struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
	temp   string
}

// counter counts and digests what goes through it.
type counter struct {
	w    io.Writer
	n    int64
	hash hash.Hash // nil: not wanted
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	if c.hash != nil {
		c.hash.Write(p[:n])
	}
	return n, err
}

func (c *counter) sum() string {
	if c.hash == nil {
		return ""
	}
	return hex.EncodeToString(c.hash.Sum(nil))
}

func (d *Dump) newCounter(w io.Writer) *counter {
	c := &counter{w: w}
	if d.opts.Beyond.Manifest {
		c.hash = sha256.New()
	}
	return c
}

// files are the files of a dump that are whole and have no name yet.
type files struct {
	mu   sync.Mutex
	list []*tool.WholeFile
	info []stored
}

func (f *files) add(w *tool.WholeFile, s stored) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.temp = w.Temp()
	f.list = append(f.list, w)
	f.info = append(f.info, s)
}

// forget takes out and removes the files with these paths.
func (f *files) forget(paths ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range paths {
		for n, s := range f.info {
			if s.Path == p {
				_ = f.list[n].Abort()
				f.list = append(f.list[:n:n], f.list[n+1:]...)
				f.info = append(f.info[:n:n], f.info[n+1:]...)
				break
			}
		}
	}
}

// dirFile is a sink into a file of the directory form.
type dirFile struct {
	d    *Dump
	file *tool.WholeFile
	bulk *tool.BulkWriter
	out  *counter
	z    *stream // nil: not compressed
	path string
}

// create opens a file of the directory form; its directory is made first. what names its
// kind in errors.
func (d *Dump) create(path, what string, compressed bool) (*dirFile, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("%w for %s file %v: %v", errDirectory, what, dir, err)
	}
	f, err := tool.CreateWhole(path)
	if err != nil {
		return nil, fmt.Errorf("error creating %s file %#q: %v", what, path, err)
	}
	bulk := f.Bulk()
	w := &dirFile{d: d, file: f, path: path, bulk: bulk, out: d.newCounter(bulk)}
	if compressed {
		w.z = d.comp.stream(w.out)
	}
	return w, nil
}

func (w *dirFile) Write(p []byte) (int, error) {
	if w.z != nil {
		return w.z.Write(p)
	}
	return w.out.Write(p)
}

func (w *dirFile) finish() error {
	if w.z != nil {
		if err := w.z.Close(); err != nil {
			_ = w.file.Abort()
			return err
		}
	}
	if err := w.bulk.Flush(); err != nil {
		_ = w.file.Abort()
		return err
	}
	if err := w.file.Seal(); err != nil {
		return err
	}
	w.d.files.add(w.file, stored{Path: w.path, Size: w.out.n, SHA256: w.out.sum()})
	return nil
}

func (w *dirFile) abort() {
	if w.z != nil {
		w.z.abort()
	}
	_ = w.file.Abort() // it has no name: what is left of it is garbage at most
}

// archiveSink is a namespace of an archive.
type archiveSink struct{ *archive.NamespaceWriter }

func (a archiveSink) finish() error { return a.Close() }
func (a archiveSink) abort()        {}

// plainSink is standard output.
type plainSink struct{ io.Writer }

func (plainSink) finish() error { return nil }
func (plainSink) abort()        {}

// sink opens where an intent's data go.
func (d *Dump) sink(i *intent) (sink, error) {
	switch {
	case d.opts.Output.Out == "-":
		return plainSink{d.stdout}, nil
	case d.archive != nil:
		return archiveSink{d.archive.Namespace(i.db, i.dataColl())}, nil
	}
	return d.create(i.location, "BSON", d.method != methodNone)
}

// archiveOut is the file an archive goes to.
type archiveOut struct {
	file *tool.WholeFile // nil: standard output
	bulk *tool.BulkWriter
	out  *counter
	z    *stream
	path string
}

func (a *archiveOut) Write(p []byte) (int, error) {
	if a.z != nil {
		return a.z.Write(p)
	}
	return a.out.Write(p)
}

func (d *Dump) openArchive() (*archiveOut, error) {
	a := &archiveOut{path: d.opts.Output.Archive}
	if a.path == "-" {
		a.out = d.newCounter(d.stdout)
	} else {
		if fi, err := os.Stat(a.path); err == nil && fi.IsDir() {
			a.path = filepath.Join(a.path, "archive"+d.method.suffix())
		}
		var err error
		if a.file, err = tool.CreateWhole(a.path); err != nil {
			return nil, err
		}
		a.bulk = a.file.Bulk()
		a.out = d.newCounter(a.bulk)
	}
	if d.method != methodNone {
		a.z = d.comp.stream(a.out)
	}
	return a, nil
}

func (a *archiveOut) finish() error {
	if a.z != nil {
		if err := a.z.Close(); err != nil {
			return err
		}
	}
	if a.file == nil {
		return nil
	}
	if err := a.bulk.Flush(); err != nil {
		return err
	}
	return a.file.Commit()
}

func (a *archiveOut) abort() {
	if a.z != nil {
		a.z.abort()
	}
	if a.file != nil {
		_ = a.file.Abort()
	}
}

// errDirectory is that the directory of a file could not be made.
var errDirectory = errors.New("error creating directory")
