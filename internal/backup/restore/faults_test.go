package restore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn"
	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/archive"
	"github.com/cairndb/cairn/internal/backup/tool"
	ours "github.com/cairndb/cairn/internal/bson"
)

func failCommand(t testing.TB, c *mongo.Client, mode any, data bson.D) {
	t.Helper()
	data = append(bson.D{{Key: "failCommands", Value: bson.A{"insert"}}}, data...)
	err := c.Database("admin").RunCommand(context.Background(), bson.D{{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: mode}, {Key: "data", Value: data}}).Err()
	if err != nil {
		t.Fatal(err)
	}
}

// many returns documents of about 1 KB that fill several batches.
func many(n int) []byte {
	var out []byte
	for i := range n {
		out = append(out, ours.D("_id", i, "pad", strings.Repeat("x", 1000))...)
	}
	return out
}

// A lost connection and a server that is stepping down are survived, and nothing is
// restored twice: on a replica set by retryable writes, on a standalone by looking.
func TestRetries(t *testing.T) {
	docs := many(4000)
	dir := dumpOf(t, docs, "")
	for name, opts := range map[string][]cairntest.Option{
		"standalone":  {cairntest.Parameter("enableTestCommands=1")},
		"replica set": {cairntest.Parameter("enableTestCommands=1"), cairntest.ReplSet("rs")},
	} {
		t.Run(name, func(t *testing.T) {
			uri := cairntest.Start(t, opts...)
			c := connect(t, uri)
			for what, data := range map[string]bson.D{
				"connection": {{Key: "closeConnection", Value: true}},
				"overload":   {{Key: "errorCode", Value: int32(262)}},
			} {
				failCommand(t, c, bson.D{{Key: "times", Value: 3}}, data)
				res, said, err := run{}.do(t, uri, "--drop", dir)
				if err != nil {
					t.Fatalf("%s: %v\n%s", what, err, said)
				}
				checkAll(t, c, res, docs)
			}
		})
	}
}

