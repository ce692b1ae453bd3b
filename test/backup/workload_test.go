package backup

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/dump"
)

var (
	workloads = flag.Int("workloads", 20, "random workloads of TestDumpUnderWrites")
	seed      = flag.Uint64("seed", 0, "run the workload of this seed only")
)

// TestDumpUnderWrites takes dumps with --oplog while random writes and DDL go on, in all
// forms. What is restored must be the server as it was at the last entry of the dump: the
// writer notes the state after the dump's end is known to have passed, on a copy that is
// frozen because the writer stops within the dump.
func TestDumpUnderWrites(t *testing.T) {
	t.Parallel()
	seeds := []uint64{*seed}
	if *seed == 0 {
		seeds = nil
		for s := range *workloads {
			seeds = append(seeds, uint64(s+1))
		}
	}
	target := cairntest.Start(t, cairntest.ReplSet("rs"))
	for _, s := range seeds {
		t.Run(fmt.Sprint("seed=", s), func(t *testing.T) { dumpUnderWrites(t, s, target) })
	}
}

// gate is a writer for --archive to standard output that lets the test decide when the
// dump goes on: the reader of the collections waits for it, so writes happen in the middle.
type gate struct {
	w    io.Writer
	at   int // let this many bytes through, then call hit once
	n    int
	hit  func()
	once sync.Once
}

func (g *gate) Write(p []byte) (int, error) {
	g.n += len(p)
	if g.n >= g.at {
		g.once.Do(g.hit)
	}
	return g.w.Write(p)
}

func dumpUnderWrites(t *testing.T, seed uint64, target string) {
	r := rand.New(rand.NewPCG(seed, 99)) //nolint:gosec // repeatable
	uri := cairntest.Start(t, cairntest.ReplSet("rs"))
	c := connect(t, uri)
	w := &writer{t: t, r: rand.New(rand.NewPCG(seed, 100)), c: c} //nolint:gosec // repeatable, and its goroutine's own
	for range 60 {
		w.step(false)
	}
	ctx, stop := context.WithCancel(context.Background())
	written := make(chan struct{})
	go func() {
		defer close(written)
		for ctx.Err() == nil {
			w.step(true)
		}
	}()

	dir := t.TempDir()
	args, back := forms(r, dir)
	var stdout io.Writer = io.Discard
	var stdin io.Reader
	var read chan error
	dst := connect(t, target)
	dropAll(t, dst)
	if args[1] == "--archive" {
		// A restore reads at the same time. Half way the writer stops, or at the end.
		pr, pw := io.Pipe()
		stdout, stdin = pw, pr
		read = make(chan error, 1)
		go func() {
			log, err := runRestore(context.Background(), target, stdin, back...)
			if err != nil {
				err = errors.New(err.Error() + "\n" + log)
			}
			pr.CloseWithError(err)
			read <- err
		}()
		stdout = &gate{w: pw, at: 5000, hit: stop}
		defer pw.Close()
		res, log, err := runDump(context.Background(), uri, stdout, args...)
		stop()
		<-written
		pw.CloseWithError(err)
		if rerr := <-read; err != nil || rerr != nil {
			t.Fatalf("dump %q: %v\nrestore: %v\n%s", args, err, rerr, log)
		}
		check(t, c, dst, res, fmt.Sprint(args))
		return
	}
	// The dump's own phases are the moments: it is stopped from the log.
	res, log, err := dumpWatched(uri, args, func(line string) {
		if strings.Contains(line, "done dumping") && r.IntN(3) == 0 || strings.Contains(line, "writing captured oplog") {
			stop()
		}
	})
	stop()
	<-written
	if err != nil {
		t.Fatalf("dump %q: %v\n%s", args, err, log)
	}
	if log, err := runRestore(context.Background(), target, nil, back...); err != nil {
		t.Fatalf("restore %q: %v\n%s", back, err, log)
	}
	check(t, c, dst, res, fmt.Sprint(args))
}

