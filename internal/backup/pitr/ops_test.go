package pitr

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/pitr/find"
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

// newest is the newest entry of the server, to go back to.
func newest(t *testing.T, e *Env) bson.Timestamp {
	t.Helper()
	return must(must(e.openSource(t.Context()))(t).barrier(t.Context()))(t).TS
}

func count(t *testing.T, c *mongo.Client, ns string) int64 {
	t.Helper()
	db, coll, _ := strings.Cut(ns, ".")
	return must(c.Database(db).Collection(coll).CountDocuments(t.Context(), dbson.D{}))(t)
}

func TestServeDrillAndChanges(t *testing.T) {
	t.Parallel()
	ctx, e := t.Context(), newEnv(t)
	coll := e.Client.Database("shop").Collection("orders")
	must(coll.InsertMany(ctx, docs(500, 0)))(t)
	must(e.Client.Database("shop").Collection("still").InsertMany(ctx, docs(50, 0)))(t)
	must(e.Full(ctx, FullOptions{}))(t)
	must(coll.InsertOne(ctx, dbson.D{{Key: "_id", Value: "x"}, {Key: "name", Value: "lisi"}, {Key: "age", Value: 20}}))(t)
	must(coll.UpdateByID(ctx, "x", dbson.D{{Key: "$set", Value: dbson.D{{Key: "age", Value: 21}}}}))(t)
	before := newest(t, e)
	must(coll.DeleteMany(ctx, dbson.D{{Key: "age", Value: dbson.D{{Key: "$lt", Value: 50}}}}))(t)
	must(e.Incr(ctx, IncrOptions{}))(t)

	for _, o := range []DrillOptions{{To: chain.Moment{Latest: true}}, {Random: true, NoSource: true}} {
		d := must(e.Drill(ctx, o))(t)
		if !d.OK() || d.Comparison.Documents == 0 && !o.Random || !o.NoSource && d.Comparison.Source != 2 {
			t.Errorf("%+v", d)
		}
	}
	s := must(e.Status(ctx))(t)
	if len(s.Drills) != 2 || !s.Drills[0].OK {
		t.Errorf("drills %+v", s.Drills)
	}

	served := must(e.Serve(ctx, RestoreOptions{To: chain.Moment{TS: before, Exact: true}, Include: []string{"shop.orders"}}, ""))(t)
	past := connect(t, served.URI)
	if n := count(t, past, "shop.orders"); n != 501 {
		t.Errorf("%d documents before the deletion", n)
	}
	if n := count(t, past, "shop.still"); n != 0 {
		t.Errorf("%d documents of what was not asked for", n)
	}
	if _, err := past.Database("shop").Collection("orders").InsertOne(ctx, dbson.D{}); !hasCode(err, 20) {
		t.Errorf("a write to the past: %v", err)
	}
	if err := served.Close(); err != nil {
		t.Error(err)
	}

	var got []string
	sum, err := e.Changes(ctx, ChangesOptions{NS: "shop.orders", Filter: extjson.MustParse(`{"name": "lisi"}`)}, func(c find.Change) error {
		got = append(got, c.Op+" "+c.Effect)
		return nil
	})
	if want := `insert {"_id":"x","name":"lisi","age":20}; update set age = 21; delete `; err != nil || strings.Join(got, "; ") != want {
		t.Errorf("%q, want %q (%v)", strings.Join(got, "; "), want, err)
	}
	if sum.Changes != 3 || len(sum.Runs) != 1 {
		t.Errorf("%+v", sum)
	}
	got = nil
	if _, err := e.Changes(ctx, ChangesOptions{NS: "shop.orders", Filter: extjson.MustParse(`{"_id": 7}`), From: chain.Moment{TS: before, Exact: true}}, func(c find.Change) error {
		got = append(got, c.Op)
		return nil
	}); err != nil || strings.Join(got, " ") != "delete" {
		t.Errorf("%v, %v", got, err)
	}
}

