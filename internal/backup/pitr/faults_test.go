package pitr

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn"
	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/bson"
)

// A child process of the tests does one operation, so that it can be killed.
const (
	childEnv = "CAIRN_PITR_TEST_CHILD" // the operation
	childArg = "CAIRN_PITR_TEST_ARGS"  // repository, URI, separated by a space
)

func TestMain(m *testing.M) {
	if op := os.Getenv(childEnv); op != "" {
		if err := child(op); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(op string) error {
	ctx := context.Background()
	url, uri, _ := strings.Cut(os.Getenv(childArg), " ")
	r, err := repo.Open(ctx, url, repo.OpenOptions{})
	if err != nil {
		return err
	}
	client, err := connectClient(uri)
	if err != nil {
		return err
	}
	e := &Env{Repo: r, Client: client, Tool: "test", Pace: -1}
	fmt.Println("ready")
	switch op {
	case "full":
		_, err = e.Full(ctx, FullOptions{})
	case "incr":
		_, err = e.Incr(ctx, IncrOptions{SliceBytes: 20_000})
	case "merge":
		_, err = e.merge(ctx)
	case "prune":
		_, err = e.Prune(ctx, PruneOptions{Policy: chain.Policy{Last: 2}})
	case "run":
		var run *Runner
		if run, err = e.NewRunner(RunOptions{Every: 20 * time.Millisecond, IdleEvery: 50 * time.Millisecond, FullEvery: 300 * time.Millisecond, MergeEvery: 100 * time.Millisecond, LockWait: 5 * time.Second}); err == nil {
			err = run.Run(ctx)
		}
	case "restore", "restore-renamed":
		o := RestoreOptions{To: chain.Moment{Latest: true}, Verify: true, NoUsers: true, Resumable: true}
		if op == "restore-renamed" {
			o.Rename = renamed
		}
		var p *RestorePlan
		if p, err = e.PlanRestore(ctx, o); err == nil {
			_, err = e.Restore(ctx, p, o)
		}
	}
	return err
}

// spawn starts a child and returns once it has opened everything.
func spawn(t *testing.T, op, url, uri string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, "-test.run=^$")
	c.Env = append(os.Environ(), childEnv+"="+op, childArg+"="+url+" "+uri)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 6)
	if _, err := out.Read(line); err != nil {
		t.Fatalf("%s: %v", op, err)
	}
	return c
}

