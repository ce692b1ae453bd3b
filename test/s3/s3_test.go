package s3

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/backup/repo/repotest"
)

const bucket = "backups"

// server starts the gateway and returns the URL of a bucket, without a prefix.
func server(t *testing.T) (url string, cmd *exec.Cmd) {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "server")
	if out, err := exec.Command("go", "build", "-o", bin, "./server").CombinedOutput(); err != nil {
		t.Fatalf("building the server: %v\n%s", err, out)
	}
	for _, d := range []string{"data/" + bucket, "attrs"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	address := freeAddress(t)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(bin, filepath.Join(dir, "data"), filepath.Join(dir, "attrs"), address, "test")
	cmd.Env = append(os.Environ(), "S3_SECRET=testsecret")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		<-ended
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the server said:\n%s", text)
		}
	})
	answers(t, "http://"+address+"/health", ended)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "testsecret")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "none"))
	return fmt.Sprintf("s3://%s%%s?endpoint=http://%s&use_path_style=true&region=us-east-1", bucket, address), cmd
}

func TestRepositoryOnS3(t *testing.T) {
	form, cmd := server(t)
	var n atomic.Int64
	url := func(*testing.T) string { return fmt.Sprintf(form, fmt.Sprintf("/suite/%d", n.Add(1))) }
	repotest.Run(t, url)
	t.Run("WrongSecret", func(t *testing.T) {
		t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
		_, err := repo.Init(context.Background(), url(t), repo.InitOptions{})
		var s *repo.StoreError
		if !errors.As(err, &s) || s.Attempts != 1 {
			t.Fatalf("%v", err)
		}
	})
	t.Run("NoBucket", func(t *testing.T) {
		other := fmt.Sprintf(form, "x") // the bucket "backupsx"
		if _, err := repo.Init(context.Background(), other, repo.InitOptions{Options: repo.Options{Retry: repo.Retry{Attempts: 1}}}); err == nil {
			t.Fatal("a bucket that is not there was taken")
		}
	})
	// The server is killed while a backup is running, and comes back never: the backup fails in
	// time and says what it could not do.
	t.Run("ServerKilled", func(t *testing.T) {
		ctx := context.Background()
		r, err := repo.Init(ctx, url(t), repo.InitOptions{Options: repo.Options{Retry: repo.Retry{Attempts: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		lk, err := r.Lock(ctx, repo.Shared)
		if err != nil {
			t.Fatal(err)
		}
		w, err := r.NewWriter(ctx, lk)
		if err != nil {
			t.Fatal(err)
		}
		s := w.Stream("s")
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_, err = s.Write(make([]byte, 1<<20))
		if err == nil {
			err = errors.Join(s.Close(), w.Commit(ctx, &repo.Manifest{}))
		} else {
			err = errors.Join(err, w.Abort())
		}
		var se *repo.StoreError
		if !errors.As(err, &se) {
			t.Fatalf("%v", err)
		}
		if err := lk.Release(ctx); err == nil {
			t.Fatal("the lock was released on a server that is gone")
		}
	})
}
