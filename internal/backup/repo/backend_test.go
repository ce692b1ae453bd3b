package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gocloud.dev/blob"
)

func TestURLs(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	for url, want := range map[string]string{
		filepath.Join(dir, "a"): "a", "file://" + dir + "/b": "b", "file://localhost" + dir + "/c": "c",
	} {
		b := must(openBackend(ctx, url, true))(t)
		check(t, b.put(ctx, "x/y", []byte("1"), false))
		check(t, b.close())
		if _, err := os.Stat(filepath.Join(dir, want, "x", "y")); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, c := range []struct{ url, other string }{
		{"mem://urls/p/q", "mem://urls//p/q/"}, {"mem://urls", "mem://urls/"},
	} {
		check(t, must(openBackend(ctx, c.url, false))(t).put(ctx, "o", []byte(c.url), false))
		if got := string(must(must(openBackend(ctx, c.other, false))(t).get(ctx, "o"))(t)); got != c.url {
			t.Errorf("%s holds %q", c.other, got)
		}
	}
	for url, want := range map[string]string{"s3://b/p/q?region=x&prefix=r": "p/q/r/", "s3://b?region=x": ""} {
		b := must(openBackend(ctx, url, false))(t)
		if got := b.(*bucketBackend).prefix; got != want {
			t.Errorf("%s: prefix %q", url, got)
		}
		check(t, b.close())
	}
	for _, scheme := range []string{"gs", "azblob"} { // opening them looks for credentials on the network
		if !blob.DefaultURLMux().ValidBucketScheme(scheme) {
			t.Errorf("%s:// is not known", scheme)
		}
	}
	if got := redact("s3://user:secret@b/p"); strings.Contains(got, "secret") {
		t.Errorf("shown as %s", got)
	}
}

// What a killed process leaves in a directory is no object, and nothing that is read looks empty
// because it cannot be read.
func TestDirectory(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	o := fast()
	r := must(Init(ctx, dir, InitOptions{Options: o, PackSize: minPackSize}))(t)
	m := backup(t, r, map[string][]byte{"s": noise(1, 200<<10)})
	left := filepath.Join(dir, "manifests", m.ID+".18a2.tmp")
	check(t, os.WriteFile(left, []byte("half a manifest"), 0o600))
	if list := must(r.Manifests(ctx))(t); len(list) != 1 {
		t.Fatalf("%d manifests", len(list))
	}
	var notes []Finding
	_, err := r.Verify(ctx, VerifyOptions{Percent: 100}, func(f Finding) { notes = append(notes, f) })
	check(t, err)
	if len(notes) != 1 || notes[0].Kind != Temporary {
		t.Fatalf("%v", notes)
	}
	if st := sweepAll(t, r, SweepOptions{}); st.TemporaryFiles != 0 {
		t.Fatalf("a file that may be somebody's work was deleted: %+v", st)
	}
	day := r.now().Add(-25 * 3600 * 1e9)
	check(t, os.Chtimes(left, day, day))
	if st := sweepAll(t, r, SweepOptions{}); st.TemporaryFiles != 1 {
		t.Fatalf("%+v", st)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := r.store.put(canceled, "records/x", []byte("1")); err == nil {
		t.Fatal("a canceled write succeeded")
	}
	check(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(path, ".tmp") {
			t.Errorf("left: %s", path)
		}
		return err
	}))
	check(t, r.Close())
}

func TestUnreadableDirectoryIsNoEmptyOne(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root reads every directory")
	}
	ctx := context.Background()
	dir := t.TempDir()
	r := must(Init(ctx, dir, InitOptions{Options: fast(), PackSize: minPackSize}))(t)
	backup(t, r, map[string][]byte{"s": {1}})
	check(t, os.Chmod(filepath.Join(dir, "manifests"), 0))
	if _, err := r.Manifests(ctx); err == nil {
		t.Fatal("no manifests, and no error")
	}
	check(t, os.Chmod(filepath.Join(dir, "manifests"), 0o700))
}

// A full disk ends the backup at once, says what to do, and leaves a repository to go on with.
func TestFullDisk(t *testing.T) {
	r := newRepo(t)
	data := map[string][]byte{"s": noise(1, 3<<20)}
	for at := 1; at < 20; at += 3 {
		f := &faulty{}
		n := 0
		f.fail = func(op, name string) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if op == "put" {
				if n++; n >= at {
					return fmt.Errorf("write: %w", syscall.ENOSPC)
				}
			}
			return nil
		}
		full := reopen(t, r, withFaults(f))
		_, err := tryBackup(full, data)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free space") || full.Requests().Retries != 0 {
			t.Fatalf("%v", err)
		}
	}
	for _, l := range must(r.Locks(context.Background()))(t) {
		check(t, r.RemoveLock(context.Background(), l.ID))
	}
	after := reopen(t, r)
	wantStreams(t, after, backup(t, after, data), data)
}

// A response that stops half way is tried again; a store that hangs is given up.
func TestRetryAndTimeout(t *testing.T) {
	ctx := context.Background()
	r := newRepo(t)
	f := &faulty{}
	slow := reopen(t, r, withFaults(f), func(o *Options) { o.Retry = Retry{Attempts: 2, First: 1, Max: 1, Timeout: 1e6} })
	slow.store.b = hanging{slow.store.b}
	_, err := slow.store.get(ctx, "records/x")
	var s *StoreError
	if !errors.As(err, &s) || s.Attempts != 2 || !errors.Is(err, errHangs) {
		t.Fatalf("%v", err)
	}
	canceled, cancel := context.WithCancelCause(ctx)
	why := errors.New("the user has had enough")
	cancel(why)
	if _, err := slow.store.get(canceled, "records/x"); !errors.Is(err, why) {
		t.Fatalf("%v", err)
	}
}

// hanging is a store that answers nothing until it is given up.
type hanging struct{ backend }

func (hanging) get(ctx context.Context, _ string) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
