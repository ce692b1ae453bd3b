package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"gocloud.dev/gcerrors"
)

// Requests counts what was asked of the store since the repository was opened, retries
// included. BytesUp and BytesDown are the objects' bytes.
type Requests struct {
	Put       int64 `json:"put"`
	Get       int64 `json:"get"`
	Head      int64 `json:"head"`
	List      int64 `json:"list"`
	Delete    int64 `json:"delete"`
	Retries   int64 `json:"retries"`
	BytesUp   int64 `json:"bytesUp"`
	BytesDown int64 `json:"bytesDown"`
}

// Retry says how often a request that failed for a reason that may pass is tried. The zero
// value is the default: 8 attempts, the first again after 200 ms, then twice as long each time
// up to 20 s, with a random part.
type Retry struct {
	Attempts int
	First    time.Duration
	Max      time.Duration
	Timeout  time.Duration // of one attempt; 0 is 10 minutes
}

// StoreError is a request to the store that failed for good.
type StoreError struct {
	Op, Object string
	Attempts   int
	Err        error
}

// Error implements error.
func (e *StoreError) Error() string {
	s := fmt.Sprintf("store: %s %s: %v", e.Op, e.Object, e.Err)
	if e.Attempts > 1 {
		s += fmt.Sprintf(" (after %d attempts)", e.Attempts)
	}
	return s
}

// Unwrap gives the driver's error.
func (e *StoreError) Unwrap() error { return e.Err }

// store is a backend with retries, counters, and a cache for objects that never change.
type store struct {
	b     backend
	retry Retry
	cache string // directory, "" for none

	puts, gets, heads, lists, deletes, retries, up, down atomic.Int64
}

func newStore(b backend, retry Retry, cache string) *store {
	if retry.Attempts <= 0 {
		retry.Attempts = 8
	}
	if retry.First <= 0 {
		retry.First = 200 * time.Millisecond
	}
	if retry.Max <= 0 {
		retry.Max = 20 * time.Second
	}
	if retry.Timeout <= 0 {
		retry.Timeout = 10 * time.Minute
	}
	return &store{b: b, retry: retry, cache: cache}
}

func (s *store) requests() Requests {
	return Requests{
		Put: s.puts.Load(), Get: s.gets.Load(), Head: s.heads.Load(), List: s.lists.Load(), Delete: s.deletes.Load(),
		Retries: s.retries.Load(), BytesUp: s.up.Load(), BytesDown: s.down.Load(),
	}
}

// permanent says that trying again cannot help.
func permanent(err error) bool {
	switch gcerrors.Code(err) {
	case gcerrors.NotFound, gcerrors.AlreadyExists, gcerrors.InvalidArgument, gcerrors.Unimplemented,
		gcerrors.FailedPrecondition, gcerrors.PermissionDenied, gcerrors.Canceled:
		return true
	}
	for _, e := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, syscall.ENOSPC, syscall.EROFS, syscall.EDQUOT, context.Canceled} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// do runs one request with retries.
func (s *store) do(ctx context.Context, op, name string, count *atomic.Int64, fn func(context.Context) error) error {
	wait := s.retry.First
	for n := 1; ; n++ {
		count.Add(1)
		err := s.attempt(ctx, fn)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return &StoreError{op, name, n, context.Cause(ctx)}
		}
		if n >= s.retry.Attempts || permanent(err) {
			return &StoreError{op, name, n, explainUnretried(err)}
		}
		s.retries.Add(1)
		t := time.NewTimer(wait/2 + rand.N(wait/2+1))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return &StoreError{op, name, n, errors.Join(context.Cause(ctx), err)}
		}
		wait = min(2*wait, s.retry.Max)
	}
}

// attempt gives up on a request that hangs.
func (s *store) attempt(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.retry.Timeout, errHangs)
	defer cancel()
	err := fn(ctx)
	if err != nil && context.Cause(ctx) == errHangs {
		return errHangs // the driver's own error would look like the caller's cancellation
	}
	return err
}

// MayNotWrite reports whether an error is that the store refuses these credentials, or that its file
// system cannot be written.
func MayNotWrite(err error) bool {
	return gcerrors.Code(err) == gcerrors.PermissionDenied || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
}

var errHangs = errors.New("the store does not answer in time")

// explainUnretried adds what to do to the errors that people meet.
func explainUnretried(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: free space or prune the repository, then start again; what is uploaded already is found again", err)
	case MayNotWrite(err):
		return fmt.Errorf("%w: the credentials need to list, read, write and delete below the repository's prefix", err)
	}
	return err
}