// An insert whose answer was lost is not counted as failed where the server cannot tell
// that it is sent again; a document that is there with another content is.
func TestResentDocuments(t *testing.T) {
	uri := cairntest.Start(t)
	c := connect(t, uri)
	docs := many(10)
	first := docs[:docSize(docs)]
	other := ours.D("_id", 1, "pad", "other")
	if _, err := c.Database("d").Collection("c").InsertMany(context.Background(), []any{bson.Raw(first), bson.Raw(other)}); err != nil {
		t.Fatal(err)
	}
	res, said, err := run{prepare: func(r *Restore) {
		r.o.Own.Resume = filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(r.o.Own.Resume, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		writeState(t, r, &nsRecord{})
	}}.do(t, uri, dumpOf(t, docs, ""))
	if err != nil || res != (Result{10, 9, 1}) || !strings.Contains(said, "d.c: _id 1: E11000") {
		t.Errorf("%+v, %v\n%s", res, err, said)
	}
}

// writeState writes the state of a restore of d.c, before it runs.
func writeState(t testing.TB, r *Restore, n *nsRecord) {
	t.Helper()
	twin := New(r.o, r.client, r.server, nil, nil)
	if err := twin.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(record{Version: stateVersion, Source: twin.fingerprint(), Namespaces: map[string]*nsRecord{"d.c": n}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.o.Own.Resume, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A full disk, or whatever else the server refuses with, ends the restore with the
// server's words, and what went in before is counted.
func TestServerRefuses(t *testing.T) {
	uri := cairntest.Start(t, cairntest.Parameter("enableTestCommands=1"))
	c := connect(t, uri)
	dir := dumpOf(t, many(4000), "")
	for what, x := range map[string]struct {
		data bson.D
		want string
	}{
		"full disk":     {bson.D{{Key: "errorCode", Value: int32(14031)}}, "OutOfDiskSpace"},
		"write concern": {bson.D{{Key: "writeConcernError", Value: bson.D{{Key: "code", Value: int32(64)}, {Key: "errmsg", Value: "waiting for replication timed out"}}}}, "waiting for replication timed out"},
	} {
		failCommand(t, c, bson.D{{Key: "skip", Value: 2}}, x.data)
		res, said, err := run{}.do(t, uri, "--drop", dir)
		if err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), "d.c") {
			t.Errorf("%s: %v\n%s", what, err, said)
		}
		if res.Successes >= 4000 {
			t.Errorf("%s: %+v", what, res)
		}
		failCommand(t, c, "off", nil)
	}
}

// The server goes away and comes back while documents are going in.
func TestServerRestarts(t *testing.T) {
	dir := t.TempDir()
	db, err := cairn.Open(cairn.Options{Dir: dir, CacheBytes: 16 << 20, OplogBytes: 16 << 20, ReplSet: "rs"})
	if err != nil {
		t.Fatal(err)
	}
	port, uri := db.Port(), db.URI()
	docs := many(8000)
	pr, pw := io.Pipe()
	restarted := make(chan error, 1)
	go func() {
		half := len(docs) / 2
		_, _ = pw.Write(docs[:half])
		err := db.Close()
		if err == nil {
			db, err = cairn.Open(cairn.Options{Dir: dir, Port: port, CacheBytes: 16 << 20, OplogBytes: 16 << 20, ReplSet: "rs"})
		}
		restarted <- err
		_, _ = pw.Write(docs[half:])
		_ = pw.Close()
	}()
	res, said, err := run{stdin: pr}.do(t, uri, "-d", "d", "-c", "c", "-")
	if rerr := <-restarted; rerr != nil {
		t.Fatal(rerr)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	checkAll(t, connect(t, uri), res, docs)
}

// bigDump is a directory with several collections, indexes and a capped one.
func bigDump(t testing.TB) (dir string, want map[string][]byte) {
	t.Helper()
	dir = t.TempDir()
	want = map[string][]byte{}
	for i := range 6 {
		ns := fmt.Sprintf("d.c%d", i)
		docs := many(700 * (i + 1))
		want[ns] = docs
		meta := `{"options":{},"indexes":[{"v":2,"key":{"_id":1},"name":"_id_"},{"v":2,"key":{"pad":1},"name":"pad_1"}]}`
		if i == 2 {
			meta = `{"options":{"capped":true,"size":100000000},"indexes":[{"v":2,"key":{"_id":1},"name":"_id_"}]}`
		}
		writeFile(t, filepath.Join(dir, "d", fmt.Sprintf("c%d.bson", i)), docs)
		writeFile(t, filepath.Join(dir, "d", fmt.Sprintf("c%d.metadata.json", i)), []byte(meta))
	}
	return dir, want
}

// archiveOf puts a dump directory's collections into an archive, block by block in turns.
func archiveOf(t testing.TB, want map[string][]byte, turn int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := archive.NewWriter(&out)
	p := &archive.Prelude{Header: archive.Header{ConcurrentCollections: 3, ServerVersion: "8.0.0", ToolVersion: "x"}}
	for ns := range want {
		db, coll := tool.SplitNamespace(ns)
		p.Collections = append(p.Collections, archive.CollectionMetadata{DB: db, Collection: coll, Metadata: `{"options":{},"indexes":[]}`})
	}
	if err := w.WritePrelude(p); err != nil {
		t.Fatal(err)
	}
	writers := map[string]*archive.NamespaceWriter{}
	left := map[string][]byte{}
	for ns, docs := range want {
		db, coll := tool.SplitNamespace(ns)
		writers[ns], left[ns] = w.Namespace(db, coll), docs
	}
	for len(left) > 0 {
		for ns, docs := range left {
			n := 0
			for n < len(docs) && n < turn {
				n += docSize(docs[n:])
			}
			if _, err := writers[ns].Write(docs[:n]); err != nil {
				t.Fatal(err)
			}
			if left[ns] = docs[n:]; n == len(docs) {
				delete(left, ns)
				if err := writers[ns].Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestProcess is not a test: other tests run it as a process that they kill.
func TestProcess(t *testing.T) {
	args := os.Getenv("CAIRN_RESTORE_ARGS")
	if args == "" {
		t.Skip("runs only as a process of TestKill")
	}
	_, said, err := run{}.do(t, os.Getenv("CAIRN_RESTORE_URI"), strings.Split(args, "\n")...)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
}

// Killed at random moments and started again with the same command, a restore ends with
// every document there once.
func TestKill(t *testing.T) {
	dir, want := bigDump(t)
	arch := filepath.Join(t.TempDir(), "dump.archive")
	writeFile(t, arch, archiveOf(t, want, 300<<10))
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for _, x := range []struct {
		name string
		args []string
		opts []cairntest.Option
	}{
		{"directory", []string{dir}, nil},
		{"directory with drop, replica set", []string{"--drop", dir}, []cairntest.Option{cairntest.ReplSet("rs")}},
		{"archive", []string{"--archive=" + arch}, nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			uri := cairntest.Start(t, x.opts...)
			c := connect(t, uri)
			state := filepath.Join(t.TempDir(), "state.json")
			args := append([]string{"--resume=" + state}, x.args...)
			kills, patience := 0, 300*time.Millisecond
			for ; ; kills++ {
				// Longer each time: it must end once, however slow the machine is.
				patience = patience * 6 / 5
				cmd := exec.Command(os.Args[0], "-test.run=^TestProcess$")
				cmd.Env = append(os.Environ(), "CAIRN_RESTORE_URI="+uri, "CAIRN_RESTORE_ARGS="+strings.Join(args, "\n"))
				var out bytes.Buffer
				cmd.Stdout = &out
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- cmd.Wait() }()
				timer := time.NewTimer(time.Duration(rnd.Int64N(int64(patience))))
				var err error
				select {
				case err = <-ended:
				case <-timer.C:
					_ = cmd.Process.Kill()
					err = <-ended
				}
				timer.Stop()
				if err == nil {
					break
				}
				var ee *exec.ExitError
				if !errors.As(err, &ee) || ee.Exited() {
					t.Fatalf("after %d kills: %v\n%s", kills, err, out.String())
				}
			}
			t.Logf("killed %d times", kills)
			for ns, docs := range want {
				if got := documents(t, c, ns); !bytes.Equal(got, docs) {
					t.Errorf("%s: %d bytes, want %d", ns, len(got), len(docs))
				}
			}
			if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the state is still there: %v", err)
			}
		})
	}
}

// Stopped by a signal and started again, with the counts of both.
func TestResumeCounts(t *testing.T) {
	uri := cairntest.Start(t, cairntest.Parameter("enableTestCommands=1"))
	c := connect(t, uri)
	docs := many(6000)
	dir := dumpOf(t, docs, "")
	state := filepath.Join(t.TempDir(), "state.json")
	failCommand(t, c, bson.D{{Key: "skip", Value: 3}}, bson.D{{Key: "errorCode", Value: int32(14031)}})
	res, said, err := run{}.do(t, uri, "--resume="+state, dir)
	if err == nil || res.Successes == 0 || res.Successes == 6000 || !strings.Contains(said, "the same command goes on from here: what was restored is recorded in "+state) {
		t.Fatalf("%+v, %v\n%s", res, err, said)
	}
	failCommand(t, c, "off", nil)
	if _, _, err := (run{}).do(t, uri, "--resume="+state, "--noOptionsRestore", dir); err == nil || !strings.Contains(err.Error(), "is the state of another restore") {
		t.Errorf("with other options: %v", err)
	}
	res, said, err = run{}.do(t, uri, "--resume="+state, dir)
	if !strings.Contains(said, "going on with `d.c` after ") {
		t.Error(said)
	}
	checkAll(t, c, must(t, res, said, err), docs)
	if err := os.WriteFile(state, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := (run{}).do(t, uri, "--resume="+state, dir); err == nil || !strings.Contains(err.Error(), "is not the state of a restore") {
		t.Error(err)
	}
}

// An archive whose collections come block by block in turns goes in whole, in both names,
// with more namespaces open than there are buffers.
func TestInterleavedArchive(t *testing.T) {
	uri := cairntest.Start(t)
	c := connect(t, uri)
	want := map[string][]byte{}
	for i := range 24 {
		want[fmt.Sprintf("d.n%02d", i)] = many(20 + 9*i)
	}
	arch := archiveOf(t, want, 30<<10)
	for _, original := range []bool{false, true} {
		for _, extra := range [][]string{nil, {"--maintainInsertionOrder"}, {"-j", "1", "--numInsertionWorkersPerCollection=2"}} {
			res, said, err := run{original: original, stdin: bytes.NewReader(arch)}.do(t, uri, append([]string{"--drop", "--archive"}, extra...)...)
			must(t, res, said, err)
			for ns, docs := range want {
				if got := documents(t, c, ns); !bytes.Equal(got, docs) {
					t.Errorf("%s: %d bytes, want %d", ns, len(got), len(docs))
				}
			}
		}
	}
	// Cut anywhere, it is refused with the place, and what is said to be restored is.
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 12 {
		n := rnd.IntN(len(arch))
		res, said, err := run{stdin: bytes.NewReader(arch[:n])}.do(t, uri, "--drop", "--archive")
		var fe *archive.FormatError
		if !errors.As(err, &fe) || !strings.Contains(err.Error(), fmt.Sprintf("at byte %d", fe.Offset)) {
			t.Fatalf("cut at %d: %+v, %v\n%s", n, res, err, said)
		}
		for line := range strings.Lines(said) {
			ns, ok := strings.CutPrefix(line, "finished restoring `")
			if !ok {
				continue
			}
			ns, _, _ = strings.Cut(ns, "`")
			if got := documents(t, c, ns); !bytes.Equal(got, want[ns]) {
				t.Errorf("cut at %d: %s is said to be restored and is not", n, ns)
			}
		}
	}
}

// Flipped bits of an archive never pass as a success.
func TestFlippedArchive(t *testing.T) {
	uri := cairntest.Start(t)
	src, err := os.ReadFile(filepath.Join(goldenDir(t), "dump.archive"))
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Index(src, []byte{255, 255, 255, 255})
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 15 {
		bit := data*8 + rnd.IntN((len(src)-data)*8)
		src[bit/8] ^= 1 << (bit % 8)
		_, said, err := run{stdin: bytes.NewReader(src)}.do(t, uri, "--drop", "--archive")
		if err == nil {
			t.Errorf("bit %d passed\n%s", bit, said)
		}
		src[bit/8] ^= 1 << (bit % 8)
	}
}
