//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

const (
	crashDB      = "e2e_crash"
	crashWorkers = 8
)

// fact is what a worker knows of one of its documents. Nobody else writes it, so that the server's
// state must be the last acknowledged one, or that plus the one write whose answer was lost.
type fact struct {
	n       int64
	present bool
}

// history is what all workers know: the certain facts, and for each document with a lost answer
// the state it may have instead.
type history struct {
	mu      sync.Mutex
	certain map[int64]fact
	maybe   map[int64]fact
	acked   int64
	ends    []string // why the workers of this round stopped
}

// killsPerStore is how often one store is crashed. Each check reads all of it and its log, so that
// many crashes of one store would be spent reading; -crashes=200 crashes eight.
const killsPerStore = 25

// TestCrash kills the server under load, again and again on the same directory, and checks after
// each restart what was promised: every write acknowledged with j:true is there, what is there is
// what the log says, validate finds nothing, and replaying the log's end changes nothing.
func TestCrash(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for left := *crashes; left > 0; left -= killsPerStore {
		crashStore(t, rng, min(left, killsPerStore))
	}
}

// crashStore crashes one store.
func crashStore(t *testing.T, rng *rand.Rand, kills int) {
	dir := t.TempDir()
	h := &history{certain: map[int64]fact{}, maybe: map[int64]fact{}}
	for round := range kills {
		f := replSet
		if round%4 == 3 {
			f = standalone
		}
		s := start(t, dir, f)
		client := dial(t, options.Client().ApplyURI(s.uri(f)).SetRetryWrites(false).SetTimeout(3*time.Minute)) // the checks read everything
		if round == 0 {
			keys := mongo.IndexModel{Keys: d("k", 1)}
			must(client.Database(crashDB).Collection("c").Indexes().CreateOne(context.Background(), keys))(t)
		}
		h.verify(t, client, round)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
		h.load(t, s, client, rng, round)
	}
	s := start(t, dir, replSet)
	client := dial(t, options.Client().ApplyURI(s.uri(replSet)))
	h.verify(t, client, kills)
	t.Logf("%d kills, %d acknowledged writes, %d documents alive", kills, h.acked, len(h.alive()))
	s.stop(t)
}

// load writes until a random number of writes is acknowledged, and kills the server right then.
func (h *history) load(t *testing.T, s *server, client *mongo.Client, rng *rand.Rand, round int) {
	journaled := true
	c := client.Database(crashDB).Collection("c", options.Collection().SetWriteConcern(&writeconcern.WriteConcern{W: 1, Journal: &journaled}))
	noise := client.Database(crashDB).Collection("noise", options.Collection().SetWriteConcern(writeconcern.W1()))
	h.ends = nil
	var left atomic.Int64
	left.Store(100 + rng.Int64N(1500))
	enough := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	for w := range crashWorkers {
		r := rand.New(rand.NewPCG(rng.Uint64(), uint64(w)))
		wg.Go(func() {
			h.worker(ctx, t, c, int64(w), r, func() {
				if left.Add(-1) == 0 {
					close(enough)
				}
			})
		})
	}
	wg.Go(func() { // writes that nobody waits for to be journaled: the crash may take them, in order
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := noise.InsertOne(ctx, d("_id", fmt.Sprintf("%d-%d", round, i), "i", i, "round", round)); err != nil {
				return
			}
		}
	})
	select {
	case <-enough:
	case <-time.After(2 * time.Minute):
		h.mu.Lock()
		t.Errorf("round %d: the load does not get on; workers that stopped: %q; the server:\n%s", round, h.ends, s.dump())
		h.mu.Unlock()
	case <-s.exited:
		t.Errorf("round %d: the server ended by itself", round)
	}
	s.kill()
	cancel()
	wg.Wait()
}

// worker writes documents of its own until the first write whose answer does not come.
func (h *history) worker(ctx context.Context, t *testing.T, c *mongo.Collection, w int64, r *rand.Rand, acked func()) {
	for {
		id := w + crashWorkers*r.Int64N(400)
		h.mu.Lock()
		was := h.certain[id]
		h.mu.Unlock()
		next := fact{n: was.n + 1, present: true}
		var err error
		switch {
		case !was.present:
			_, err = c.InsertOne(ctx, d("_id", id, "n", next.n, "k", id%17, "pad", "crash"))
		case r.IntN(10) == 0:
			next.present = false
			_, err = c.DeleteOne(ctx, d("_id", id))
		case r.IntN(10) == 0:
			_, err = c.ReplaceOne(ctx, d("_id", id), d("n", next.n, "k", id%17+1))
		default:
			_, err = c.UpdateOne(ctx, d("_id", id), d("$inc", d("n", 1), "$set", d("k", r.IntN(50))))
		}
		h.mu.Lock()
		if err != nil {
			h.maybe[id] = next
			h.ends = append(h.ends, err.Error())
			h.mu.Unlock()
			var server mongo.ServerError
			if errors.As(err, &server) && !server.HasErrorLabel("NetworkError") && ctx.Err() == nil {
				t.Errorf("write to %d was refused: %v", id, err)
			}
			return
		}
		h.certain[id] = next
		h.acked++
		h.mu.Unlock()
		acked()
	}
}