// forms picks a form of the dump, and how it is restored.
func forms(r *rand.Rand, dir string) (args, back []string) {
	args = []string{"--oplog"}
	back = []string{"--oplogReplay"}
	d, a := filepath.Join(dir, "d"), filepath.Join(dir, "a")
	switch r.IntN(6) {
	case 0, 1:
		return append(args, "-o", d), append(back, "--dir", d)
	case 2:
		return append(args, "-o", d, "--compress", "zstd", "--manifest"), append(back, "--dir", d)
	case 3:
		return append(args, "--archive="+a, "--gzip"), append(back, "--archive="+a, "--gzip")
	case 4:
		return append(args, "-o", d, "--resume", "-j", "1"), append(back, "--dir", d)
	}
	return append(args, "--archive"), append(back, "--archive")
}

// check compares the restored server with the source at the dump's last entry: what was
// written after it is undone by replaying nothing: the source's oplog tells whether
// anything was, and then the source is brought to that moment on a third server.
func check(t *testing.T, src, dst *mongo.Client, res dump.Result, what string) {
	t.Helper()
	var later []bson.Raw
	cur, err := src.Database("local").Collection("oplog.rs").Find(context.Background(),
		bson.D{{Key: "ts", Value: bson.D{{Key: "$gt", Value: res.OplogEnd}}}, {Key: "op", Value: bson.D{{Key: "$ne", Value: "n"}}}})
	if err == nil {
		err = cur.All(context.Background(), &later)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(later) == 0 {
		explain(t, src, dst)
		compare(t, what, state(t, src, "w", "w2"), state(t, dst, "w", "w2"))
		return
	}
	// The frozen copy: everything up to the dump's end, made of the source's whole oplog.
	frozen := cairntest.Start(t, cairntest.ReplSet("rs"))
	dir := t.TempDir()
	whole := mustOplog(t, src, dir, res.OplogEnd)
	mustRestore(t, frozen, "--oplogReplay", "--dir", whole)
	copied := connect(t, frozen)
	explain(t, copied, dst)
	compare(t, what+" (frozen)", state(t, copied, "w", "w2"), state(t, dst, "w", "w2"))
}

// explain logs the first differences of documents and indexes.
func explain(t *testing.T, a, b *mongo.Client) {
	t.Helper()
	for _, db := range []string{"w", "w2"} {
		for n := range 6 {
			coll := "c" + string(rune('0'+n))
			x, y := a.Database(db).Collection(coll), b.Database(db).Collection(coll)
			if i, j := existing(t, x), existing(t, y); i != j {
				t.Logf("%s.%s: indexes %s and %s", db, coll, i, j)
			}
			left, right := byID(t, x), byID(t, y)
			for id, d := range left {
				if right[id] != d {
					t.Logf("%s.%s: %s and %s", db, coll, d, right[id])
					break
				}
			}
		}
	}
}

func existing(t *testing.T, c *mongo.Collection) string {
	names, err := c.Database().ListCollectionNames(context.Background(), bson.D{{Key: "name", Value: c.Name()}})
	if err != nil || len(names) == 0 {
		return ""
	}
	return fmt.Sprint(indexes(t, c))
}

func byID(t *testing.T, c *mongo.Collection) map[string]string {
	t.Helper()
	m := map[string]string{}
	cur, err := c.Find(context.Background(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	for cur.Next(context.Background()) {
		m[cur.Current.Lookup("_id").String()] = cur.Current.String()
	}
	return m
}

// mustOplog writes the source's oplog up to end as a dump of nothing else.
func mustOplog(t *testing.T, src *mongo.Client, dir string, end bson.Timestamp) string {
	t.Helper()
	cur, err := src.Database("local").Collection("oplog.rs").Find(context.Background(),
		bson.D{{Key: "ts", Value: bson.D{{Key: "$lte", Value: end}}}}, options.Find().SetSort(bson.D{{Key: "$natural", Value: 1}}))
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for cur.Next(context.Background()) {
		ns, _ := cur.Current.Lookup("ns").StringValueOK()
		if strings.HasPrefix(ns, "w.") || strings.HasPrefix(ns, "w2.") || ns == "admin.$cmd" {
			all = append(all, cur.Current...)
		}
	}
	if err := cur.Err(); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "oplog.bson"), all)
	return dir
}

func dropAll(t *testing.T, c *mongo.Client) {
	t.Helper()
	for _, db := range []string{"w", "w2"} {
		if err := c.Database(db).Drop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// writer makes random changes.
type writer struct {
	t *testing.T
	r *rand.Rand
	c *mongo.Client
	n int
}

func (w *writer) coll() *mongo.Collection {
	db := []string{"w", "w", "w", "w2"}[w.r.IntN(4)]
	return w.c.Database(db).Collection("c" + string(rune('0'+w.r.IntN(6))))
}

// step makes one change. Errors that a random order of DDL brings are part of it.
func (w *writer) step(ddl bool) {
	ctx := context.Background()
	w.n++
	c, id := w.coll(), w.r.IntN(300)
	byID := bson.D{{Key: "_id", Value: id}}
	var err error
	switch k := w.r.IntN(100); {
	case k < 30:
		var docs []any
		for i := range 1 + w.r.IntN(20) {
			docs = append(docs, bson.D{{Key: "_id", Value: w.r.IntN(300)*100 + i}, {Key: "n", Value: w.n}, {Key: "pad", Value: strings.Repeat("x", w.r.IntN(500))}})
		}
		_, err = c.InsertMany(ctx, docs, options.InsertMany().SetOrdered(false))
	case k < 50:
		_, err = c.UpdateOne(ctx, byID, bson.D{{Key: "$set", Value: bson.D{{Key: "n", Value: w.n}}}, {Key: "$inc", Value: bson.D{{Key: "count", Value: 1}}}}, options.UpdateOne().SetUpsert(true))
	case k < 60:
		_, err = c.UpdateMany(ctx, bson.D{{Key: "n", Value: bson.D{{Key: "$mod", Value: bson.A{3, w.r.IntN(3)}}}}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "count", Value: 1}}}, {Key: "$push", Value: bson.D{{Key: "a", Value: w.n}}}})
	case k < 72:
		_, err = c.DeleteMany(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: id}, {Key: "$lt", Value: id + 500}}}})
	case k < 82:
		err = w.transaction()
	case !ddl && k < 90:
		_, err = c.ReplaceOne(ctx, byID, bson.D{{Key: "n", Value: w.n}}, options.Replace().SetUpsert(true))
	case k < 86:
		_, err = c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: []string{"n", "count", "pad"}[w.r.IntN(3)], Value: 1}}})
	case k < 88:
		err = c.Indexes().DropOne(ctx, "n_1")
	case k < 90:
		err = c.Drop(ctx)
	case k < 95:
		to := c.Database().Name() + ".c" + string(rune('0'+w.r.IntN(6)))
		err = w.c.Database("admin").RunCommand(ctx, bson.D{{Key: "renameCollection", Value: c.Database().Name() + "." + c.Name()}, {Key: "to", Value: to}, {Key: "dropTarget", Value: true}}).Err()
	case k < 98:
		_, err = c.Aggregate(ctx, mongo.Pipeline{bson.D{{Key: "$match", Value: bson.D{{Key: "n", Value: bson.D{{Key: "$gt", Value: w.n - 40}}}}}}, bson.D{{Key: "$out", Value: "c" + string(rune('0'+w.r.IntN(6)))}}})
	default:
		err = c.Database().CreateCollection(ctx, c.Name())
	}
	var se mongo.ServerError
	if err != nil && !errors.As(err, &se) {
		w.t.Errorf("step %d: %v", w.n, err)
	}
}

func (w *writer) transaction() error {
	ctx := context.Background()
	s, err := w.c.StartSession()
	if err != nil {
		return err
	}
	defer s.EndSession(ctx)
	if err := s.StartTransaction(); err != nil {
		return err
	}
	tx := mongo.NewSessionContext(ctx, s)
	for range 1 + w.r.IntN(5) {
		if _, err := w.coll().UpdateOne(tx, bson.D{{Key: "_id", Value: w.r.IntN(300)}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "t", Value: 1}}}}, options.UpdateOne().SetUpsert(true)); err != nil {
			_ = s.AbortTransaction(ctx)
			return err
		}
	}
	if w.r.IntN(4) == 0 {
		return s.AbortTransaction(ctx)
	}
	return s.CommitTransaction(ctx)
}
