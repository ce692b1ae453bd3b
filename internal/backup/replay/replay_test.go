package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/otherserver"
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

// script makes entries of lines in extended JSON, with U1 to U9 for UUIDs; their ts are 1:1, 1:2, …
func script(lines ...string) (entries []bson.Raw) {
	for i, l := range lines {
		for n := '1'; n <= '9'; n++ {
			l = strings.ReplaceAll(l, "U"+string(n), fmt.Sprintf(`{"$binary": {"base64": "%s==", "subType": "04"}}`, string(n)+strings.Repeat("A", 21)))
		}
		e := extjson.MustParse(`{` + l + `}`)
		entries = append(entries, bson.NewBuilder(nil).AppendElems(e).Timestamp("ts", bson.NewTimestamp(1, uint32(i+1))).Int64("t", 1).Finish())
	}
	return entries
}

// uuidOf is what U1 to U9 are in a script.
func uuidOf(t testing.TB, n int) bson.UUID {
	t.Helper()
	u, ok := script(fmt.Sprintf(`"x": U%d`, n))[0].Get("x").UUID()
	if !ok {
		t.Fatal("a script's UUID is none")
	}
	return u
}

const session = `"lsid": {"id": U9}, "txnNumber": {"$numberLong": "1"}, `

func prev(inc int) string {
	if inc == 0 {
		return `"prevOpTime": {"ts": {"$timestamp": {"t": 0, "i": 0}}, "t": {"$numberLong": "-1"}}, `
	}
	return fmt.Sprintf(`"prevOpTime": {"ts": {"$timestamp": {"t": 1, "i": %d}}, "t": {"$numberLong": "1"}}, `, inc)
}

// TestUntilIsExact stops at every entry of a log with transactions in all forms.
func TestUntilIsExact(t *testing.T) {
	log := script(
		`"op": "c", "ns": "d.$cmd", "ui": U1, "o": {"create": "c"}`,
		`"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": 1}`,
		session+prev(0)+`"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": 2}}, {"op": "d", "ns": "d.c", "ui": U1, "o": {"_id": 1}}], "partialTxn": true}`,
		`"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": 3}`,
		session+prev(3)+`"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": 4}}], "prepare": true}`,
		`"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": 5}`,
		session+prev(5)+`"op": "c", "ns": "admin.$cmd", "o": {"commitTransaction": 1}`,
		`"op": "c", "ns": "admin.$cmd", "multiOpType": 1, "o": {"applyOps": [{"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": 6}}, {"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": 7}}]}`,
		strings.Replace(session, `"1"`, `"2"`, 1)+prev(0)+`"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "d", "ns": "d.c", "ui": U1, "o": {"_id": 7}}], "prepare": true}`,
		strings.Replace(session, `"1"`, `"2"`, 1)+prev(9)+`"op": "c", "ns": "admin.$cmd", "o": {"abortTransaction": 1}`,
	)
	for until, want := range map[int]string{1: "", 2: "1", 3: "1", 4: "1 3", 5: "1 3", 6: "1 3 5", 7: "2 3 4 5", 8: "2 3 4 5 6 7", 9: "2 3 4 5 6 7", 10: "2 3 4 5 6 7"} {
		faces(t, func(t *testing.T, c *mongo.Client, plain bool) {
			var told []bson.Timestamp
			st := replayAll(t, Options{Client: c, plain: plain, Until: bson.NewTimestamp(1, uint32(until)), Applied: func(at entry.OpTime) { told = append(told, at.TS) }}, log)
			if got := ids(t, c, "d", "c"); got != want {
				t.Errorf("until 1:%d: %s, want %s", until, got, want)
			}
			if open := until >= 3 && until < 7 || until == 9; open != (len(st.Unfinished) == 1) {
				t.Errorf("until 1:%d: unfinished %v", until, st.Unfinished)
			}
			// A transaction under way holds back what need not be repeated.
			bound := until
			if until >= 3 && until < 7 {
				bound = 2
			} else if until == 9 {
				bound = 8
			}
			if !slices.IsSorted(told) || told[len(told)-1] != bson.NewTimestamp(1, uint32(bound)) {
				t.Errorf("until 1:%d: applied up to %v", until, told)
			}
		})
	}
}

func ids(t testing.TB, c *mongo.Client, db, coll string) string {
	t.Helper()
	var all []string
	for _, d := range content(t, c, db+"."+coll) {
		all = append(all, strings.TrimSuffix(strings.TrimPrefix(d, "{ _id: "), " }"))
	}
	return strings.Join(all, " ")
}

