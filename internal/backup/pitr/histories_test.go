package pitr

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn"
	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/backup/source"
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

// The clock of the machine that backs up jumps by years between runs, in both directions. What is
// restorable follows from the server's timestamps and does not change.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return at }
	r := must(repo.Init(ctx, t.TempDir(), repo.InitOptions{Options: repo.Options{Now: clock}}))(t)
	defer r.Close()
	e := &Env{Repo: r, Client: connect(t, cairntest.Start(t)), Tool: "test", Pace: -1, Embedded: embedded, Now: clock}
	coll := e.Client.Database("d").Collection("c")
	jumps := []time.Duration{0, 365 * 24 * time.Hour, -730 * 24 * time.Hour, 24 * time.Hour, 20000 * time.Hour, -time.Hour}
	var moments []noted
	for i, jump := range jumps {
		at = at.Add(jump)
		must(coll.InsertMany(ctx, docs(50, 1000*i)))(t)
		if i%2 == 0 {
			must(e.Full(ctx, FullOptions{}))(t)
		}
		must(coll.InsertMany(ctx, docs(50, 1000*i+500)))(t)
		at = at.Add(-jump / 2)
		must(e.Incr(ctx, IncrOptions{}))(t)
		moments = append(moments, noted{ts: newest(t, e), state: stateOf(t, e.Client)})
	}
	whole(t, e)
	for _, m := range moments {
		if back := restoreTo(t, e, m.ts); back != m.state {
			t.Errorf("%s comes back as\n%s\nbut was\n%s", chain.Text(m.ts), back, m.state)
		}
	}
	// What is kept is chosen by the server's time too: the last two full backups are those of the
	// newest entries, whatever the names say.
	must(e.Prune(ctx, PruneOptions{Policy: chain.Policy{Last: 2}}))(t)
	whole(t, e)
	for _, m := range moments[3:] {
		if back := restoreTo(t, e, m.ts); back != m.state {
			t.Errorf("after the prune %s comes back as\n%s\nbut was\n%s", chain.Text(m.ts), back, m.state)
		}
	}
	if w := must(e.State(ctx))(t).Coverage.Windows[0]; w.From.TS <= moments[0].ts {
		t.Errorf("the prune kept what is before the last two: %+v", w)
	}
	// A full backup from the future does not keep the schedule from the next one.
	at = at.Add(-90_000 * time.Hour)
	run := must(e.NewRunner(RunOptions{Every: 10 * time.Millisecond, FullEvery: 200 * time.Millisecond}))(t)
	stop := startRun(t, run)
	waitFor(t, "the scheduled full backup", func() bool { return run.Status().Fulls > 0 })
	stop()
	whole(t, e)
}