// One collection, beside the live one, under another name, with its oplog.
func TestRestoreUnderAnotherName(t *testing.T) {
	t.Parallel()
	ctx, e := t.Context(), newEnv(t)
	orders := e.Client.Database("shop").Collection("orders")
	must(orders.InsertMany(ctx, docs(100, 0)))(t)
	must(e.Client.Database("shop").Collection("users").InsertMany(ctx, docs(10, 0)))(t)
	must(e.Full(ctx, FullOptions{}))(t)
	must(orders.InsertMany(ctx, docs(5, 100)))(t)
	must(orders.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: dbson.D{{Key: "age", Value: 1}}}))(t)
	at := newest(t, e)
	must(orders.DeleteMany(ctx, dbson.D{}))(t)
	must(e.Client.Database("shop").Collection("users").DeleteMany(ctx, dbson.D{}))(t)
	must(e.Incr(ctx, IncrOptions{}))(t)
	o := RestoreOptions{To: chain.Moment{TS: at, Exact: true}, Include: []string{"shop.orders"}, Rename: []string{"shop.orders=shop.before"}, Verify: true, Resumable: true}
	p := must(e.PlanRestore(ctx, o))(t)
	if len(p.Overwritten) != 0 || len(p.Collections) != 1 || p.Collections[0].To != "shop.before" {
		t.Errorf("%+v", p)
	}
	must(e.Restore(ctx, p, o))(t)
	if a, b, c := count(t, e.Client, "shop.before"), count(t, e.Client, "shop.orders"), count(t, e.Client, "shop.users"); a != 105 || b != 0 || c != 0 {
		t.Errorf("before %d, orders %d, users %d", a, b, c)
	}
	if specs := must(e.Client.Database("shop").Collection("before").Indexes().ListSpecifications(ctx))(t); len(specs) != 2 {
		t.Errorf("%d indexes", len(specs))
	}
	// What is there is named before it is dropped, and dropped.
	must(orders.InsertOne(ctx, dbson.D{{Key: "_id", Value: "new"}}))(t)
	o = RestoreOptions{To: chain.Moment{TS: at, Exact: true}, Verify: true, Resumable: true, NoUsers: true}
	p = must(e.PlanRestore(ctx, o))(t)
	if got := strings.Join(p.Overwritten, " "); got != "shop.orders shop.users" || strings.Join(p.Untouched, " ") != "shop.before" {
		t.Errorf("drops %q, leaves %q", got, p.Untouched)
	}
	must(e.Restore(ctx, p, o))(t)
	if a, b := count(t, e.Client, "shop.orders"), count(t, e.Client, "shop.users"); a != 105 || b != 10 {
		t.Errorf("orders %d, users %d", a, b)
	}
	if s := must(e.readProgress(ctx))(t); s != nil {
		t.Errorf("the state of the restore is still there: %+v", s)
	}
}

// A collection that was given another name since the moment is no part of the restore, and is not
// written to, though it has the UUID of one that is; and so is one that the oplog made.
func TestRestoreLeavesWhatWasRenamedAlone(t *testing.T) {
	ctx, e := t.Context(), newEnv(t)
	db := e.Client.Database("shop")
	must(db.Collection("a").InsertMany(ctx, docs(10, 0)))(t)
	must(e.Full(ctx, FullOptions{}))(t)
	must(db.Collection("b").InsertMany(ctx, docs(10, 0)))(t)
	must(db.Collection("a").InsertMany(ctx, docs(10, 10)))(t)
	must(e.Incr(ctx, IncrOptions{}))(t)
	at := newest(t, e)
	for _, n := range []string{"a", "b"} {
		if err := e.Client.Database("admin").RunCommand(ctx, dbson.D{{Key: "renameCollection", Value: "shop." + n}, {Key: "to", Value: "shop.old_" + n}}).Err(); err != nil {
			t.Fatal(err)
		}
		must(db.Collection("old_"+n).DeleteMany(ctx, dbson.D{}))(t)
		must(db.Collection("old_"+n).InsertOne(ctx, dbson.D{{Key: "_id", Value: "kept"}}))(t)
	}
	for range 2 {
		o := RestoreOptions{To: chain.Moment{TS: at, Exact: true}, Verify: true, Resumable: true, NoUsers: true}
		p := must(e.PlanRestore(ctx, o))(t)
		if got := strings.Join(p.Untouched, " "); got != "shop.old_a shop.old_b" {
			t.Errorf("leaves %q alone", got)
		}
		must(e.Restore(ctx, p, o))(t)
		for ns, want := range map[string]int64{"shop.a": 20, "shop.b": 10, "shop.old_a": 1, "shop.old_b": 1} {
			if n := count(t, e.Client, ns); n != want {
				t.Errorf("%s has %d documents, not %d", ns, n, want)
			}
		}
	}
}

