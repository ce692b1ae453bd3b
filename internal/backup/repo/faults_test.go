package repo

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"
)

// crash is the error of a store that has gone away for good, as a killed process sees it: every
// call after it fails as well.
var errCrash = errors.New("the machine is gone")

// faulty is a store in front of another one that goes wrong on demand, and whose clock is the
// test's.
type faulty struct {
	backend
	mu      sync.Mutex
	calls   int                                           // that change the store
	crashAt int                                           // the number of the change that does not happen any more; 0 is never
	late    bool                                          // the change at crashAt happens, only its answer is lost
	gone    bool                                          // crashed
	fail    func(op, name string) error                   // before the call
	after   func(op, name string)                         // after it
	clock   *clock                                        // nil: the store's own times
	times   map[string]time.Time                          // by clock
	damage  func(name string, data []byte) ([]byte, bool) // what a read gives
}

// clock is moved by the test.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func (f *faulty) hook(after func(op, name string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = after
}

func (f *faulty) before(op, name string, changes bool) (lost bool, err error) {
	f.mu.Lock()
	fail := f.fail
	if f.gone {
		f.mu.Unlock()
		return false, errCrash
	}
	if changes {
		f.calls++
		if f.calls == f.crashAt {
			f.gone = true
			late := f.late
			f.mu.Unlock()
			if late {
				return true, nil
			}
			return false, errCrash
		}
	}
	f.mu.Unlock()
	if fail != nil {
		return false, fail(op, name)
	}
	return false, nil
}

func (f *faulty) done(op, name string, lost bool, err error) error {
	f.mu.Lock()
	if err == nil && f.clock != nil && op == "put" {
		if f.times == nil {
			f.times = map[string]time.Time{}
		}
		f.times[name] = f.clock.now()
	}
	after := f.after
	f.mu.Unlock()
	if after != nil {
		after(op, name)
	}
	if lost {
		return errCrash
	}
	return err
}

func (f *faulty) at(o objectInfo) objectInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t, ok := f.times[o.name]; ok {
		o.modTime = t
	}
	return o
}

func (f *faulty) put(ctx context.Context, name string, data []byte, ifAbsent bool) error {
	lost, err := f.before("put", name, true)
	if err == nil {
		err = f.backend.put(ctx, name, data, ifAbsent)
	}
	return f.done("put", name, lost, err)
}

func (f *faulty) remove(ctx context.Context, name string) error {
	lost, err := f.before("remove", name, true)
	if err == nil {
		err = f.backend.remove(ctx, name)
	}
	return f.done("remove", name, lost, err)
}

func (f *faulty) get(ctx context.Context, name string) ([]byte, error) {
	if _, err := f.before("get", name, false); err != nil {
		return nil, err
	}
	data, err := f.backend.get(ctx, name)
	if err == nil && f.damage != nil {
		if d, ok := f.damage(name, data); ok {
			data = d
		}
	}
	return data, f.done("get", name, false, err)
}

func (f *faulty) getRange(ctx context.Context, name string, off, n int64) ([]byte, error) {
	if _, err := f.before("get", name, false); err != nil {
		return nil, err
	}
	data, err := f.backend.getRange(ctx, name, off, n)
	return data, f.done("get", name, false, err)
}

func (f *faulty) stat(ctx context.Context, name string) (objectInfo, error) {
	if _, err := f.before("stat", name, false); err != nil {
		return objectInfo{}, err
	}
	o, err := f.backend.stat(ctx, name)
	return f.at(o), f.done("stat", name, false, err)
}

func (f *faulty) list(ctx context.Context, prefix string, fn func(objectInfo) error) error {
	if _, err := f.before("list", prefix, false); err != nil {
		return err
	}
	err := f.backend.list(ctx, prefix, func(o objectInfo) error { return fn(f.at(o)) })
	return f.done("list", prefix, false, err)
}

// withFaults puts f between the repository and its store.
func withFaults(f *faulty) func(*Options) {
	return func(o *Options) {
		o.wrap = func(b backend) backend { f.backend = b; return f }
		if f.clock != nil {
			o.Now = f.clock.now
		}
	}
}

// contents is everything that is in the repository's store.
func contents(r *Repo) (map[string][]byte, error) {
	ctx := context.Background()
	all := map[string][]byte{}
	err := r.store.b.list(ctx, "", func(o objectInfo) error {
		all[o.name] = nil
		return nil
	})
	for name := range all {
		data, gerr := r.store.b.get(ctx, name)
		if gerr != nil && !errors.Is(gerr, fs.ErrNotExist) {
			return nil, gerr
		}
		all[name] = data
	}
	return all, err
}