func (h *history) alive() map[int64]fact {
	m := map[int64]fact{}
	for id, f := range h.certain {
		if f.present {
			m[id] = f
		}
	}
	return m
}

// verify compares the server with what the workers know, with its own log, and with itself.
func (h *history) verify(t *testing.T, client *mongo.Client, round int) {
	t.Helper()
	ctx := testContext(t, 3*time.Minute)
	docs := readAll(ctx, t, client.Database(crashDB).Collection("c"))
	h.verifyAcknowledged(t, docs, round)
	noise := readAll(ctx, t, client.Database(crashDB).Collection("noise"))
	if external() { // what follows is Cairn's promise; the harness itself is tried on others
		return
	}
	verifyPrefixes(t, noise)
	for name, have := range map[string]map[string]bson.Raw{"c": docs, "noise": noise} {
		verifyLog(ctx, t, client, name, have)
		var v struct {
			Valid  bool  `bson:"valid"`
			Errors []any `bson:"errors"`
		}
		err := client.Database(crashDB).RunCommand(ctx, d("validate", name, "full", true)).Decode(&v)
		if round > 0 && (err != nil || !v.Valid || len(v.Errors) > 0) {
			t.Errorf("validate of %s: %v %+v", name, err, v)
		}
	}
	if round > 0 {
		verifyReplay(ctx, t, client)
	}
}

// readAll maps the printed _id to the document.
func readAll(ctx context.Context, t *testing.T, c *mongo.Collection) map[string]bson.Raw {
	t.Helper()
	cur := must(c.Find(ctx, bson.D{}))(t)
	defer cur.Close(ctx)
	m := map[string]bson.Raw{}
	for cur.Next(ctx) {
		m[idOf(cur.Current)] = slices.Clone(cur.Current)
	}
	if cur.Err() != nil {
		t.Fatal(cur.Err())
	}
	return m
}

// idOf prints a document's _id without its integer type.
func idOf(d bson.Raw) string {
	v := d.Lookup("_id")
	if n, ok := v.AsInt64OK(); ok {
		return fmt.Sprint(n)
	}
	s, _ := v.StringValueOK()
	return s
}

func (h *history) verifyAcknowledged(t *testing.T, docs map[string]bson.Raw, round int) {
	t.Helper()
	matches := func(id int64, f fact) bool {
		doc, there := docs[fmt.Sprint(id)]
		if !there || !f.present {
			return there == f.present
		}
		n, _ := doc.Lookup("n").AsInt64OK()
		return n == f.n
	}
	for id, f := range h.certain {
		m, unsure := h.maybe[id]
		switch {
		case matches(id, f):
		case unsure && matches(id, m):
			h.certain[id] = m
		default:
			t.Errorf("after kill %d: document %d was acknowledged as %+v (in flight: %v %+v), the server has %v", round, id, f, unsure, m, docs[fmt.Sprint(id)])
		}
	}
	for id, m := range h.maybe {
		if _, known := h.certain[id]; !known && matches(id, m) {
			h.certain[id] = m
		}
	}
	h.maybe = map[int64]fact{}
	if want := len(h.alive()); len(docs) != want {
		t.Errorf("after kill %d: %d documents, %d were written", round, len(docs), want)
	}
}

// verifyPrefixes: of unjournaled writes a crash may take the last ones, never one before a survivor.
func verifyPrefixes(t *testing.T, noise map[string]bson.Raw) {
	t.Helper()
	count, highest := map[int64]int64{}, map[int64]int64{}
	for _, d := range noise {
		r, _ := d.Lookup("round").AsInt64OK()
		i, _ := d.Lookup("i").AsInt64OK()
		count[r]++
		highest[r] = max(highest[r], i)
	}
	for r, n := range count {
		if highest[r] != n-1 {
			t.Errorf("of the unjournaled writes of round %d there are %d, the highest is %d: one is lost before another", r, n, highest[r])
		}
	}
}