func TestPruneKeepsWhatItSays(t *testing.T) {
	t.Parallel()
	ctx, e := t.Context(), newEnv(t)
	coll := e.Client.Database("d").Collection("c")
	for i := range 4 {
		must(coll.InsertMany(ctx, docs(300, i*300)))(t)
		must(e.Full(ctx, FullOptions{}))(t)
		must(coll.InsertMany(ctx, docs(10, 10_000+i*10)))(t)
		must(e.Incr(ctx, IncrOptions{}))(t)
	}
	st := must(e.State(ctx))(t)
	dry := must(e.Prune(ctx, PruneOptions{Policy: chain.Policy{Last: 2}, DryRun: true}))(t)
	if dry.Deleted == 0 || len(must(e.State(ctx))(t).Coverage.Backups) != len(st.Coverage.Backups) {
		t.Errorf("a dry run deleted: %+v", dry)
	}
	got := must(e.Prune(ctx, PruneOptions{Policy: chain.Policy{Last: 2}}))(t)
	if got.Deleted != dry.Deleted || got.Sweep.Deleted != dry.Sweep.Deleted || got.Sweep.DeletedBytes != dry.Sweep.DeletedBytes || got.Sweep.Deleted == 0 {
		t.Errorf("deleted %d and %+v\nsaid %d and %+v", got.Deleted, got.Sweep, dry.Deleted, dry.Sweep)
	}
	after := must(e.State(ctx))(t)
	n1, _ := st.Coverage.Newest()
	n2, _ := after.Coverage.Newest()
	if n1 != n2 || len(after.Coverage.Windows) != 1 {
		t.Errorf("newest %v, was %v; %+v", n2, n1, after.Coverage.Windows)
	}
	if v, err := e.Verify(ctx, VerifyOptions{}, func(s string) { t.Log(s) }); err != nil {
		t.Errorf("%v %+v", err, v)
	}
	for _, ts := range []bson.Timestamp{after.Coverage.Windows[0].From.TS, n2.TS} {
		restoreTo(t, e, ts)
	}
}

