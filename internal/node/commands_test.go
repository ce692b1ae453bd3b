package node

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

// TestCommands runs each of testdata/*.txt on a whole node without sockets. A line is
// a comment, a request `db {command}` or `=> {fields}`: paths that the reply to the
// request above has to have with these values; null stands for an absent one.
func TestCommands(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	for _, set := range []string{"", "rs0"} {
		t.Run("face="+set, func(t *testing.T) {
			n := startInMemory(t, Config{ReplSet: set, ReplSetAutoInitiate: set != "", Parameters: []string{"enableTestCommands=1"}})
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var reply bson.Raw
			sc := bufio.NewScanner(f)
			sc.Buffer(nil, 1<<20)
			for no := 1; sc.Scan(); no++ {
				line := sc.Text()
				switch {
				case line == "" || line[0] == '#':
				case strings.HasPrefix(line, "=> "):
					for path, want := range extjson.MustParse(line[3:]).Elems() {
						if got := reply.Path(path); !sameValue(got, want) {
							t.Errorf("line %d: %s is %v, want %v in %s", no, path, got, want, reply)
						}
					}
				default:
					db, cmd, _ := strings.Cut(line, " ")
					if reply, err = n.Run(context.Background(), db, extjson.MustParse(cmd)); reply == nil {
						t.Fatalf("line %d: %v", no, err)
					}
				}
			}
		})
	}
}

func sameValue(got, want bson.Value) bool {
	if want.Type == bson.TypeNull {
		return got.IsMissing()
	}
	return bson.Compare(got, want) == 0
}

func startInMemory(t *testing.T, cfg Config) *Node {
	t.Helper()
	cfg.InMemory, cfg.Embedded, cfg.NoTCP, cfg.NoUnixSocket = true, true, true, true
	cfg.Log = slog.New(slog.DiscardHandler)
	n, err := Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// A member that waits to be initiated serves no data, but local's.
func TestUninitiated(t *testing.T) {
	n := startInMemory(t, Config{ReplSet: "rs0"})
	for _, c := range []struct {
		db, cmd string
		code    int64
	}{
		{"d", `{"insert": "c", "documents": [{}]}`, 10107},
		{"d", `{"create": "c"}`, 10107},
		{"d", `{"find": "c"}`, 13435},
		{"d", `{"find": "c", "$readPreference": {"mode": "nearest"}}`, 13436},
		{"local", `{"find": "startup_log"}`, 0},
		{"admin", `{"hello": 1}`, 0},
		{"admin", `{"replSetGetStatus": 1}`, 94},
		{"admin", `{"replSetInitiate": {}}`, 0},
		{"d", `{"insert": "c", "documents": [{}]}`, 0},
		{"d", `{"count": "c", "readConcern": {"level": "snapshot"}}`, 72},
	} {
		reply, err := n.Run(context.Background(), c.db, extjson.MustParse(c.cmd))
		if code, _ := reply.Get("code").AsInt64(); code != c.code {
			t.Errorf("%s: %v", c.cmd, err)
		}
	}
}

// The verbosity of the log is a parameter under two names.
func TestLogLevel(t *testing.T) {
	level := new(slog.LevelVar)
	n := startInMemory(t, Config{LogLevel: level})
	for _, cmd := range []string{`{"setParameter": 1, "logLevel": 1}`, `{"setParameter": 1, "logComponentVerbosity": {"verbosity": 2}}`} {
		level.Set(slog.LevelInfo)
		if _, err := n.Run(context.Background(), "admin", extjson.MustParse(cmd)); err != nil || level.Level() != slog.LevelDebug {
			t.Errorf("%s: %v, %v", cmd, level.Level(), err)
		}
	}
	if _, err := n.Run(context.Background(), "admin", extjson.MustParse(`{"setParameter": 1, "logComponentVerbosity": {"query": {"verbosity": 2}}}`)); err == nil {
		t.Error("the verbosity of one component was taken and has no effect")
	}
}

func TestBadParameter(t *testing.T) {
	for _, p := range []string{"nosuch=1", "ttlMonitorSleepSecs=x"} {
		dir := t.TempDir()
		_, err := Start(context.Background(), Config{InMemory: true, AnyPort: true, UnixSocketPrefix: dir, Parameters: []string{p}, Log: slog.New(slog.DiscardHandler)})
		if !IsBadParameter(err) {
			t.Errorf("%s: %v", p, fmt.Sprint(err))
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: the start that failed left %v, %v", p, left, err)
		}
	}
}

// A write concern by tags is met, or not, by the members' tags.
func TestTagWriteConcern(t *testing.T) {
	n := startInMemory(t, Config{ReplSet: "rs0"})
	run := func(cmd string) bson.Raw {
		t.Helper()
		reply, _ := n.Run(context.Background(), "admin", extjson.MustParse(cmd))
		return reply
	}
	run(`{"replSetInitiate": {}}`)
	host := run(`{"replSetGetConfig": 1}`).Path("config.members.0.host").Str()
	if reply := run(`{"replSetReconfig": {"_id": "rs0", "version": 2, "members": [{"_id": 0, "host": "` + host + `", "tags": {"dc": "x", "disk": "ssd"}}]}}`); reply.Get("ok").Double() != 1 {
		t.Fatal(reply)
	}
	for _, c := range []struct {
		w    string
		code int32
	}{{`{"dc": 1}`, 0}, {`{"dc": 1, "disk": 1}`, 0}, {`{"dc": 2}`, 100}, {`{"nosuch": 1}`, 100}} {
		reply := run(`{"insert": "c", "documents": [{}], "writeConcern": {"w": ` + c.w + `}}`)
		if got := reply.Path("writeConcernError.code"); got.Int32() != c.code || reply.Get("n").Int32() != 1 {
			t.Errorf("w: %s: %s", c.w, reply)
		}
	}
	if reply := run(`{"insert": "c", "documents": [{}], "writeConcern": {"w": {"dc": "x"}}}`); reply.Get("code").Int32() != 9 {
		t.Error(reply)
	}
}

// TestTopForgets: what is dropped or renamed is not counted any more, in top and in memory.
func TestTopForgets(t *testing.T) {
	n := startInMemory(t, Config{})
	run := func(db string, cmd bson.Raw) bson.Raw {
		t.Helper()
		reply, err := n.Run(context.Background(), db, cmd)
		if err != nil || reply.Get("ok").Double() != 1 {
			t.Fatalf("%s: %s %v", cmd, reply, err)
		}
		return reply
	}
	for _, ns := range [][2]string{{"a", "dropped"}, {"a", "renamed"}, {"a", "kept"}, {"b", "x"}, {"b", "c.x"}, {"bc", "x"}} {
		run(ns[0], bson.D("insert", ns[1], "documents", bson.A(bson.D("_id", 1))))
	}
	run("a", bson.D("drop", "dropped"))
	run("admin", bson.D("renameCollection", "a.renamed", "to", "a.new"))
	run("b", bson.D("dropDatabase", 1))
	run("a", bson.D("find", "new"))
	var got []string
	for ns := range run("admin", bson.D("top", 1)).Path("totals").Doc().Elems() {
		if !strings.HasPrefix(ns, "local.") && ns != "note" {
			got = append(got, ns)
		}
	}
	if want := []string{"a.kept", "a.new", "bc.x"}; !slices.Equal(got, want) {
		t.Errorf("top has %v, want %v", got, want)
	}
}
