package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/cairndb/cairn"
	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// fill puts n documents of 2 KB into db.coll.
func fill(t testing.TB, c *mongo.Client, db, coll string, n int) {
	t.Helper()
	pad := strings.Repeat("p", 2000)
	for at := 0; at < n; {
		var docs []any
		for ; len(docs) < 2000 && at < n; at++ {
			docs = append(docs, bson.D{{Key: "_id", Value: at}, {Key: "pad", Value: pad}})
		}
		if _, err := c.Database(db).Collection(coll).InsertMany(context.Background(), docs); err != nil {
			t.Fatal(err)
		}
	}
}

// interrupted is a standard output that calls hit once, in the middle of the data.
func interrupted(hit func()) (*gate, *bytes.Buffer) {
	var b bytes.Buffer
	return &gate{w: &b, at: 3 << 20, hit: hit}, &b
}

// ids are the _ids in a stream of documents, which must be 0 to n-1, each once.
func checkIDs(t *testing.T, data []byte, n int) {
	t.Helper()
	seen := make([]bool, n)
	for p := data; len(p) > 0; {
		size := int(p[0]) | int(p[1])<<8 | int(p[2])<<16
		id, ok := bson.Raw(p[:size]).Lookup("_id").AsInt64OK()
		if !ok || id < 0 || id >= int64(n) || seen[id] {
			t.Fatalf("_id %d is there twice, or should not be", id)
		}
		seen[id] = true
		p = p[size:]
	}
	for id, ok := range seen {
		if !ok {
			t.Fatalf("_id %d is missing", id)
		}
	}
}

// What happens to the cursor in the middle of a collection loses and doubles nothing.
func TestInterruptedCursor(t *testing.T) {
	t.Parallel()
	const n = 8000
	for name, c := range map[string]struct {
		args []string
		hit  func(c *mongo.Client) error
		fail string
	}{
		"cursor killed":       {hit: killCursors},
		"killed, several":     {args: []string{"--parallelInCollection", "3"}, hit: killCursors},
		"killed with a query": {args: []string{"-q", `{"_id":{"$gte":0}}`}, hit: killCursors, fail: "error reading collection"},
		"dropped":             {hit: func(c *mongo.Client) error { return c.Database("d").Collection("c").Drop(context.Background()) }},
	} {
		t.Run(name, func(t *testing.T) {
			uri := cairntest.Start(t, cairntest.ReplSet("rs"))
			cl := connect(t, uri)
			fill(t, cl, "d", "c", n)
			out, buf := interrupted(func() {
				if err := c.hit(cl); err != nil {
					t.Error(err)
				}
			})
			_, log, err := runDump(context.Background(), uri, out, append(c.args, "-d", "d", "-c", "c", "-o", "-")...)
			switch {
			case c.fail != "":
				if err == nil || !strings.Contains(err.Error(), c.fail) {
					t.Errorf("the dump ended with %v\n%s", err, log)
				}
			case err != nil:
				t.Fatalf("%v\n%s", err, log)
			case name == "dropped":
				if !strings.Contains(log, "appears to have been dropped") {
					t.Errorf("nothing is said of the drop:\n%s", log)
				}
			default:
				checkIDs(t, buf.Bytes(), n)
			}
		})
	}
}

// killCursors kills every open cursor of d.c. The readers stop soon, as nothing is taken
// from them meanwhile: then their cursors are idle and listed.
func killCursors(c *mongo.Client) error {
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for range 1000 {
		ids, err := idleCursors(c)
		if err != nil {
			return err
		}
		if len(ids) > 0 {
			return c.Database("d").RunCommand(context.Background(), bson.D{{Key: "killCursors", Value: "c"}, {Key: "cursors", Value: ids}}).Err()
		}
		<-t.C
	}
	return errors.New("there is no cursor to kill")
}

func idleCursors(c *mongo.Client) (ids bson.A, err error) {
	cur, err := c.Database("admin").Aggregate(context.Background(), mongo.Pipeline{
		bson.D{{Key: "$currentOp", Value: bson.D{{Key: "idleCursors", Value: true}, {Key: "allUsers", Value: true}}}},
		bson.D{{Key: "$match", Value: bson.D{{Key: "ns", Value: "d.c"}}}}})
	if err != nil {
		return nil, err
	}
	var ops []struct {
		Cursor struct {
			ID int64 `bson:"cursorId"`
		} `bson:"cursor"`
	}
	if err := cur.All(context.Background(), &ops); err != nil {
		return nil, err
	}
	for _, o := range ops {
		if o.Cursor.ID != 0 {
			ids = append(ids, o.Cursor.ID)
		}
	}
	return ids, nil
}