// TestCollectionsByUUID replays what happened while a dump was taken: the names in the
// entries are those of their time, the data is where it was in the end.
func TestCollectionsByUUID(t *testing.T) {
	log := script(
		`"op": "i", "ns": "d.a", "ui": U1, "o": {"_id": 1}`,
		`"op": "i", "ns": "d.gone", "ui": U3, "o": {"_id": 1}`,
		`"op": "c", "ns": "d.$cmd", "ui": U1, "o": {"renameCollection": "d.a", "to": "d.b", "stayTemp": false}`,
		`"op": "c", "ns": "d.$cmd", "ui": U2, "o": {"create": "a"}`,
		`"op": "i", "ns": "d.a", "ui": U2, "o": {"_id": 2}`,
		`"op": "c", "ns": "d.$cmd", "ui": U3, "o": {"drop": "gone"}`,
		`"op": "i", "ns": "d.b", "ui": U1, "o": {"_id": 3}`,
		`"op": "c", "ns": "d.$cmd", "ui": U4, "o": {"create": "new"}`,
		`"op": "i", "ns": "d.new", "ui": U4, "o": {"_id": 4}`,
	)
	faces(t, func(t *testing.T, c *mongo.Client, plain bool) {
		// The dump saw b after the rename, and the new a.
		for _, coll := range []string{"a", "b"} {
			if err := c.Database("d").CreateCollection(t.Context(), coll); err != nil {
				t.Fatal(err)
			}
		}
		st := replayAll(t, Options{Client: c, plain: plain, Collections: map[bson.UUID]string{uuidOf(t, 1): "d.b", uuidOf(t, 2): "d.a"}}, log)
		for coll, want := range map[string]string{"a": "2", "b": "1 3", "new": "4"} {
			if got := ids(t, c, "d", coll); got != want {
				t.Errorf("%s has %s, want %s (%+v)", coll, got, want, st)
			}
		}
		if st.Skipped[whyGone] != 2 || st.Skipped["renamed before"] != 1 || st.Skipped["created before"] != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestRules(t *testing.T) {
	log := script(
		`"op": "c", "ns": "shop.$cmd", "ui": U1, "o": {"create": "orders"}`,
		`"op": "c", "ns": "shop.$cmd", "ui": U2, "o": {"create": "other"}`,
		`"op": "i", "ns": "shop.orders", "ui": U1, "o": {"_id": 1}`,
		`"op": "i", "ns": "shop.other", "ui": U2, "o": {"_id": 2}`,
		session+prev(0)+`"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "shop.orders", "ui": U1, "o": {"_id": 3}}, {"op": "i", "ns": "shop.other", "ui": U2, "o": {"_id": 3}}]}`,
		`"op": "c", "ns": "shop.$cmd", "ui": U3, "o": {"create": "tmp.agg_out.1", "temp": true}`,
		`"op": "i", "ns": "shop.tmp.agg_out.1", "ui": U3, "o": {"_id": 9}`,
	)
	include, err := entry.ParsePattern("shop.orders")
	if err != nil {
		t.Fatal(err)
	}
	rename, err := entry.ParseRename("shop.orders", "copy.orders2")
	if err != nil {
		t.Fatal(err)
	}
	rules := func(split bool) *entry.Rules {
		return &entry.Rules{Include: []entry.Pattern{include}, Rename: []entry.Rename{rename}, SplitTransactions: split}
	}
	faces(t, func(t *testing.T, c *mongo.Client, plain bool) {
		_, err := tryReplay(t, Options{Client: c, plain: plain, Rules: rules(false)}, log)
		var se *entry.SplitTransactionError
		if !errors.As(err, &se) {
			t.Fatalf("a transaction in part: %v", err)
		}
		if err := c.Database("copy").Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
		// $out into the kept collection, and then the end of the database.
		more := append(slices.Clone(log), script(
			`"x": 1`, `"x": 1`, `"x": 1`, `"x": 1`, `"x": 1`, `"x": 1`, `"x": 1`,
			`"op": "c", "ns": "shop.$cmd", "ui": U3, "o": {"renameCollection": "shop.tmp.agg_out.1", "to": "shop.orders", "stayTemp": false, "dropTarget": U1}`)[7:]...)
		var dead *entry.BorderError
		_, err = tryReplay(t, Options{Client: c, plain: plain, Rules: rules(true)}, more)
		if err != nil && !errors.As(err, &dead) {
			t.Fatal(err)
		}
		if got := ids(t, c, "copy", "orders2"); got != "9" {
			t.Errorf("after $out: %s", got)
		}
		if names, err := c.ListDatabaseNames(t.Context(), dbson.D{{Key: "name", Value: "shop"}}); err != nil || len(names) > 0 {
			t.Errorf("something is in shop: %v %v", names, err)
		}
	})
}

// TestDropDatabaseInPart drops what came from a database and leaves what did not.
func TestDropDatabaseInPart(t *testing.T) {
	log := script(
		`"op": "c", "ns": "shop.$cmd", "o": {"create": "orders"}`,
		`"op": "i", "ns": "shop.orders", "o": {"_id": 1}`,
		`"op": "c", "ns": "shop.$cmd", "o": {"dropDatabase": 1}`,
	)
	rename, err := entry.ParseRename("shop.*", "copy.*_old")
	if err != nil {
		t.Fatal(err)
	}
	faces(t, func(t *testing.T, c *mongo.Client, plain bool) {
		for _, ns := range []string{"copy.mine", "shop.mine"} {
			db, coll, _ := strings.Cut(ns, ".")
			if err := c.Database(db).CreateCollection(t.Context(), coll); err != nil {
				t.Fatal(err)
			}
		}
		replayAll(t, Options{Client: c, plain: plain, Rules: &entry.Rules{Rename: []entry.Rename{rename}}, Until: bson.NewTimestamp(1, 2)}, log)
		if got := ids(t, c, "copy", "orders_old"); got != "1" {
			t.Fatalf("before the drop: %s", got)
		}
		replayAll(t, Options{Client: c, plain: plain, Rules: &entry.Rules{Rename: []entry.Rename{rename}}}, log[2:])
		for db, want := range map[string]string{"copy": "mine", "shop": "mine"} {
			names, err := c.Database(db).ListCollectionNames(t.Context(), dbson.D{})
			if err != nil || strings.Join(names, " ") != want {
				t.Errorf("%s has %v, %v", db, names, err)
			}
		}
	})
}

// TestUniqueChurn passes a unique key from document to document, dealt out to many workers.
func TestUniqueChurn(t *testing.T) {
	lines := []string{`"op": "c", "ns": "d.$cmd", "ui": U1, "o": {"create": "c"}`,
		`"op": "c", "ns": "d.$cmd", "ui": U1, "o": {"createIndexes": "c", "v": 2, "key": {"u": 1}, "name": "u_1", "unique": true}`,
		`"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": 0, "u": 1}`}
	for i := range 200 {
		switch i % 3 {
		case 0:
			lines = append(lines, fmt.Sprintf(`"op": "d", "ns": "d.c", "ui": U1, "o": {"_id": %d}`, i))
		case 1:
			lines = append(lines, fmt.Sprintf(`"op": "u", "ns": "d.c", "ui": U1, "o": {"$v": 2, "diff": {"u": {"u": %d}}}, "o2": {"_id": %d}`, 100+i, i))
		case 2:
			lines = append(lines, fmt.Sprintf(`"op": "u", "ns": "d.c", "ui": U1, "o": {"$v": 1, "$unset": {"u": true}}, "o2": {"_id": %d}`, i), fmt.Sprintf(`"op": "u", "ns": "d.c", "ui": U1, "o": {"$v": 1, "$set": {"u": %d}}, "o2": {"_id": %d}`, 500+i, i))
		}
		lines = append(lines, fmt.Sprintf(`"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": %d, "u": 1}`, i+1))
	}
	log := script(lines...)
	var want []string
	faces(t, func(t *testing.T, c *mongo.Client, plain bool) {
		for _, workers := range []int{1, 7} {
			st := replayAll(t, Options{Client: c, plain: plain, Workers: workers, BatchBytes: 2000}, log)
			got := content(t, c, "d.c")
			if want == nil {
				want = got
			}
			if len(got) != 134 || !slices.Equal(got, want) {
				t.Errorf("%d workers: %d documents (%+v)", workers, len(got), st)
			}
			if err := c.Database("d").Drop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestUniqueStaysBroken ends with a key that two documents have.
func TestUniqueStaysBroken(t *testing.T) {
	log := script(
		`"op": "c", "ns": "d.$cmd", "ui": U1, "o": {"create": "c"}`,
		`"op": "c", "ns": "d.$cmd", "ui": U1, "o": {"createIndexes": "c", "v": 2, "key": {"u": 1}, "name": "u_1", "unique": true}`,
		`"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": 1, "u": 1}`,
		`"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": 2, "u": 1}`,
	)
	_, err := tryReplay(t, Options{Client: server(t)}, log)
	var ue *UniqueError
	if !errors.As(err, &ue) || ue.NS != "d.c" {
		t.Errorf("got %v", err)
	}
}

// TestUniqueKeysInTheWay has the server refuse commands as a MongoDB does that finds
// a key in the way: what was refused is tried again, in order, and nothing is lost.
func TestUniqueKeysInTheWay(t *testing.T) {
	lines := []string{`"op": "c", "ns": "d.$cmd", "ui": U1, "o": {"create": "c"}`}
	for i := range 60 {
		lines = append(lines, fmt.Sprintf(`"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": %d, "n": 0}`, i%20))
		lines = append(lines, fmt.Sprintf(`"op": "u", "ns": "d.c", "ui": U1, "o": {"$v": 1, "$set": {"n": %d}}, "o2": {"_id": %d}`, i, i%20))
	}
	log := script(lines...)
	for times := range 21 { // the batch, and the first write of each of 20 documents
		c := server(t, cairntest.Parameter("enableTestCommands=1"))
		r, err := New(t.Context(), Options{Client: c, plain: true, Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Add(log[0]); err != nil {
			t.Fatal(err)
		}
		run(t, c, "admin", bson.D("configureFailPoint", "failCommand", "mode", bson.D("times", times+1),
			"data", bson.D("failCommands", bson.A("applyOps"), "errorCode", codeDuplicateKey)))
		for _, e := range log[1:] {
			if err := r.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		st, err := r.Close()
		if err != nil {
			t.Fatalf("%d refusals: %v", times, err)
		}
		docs := content(t, c, "d.c")
		for i, d := range docs {
			if want := fmt.Sprintf("{ _id: %d, n: %d }", i, 40+i); d != want {
				t.Errorf("%d refusals: %s, want %s", times, d, want)
			}
		}
		if len(docs) != 20 || st.Applied != int64(len(log)) {
			t.Errorf("%d refusals: %d documents, %+v", times, len(docs), st)
		}
	}
}

func TestErrorsNameTheEntry(t *testing.T) {
	for name, tc := range map[string]struct {
		lines []string
		want  string
		as    any
	}{
		"no collection": {[]string{`"op": "n", "ns": "", "o": {}`, `"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": 1}`}, "1:2 (i of d.c)", new(*NoCollectionError)},
		"refused":       {[]string{`"op": "c", "ns": "d.$cmd", "o": {"importCollection": "d.c"}`}, "1:1 (importCollection of d.c)", new(*RefusedError)},
		"unknown":       {[]string{`"op": "c", "ns": "d.$cmd", "o": {"explode": "c"}`}, `1:1 of "d.$cmd"`, new(*entry.UnknownError)},
		"bad update":    {[]string{`"op": "c", "ns": "d.$cmd", "ui": U1, "o": {"create": "c"}`, `"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": 1}`, `"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": 2}`, `"op": "u", "ns": "d.c", "ui": U1, "o2": {"_id": 1}, "o": {"$v": 7, "what": 1}`}, "1:4 (u of d.c)", new(*Error)},
		"chain":         {[]string{session + prev(7) + `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": []}`}, "1:1 is part of a transaction", new(*entry.ChainError)},
	} {
		t.Run(name, func(t *testing.T) {
			faces(t, func(t *testing.T, c *mongo.Client, plain bool) {
				_, err := tryReplay(t, Options{Client: c, plain: plain}, script(tc.lines...))
				if err == nil || !strings.Contains(err.Error(), tc.want) || !errors.As(err, tc.as) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// TestLargeDocuments sends documents of nearly 16 MB among small ones.
func TestLargeDocuments(t *testing.T) {
	pad := strings.Repeat("x", 16<<20-200)
	entries := script(`"op": "c", "ns": "d.$cmd", "ui": U1, "o": {"create": "c"}`)
	for i := range 6 {
		o := bson.D("_id", i)
		if i%3 == 0 {
			o = bson.D("_id", i, "pad", pad)
		}
		entries = append(entries, logged(i+1, bson.D("op", "i", "ns", "d.c", "ui", uuidOf(t, 1), "o", o)))
	}
	c := server(t)
	if st := replayAll(t, Options{Client: c}, entries); st.Applied != 7 {
		t.Errorf("%+v", st)
	}
	if n := count(t, c, "d", "c"); n != 6 {
		t.Errorf("%d documents", n)
	}
}

// TestCappedOverNewerData replays a MongoDB's log, which has no record ids, from the
// middle over its end: what was forgotten stays forgotten.
func TestCappedOverNewerData(t *testing.T) {
	lines := []string{`"op": "c", "ns": "d.$cmd", "ui": U1, "o": {"create": "c", "capped": true, "size": 4096, "max": 5}`}
	for i := range 20 {
		lines = append(lines, fmt.Sprintf(`"op": "i", "ns": "d.c", "ui": U1, "o": {"_id": %d}`, i))
	}
	log := script(lines...)
	c := server(t)
	replayAll(t, Options{Client: c}, log)
	for from := range log {
		replayAll(t, Options{Client: c, Resume: true, BatchBytes: 100 + 37*from}, log[from:])
		if got := ids(t, c, "d", "c"); got != "15 16 17 18 19" {
			t.Errorf("from %d: %s", from, got)
		}
	}
}

// TestRoundTrips counts the commands of a replay: into a MongoDB it takes as many as into a Cairn, and each
// carries thousands of entries, also where inserts, updates and deletes of several collections are mixed.
func TestRoundTrips(t *testing.T) {
	const n = 20_000
	inserts, _ := insertEntries(n)
	mixed, _ := mixedEntries(n)
	many := slices.Clone(inserts[:1])
	for c := range byte(4) {
		many = append(many, logged(len(many), bson.D("op", "c", "ns", "seed.$cmd", "ui", bson.UUID{9, c}, "o", bson.D("create", fmt.Sprint("m", c)))))
	}
	for i := range n / 2 {
		c := byte(i % 4)
		ns, id := fmt.Sprint("seed.m", c), bson.D("_id", i)
		many = append(many, logged(len(many), bson.D("op", "i", "ns", ns, "ui", bson.UUID{9, c}, "o", id)))
		many = append(many, logged(len(many), bson.D("op", "d", "ns", ns, "ui", bson.UUID{9, c}, "o", id)))
	}
	for name, list := range map[string][]bson.Raw{"inserts": inserts, "half updates": mixed, "inserts and deletes of four collections": many} {
		counts := map[bool]map[string]int{}
		faces(t, func(t *testing.T, c *mongo.Client, plain bool) {
			var mu sync.Mutex
			count := map[string]int{}
			uri := cairntest.Start(t)
			counted, err := mongo.Connect(options.Client().ApplyURI(uri).SetServerMonitoringMode(options.ServerMonitoringModePoll).SetMonitor(&event.CommandMonitor{
				Started: func(_ context.Context, e *event.CommandStartedEvent) {
					mu.Lock()
					defer mu.Unlock()
					count[e.CommandName]++
				}}))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = counted.Disconnect(context.Background()) }()
			st := replayAll(t, Options{Client: counted, plain: plain, Workers: 4}, list)
			if st.Applied < n {
				t.Errorf("%s: %d applied", name, st.Applied)
			}
			mu.Lock()
			defer mu.Unlock()
			counts[plain] = count
			t.Logf("%s: %v", name, count)
			// 4 workers, rounds of 4 × 2 MB or 4 × 10,000 operations, and the creates one by one.
			if count["applyOps"] > n/1000+10 || count["insert"]+count["update"]+count["delete"] > 0 {
				t.Errorf("%s takes %v", name, count)
			}
		})
		if !maps.Equal(counts[true], counts[false]) {
			t.Errorf("%s: into a MongoDB %v, into a Cairn %v", name, counts[true], counts[false])
		}
	}
}

// A server without applyOps is told in advance; one with it passes.
func TestCheck(t *testing.T) {
	if err := Check(t.Context(), server(t)); err != nil {
		t.Error(err)
	}
	doc := bson.D("ok", 1.0, "isWritablePrimary", true, "ismaster", true, "maxWireVersion", 21, "minWireVersion", 0, "version", "7.0.42",
		"maxBsonObjectSize", 16<<20, "maxMessageSizeBytes", 48000000, "maxWriteBatchSize", 100000, "commands", bson.D("insert", bson.D("help", "")))
	if err := Check(t.Context(), connect(t, otherserver.Start(t, doc))); !errors.Is(err, ErrNoApplyOps) {
		t.Errorf("a server without applyOps: %v", err)
	}
}
