package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/internal/backup/dump"
	"github.com/cairndb/cairn/internal/backup/restore"
	"github.com/cairndb/cairn/internal/backup/tool"
)

func connect(t testing.TB, uri string) *mongo.Client {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(uri).SetDirect(true))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		gone, cancel := context.WithCancel(context.Background()) // its server may be
		cancel()
		_ = c.Disconnect(gone)
	})
	return c
}

// host makes "mongodb://host:port/" of a URI, without its options.
func host(uri string) string {
	uri, _, _ = strings.Cut(uri, "?")
	return uri
}

// logBuffer is a log that tests read.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// runDump runs `cairn dump` with arguments.
func runDump(ctx context.Context, uri string, stdout io.Writer, args ...string) (dump.Result, string, error) {
	var log logBuffer
	o, err := dump.ParseOptions(append([]string{host(uri)}, args...), false, "test", "")
	if err != nil {
		return dump.Result{}, "", err
	}
	r, err := dump.Run(ctx, o, tool.NewLog(&log, 0), nil, stdout)
	return r, log.String(), err
}

// lineWatcher hands each line of a log to a function.
type lineWatcher struct {
	logBuffer
	line func(string)
}

func (l *lineWatcher) Write(p []byte) (int, error) {
	l.line(string(p))
	return l.logBuffer.Write(p)
}

// dumpWatched is runDump with a look at every line of the log.
func dumpWatched(uri string, args []string, line func(string)) (dump.Result, string, error) {
	log := &lineWatcher{line: line}
	o, err := dump.ParseOptions(append([]string{host(uri)}, args...), false, "test", "")
	if err != nil {
		return dump.Result{}, "", err
	}
	r, err := dump.Run(context.Background(), o, tool.NewLog(log, 0), nil, io.Discard)
	return r, log.String(), err
}

// dumpTo is runDump with the log given.
func dumpTo(ctx context.Context, uri string, log io.Writer, args ...string) error {
	o, err := dump.ParseOptions(append([]string{host(uri)}, args...), false, "test", "")
	if err != nil {
		return err
	}
	_, err = dump.Run(ctx, o, tool.NewLog(log, 0), nil, io.Discard)
	return err
}

func writeFile(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustDump(t testing.TB, uri string, args ...string) dump.Result {
	t.Helper()
	r, log, err := runDump(context.Background(), uri, io.Discard, args...)
	if err != nil {
		t.Fatalf("dump %q: %v\n%s", args, err, log)
	}
	return r
}

// runRestore runs `cairn restore` with arguments.
func runRestore(ctx context.Context, uri string, stdin io.Reader, args ...string) (string, error) {
	var log logBuffer
	o, err := restore.ParseOptions(tool.Config{Version: "test"}, false, append([]string{"--uri", host(uri)}, args...))
	if err != nil {
		return "", err
	}
	o.Stdin = stdin
	client, err := o.Connect(ctx)
	if err != nil {
		return "", err
	}
	defer client.Disconnect(context.WithoutCancel(ctx))
	server, err := tool.Facts(ctx, client)
	if err != nil {
		return "", err
	}
	l := tool.NewLog(&log, 0)
	_, err = restore.New(o, client, server, l, nil).Run(ctx)
	return log.String(), err
}

func mustRestore(t testing.TB, uri string, args ...string) {
	t.Helper()
	if log, err := runRestore(context.Background(), uri, nil, args...); err != nil {
		t.Fatalf("restore %q: %v\n%s", args, err, log)
	}
}

// state is a digest of every collection: options, indexes and documents sorted by _id.
func state(t testing.TB, c *mongo.Client, dbs ...string) map[string]string {
	t.Helper()
	ctx := context.Background()
	m := map[string]string{}
	for _, db := range dbs {
		cur, err := c.Database(db).ListCollections(ctx, bson.D{})
		if err != nil {
			t.Fatal(err)
		}
		var infos []struct {
			Name, Type string
			Options    bson.D
		}
		if err := cur.All(ctx, &infos); err != nil {
			t.Fatal(err)
		}
		for _, ci := range infos {
			if strings.HasPrefix(ci.Name, "system.") && ci.Name != "system.js" && !strings.HasPrefix(ci.Name, tool.BucketPrefix) {
				continue
			}
			h := sha256.New()
			fmt.Fprintf(h, "%s %v\n", ci.Type, ci.Options)
			n := 0
			if ci.Type != "view" && ci.Type != "timeseries" {
				specs := indexes(t, c.Database(db).Collection(ci.Name))
				fmt.Fprintf(h, "%s\n", specs)
				n = documents(t, c.Database(db).Collection(ci.Name), h)
			}
			m[db+"."+ci.Name] = fmt.Sprintf("%d documents %s", n, hex.EncodeToString(h.Sum(nil)[:8]))
		}
	}
	return m
}

func indexes(t testing.TB, c *mongo.Collection) []string {
	t.Helper()
	cur, err := c.Indexes().List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var specs []bson.Raw
	if err := cur.All(context.Background(), &specs); err != nil {
		t.Fatal(err)
	}
	var l []string
	for _, s := range specs {
		l = append(l, s.String())
	}
	slices.Sort(l)
	return l
}

func documents(t testing.TB, c *mongo.Collection, h io.Writer) int {
	t.Helper()
	cur, err := c.Find(context.Background(), bson.D{}, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}))
	if err != nil {
		t.Fatalf("%s: %v", c.Name(), err)
	}
	defer cur.Close(context.Background())
	n := 0
	for cur.Next(context.Background()) {
		if _, err := h.Write(cur.Current); err != nil {
			t.Fatal(err)
		}
		n++
	}
	if err := cur.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

func compare(t testing.TB, what string, want, got map[string]string) {
	t.Helper()
	for _, ns := range slices.Sorted(maps.Keys(want)) {
		if got[ns] != want[ns] {
			t.Errorf("%s: %s is %q, want %q", what, ns, got[ns], want[ns])
		}
	}
	for _, ns := range slices.Sorted(maps.Keys(got)) {
		if want[ns] == "" {
			t.Errorf("%s: %s should not be there", what, ns)
		}
	}
}

func files(t testing.TB, dir string) (names []string) {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}
