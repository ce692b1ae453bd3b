package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/azureblob" // azblob://
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/gcsblob" // gs://
	"gocloud.dev/blob/memblob"
	_ "gocloud.dev/blob/s3blob" // s3://
	"gocloud.dev/gcerrors"
)

// objectInfo is what a listing says of an object. ModTime is by the store's clock.
type objectInfo struct {
	name    string
	size    int64
	modTime time.Time
}

// backend is a blob store reduced to whole objects, which is all the repository needs. put is
// atomic: the object is there whole and durable, or not at all. An object that is not there is
// an error for which isNotFound holds.
type backend interface {
	put(ctx context.Context, name string, data []byte, ifAbsent bool) error
	get(ctx context.Context, name string) ([]byte, error)
	getRange(ctx context.Context, name string, off, n int64) ([]byte, error)
	stat(ctx context.Context, name string) (objectInfo, error)
	list(ctx context.Context, prefix string, fn func(objectInfo) error) error
	remove(ctx context.Context, name string) error
	close() error
}

// isNotFound says whether the error means that the object does not exist.
func isNotFound(err error) bool {
	return gcerrors.Code(err) == gcerrors.NotFound || errors.Is(err, fs.ErrNotExist)
}

// memBuckets are the stores of mem://NAME, shared within the process as files are shared
// within a machine, so that one part of a program opens what another made.
var memBuckets sync.Map // name → *blob.Bucket

// openBackend opens the store that a URL names. A text without a scheme is a directory. A path
// after the bucket's name is a prefix, as is the query parameter "prefix"; all other query
// parameters are the driver's (endpoint, region, use_path_style, …).
func openBackend(ctx context.Context, rawURL string, create bool) (backend, error) {
	if !strings.Contains(rawURL, "://") {
		return openDirectory(rawURL, create)
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("repository URL: %w", err)
	}
	switch u.Scheme {
	case "file":
		path := u.Path
		if u.Host == "." { // gocloud's form of a relative path
			path = strings.TrimPrefix(path, "/")
		} else if u.Host != "" && u.Host != "localhost" {
			return nil, fmt.Errorf("repository URL %s: a file URL has three slashes (file:///path)", u.Redacted())
		}
		if u.RawQuery != "" {
			return nil, fmt.Errorf("repository URL %s: a file URL takes no parameters", u.Redacted())
		}
		return openDirectory(path, create)
	case "mem":
		b, _ := memBuckets.LoadOrStore(u.Host, memblob.OpenBucket(nil))
		return &bucketBackend{bucket: b.(*blob.Bucket), prefix: cleanPrefix(u.Path), shared: true}, nil
	}
	q := u.Query()
	prefix := cleanPrefix(u.Path + "/" + q.Get("prefix"))
	q.Del("prefix")
	u.RawQuery, u.Path = q.Encode(), ""
	b, err := blob.OpenBucket(ctx, u.String())
	if err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", u.Redacted(), err)
	}
	return &bucketBackend{bucket: b, prefix: prefix}, nil
}

// cleanPrefix makes "a/b/" of "/a//b"; the root is "".
func cleanPrefix(p string) string {
	parts := strings.FieldsFunc(p, func(r rune) bool { return r == '/' })
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, "/") + "/"
}

// bucketBackend is a backend on a gocloud bucket.
type bucketBackend struct {
	bucket *blob.Bucket
	prefix string
	shared bool // others in this process use the bucket too
}

func (b *bucketBackend) put(ctx context.Context, name string, data []byte, ifAbsent bool) error {
	// One request for the whole object: the drivers split at BufferSize.
	size := max(len(data)+1, 5<<20)
	return b.bucket.Upload(ctx, b.prefix+name, bytes.NewReader(data), &blob.WriterOptions{
		ContentType: "application/octet-stream", BufferSize: size, MaxConcurrency: 1, IfNotExist: ifAbsent,
	})
}

func (b *bucketBackend) get(ctx context.Context, name string) ([]byte, error) {
	return b.bucket.ReadAll(ctx, b.prefix+name)
}

func (b *bucketBackend) getRange(ctx context.Context, name string, off, n int64) ([]byte, error) {
	r, err := b.bucket.NewRangeReader(ctx, b.prefix+name, off, n, nil)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// A response that breaks off is the reader's own io.ErrUnexpectedEOF, and is asked for again; an
	// object that is shorter than it should be just ends, and the caller knows how long it should be.
	buf := make([]byte, 0, n)
	for len(buf) < cap(buf) && err == nil {
		var k int
		k, err = r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+k]
	}
	if err == io.EOF {
		err = nil
	}
	return buf, err
}

func (b *bucketBackend) stat(ctx context.Context, name string) (objectInfo, error) {
	a, err := b.bucket.Attributes(ctx, b.prefix+name)
	if err != nil {
		return objectInfo{}, err
	}
	return objectInfo{name: name, size: a.Size, modTime: a.ModTime}, nil
}