// The continuous backup: it takes the first full backup by itself, keeps up, survives a restart of
// the server, and stores what it has when it ends.
func TestRun(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e := newEnvAt(t, t.TempDir())
	dir := t.TempDir()
	open := func(port int) *cairn.DB {
		db, err := cairn.Open(cairn.Options{Dir: dir, Port: port, CacheBytes: 16 << 20, OplogBytes: 16 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open(0)
	defer func() { db.Close() }()
	e.Client = connect(t, db.URI())
	coll := e.Client.Database("d").Collection("c")
	must(coll.InsertMany(ctx, docs(100, 0)))(t)
	r := must(e.NewRunner(RunOptions{Every: 20 * time.Millisecond, IdleEvery: 20 * time.Millisecond, FullEvery: 200 * time.Millisecond}))(t)
	runCtx, cancel := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	defer cancel(nil)
	go func() { ended <- r.Run(runCtx) }()
	waitFor(t, "the first full backup", func() bool { return r.Status().Fulls > 0 })
	for i := range 30 {
		must(coll.InsertMany(ctx, docs(10, 1000+10*i)))(t)
		if i == 15 {
			waitFor(t, "slices", func() bool { return r.Status().Slices > 0 })
			port := db.Port()
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the status to say that the server is away", func() bool { return r.Status().LastError != "" })
			db = open(port)
		}
	}
	fulls := r.Status().Fulls
	waitFor(t, "a scheduled full backup", func() bool { return r.Status().Fulls > fulls })
	end := newest(t, e)
	waitFor(t, "the end", func() bool { return r.Status().Stored.TS >= end })
	if s := r.Status(); s.LastError != "" {
		t.Errorf("the server is back, the status says %q", s.LastError)
	}
	must(coll.InsertMany(ctx, docs(7, 5000)))(t)
	last := newest(t, e)
	waitFor(t, "the last entries", func() bool { return r.Status().Captured.TS >= last || r.Status().Stored.TS >= last })
	cancel(errors.New("SIGTERM")) // as the command line does
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	st := must(e.State(ctx))(t)
	if n, _ := st.Coverage.Newest(); n.TS < last || len(st.Coverage.Windows) != 1 {
		t.Errorf("stored up to %v, %+v", n, st.Coverage.Windows)
	}
	if back, want := restoreTo(t, e, last), stateOf(t, e.Client); back != want {
		t.Errorf("comes back as\n%s\nbut was\n%s", back, want)
	}
	if locks := must(e.Repo.Locks(ctx))(t); len(locks) != 0 {
		t.Errorf("locks are left: %v", locks)
	}
}

// startRun runs a continuous backup; the function ends it, as a SIGTERM does, and wants it to end well.
func startRun(t *testing.T, r *Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return func() {
		t.Helper()
		cancel(errors.New("SIGTERM"))
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}

// waitFor waits until something is so; a minute is for the slowest machine.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(time.Minute)
	for !is() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

func TestIncrWithoutFull(t *testing.T) {
	if _, err := newEnv(t).Incr(t.Context(), IncrOptions{}); !errors.Is(err, ErrNoFull) {
		t.Errorf("%v", err)
	}
}

// Views, a capped and a collated collection, users and roles come back.
func TestSpecialThings(t *testing.T) {
	t.Parallel()
	ctx, e := t.Context(), newEnv(t)
	db := e.Client.Database("d")
	run := func(c dbson.D) {
		t.Helper()
		if err := db.RunCommand(ctx, c).Err(); err != nil {
			t.Fatalf("%v: %v", c, err)
		}
	}
	must(db.Collection("c").InsertMany(ctx, docs(20, 0)))(t)
	run(dbson.D{{Key: "create", Value: "v"}, {Key: "viewOn", Value: "c"}, {Key: "pipeline", Value: dbson.A{dbson.D{{Key: "$match", Value: dbson.D{{Key: "age", Value: dbson.D{{Key: "$lt", Value: 5}}}}}}}}})
	run(dbson.D{{Key: "create", Value: "cap"}, {Key: "capped", Value: true}, {Key: "size", Value: 8192}})
	run(dbson.D{{Key: "create", Value: "col"}, {Key: "collation", Value: dbson.D{{Key: "locale", Value: "en"}, {Key: "strength", Value: 2}}}})
	run(dbson.D{{Key: "createIndexes", Value: "col"}, {Key: "indexes", Value: dbson.A{
		dbson.D{{Key: "key", Value: dbson.D{{Key: "a", Value: 1}}}, {Key: "name", Value: "simple"}, {Key: "collation", Value: dbson.D{{Key: "locale", Value: "simple"}}}},
		dbson.D{{Key: "key", Value: dbson.D{{Key: "a", Value: 1}}}, {Key: "name", Value: "inherited"}}}}})
	run(dbson.D{{Key: "createUser", Value: "u"}, {Key: "pwd", Value: "secret"}, {Key: "roles", Value: dbson.A{"readWrite"}}})
	run(dbson.D{{Key: "createRole", Value: "r"}, {Key: "privileges", Value: dbson.A{}}, {Key: "roles", Value: dbson.A{"read"}}})
	for i := range 100 {
		must(db.Collection("cap").InsertOne(ctx, dbson.D{{Key: "_id", Value: i}, {Key: "x", Value: strings.Repeat("y", 100)}}))(t)
	}
	must(e.Full(ctx, FullOptions{}))(t)
	run(dbson.D{{Key: "create", Value: "v2"}, {Key: "viewOn", Value: "c"}, {Key: "pipeline", Value: dbson.A{}}})
	run(dbson.D{{Key: "createUser", Value: "later"}, {Key: "pwd", Value: "secret"}, {Key: "roles", Value: dbson.A{}}})
	must(e.Incr(ctx, IncrOptions{}))(t)
	want := stateOf(t, e.Client)

	srv, err := embedded(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	there := e.on(connect(t, srv.URI()))
	o := RestoreOptions{To: chain.Moment{Latest: true}, Verify: true, Resumable: true}
	must(there.Restore(ctx, must(there.PlanRestore(ctx, o))(t), o))(t)
	if back := stateOf(t, there.Client); back != want {
		t.Errorf("comes back as\n%s\nbut was\n%s", back, want)
	}
	for view, n := range map[string]int64{"d.v": 5, "d.v2": 20} {
		if got := count(t, there.Client, view); got != n {
			t.Errorf("%s shows %d documents", view, got)
		}
	}
	var users struct {
		Users []struct{ User string }
	}
	if err := there.Client.Database("d").RunCommand(ctx, dbson.D{{Key: "usersInfo", Value: 1}}).Decode(&users); err != nil || len(users.Users) != 2 {
		t.Errorf("users %+v, %v", users, err)
	}
	var roles struct {
		Roles []struct{ Role string }
	}
	if err := there.Client.Database("d").RunCommand(ctx, dbson.D{{Key: "rolesInfo", Value: 1}}).Decode(&roles); err != nil || len(roles.Roles) != 1 {
		t.Errorf("roles %+v, %v", roles, err)
	}
}
