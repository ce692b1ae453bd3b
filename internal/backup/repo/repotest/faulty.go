package repotest

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"
)

// Faulty is a store in memory, behind a driver of the library that the repository uses, that goes
// wrong when it is told to. Its URL may be opened any number of times, by different "processes".
type Faulty struct {
	bucket *blob.Bucket
	name   string

	mu   sync.Mutex
	rule func(op, name string) Fault
	ops  atomic.Int64
}

// Fault is what happens to one call.
type Fault struct {
	// Err is what the call fails with; nil: it does not.
	Err error
	// Late lets the call happen, and loses only its answer.
	Late bool
	// Half lets half of a write's or a read's bytes through before it fails.
	Half bool
}

var (
	faulties     sync.Map // name → *Faulty
	faultyNumber atomic.Int64
	registerOnce sync.Once
)

// NewFaulty makes a store without faults.
func NewFaulty() *Faulty {
	registerOnce.Do(func() { blob.DefaultURLMux().RegisterBucket("faulty", opener{}) })
	f := &Faulty{bucket: memblob.OpenBucket(nil), name: fmt.Sprint("store", faultyNumber.Add(1))}
	faulties.Store(f.name, f)
	return f
}

// URL names the store.
func (f *Faulty) URL() string { return "faulty://" + f.name }

// Set gives the rule that says what happens to a call: op is put, get, stat, list or delete. nil is
// no faults.
func (f *Faulty) Set(rule func(op, name string) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rule = rule
}

// Calls is how many there were.
func (f *Faulty) Calls() int64 { return f.ops.Load() }

// Has reports whether an object whose name begins with prefix is there.
func (f *Faulty) Has(ctx context.Context, prefix string) (bool, error) {
	_, err := f.bucket.List(&blob.ListOptions{Prefix: prefix}).Next(ctx)
	if err == io.EOF {
		return false, nil
	}
	return err == nil, err
}

func (f *Faulty) fault(op, name string) Fault {
	f.ops.Add(1)
	f.mu.Lock()
	rule := f.rule
	f.mu.Unlock()
	if rule == nil {
		return Fault{}
	}
	return rule(op, name)
}

type opener struct{}

// OpenBucketURL implements blob.BucketURLOpener.
func (opener) OpenBucketURL(_ context.Context, u *url.URL) (*blob.Bucket, error) {
	f, ok := faulties.Load(u.Host)
	if !ok {
		return nil, io.EOF
	}
	return blob.NewBucket(&faultyDriver{f: f.(*Faulty)}), nil
}

// faultyDriver is the store as a driver. What it does not know it does not do.
type faultyDriver struct {
	driver.Bucket
	f *Faulty
}

func (d *faultyDriver) ErrorCode(err error) gcerrors.ErrorCode { return gcerrors.Code(err) }
func (d *faultyDriver) As(any) bool                            { return false }
func (d *faultyDriver) ErrorAs(error, any) bool                { return false }
func (d *faultyDriver) Close() error                           { return nil }

func (d *faultyDriver) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	if w := d.f.fault("stat", key); w.Err != nil {
		return nil, w.Err
	}
	a, err := d.f.bucket.Attributes(ctx, key)
	if err != nil {
		return nil, err
	}
	return &driver.Attributes{ContentType: a.ContentType, ModTime: a.ModTime, Size: a.Size}, nil
}

func (d *faultyDriver) ListPaged(ctx context.Context, o *driver.ListOptions) (*driver.ListPage, error) {
	if w := d.f.fault("list", o.Prefix); w.Err != nil {
		return nil, w.Err
	}
	page := &driver.ListPage{}
	it := d.f.bucket.List(&blob.ListOptions{Prefix: o.Prefix, Delimiter: o.Delimiter})
	for {
		obj, err := it.Next(ctx)
		if err == io.EOF {
			return page, nil
		}
		if err != nil {
			return nil, err
		}
		page.Objects = append(page.Objects, &driver.ListObject{Key: obj.Key, ModTime: obj.ModTime, Size: obj.Size, IsDir: obj.IsDir})
	}
}

func (d *faultyDriver) Delete(ctx context.Context, key string, _ *driver.DeleteOptions) error {
	w := d.f.fault("delete", key)
	if w.Err != nil && !w.Late {
		return w.Err
	}
	if err := d.f.bucket.Delete(ctx, key); err != nil {
		return err
	}
	return w.Err
}

func (d *faultyDriver) NewRangeReader(ctx context.Context, key string, offset, length int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	w := d.f.fault("get", key)
	if w.Err != nil && !w.Half {
		return nil, w.Err
	}
	r, err := d.f.bucket.NewRangeReader(ctx, key, offset, length, nil)
	if err != nil {
		return nil, err
	}
	fr := &faultyReader{r: r, left: r.Size()}
	if w.Half {
		fr.left, fr.err = r.Size()/2, w.Err
	}
	return fr, nil
}

// faultyReader breaks off.
type faultyReader struct {
	r    *blob.Reader
	left int64
	err  error
}

func (r *faultyReader) Read(p []byte) (int, error) {
	if r.err != nil && r.left <= 0 {
		return 0, r.err
	}
	if r.err != nil && int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.r.Read(p)
	r.left -= int64(n)
	return n, err
}

func (r *faultyReader) Close() error { return r.r.Close() }
func (r *faultyReader) As(any) bool  { return false }
func (r *faultyReader) Attributes() *driver.ReaderAttributes {
	return &driver.ReaderAttributes{ContentType: r.r.ContentType(), ModTime: r.r.ModTime(), Size: r.r.Size()}
}

func (d *faultyDriver) NewTypedWriter(ctx context.Context, key, _ string, o *driver.WriterOptions) (driver.Writer, error) {
	return &faultyWriter{ctx: ctx, d: d, key: key, fault: d.f.fault("put", key), ifNotExist: o.IfNotExist}, nil
}

// faultyWriter stores an object when it is closed, as an upload does.
type faultyWriter struct {
	ctx        context.Context
	d          *faultyDriver
	key        string
	data       strings.Builder
	fault      Fault
	ifNotExist bool
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	if w.fault.Err != nil && !w.fault.Late {
		n := 0
		if w.fault.Half {
			n = len(p) / 2
		}
		return n, w.fault.Err
	}
	return w.data.Write(p)
}

func (w *faultyWriter) Close() error {
	if err := w.ctx.Err(); err != nil {
		return err // an upload that was given up
	}
	if w.fault.Err != nil && !w.fault.Late {
		return w.fault.Err
	}
	err := w.d.f.bucket.WriteAll(w.ctx, w.key, []byte(w.data.String()), &blob.WriterOptions{IfNotExist: w.ifNotExist, ContentType: "application/octet-stream"})
	if err != nil {
		return err
	}
	return w.fault.Err
}