// Children of every kind are killed at random moments while a history goes on. Whatever they leave
// is whole: it verifies, the chain goes on without a gap, and the end comes back as it was.
func TestKilledAtAnyMoment(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	e := newEnvAt(t, dir)
	e.Say = nil
	db, err := cairn.Open(cairn.Options{InMemory: true, ReplSet: "rs0", CacheBytes: 16 << 20, OplogBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	e.Client = connect(t, db.URI())
	rnd := rand.New(rand.NewPCG(5, 5))
	h := &history{t: t, client: e.Client, rnd: rnd}
	for range 40 {
		h.step()
	}
	must(e.Full(ctx, FullOptions{}))(t)
	h.insert()
	must(e.Incr(ctx, IncrOptions{}))(t)
	for round := range 8 {
		op := []string{"run", "full", "incr", "merge", "prune", "run"}[round%6]
		c := spawn(t, op, "file://"+dir, db.URI())
		deadline := time.After(time.Duration(1+rnd.IntN(250)) * time.Millisecond)
		done := make(chan error, 1)
		go func() { done <- c.Wait() }()
		for alive := true; alive; {
			h.step()
			select {
			case <-deadline:
				if err := c.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Fatal(err)
				}
				<-done
				alive = false
			case <-done:
				alive = false
			default:
			}
		}
	}
	must(e.Incr(ctx, IncrOptions{}))(t)
	if v, err := e.Verify(ctx, VerifyOptions{}, func(s string) { t.Log(s) }); err != nil {
		t.Fatalf("%v %+v", err, v)
	}
	st := must(e.State(ctx))(t)
	if len(st.Coverage.Windows) != 1 || len(st.Coverage.Gaps) != 0 {
		t.Fatalf("windows %+v, gaps %+v", st.Coverage.Windows, st.Coverage.Gaps)
	}
	want := stateOf(t, e.Client)
	newest, _ := st.Coverage.Newest()
	if back := restoreTo(t, e, newest.TS); back != want {
		t.Errorf("comes back as\n%s\nbut was\n%s", back, want)
	}

	// A restore that is killed again and again gets there.
	other, err := cairn.Open(cairn.Options{InMemory: true, CacheBytes: 16 << 20, OplogBytes: 16 << 20, Parameters: []string{"ttlMonitorEnabled=false"}})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	life := 5 * time.Millisecond
	for finished := false; !finished; life += life/8 + time.Millisecond { // long enough in the end, however slow the machine is
		c := spawn(t, "restore", "file://"+dir, other.URI())
		kill := time.AfterFunc(life, func() { _ = c.Process.Kill() })
		err := c.Wait()
		if finished = kill.Stop(); finished && err != nil {
			t.Fatalf("after %v: %v", life, err)
		}
	}
	if back := stateOf(t, connect(t, other.URI())); back != want {
		t.Errorf("after interruptions it comes back as\n%s\nbut was\n%s", back, want)
	}
}

// renamed is a restore under other names, where collections cannot keep their UUIDs.
var renamed = []string{"pa.*=qa.*"}

// A restore that is killed in each of its phases, and again in the run that goes on, ends with what
// one without interruption ends with; with the UUIDs of the source, and under other names.
func TestRestoreKilledInAnyPhase(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	e := newEnvAt(t, dir, cairntest.ReplSet("rs0"))
	e.Say = nil
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 7))
	h := &history{t: t, client: e.Client, rnd: rnd}
	series := e.Client.Database("pb").Collection("series")
	if err := e.Client.Database("pb").CreateCollection(ctx, "series", options.CreateCollection().SetTimeSeriesOptions(options.TimeSeries().SetTimeField("t").SetMetaField("m"))); err != nil {
		t.Fatal(err)
	}
	measure := func() {
		must(series.InsertOne(ctx, dbson.D{{Key: "t", Value: time.UnixMilli(int64(h.n) * 1000)}, {Key: "m", Value: h.n % 3}, {Key: "v", Value: h.n}}))(t)
	}
	for range 40 {
		h.step()
		measure()
	}
	full := make(chan error, 1)
	go func() { _, err := e.Full(ctx, FullOptions{}); full <- err }()
	for alive := true; alive; {
		h.step()
		select {
		case err := <-full:
			if err != nil {
				t.Fatal(err)
			}
			alive = false
		default:
		}
	}
	for i := range 500 {
		if h.step(); i%10 == 0 {
			measure()
		}
	}
	must(e.Incr(ctx, IncrOptions{}))(t)
	for _, op := range []string{"restore", "restore-renamed"} {
		t.Run(op, func(t *testing.T) {
			run := func(killed bool) string {
				srv, err := embedded(ctx, "")
				if err != nil {
					t.Fatal(err)
				}
				defer srv.Close()
				client, err := connectClient(srv.URI())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = client.Disconnect(context.Background()) }()
				must(client.Database("pa").Collection("c2").InsertOne(ctx, dbson.D{{Key: "_id", Value: "before"}}))(t)
				phases := map[int]int{}
				for try := 0; ; try++ {
					c := spawn(t, op, "file://"+dir, srv.URI())
					delay := time.Hour
					if killed {
						delay = time.Duration((5+rnd.IntN(110))*(8+try*try)/8) * time.Millisecond // ends, however slow the machine
					}
					kill := time.AfterFunc(delay, func() { _ = c.Process.Kill() })
					err := c.Wait()
					if kill.Stop() {
						if err != nil {
							t.Fatalf("after kills in phases %v: %v", phases, err)
						}
						break
					}
					if p := must(e.on(client).readProgress(ctx))(t); p != nil {
						phases[p.Phase]++
					}
				}
				t.Logf("killed in phases %v", phases)
				return stateOf(t, client)
			}
			text := func(s string) string {
				if op == "restore" {
					return bucketsText.ReplaceAllString(s, "$1")
				}
				return uuidText.ReplaceAllString(s, "$1")
			}
			want := text(run(false))
			for range *killRounds {
				if got := text(run(true)); got != want {
					t.Fatalf("after interruptions it comes back as\n%s\nnot as\n%s", got, want)
				}
			}
		})
	}
}