func (s *store) put(ctx context.Context, name string, data []byte) error {
	return s.do(ctx, "write", name, &s.puts, func(ctx context.Context) error {
		err := s.b.put(ctx, name, data, false)
		if err == nil {
			s.up.Add(int64(len(data)))
		}
		return err
	})
}

// putNew writes an object that must not exist yet. It is not tried again: a first attempt whose
// answer was lost would find its own object.
func (s *store) putNew(ctx context.Context, name string, data []byte) error {
	s.puts.Add(1)
	if err := s.b.put(ctx, name, data, true); err != nil {
		return &StoreError{"create", name, 1, err}
	}
	s.up.Add(int64(len(data)))
	return nil
}

func (s *store) get(ctx context.Context, name string) (data []byte, err error) {
	err = s.do(ctx, "read", name, &s.gets, func(ctx context.Context) error {
		data, err = s.b.get(ctx, name)
		s.down.Add(int64(len(data)))
		return err
	})
	return data, err
}

func (s *store) getRange(ctx context.Context, name string, off, n int64) (data []byte, err error) {
	err = s.do(ctx, "read", name, &s.gets, func(ctx context.Context) error {
		data, err = s.b.getRange(ctx, name, off, n)
		s.down.Add(int64(len(data)))
		return err
	})
	return data, err
}

func (s *store) stat(ctx context.Context, name string) (info objectInfo, err error) {
	err = s.do(ctx, "look at", name, &s.heads, func(ctx context.Context) error {
		info, err = s.b.stat(ctx, name)
		return err
	})
	return info, err
}

// list returns all objects below the prefix. Left-over temporary files of a directory are not
// objects and are left out.
func (s *store) list(ctx context.Context, prefix string) ([]objectInfo, error) {
	all, err := s.listAll(ctx, prefix)
	return slices.DeleteFunc(all, func(o objectInfo) bool { return isTemporary(o.name) }), err
}

// listAll is list with temporary files.
func (s *store) listAll(ctx context.Context, prefix string) (objects []objectInfo, err error) {
	err = s.do(ctx, "list", prefix, &s.lists, func(ctx context.Context) error {
		objects = objects[:0]
		return s.b.list(ctx, prefix, func(o objectInfo) error {
			if n := len(objects); n > 0 && n%1000 == 0 {
				s.lists.Add(1) // the drivers ask for pages of 1,000
			}
			objects = append(objects, o)
			return nil
		})
	})
	return objects, err
}

// isTemporary says whether a file is one that a directory's driver was writing when it was killed.
func isTemporary(name string) bool { return strings.HasSuffix(name, ".tmp") }

// remove deletes an object; one that is gone already is no error.
func (s *store) remove(ctx context.Context, name string) error {
	err := s.do(ctx, "delete", name, &s.deletes, func(ctx context.Context) error { return s.b.remove(ctx, name) })
	if isNotFound(err) {
		return nil
	}
	return err
}

// getCached is get for an object whose content never changes under its name. check must accept
// the bytes; a cached copy that it refuses is fetched again.
func (s *store) getCached(ctx context.Context, name string, check func([]byte) error) ([]byte, error) {
	if s.cache == "" {
		data, err := s.get(ctx, name)
		if err == nil {
			err = check(data)
		}
		return data, err
	}
	file := filepath.Join(s.cache, filepath.FromSlash(name))
	if data, err := os.ReadFile(file); err == nil && check(data) == nil {
		return data, nil
	}
	data, err := s.get(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := check(data); err != nil {
		return nil, err
	}
	return data, writeCache(file, data)
}

// writeCache needs no sync: a torn file fails its check and is fetched again.
func writeCache(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cache: %w", err), os.Remove(tmp.Name()))
	}
	return nil
}

// dropCached removes cached objects below a prefix that keep does not want any more.
func (s *store) dropCached(prefix string, keep func(name string) bool) error {
	if s.cache == "" {
		return nil
	}
	dir := filepath.Join(s.cache, filepath.FromSlash(prefix))
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if !keep(prefix+e.Name()) && !e.IsDir() && !strings.HasPrefix(e.Name(), ".new-") {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// redact is the URL without a password.
func redact(rawURL string) string {
	if u, err := url.Parse(rawURL); err == nil && u.Scheme != "" {
		return u.Redacted()
	}
	return rawURL
}

// digestName is the name that an object has by its content.
func digestName(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