// A server that is restarted in the middle is read on from where it was.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	const n = 8000
	o := cairn.Options{Dir: t.TempDir(), ReplSet: "rs", CacheBytes: 16 << 20, OplogBytes: 16 << 20}
	db, err := cairn.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	uri := db.URI()
	fill(t, connect(t, uri), "d", "c", n)
	if _, err := fmt.Sscanf(host(uri), "mongodb://127.0.0.1:%d/", &o.Port); err != nil {
		t.Fatal(err)
	}
	out, buf := interrupted(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if db, err = cairn.Open(o); err != nil {
			t.Error(err)
		}
	})
	_, log, derr := runDump(context.Background(), uri, out, "-d", "d", "-c", "c", "-o", "-")
	if derr != nil {
		t.Fatalf("%v\n%s", derr, log)
	}
	checkIDs(t, buf.Bytes(), n)
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// Without an oplog, a collection that goes away while it is read is not in the dump by half.
func TestDroppedIsNotByHalf(t *testing.T) {
	t.Parallel()
	uri := cairntest.Start(t)
	c := connect(t, uri)
	fill(t, c, "d", "c", 4000)
	fill(t, c, "d", "other", 10)
	dir := filepath.Join(t.TempDir(), "dump")
	_, log, err := dumpWatched(uri, []string{"-o", dir, "-j", "1"}, func(line string) {
		if strings.Contains(line, "writing `d.c`") {
			if err := c.Database("d").Collection("c").Drop(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if got := fmt.Sprint(files(t, filepath.Join(dir, "d"))); got != "[other.bson other.metadata.json]" {
		t.Errorf("the dump has %s", got)
	}
	if !strings.Contains(log, "appears to have been dropped") {
		t.Error(log)
	}
}

// A full disk is an error, and nothing is left that looks like a dump.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full on this system")
	}
	uri := cairntest.Start(t)
	fill(t, connect(t, uri), "d", "c", 100)
	for _, args := range [][]string{{"--archive=/dev/full"}, {"--archive=/dev/full", "--gzip"}} {
		_, _, err := runDump(context.Background(), uri, io.Discard, args...)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%q: %v", args, err)
		}
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if _, _, err := runDump(context.Background(), uri, full, "-d", "d", "-c", "c", "-o", "-"); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
}

// A signal ends the dump, without a file that has a final name.
func TestSignal(t *testing.T) {
	t.Parallel()
	uri := cairntest.Start(t, cairntest.ReplSet("rs"))
	c := connect(t, uri)
	for n := range 5 {
		fill(t, c, "d", fmt.Sprint("c", n), 2000)
	}
	for _, args := range [][]string{{}, {"--oplog"}, {"--gzip"}, {"--archive=A"}} {
		dir := filepath.Join(t.TempDir(), "dump")
		ctx, cancel := context.WithCancelCause(context.Background())
		for i := range args {
			args[i] = strings.Replace(args[i], "=A", "="+dir, 1)
		}
		if len(args) == 0 || args[0][:4] != "--ar" {
			args = append(args, "-o", dir)
		}
		r := &lineWatcher{line: func(line string) {
			if strings.Contains(line, "done dumping") {
				cancel(tool.ErrTerminated)
			}
		}}
		err := dumpTo(ctx, uri, r, args...)
		if !errors.Is(err, tool.ErrTerminated) {
			t.Errorf("%q: %v", args, err)
		}
		if left := regular(t, filepath.Dir(dir)); len(left) > 0 {
			t.Errorf("%q left %q", args, left)
		}
	}
}

func regular(t *testing.T, dir string) (left []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !d.IsDir() {
			left = append(left, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// isWhole checks that a file is documents to its end.
func isWhole(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for p := data; len(p) > 0; {
		n, _, ok := bsoncore.ReadLength(p)
		if !ok || int(n) > len(p) || n < 5 {
			t.Fatalf("%s ends within a document", path)
		}
		p = p[n:]
	}
}

// TestMain runs the dump of TestKill, and servers that are killed, in processes of their own.
func TestMain(m *testing.M) {
	if args := os.Getenv("CAIRN_TEST_SERVER"); args != "" {
		runServer(args)
	}
	if args := os.Getenv("CAIRN_TEST_DUMP"); args != "" {
		f := strings.Split(args, "\n")
		if _, log, err := runDump(context.Background(), f[0], io.Discard, f[1:]...); err != nil {
			fmt.Fprintln(os.Stderr, err, log)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A process that is killed leaves no file with a final name, unless it was naming them;
// with --resume the next run ends what it began, and does not read again what was whole.
func TestKill(t *testing.T) {
	t.Parallel()
	uri := cairntest.Start(t, cairntest.ReplSet("rs"))
	c := connect(t, uri)
	for n := range 8 {
		fill(t, c, "d", fmt.Sprint("c", n), 1500)
	}
	want := state(t, c, "d")
	target := cairntest.Start(t)
	dst := connect(t, target)
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // repeatable
	for round, form := range [][]string{{"--oplog", "-j", "2"}, {"--resume", "--oplog", "-j", "1"}, {"--resume", "--compress", "zstd", "-j", "2"}} {
		dir := filepath.Join(t.TempDir(), "dump")
		args := append([]string{uri, "-o", dir}, form...)
		for range 3 {
			p := exec.Command(os.Args[0])
			p.Env = append(os.Environ(), "CAIRN_TEST_DUMP="+strings.Join(args, "\n"))
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(time.Duration(20+r.IntN(150))*time.Millisecond, func() { _ = p.Process.Kill() })
			err := p.Wait()
			timer.Stop()
			if err == nil {
				break // it was faster
			}
			for _, f := range regular(t, dir) {
				if strings.HasSuffix(f, ".bson") {
					isWhole(t, f) // it was killed while it named its files
				}
			}
		}
		if _, log, err := runDump(context.Background(), uri, io.Discard, args[1:]...); err != nil {
			t.Fatalf("%q after kills: %v\n%s", form, err, log)
		}
		if err := dst.Database("d").Drop(context.Background()); err != nil {
			t.Fatal(err)
		}
		mustRestore(t, target, "--dir", dir)
		compare(t, fmt.Sprint(form), want, state(t, dst, "d"))
		for _, f := range regular(t, dir) {
			if round > 0 && strings.HasSuffix(f, tool.PartialSuffix) {
				t.Errorf("%s is left", f)
			}
		}
	}
}

// Resuming keeps what is whole, refuses other options, and captures the oplog without a hole.
func TestResume(t *testing.T) {
	t.Parallel()
	uri := cairntest.Start(t, cairntest.ReplSet("rs"))
	c := connect(t, uri)
	for n := range 4 {
		fill(t, c, "d", fmt.Sprint("c", n), 500)
	}
	dir := filepath.Join(t.TempDir(), "dump")
	args := []string{"--resume", "--oplog", "-j", "1", "-o", dir}
	ctx, cancel := context.WithCancelCause(context.Background())
	done := 0
	err := dumpTo(ctx, uri, &lineWatcher{line: func(line string) {
		if strings.Contains(line, "done dumping `d.") {
			if done++; done == 2 {
				cancel(tool.ErrTerminated)
			}
		}
	}}, args...)
	if !errors.Is(err, tool.ErrTerminated) {
		t.Fatal(err)
	}
	if _, _, err := runDump(context.Background(), uri, io.Discard, append(args, "-d", "d")...); err == nil || !strings.Contains(err.Error(), "started with other options") {
		t.Errorf("other options: %v", err)
	}
	// Between the runs documents change, a copied collection is renamed and another dropped.
	d := c.Database("d")
	if _, err := d.Collection("c0").UpdateMany(context.Background(), bson.D{}, bson.D{{Key: "$set", Value: bson.D{{Key: "x", Value: 1}}}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Database("admin").RunCommand(context.Background(), bson.D{{Key: "renameCollection", Value: "d.c0"}, {Key: "to", Value: "d.moved"}}).Err(); err != nil {
		t.Fatal(err)
	}
	if err := d.Collection("c1").Drop(context.Background()); err != nil {
		t.Fatal(err)
	}
	fill(t, c, "d", "new", 50)
	res, log, err := runDump(context.Background(), uri, io.Discard, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if !strings.Contains(log, "keeping `d.") || len(res.NotReplayable) == 0 {
		t.Errorf("kept nothing, or the rename is not named: %v\n%s", res.NotReplayable, log)
	}
	target := cairntest.Start(t, cairntest.ReplSet("rs"))
	mustRestore(t, target, "--oplogReplay", "--dir", dir)
	compare(t, "resumed", state(t, c, "d"), state(t, connect(t, target), "d"))
}