var killRounds = flag.Int("kill-rounds", 6, "restores that are interrupted")

// What stateOf says of a collection up to its UUID, where that is made anew in each run.
var (
	uuidText    = regexp.MustCompile(`(?m)^(\S+ \d+ [0-9a-f]{16}) [0-9a-f]{8}`)
	bucketsText = regexp.MustCompile(`(?m)^(\S+\.system\.buckets\.\S+ \d+ [0-9a-f]{16}) [0-9a-f]{8}`)
)

// insert makes sure that something happened.
func (h *history) insert() {
	h.n++
	if _, err := h.client.Database("pa").Collection("sure").InsertOne(h.t.Context(), dbson.D{{Key: "n", Value: h.n}}); err != nil {
		h.t.Fatal(err)
	}
}

// A byte that changed in any object is found and named.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	e := newEnvAt(t, dir)
	coll := e.Client.Database("d").Collection("c")
	must(coll.InsertMany(ctx, docs(3000, 0)))(t)
	must(e.Full(ctx, FullOptions{}))(t)
	must(coll.InsertMany(ctx, docs(3000, 3000)))(t)
	must(e.Incr(ctx, IncrOptions{}))(t)
	must(coll.InsertOne(ctx, dbson.D{{Key: "_id", Value: -1}}))(t)
	must(e.Incr(ctx, IncrOptions{}))(t)
	must(e.Verify(ctx, VerifyOptions{}, func(s string) { t.Error(s) }))(t)
	kinds := map[string]int{}
	err := filepath.WalkDir(dir, func(path string, de fs.DirEntry, err error) error {
		if err != nil || de.IsDir() || strings.HasSuffix(path, ".attrs") || strings.Contains(path, "/locks") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		kind := filepath.Base(filepath.Dir(path))
		if strings.Contains(path, "/records/") { // rewritten by each verification
			return nil
		}
		kinds[kind]++
		for _, at := range []int{0, len(data) / 2, len(data) - 1} {
			bad := append([]byte(nil), data...)
			bad[at] ^= 4
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				return err
			}
			named := false
			_, err := verifyFresh(t, dir, func(s string) { named = named || strings.Contains(s, filepath.Base(path)) })
			if err == nil {
				t.Errorf("byte %d of %s changed, and nothing was found", at, path)
			} else if !named && !strings.Contains(err.Error(), filepath.Base(path)) && kind != filepath.Base(dir) {
				t.Errorf("byte %d of %s changed: not named in %v", at, path, err)
			}
		}
		return os.WriteFile(path, data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(kinds) < 4 { // the marker, manifests, packs, indexes
		t.Errorf("only %v were looked at", kinds)
	}
	if _, err := verifyFresh(t, dir, func(s string) { t.Error(s) }); err != nil {
		t.Error(err)
	}
}

// verifyFresh opens the repository anew and verifies it.
func verifyFresh(t *testing.T, dir string, say func(string)) (*Verified, error) {
	r, err := repo.Open(t.Context(), "file://"+dir, repo.OpenOptions{})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	e := &Env{Repo: r}
	return e.Verify(t.Context(), VerifyOptions{}, say)
}

// An oplog that was overrun is a gap: said, recorded, shown, and closed by a full backup alone.
func TestOverrunOplogIsAGap(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e := newEnvAt(t, t.TempDir())
	db, err := cairn.Open(cairn.Options{InMemory: true, ReplSet: "rs0", CacheBytes: 16 << 20, OplogBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	e.Client = connect(t, db.URI())
	coll := e.Client.Database("d").Collection("c")
	big := strings.Repeat("x", 100_000)
	fill := func() {
		for i := range 120 {
			must(coll.ReplaceOne(ctx, dbson.D{{Key: "_id", Value: i % 5}}, dbson.D{{Key: "x", Value: big}, {Key: "i", Value: i}}, upsert()))(t)
		}
	}
	must(coll.InsertOne(ctx, dbson.D{{Key: "_id", Value: "first"}}))(t)
	must(e.Full(ctx, FullOptions{}))(t)
	must(coll.InsertOne(ctx, dbson.D{{Key: "_id", Value: "second"}}))(t)
	slice := must(e.Incr(ctx, IncrOptions{}))(t)
	org := must(e.openSource(ctx))(t)
	for deadline := time.Now().Add(2 * time.Minute); must(org.Has(ctx, slice.To))(t); {
		if time.Now().After(deadline) {
			t.Fatal("the oplog keeps its entries whatever its size")
		}
		fill()
		// Changing what the oplog keeps cuts it at once, not at the server's next look at its size.
		must(e.command(ctx, "admin", bson.D("replSetResizeOplog", 1, "minRetentionHours", 0)))(t)
	}
	var gap *GapError
	for range 2 { // said each time
		if _, err := e.Incr(ctx, IncrOptions{}); !errors.As(err, &gap) || gap.Gap.From != slice.To {
			t.Fatalf("%v", err)
		}
	}
	st := must(e.State(ctx))(t)
	if len(st.Coverage.Gaps) != 1 || len(st.Coverage.OpenGaps()) != 1 {
		t.Fatalf("gaps %+v", st.Coverage.Gaps)
	}
	if s := must(e.Status(ctx))(t); s.Server == nil || s.Server.Continues {
		t.Errorf("status says that the chain can be continued: %+v", s.Server)
	}
	out, err := e.Incr(ctx, IncrOptions{FullOnGap: true})
	if !errors.As(err, &gap) || gap.Full == "" {
		t.Fatalf("%+v, %v", out, err)
	}
	must(coll.InsertOne(ctx, dbson.D{{Key: "_id", Value: "third"}}))(t)
	must(e.Incr(ctx, IncrOptions{}))(t)
	st = must(e.State(ctx))(t)
	if len(st.Coverage.Windows) != 2 || len(st.Coverage.OpenGaps()) != 1 || st.Coverage.Holes()[0].Gap == nil {
		t.Errorf("windows %+v, gaps %+v", st.Coverage.Windows, st.Coverage.OpenGaps())
	}
	var not *chain.NotRestorableError
	_, err = e.PlanRestore(ctx, RestoreOptions{To: chain.Moment{TS: slice.To.TS + 1, Exact: true}})
	if !errors.As(err, &not) || not.Gap == nil || *not.Before != slice.To.TS {
		t.Errorf("into the gap: %v", err)
	}
	restoreTo(t, e, slice.To.TS)
	newest, _ := st.Coverage.Newest()
	if back, want := restoreTo(t, e, newest.TS), stateOf(t, e.Client); back != want {
		t.Errorf("comes back as\n%s\nbut was\n%s", back, want)
	}
}

// The end of the chain is on no other server: its entry is taken for rolled back, which is a gap too.
func TestAnotherServer(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e := newEnv(t)
	must(e.Client.Database("d").Collection("c").InsertOne(ctx, dbson.D{{Key: "_id", Value: 1}}))(t)
	must(e.Full(ctx, FullOptions{}))(t)
	other := newEnv(t)
	must(other.Client.Database("d").Collection("c").InsertMany(ctx, docs(20, 0)))(t)
	var gap *GapError
	if _, err := e.on(other.Client).Incr(ctx, IncrOptions{}); !errors.As(err, &gap) {
		t.Errorf("%v", err)
	}
	set := newEnvSet(t, "rs1")
	set.Repo = e.Repo
	var src *SourceError
	if _, err := set.Full(ctx, FullOptions{}); !errors.As(err, &src) {
		t.Errorf("a replica set's backup into another server's repository: %v", err)
	}
	if _, err := set.Full(ctx, FullOptions{NewSource: true}); err != nil {
		t.Errorf("%v", err)
	}
}

// Two processes do not both continue the chain.
func TestSecondProcess(t *testing.T) {
	ctx := t.Context()
	e := newEnv(t)
	must(e.Full(ctx, FullOptions{}))(t)
	lk := must(e.Repo.LockWith(ctx, repo.LockRequest{Kind: repo.Shared, Scope: scopeOplog, Purpose: "the other one"}))(t)
	var locked *repo.LockedError
	if _, err := e.Incr(ctx, IncrOptions{}); !errors.As(err, &locked) || !strings.Contains(err.Error(), "the other one") {
		t.Errorf("%v", err)
	}
	if err := lk.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Incr(ctx, IncrOptions{}); err != nil {
		t.Error(err)
	}
}