func (b *bucketBackend) list(ctx context.Context, prefix string, fn func(objectInfo) error) error {
	it := b.bucket.List(&blob.ListOptions{Prefix: b.prefix + prefix})
	for {
		o, err := it.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(objectInfo{name: strings.TrimPrefix(o.Key, b.prefix), size: o.Size, modTime: o.ModTime}); err != nil {
			return err
		}
	}
}

func (b *bucketBackend) remove(ctx context.Context, name string) error {
	return b.bucket.Delete(ctx, b.prefix+name)
}

func (b *bucketBackend) close() error {
	if b.shared {
		return nil
	}
	return b.bucket.Close()
}

// dirBackend is a directory. gocloud's fileblob writes to a temporary file and renames it, but
// syncs nothing, tests "if absent" before the rename, and passes over directories that it cannot
// read, which here would look as if their objects were gone. What is missing is done here.
type dirBackend struct {
	bucketBackend
	root string

	mu     sync.Mutex
	synced map[string]bool // directories that are known to be durable
}

func openDirectory(dir string, create bool) (backend, error) {
	root, err := filepath.Abs(filepath.FromSlash(dir))
	if err != nil {
		return nil, fmt.Errorf("repository directory %s: %w", dir, err)
	}
	if create {
		if err := os.MkdirAll(root, 0o700); err != nil {
			return nil, fmt.Errorf("repository directory: %w", err)
		}
		if err := syncDir(filepath.Dir(root)); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", root, ErrNoRepository)
	}
	// Temporary files lie beside the final ones: a rename does not cross file systems.
	b, err := fileblob.OpenBucket(root, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite, DirFileMode: 0o700})
	if err != nil {
		return nil, fmt.Errorf("repository directory: %w", err)
	}
	return &dirBackend{bucketBackend: bucketBackend{bucket: b}, root: root, synced: map[string]bool{}}, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing directory %s: %w", dir, err)
	}
	return nil
}

func (d *dirBackend) put(ctx context.Context, name string, data []byte, ifAbsent bool) error {
	dir := filepath.Dir(filepath.Join(d.root, filepath.FromSlash(name)))
	if err := d.makeDir(dir); err != nil {
		return err
	}
	if ifAbsent {
		if err := d.writeNew(ctx, name, data); err != nil {
			return err
		}
		return syncDir(dir)
	}
	if err := d.write(ctx, name, data); err != nil {
		return err
	}
	return syncDir(dir)
}

// writeNew links a whole file to its name, which fails if the name is taken.
func (d *dirBackend) writeNew(ctx context.Context, name string, data []byte) error {
	tmp := name + "." + randomHex(8) + ".tmp"
	if err := d.write(ctx, tmp, data); err != nil {
		return err
	}
	from, to := filepath.Join(d.root, filepath.FromSlash(tmp)), filepath.Join(d.root, filepath.FromSlash(name))
	err := os.Link(from, to)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// A file system without hard links: two takers at the same moment are not told apart.
		if _, serr := os.Stat(to); serr == nil {
			err = &fs.PathError{Op: "create", Path: to, Err: fs.ErrExist}
		} else {
			return os.Rename(from, to)
		}
	}
	return errors.Join(err, os.Remove(from))
}

// write syncs the temporary file before fileblob renames it on Close.
func (d *dirBackend) write(ctx context.Context, name string, data []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var file *os.File
	w, err := d.bucket.NewWriter(ctx, name, &blob.WriterOptions{
		ContentType: "application/octet-stream",
		BeforeWrite: func(as func(any) bool) error { as(&file); return nil },
	})
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	if err == nil && file == nil {
		err = errors.New("the file driver does not show its file, so it cannot be synced")
	}
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		cancel() // Close then removes the temporary file
		return errors.Join(err, dropCanceled(w.Close()))
	}
	return w.Close()
}

func dropCanceled(err error) error {
	if errors.Is(err, context.Canceled) || gcerrors.Code(err) == gcerrors.Canceled {
		return nil
	}
	return err
}

// makeDir makes a directory durable, with those above it.
func (d *dirBackend) makeDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.synced[dir] {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for p := dir; p != d.root; p = filepath.Dir(p) {
		if err := syncDir(filepath.Dir(p)); err != nil {
			return err
		}
	}
	d.synced[dir] = true
	return nil
}

func (d *dirBackend) list(ctx context.Context, prefix string, fn func(objectInfo) error) error {
	start := filepath.Join(d.root, filepath.FromSlash(prefix))
	if !strings.HasSuffix(prefix, "/") && prefix != "" {
		start = filepath.Dir(start)
	}
	err := filepath.WalkDir(start, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rel, err := filepath.Rel(d.root, path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if e.IsDir() || !strings.HasPrefix(name, prefix) {
			return nil
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		return fn(objectInfo{name: name, size: info.Size(), modTime: info.ModTime()})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing with this prefix yet
	}
	return err
}