// verifyLog rebuilds a collection from its oplog entries alone and compares.
func verifyLog(ctx context.Context, t *testing.T, client *mongo.Client, name string, docs map[string]bson.Raw) {
	t.Helper()
	filter := d("$or", bson.A{d("ns", crashDB+"."+name), d("op", "c", "o.applyOps.ns", crashDB+"."+name)})
	cur := must(client.Database("local").Collection("oplog.rs").Find(ctx, filter, options.Find().SetSort(d("$natural", 1))))(t)
	defer cur.Close(ctx)
	state := map[string]map[string]any{}
	var last bson.Timestamp
	for cur.Next(ctx) {
		e := cur.Current
		var ts bson.Timestamp
		ts.T, ts.I = e.Lookup("ts").Timestamp()
		if !ts.After(last) {
			t.Fatalf("the log's ts goes from %v to %v", last, ts)
		}
		last = ts
		applyEntry(t, state, e)
	}
	if cur.Err() != nil {
		t.Fatal(cur.Err())
	}
	if len(state) != len(docs) {
		t.Errorf("%s: the log explains %d documents, the collection has %d", name, len(state), len(docs))
	}
	for id, doc := range docs {
		var got map[string]any
		if err := bson.Unmarshal(doc, &got); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(state[id]) {
			t.Errorf("%s: document %s is %v, the log says %v", name, id, got, state[id])
		}
	}
}

// applyEntry knows as much of the log's language as the workers' writes need.
func applyEntry(t *testing.T, state map[string]map[string]any, e bson.Raw) {
	t.Helper()
	op, _ := e.Lookup("op").StringValueOK()
	o, _ := e.Lookup("o").DocumentOK()
	switch op {
	case "i":
		var doc map[string]any
		if err := bson.Unmarshal(o, &doc); err != nil {
			t.Fatal(err)
		}
		state[idOf(o)] = doc
	case "d":
		delete(state, idOf(o))
	case "u":
		o2, _ := e.Lookup("o2").DocumentOK()
		updateEntry(t, state, idOf(o2), o)
	case "c":
		if ops, ok := o.Lookup("applyOps").ArrayOK(); ok {
			for _, v := range must(ops.Values())(t) {
				applyEntry(t, state, v.Document())
			}
		}
	}
}

func updateEntry(t *testing.T, state map[string]map[string]any, id string, o bson.Raw) {
	t.Helper()
	var u struct {
		Diff *struct {
			U map[string]any `bson:"u"`
			I map[string]any `bson:"i"`
			D map[string]any `bson:"d"`
		} `bson:"diff"`
	}
	if err := bson.Unmarshal(o, &u); err != nil {
		t.Fatal(err)
	}
	if state[id] == nil {
		t.Errorf("the log updates %s, which it never inserted", id)
		return
	}
	if u.Diff == nil {
		var doc map[string]any
		if err := bson.Unmarshal(o, &doc); err != nil {
			t.Fatal(err)
		}
		doc["_id"] = state[id]["_id"]
		state[id] = doc
		return
	}
	maps.Copy(state[id], u.Diff.U)
	maps.Copy(state[id], u.Diff.I)
	for k := range u.Diff.D {
		delete(state[id], k)
	}
}

// verifyReplay feeds the end of the log through applyOps: nothing may change.
func verifyReplay(ctx context.Context, t *testing.T, client *mongo.Client) {
	t.Helper()
	before := dbHash(ctx, t, client)
	filter := d("ns", d("$in", bson.A{crashDB + ".c", crashDB + ".noise"}), "op", d("$in", bson.A{"i", "u", "d"}))
	cur := must(client.Database("local").Collection("oplog.rs").Find(ctx, filter, options.Find().SetSort(d("$natural", -1)).SetLimit(1000)))(t)
	var entries []bson.Raw
	if err := cur.All(ctx, &entries); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(entries)
	if len(entries) == 0 {
		t.Error("no entries to replay: the check shows nothing")
		return
	}
	if err := client.Database("admin").RunCommand(ctx, d("applyOps", entries)).Err(); err != nil {
		t.Errorf("applyOps of the log's last %d entries: %v", len(entries), err)
		return
	}
	if after := dbHash(ctx, t, client); after != before {
		t.Errorf("replaying the log's last %d entries changed dbHash from %s to %s", len(entries), before, after)
	}
}

func dbHash(ctx context.Context, t *testing.T, client *mongo.Client) string {
	t.Helper()
	var r struct {
		Collections map[string]string `bson:"collections"`
	}
	if err := client.Database(crashDB).RunCommand(ctx, d("dbHash", 1)).Decode(&r); err != nil {
		t.Fatalf("dbHash: %v", err)
	}
	return fmt.Sprint(r.Collections) // printed in key order
}
