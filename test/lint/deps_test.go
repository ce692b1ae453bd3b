package lint

import (
	"regexp"
	"strings"
	"testing"
)

// rooms is the policy: the room on the left may import the rooms on the right, and nothing
// else below internal/. DO NOT CHANGE THIS DATA TO FIX A BUILD: move the code instead. A change
// here is a change of the architecture and goes with one of docs/ARCHITECTURE.md.
var rooms = map[string]string{
	"bson":     "",
	"mongoerr": "bson",
	"wire":     "bson mongoerr",
	"eval":     "bson mongoerr",
	"storage":  "bson",
	"oplog":    "bson storage",
	"catalog":  "bson mongoerr eval storage oplog",
	"query":    "bson mongoerr eval storage oplog catalog",
	"session":  "bson mongoerr storage oplog catalog query",
	"auth":     "bson mongoerr catalog",
	"repl":     "bson mongoerr wire storage oplog catalog",
	"shard":    "bson mongoerr wire eval oplog catalog query repl",
	"command":  "bson mongoerr eval oplog catalog query session auth repl shard",
	"server":   "bson mongoerr wire session auth command",
	"backup":   "bson mongoerr oplog",
	"metrics":  "bson",
	"node":     "bson mongoerr wire eval storage oplog catalog query session auth repl shard command server",
	"testkit":  "bson mongoerr wire eval storage oplog catalog query session auth repl shard command server node",
}

// leaves import no room, stay under leafLines lines and may be imported by every room.
var leaves = map[string]bool{
	"failpoint":  true,
	"invariants": true,
	"buildinfo":  true,
}

const leafLines = 300

// outside says what the packages outside internal/ may import of it: "*" is everything but testkit.
var outside = []struct{ dir, may string }{
	{"test", "* testkit"},
	{"cmd", "*"},
	{"cairntest", ""}, // goes through the embeddable face
	{"examples", ""},
	{".", "node"},
}

// external is who may import the modules that must not spread.
var external = []struct {
	prefix string
	rooms  string // rooms, and top directories outside internal/, that may
	tests  bool   // test files everywhere may too
	why    string
}{
	// The crashable and the faulty file systems are what crash tests of every room stand on.
	{"github.com/cockroachdb/pebble/v2/vfs", "storage", true, "hand files through storage; only tests may name the file system themselves"},
	// The raw benchmark measures Pebble itself: it is the yardstick for storage, so it cannot go through it.
	{"github.com/cockroachdb/pebble", "storage test/bench", false, "only internal/storage knows the engine; add what you need to its API"},
	{"go.etcd.io/raft", "repl", false, "only internal/repl knows the consensus library"},
	{"go.mongodb.org/mongo-driver/v2/mongo", "backup cmd test cairntest examples", true, "the server never uses the driver's client; only tools and tests do"},
	{"go.mongodb.org/mongo-driver/v2", "bson backup cmd test cairntest examples", true, "documents in the server are internal/bson; only that room may use the driver's bson packages"},
	{"go.mongodb.org/mongo-driver", "", false, "use version 2 of the driver (go.mongodb.org/mongo-driver/v2)"},
}