// A server that is elected again writes in a new term; the chain goes on over it.
func TestElection(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e := newEnvAt(t, t.TempDir())
	o := cairn.Options{Dir: t.TempDir(), ReplSet: "rs0", CacheBytes: 16 << 20, OplogBytes: 16 << 20}
	terms := map[int64]bool{}
	for i := range 3 {
		db, err := cairn.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		o.Port = db.Port()
		e.Client = connect(t, db.URI())
		must(e.Client.Database("d").Collection("c").InsertMany(ctx, docs(100, 1000*i)))(t)
		if i == 0 {
			must(e.Full(ctx, FullOptions{}))(t)
		}
		out := must(e.Incr(ctx, IncrOptions{}))(t)
		terms[out.To.Term] = true
		if i == 2 {
			whole(t, e)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(terms) != 3 {
		t.Errorf("terms %v", terms)
	}
}

// crafted adds a slice of entries that no server of this machine writes; their places follow the end
// of the chain. $ADD in them is that place plus a number. It returns the last place.
func crafted(t *testing.T, e *Env, entries ...string) bson.Timestamp {
	t.Helper()
	ctx := t.Context()
	org := must(e.openSource(ctx))(t)
	st := must(e.State(ctx))(t)
	head := must(st.head(ctx, org))(t)
	lk := must(e.Repo.LockWith(ctx, repo.LockRequest{Kind: repo.Shared, Scope: scopeOplog}))(t)
	s := &slicer{env: e, org: org, lk: lk, parent: head.ID, joint: st.Manifests[head.ID].Options[optionEnd]}
	add := func(raw bson.Raw) {
		if err := s.add(ctx, []source.Item{{Raw: raw, Head: entry.ReadHead(raw)}}); err != nil {
			t.Fatal(err)
		}
	}
	add(must(org.Entry(ctx, head.End.TS))(t))
	for i, text := range entries {
		at := head.End.TS + bson.Timestamp(i+1)
		b := bson.NewBuilder(nil)
		b.Timestamp("ts", at).Int64("t", head.End.Term).Int64("v", 2).Date("wall", bson.DateTime(at.Seconds())*1000)
		for k, v := range extjson.MustParse(text).Elems() {
			b.Append(k, v)
		}
		add(b.Finish())
	}
	must(s.commit(ctx))(t)
	if err := lk.Release(ctx); err != nil {
		t.Fatal(err)
	}
	return head.End.TS
}

// Transactions as MongoDB writes them, in one entry, in several, and prepared, through a whole backup: a
// moment in the middle of one has none of it, its commit has all, and a selection takes it whole or
// refuses it by name.
func TestTransactions(t *testing.T) {
	t.Parallel()
	ctx, e := t.Context(), newEnv(t, cairntest.ReplSet("rs0"))
	db := e.Client.Database("d")
	must(db.Collection("c").InsertMany(ctx, docs(3, 0)))(t)
	must(db.Collection("other").InsertMany(ctx, docs(3, 0)))(t)
	must(e.Full(ctx, FullOptions{}))(t)
	base := must(must(e.State(ctx))(t).head(ctx, must(e.openSource(ctx))(t)))(t).End
	ui := func(coll string) string {
		var res struct {
			Cursor struct {
				FirstBatch []struct {
					Info struct{ UUID dbson.Binary }
				}
			}
		}
		if err := db.RunCommand(ctx, dbson.D{{Key: "listCollections", Value: 1}, {Key: "filter", Value: dbson.D{{Key: "name", Value: coll}}}}).Decode(&res); err != nil {
			t.Fatal(err)
		}
		return must(dbsonText(dbson.D{{Key: "ui", Value: res.Cursor.FirstBatch[0].Info.UUID}}))(t) + ", "
	}
	uc, uo := ui("c"), ui("other")
	session := func(n string) string {
		return `"lsid": {"id": {"$binary": {"base64": "AQIDBAUGBwgJCgsMDQ4PE` + n + `==", "subType": "04"}}}, "txnNumber": {"$numberLong": "1"}, `
	}
	prev := func(i int) string {
		if i == 0 {
			return `"prevOpTime": {"ts": {"$timestamp": {"t": 0, "i": 0}}, "t": {"$numberLong": "-1"}}, `
		}
		at := base.TS + bson.Timestamp(i)
		return must(dbsonText(dbson.D{{Key: "prevOpTime", Value: dbson.D{{Key: "ts", Value: dbson.Timestamp{T: at.Seconds(), I: at.Increment()}}, {Key: "t", Value: base.Term}}}}))(t) + ", "
	}
	ins := func(coll, ui, id string) string {
		return `{"op": "i", "ns": "d.` + coll + `", ` + ui + `"o": {"_id": ` + id + `}}`
	}
	apply := func(rest string, ops ...string) string {
		return `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [` + strings.Join(ops, ", ") + `]` + rest + `}}`
	}
	crafted(t, e,
		`{`+session("A")+prev(0)+apply(`, "partialTxn": true`, ins("c", uc, `"a1"`)), // +1: A begins
		ins("c", uc, `"between"`), // +2
		`{`+session("A")+prev(1)+apply(``, ins("c", uc, `"a2"`), `{"op": "u", "ns": "d.c", `+uc+`"o": {"$v": 2, "diff": {"u": {"age": 99}}}, "o2": {"_id": 0}}`), // +3: A commits
		`{`+session("Q")+prev(0)+apply(`, "prepare": true`, ins("c", uc, `"b"`), `{"op": "d", "ns": "d.c", `+uc+`"o": {"_id": 1}}`),                              // +4: B prepares
		ins("c", uc, `"between 2"`), // +5
		`{`+session("Q")+prev(4)+`"op": "c", "ns": "admin.$cmd", "o": {"commitTransaction": 1, "commitTimestamp": {"$timestamp": {"t": 1, "i": 1}}, "prepared": true}}`, // +6: B commits
		`{`+session("g")+prev(0)+apply(`, "prepare": true`, ins("c", uc, `"never"`)),                                                                                    // +7: C prepares
		`{`+session("g")+prev(7)+`"op": "c", "ns": "admin.$cmd", "o": {"abortTransaction": 1}}`,                                                                         // +8: C aborts
		`{`+session("w")+prev(0)+apply(``, ins("c", uc, `"d"`), ins("other", uo, `"d"`)),                                                                                // +9: D, of two collections
		`{"op": "n", "ns": "", "o": {"msg": "end"}}`,                                                                                                                    // +10
	)
	if v, err := e.Verify(ctx, VerifyOptions{}, func(s string) { t.Log(s) }); err != nil {
		t.Fatalf("%v %+v", err, v)
	}
	restored := func(add int, o RestoreOptions) (ids string, unfinished int, err error) {
		srv := must(embedded(ctx, ""))(t)
		defer srv.Close()
		there := e.on(connect(t, srv.URI()))
		o.To, o.NoUsers = chain.Moment{TS: base.TS + bson.Timestamp(add), Exact: true}, true
		p := must(there.PlanRestore(ctx, o))(t)
		out, err := there.Restore(ctx, p, o)
		if err != nil {
			return "", 0, err
		}
		for _, coll := range []string{"c", "other"} {
			cur := must(there.Client.Database("d").Collection(coll).Find(ctx, dbson.D{}, options.Find().SetSort(dbson.D{{Key: "_id", Value: 1}})))(t)
			ids += coll + ":"
			for cur.Next(ctx) {
				ids += " " + strings.Trim(bson.Raw(cur.Current).Get("_id").String(), `"`)
				if bson.Raw(cur.Current).Get("age").String() == "99" {
					ids += "!"
				}
			}
			ids += "; "
		}
		return ids, len(out.Unfinished), nil
	}
	for _, c := range []struct {
		add        int
		o          RestoreOptions
		want       string
		unfinished int
	}{
		{1, RestoreOptions{}, "c: 0 1 2; other: 0 1 2; ", 1},
		{2, RestoreOptions{}, "c: 0 1 2 between; other: 0 1 2; ", 1},
		{3, RestoreOptions{}, "c: 0! 1 2 a1 a2 between; other: 0 1 2; ", 0},
		{5, RestoreOptions{}, "c: 0! 1 2 a1 a2 between between 2; other: 0 1 2; ", 1},
		{6, RestoreOptions{}, "c: 0! 2 a1 a2 b between between 2; other: 0 1 2; ", 0},
		{8, RestoreOptions{}, "c: 0! 2 a1 a2 b between between 2; other: 0 1 2; ", 0},
		{10, RestoreOptions{}, "c: 0! 2 a1 a2 b between between 2 d; other: 0 1 2 d; ", 0},
		{8, RestoreOptions{Include: []string{"d.c"}}, "c: 0! 2 a1 a2 b between between 2; other:; ", 0},
		{10, RestoreOptions{Include: []string{"d.c"}, SplitTransactions: true}, "c: 0! 2 a1 a2 b between between 2 d; other:; ", 0},
		{10, RestoreOptions{Exclude: []string{"d.c"}, SplitTransactions: true}, "c:; other: 0 1 2 d; ", 0},
	} {
		got, unfinished, err := restored(c.add, c.o)
		if err != nil || got != c.want || unfinished != c.unfinished {
			t.Errorf("+%d %+v:\ngot  %s%d unfinished, %v\nwant %s%d", c.add, c.o, got, unfinished, err, c.want, c.unfinished)
		}
	}
	var split *entry.SplitTransactionError
	if _, _, err := restored(10, RestoreOptions{Include: []string{"d.c"}}); !errors.As(err, &split) || !strings.Contains(err.Error(), "d.other") {
		t.Errorf("a transaction of which a part was chosen: %v", err)
	}
}

// dbsonText is a document's extended JSON without its braces.
func dbsonText(doc dbson.D) (string, error) {
	text, err := dbson.MarshalExtJSON(doc, true, false)
	return strings.TrimSuffix(strings.TrimPrefix(string(text), "{"), "}"), err
}

// The end of the chain was written by a primary that lost an election: the server has another entry of
// the same place, of another term. That is a gap, said and recorded, and closed by a full backup.
func TestRolledBackEntry(t *testing.T) {
	t.Parallel()
	ctx, e := t.Context(), newEnv(t, cairntest.ReplSet("rs0"))
	coll := e.Client.Database("d").Collection("c")
	must(coll.InsertOne(ctx, dbson.D{{Key: "_id", Value: 1}}))(t)
	must(e.Full(ctx, FullOptions{}))(t)
	before := stateOf(t, e.Client)
	end := crafted(t, e, ins("lost"))
	must(coll.InsertMany(ctx, docs(5, 100)))(t)
	var gap *GapError
	if _, err := e.Incr(ctx, IncrOptions{}); !errors.As(err, &gap) || !strings.Contains(err.Error(), "rolled back") {
		t.Fatalf("%v", err)
	}
	if _, err := e.Incr(ctx, IncrOptions{FullOnGap: true}); !errors.As(err, &gap) || gap.Full == "" {
		t.Fatalf("%v", err)
	}
	must(coll.InsertMany(ctx, docs(5, 200)))(t)
	must(e.Incr(ctx, IncrOptions{}))(t)
	st := must(e.State(ctx))(t)
	if len(st.Coverage.Windows) != 2 || len(st.Coverage.Gaps) != 1 {
		t.Fatalf("windows %+v, gaps %+v", st.Coverage.Windows, st.Coverage.Gaps)
	}
	if back := restoreTo(t, e, end); back != before {
		t.Errorf("before the rollback comes back as\n%s\nbut was\n%s", back, before)
	}
	newest, _ := st.Coverage.Newest()
	if back, want := restoreTo(t, e, newest.TS), stateOf(t, e.Client); back != want {
		t.Errorf("comes back as\n%s\nbut was\n%s", back, want)
	}
}

func ins(id string) string { return `{"op": "i", "ns": "d.c", "o": {"_id": "` + id + `"}}` }

// withoutBucketIDs takes the UUIDs of buckets out of a state: a server makes those of a time series
// that it is told to create itself, and takes none from a client.
func withoutBucketIDs(state string) string {
	return regexp.MustCompile(`(?m)^(\S*system\.buckets\.\S+ \d+ \w+) \w{8}`).ReplaceAllString(state, "$1")
}

// Time series come back as such, with what was written after the full backup.
func TestTimeSeries(t *testing.T) {
	t.Parallel()
	ctx, e := t.Context(), newEnv(t, cairntest.ReplSet("rs0"))
	db := e.Client.Database("d")
	if err := db.CreateCollection(ctx, "ts", options.CreateCollection().SetTimeSeriesOptions(options.TimeSeries().SetTimeField("t").SetMetaField("m"))); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	add := func(from, n int) {
		var points []any
		for i := range n {
			points = append(points, dbson.D{{Key: "t", Value: at.Add(time.Duration(from+i) * time.Minute)}, {Key: "m", Value: dbson.D{{Key: "room", Value: i % 3}}}, {Key: "v", Value: from + i}})
		}
		must(db.Collection("ts").InsertMany(ctx, points))(t)
	}
	add(0, 100)
	must(e.Full(ctx, FullOptions{}))(t)
	add(100, 100)
	middle := noted{ts: newest(t, e), state: withoutBucketIDs(stateOf(t, e.Client))}
	add(200, 100)
	if err := db.CreateCollection(ctx, "later", options.CreateCollection().SetTimeSeriesOptions(options.TimeSeries().SetTimeField("t"))); err != nil {
		t.Fatal(err)
	}
	must(db.Collection("later").InsertOne(ctx, dbson.D{{Key: "t", Value: at}, {Key: "v", Value: 1}}))(t)
	must(db.Collection("ts").DeleteMany(ctx, dbson.D{{Key: "m.room", Value: 1}}))(t)
	must(e.Incr(ctx, IncrOptions{}))(t)
	end := noted{ts: newest(t, e), state: withoutBucketIDs(stateOf(t, e.Client))}
	for _, m := range []noted{middle, end} {
		if back := withoutBucketIDs(restoreTo(t, e, m.ts)); back != m.state {
			t.Errorf("comes back as\n%s\nbut was\n%s", back, m.state)
		}
	}
	// As a client sees it, and under another name.
	srv := must(embedded(ctx, ""))(t)
	defer srv.Close()
	there := e.on(connect(t, srv.URI()))
	o := RestoreOptions{To: chain.Moment{TS: middle.ts, Exact: true}, Include: []string{"d.ts"}, NoUsers: true, Verify: true}
	must(there.Restore(ctx, must(there.PlanRestore(ctx, o))(t), o))(t)
	if n := count(t, there.Client, "d.ts"); n != 200 {
		t.Errorf("%d measurements", n)
	}
	must(there.Client.Database("d").Collection("ts").InsertOne(ctx, dbson.D{{Key: "t", Value: at}, {Key: "m", Value: dbson.D{{Key: "room", Value: 1}}}}))(t)
	if n := count(t, there.Client, "d.ts"); n != 201 {
		t.Errorf("%d measurements after one more", n)
	}
}

// TestEmptyFull: what was made since a full backup of an empty server keeps its UUIDs too.
func TestEmptyFull(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	must(e.Full(t.Context(), FullOptions{}))(t)
	must(e.Client.Database("d").Collection("c").InsertMany(t.Context(), docs(10, 0)))(t)
	must(e.Incr(t.Context(), IncrOptions{}))(t)
	whole(t, e)
}
