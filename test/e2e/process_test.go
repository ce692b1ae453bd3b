//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// TestMongodLink starts the server as harnesses that launch a mongod do.
func TestMongodLink(t *testing.T) {
	link := filepath.Join(t.TempDir(), "mongod")
	if err := os.Symlink(cairnBinary(t), link); err != nil {
		t.Fatal(err)
	}
	t.Run("starts with mongod's command line and says Waiting for connections", func(t *testing.T) {
		dir := t.TempDir()
		s := spawn(t, freePort(t), link, func(port int) []string {
			return []string{"--port", strconv.Itoa(port), "--dbpath", dir, "--storageEngine", "wiredTiger", "--noauth", "--nounixsocket", "--bind_ip", "127.0.0.1"}
		})
		err := poll(testContext(t, 30*time.Second), 5*time.Millisecond, s.exited, func() bool {
			return strings.Contains(s.log.String(), "Waiting for connections")
		})
		if err != nil {
			t.Fatalf("%v: %s", err, s.log)
		}
		c := dial(t, options.Client().ApplyURI(s.uri(standalone))).Database("link").Collection("c")
		must(c.InsertOne(context.Background(), d("_id", 1)))(t)
		s.stop(t)
	})
	t.Run("--version", func(t *testing.T) {
		out, err := exec.Command(link, "--version").CombinedOutput()
		if err != nil || !regexp.MustCompile(`(?m)^db version v8\.0\.\d+`).Match(out) {
			t.Errorf("%v: %s", err, out)
		}
	})
	for _, flag := range []string{"--auth", "--keyFile=/dev/null", "--tlsMode=requireTLS", "--nosuchflag"} {
		t.Run("refuses "+flag, func(t *testing.T) {
			refused(t, flag, link, "--dbpath", t.TempDir(), "--port", strconv.Itoa(freePort(t)), flag)
		})
	}
}

// refused expects exit code 2 and the flag's name in the message.
func refused(t *testing.T, flag string, argv ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	out, _ := cmd.CombinedOutput()
	name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
	if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), name) {
		t.Errorf("exit code %d, want 2 and a message that names %s: %s", cmd.ProcessState.ExitCode(), name, out)
	}
}

func TestServeFlags(t *testing.T) {
	bin := cairnBinary(t)
	for _, flag := range []string{"--auth", "--tlsMode=requireTLS", "--nosuch"} {
		t.Run("refuses "+flag, func(t *testing.T) {
			refused(t, flag, bin, "serve", "--dbpath", t.TempDir(), "--port", strconv.Itoa(freePort(t)), flag)
		})
	}
	t.Run("configuration file: known keys work, unknown ones are refused by name", func(t *testing.T) {
		dir, port := t.TempDir(), freePort(t)
		file := filepath.Join(dir, "cairn.conf")
		text := "storage:\n  dbPath: " + filepath.Join(dir, "db") + "\nnet:\n  port: " + strconv.Itoa(port) + "\n  bindIp: 127.0.0.1\n"
		if err := os.WriteFile(file, []byte(text+"security:\n  authorization: enabled\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, "authorization", bin, "serve", "--config", file)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := spawn(t, freePort(t), bin, func(int) []string { return []string{"serve", "--config", file} })
		s.port = port
		s.awaitReady(t, standalone)
		s.stop(t)
	})
}

// TestOneProcessOneDirectory: the second process on a directory is told so and leaves the first alone.
func TestOneProcessOneDirectory(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, standalone)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, cairnBinary(t), "serve", "--dbpath", dir, "--port", strconv.Itoa(freePort(t))).CombinedOutput()
	if err == nil || ctx.Err() != nil || !regexp.MustCompile(`(?i)lock|in use|another`).Match(out) {
		t.Errorf("a second process on the directory: %v: %s", err, out)
	}
	c := dial(t, options.Client().ApplyURI(s.uri(standalone))).Database("lock").Collection("c")
	must(c.InsertOne(context.Background(), d("_id", 1)))(t)
}

// TestCleanShutdown: SIGTERM ends with 0, and so does the shutdown command; nothing is lost.
func TestCleanShutdown(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		s := start(t, dir, standalone)
		client := dial(t, options.Client().ApplyURI(s.uri(standalone)))
		c := client.Database("clean").Collection("c")
		wantCount(testContext(t, time.Minute), t, c, bson.D{}, int64(round)*100)
		for i := range 100 {
			must(c.InsertOne(context.Background(), d("_id", round*100+i)))(t)
		}
		if round < 2 {
			s.stop(t)
			continue
		}
		_ = client.Database("admin").RunCommand(context.Background(), d("shutdown", 1)).Err()
		select {
		case <-s.exited:
			if s.err != nil {
				t.Errorf("after the shutdown command: %v", s.err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the shutdown command did not end the server")
		}
	}
}