func words(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

func TestRoomTableIsAcyclic(t *testing.T) {
	var visit func(room string, path []string)
	visit = func(room string, path []string) {
		for _, p := range path {
			if p == room {
				t.Fatalf("the table has a cycle: %s", strings.Join(append(path, room), " → "))
			}
		}
		for next := range words(rooms[room]) {
			if _, ok := rooms[next]; !ok {
				t.Fatalf("room %s may import %q, which is not in the table", room, next)
			}
			visit(next, append(path[:len(path):len(path)], room))
		}
	}
	for room := range rooms {
		visit(room, nil)
	}
}

func TestEveryRoomIsInTheTable(t *testing.T) {
	seen := map[string]bool{}
	lines := map[string]int{}
	for _, f := range sources(t) {
		r := f.room()
		if r == "" {
			continue
		}
		if !f.test {
			lines[r] += f.lines
		}
		if _, ok := rooms[r]; ok || leaves[r] || seen[r] {
			continue
		}
		seen[r] = true
		t.Errorf("internal/%s is neither a room nor a leaf of the import table (test/lint/deps_test.go): "+
			"move the code into the room that uses it, or, if two rooms share it and none of them fits, add a leaf", r)
	}
	for r := range leaves {
		if lines[r] > leafLines {
			t.Errorf("leaf internal/%s has %d lines; a leaf stays under %d: make it a room of the table or move it into its user", r, lines[r], leafLines)
		}
	}
}

func TestImportsFollowTheTable(t *testing.T) {
	for _, f := range sources(t) {
		from := f.room()
		for p := range f.imports() {
			to, ours := strings.CutPrefix(p, modulePath+"/internal/")
			if !ours {
				continue
			}
			to, _, _ = strings.Cut(to, "/")
			if to == from || (leaves[to] && !leaves[from]) {
				continue
			}
			if msg := forbidden(f, from, to); msg != "" {
				t.Errorf("%s imports %s: %s", f.rel, p, msg)
			}
		}
	}
}

// forbidden returns why file f of room from may not import room to, or "".
func forbidden(f *goFile, from, to string) string {
	if to == "testkit" && f.test {
		return ""
	}
	if from == "" {
		for _, o := range outside {
			if f.dir != o.dir && !strings.HasPrefix(f.dir, o.dir+"/") {
				continue
			}
			may := words(o.may)
			if may[to] || (may["*"] && to != "testkit") || (f.test && may["*"]) {
				return ""
			}
			return "packages under " + o.dir + " may import [" + o.may + "] of internal/ only"
		}
		return "this directory is not in the table 'outside' of test/lint/deps_test.go; say there what it may import"
	}
	if leaves[from] {
		return "a leaf imports no room; make it a room of the table or move the code"
	}
	if words(rooms[from])[to] {
		return ""
	}
	if to == "testkit" {
		return "testkit is for tests only"
	}
	return "room " + from + " may import only [" + rooms[from] + "]; move the code to the room it belongs to, " +
		"or let the room below declare an interface that internal/node wires"
}

func TestSubpackagesArePrivateToTheirRoom(t *testing.T) {
	files := sources(t)
	docs := map[string]string{}
	for _, f := range files {
		if strings.HasPrefix(f.dir, "internal/") && strings.Count(f.dir, "/") == 1 && f.ast.Doc != nil {
			docs[f.room()] += f.ast.Doc.Text()
		}
	}
	told := map[string]bool{}
	for _, f := range files {
		// Suites outside internal/ stand above the rooms and may look inside.
		if f.room() == "" && strings.HasPrefix(f.dir, "test") {
			continue
		}
		for p := range f.imports() {
			rest, ours := strings.CutPrefix(p, modulePath+"/internal/")
			room, sub, nested := strings.Cut(rest, "/")
			if !ours || !nested || room == f.room() {
				continue
			}
			listed := regexp.MustCompile(`\b` + regexp.QuoteMeta(sub) + `\b`).MatchString(docs[room])
			if !listed && !told[f.dir+" "+p] {
				told[f.dir+" "+p] = true
				t.Errorf("%s imports %s, which is private to room %s: offer what you need in package %s itself, "+
					"or name %q in the doc comment of internal/%s (doc.go) as open to other rooms", f.rel, p, room, room, sub, room)
			}
		}
	}
}

func TestExternalModulesStayInTheirRoom(t *testing.T) {
	for _, f := range sources(t) {
		for p := range f.imports() {
			for _, e := range external {
				if p != e.prefix && !strings.HasPrefix(p, e.prefix+"/") {
					continue
				}
				if !(e.tests && f.test) && !mayUse(f, e.rooms) {
					t.Errorf("%s imports %s: %s", f.rel, p, e.why)
				}
				break // the first, most exact, prefix decides
			}
		}
	}
}

func mayUse(f *goFile, who string) bool {
	if leaves[f.room()] {
		return f.room() == "deps"
	}
	for w := range words(who) {
		if f.room() == w || f.dir == w || strings.HasPrefix(f.dir, w+"/") {
			return true
		}
	}
	return false
}
