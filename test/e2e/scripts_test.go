//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// mongoshHome is a home directory that keeps mongosh from calling anyone: no telemetry, no
// update check, no log files in the user's own.
func mongoshHome(t *testing.T) []string {
	t.Helper()
	home := t.TempDir()
	dir := filepath.Join(home, ".mongodb", "mongosh")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	config := `{"enableTelemetry":false,"forceDisableTelemetry":true,"disableLogging":true,"updateURL":""}`
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"HOME=" + home, "MONGOSH_FORCE_DISABLE_TELEMETRY_FOR_TESTING=1", "NO_COLOR=1"}
}

const mongosh = "node_modules/.bin/mongosh"

func TestMongosh(t *testing.T) {
	for _, f := range []face{standalone, replSet} {
		t.Run(string(f), func(t *testing.T) {
			uri := target(t, f)
			env := append(mongoshHome(t), "CAIRN_FACE="+string(f))
			script(t, env, mongosh, uri, "--quiet", "--norc", "--file", "mongosh.js")
		})
	}
}

// TestMongoshTyped feeds mongosh what a person types, "show dbs" and all, and looks at what is printed.
func TestMongoshTyped(t *testing.T) {
	uri := target(t, replSet)
	for _, c := range []struct{ name, typed, want string }{
		{"show dbs", "use typed\ndb.c.insertOne({a: 1})\nshow dbs\n", `(?m)^(typed> )?typed +\d+\.\d+ (KiB|MiB)`},
		{"show collections", "use typed\nshow collections\n", `(?m)\bc$`},
		{"find", "use typed\ndb.c.find({}, {_id: 0})\n", `\[ \{ a: 1 \} \]`},
		{"db.printReplicationInfo()", "db.printReplicationInfo()\n", `(?s)actual oplog size.*log length start to end.*oplog first event time.*oplog last event time.*now`},
		{"rs.printSecondaryReplicationInfo()", "rs.printSecondaryReplicationInfo()\nprint('alive')\n", `alive`},
		{"rs.status()", "rs.status()\n", `(?s)set: 'rs0'.*stateStr: 'PRIMARY'`},
		{"rs.conf()", "rs.conf()\n", `(?s)_id: 'rs0'.*members: \[`},
		{"prompt", "1\n", `rs0 \[(direct: )?primary\]`},
		{"it", "use typed\nfor (let i = 0; i < 30; i++) db.many.insertOne({i: i})\ndb.many.find().sort({i: 1})\nit\n", `(?s)i: 19.*Type "it" for more.*i: 29`},
		{"error", "db.runCommand({noSuchCommand: 1})\n", `no such command: 'noSuchCommand'`},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, mongosh, uri, "--norc")
			cmd.Env = append(os.Environ(), mongoshHome(t)...)
			cmd.Stdin = strings.NewReader(c.typed)
			out, err := cmd.CombinedOutput()
			if err != nil || !regexp.MustCompile(c.want).Match(out) {
				t.Errorf("typed %q: %v, want a match of %s in\n%s", c.typed, err, c.want, out)
			}
		})
	}
}

func TestNode(t *testing.T) {
	for _, f := range []face{standalone, replSet} {
		t.Run(string(f), func(t *testing.T) {
			script(t, []string{"CAIRN_FACE=" + string(f)}, "node", "node.js", target(t, f))
		})
	}
}

// TestNodeChangeOfFace writes to a standalone, restarts the same directory as a replica set, and back.
func TestNodeChangeOfFace(t *testing.T) {
	if external() {
		t.Skip("needs to start bin/cairn")
	}
	dir := t.TempDir()
	for _, f := range []face{standalone, replSet, standalone} {
		s := start(t, dir, f)
		script(t, []string{"CAIRN_FACE=" + string(f)}, "node", "faces.js", s.uri(f))
		s.stop(t)
	}
}

func TestPymongo(t *testing.T) {
	python := "/usr/bin/python3"
	if p := os.Getenv("PYTHON"); p != "" {
		python = p
	}
	for _, f := range []face{standalone, replSet} {
		t.Run(string(f), func(t *testing.T) {
			script(t, []string{"CAIRN_FACE=" + string(f), "PYTHONDONTWRITEBYTECODE=1"}, python, "pymongo_suite.py", target(t, f))
		})
	}
}
