package crash

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/node"
)

var (
	clones = flag.Int("clones", defaultClones, "how many crashed copies to open and check")
	seed   = flag.Uint64("seed", 0, "seed of the workload; 0 takes a new one")
)

// workers is how many clients write at once; each owns its documents, so that the
// history of every document is known exactly.
const workers = 4

func config(fs vfs.FS) node.Config {
	return node.Config{FS: fs, DBPath: "/db", Embedded: true, NoUnixSocket: true, NoTCP: true, ReplSet: "rs0", ReplSetAutoInitiate: true,
		CacheBytes: 8 << 20, OplogBytes: 256 << 20, Log: slog.New(slog.DiscardHandler), Parameters: []string{"ttlMonitorEnabled=false"}}
}

// history is what was asked for one document, in order.
type history struct {
	states  []string // canonical text of the document after each write, "" for none
	durable int      // index of the newest state whose write was acknowledged with j: true
}

// client writes to its own documents and remembers what was acknowledged.
type client struct {
	n      *node.Node
	id     int
	rng    *rand.Rand
	coll   string
	serial int // makes the values of the unique index

	mu   sync.Mutex
	docs map[string]*history
}

func (c *client) doc(key string) *history {
	h := c.docs[key]
	if h == nil {
		h = &history{states: []string{""}}
		c.docs[key] = h
	}
	return h
}

// now is the newest state that was asked for.
func (c *client) now(key string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.doc(key)
	return h.states[len(h.states)-1]
}

// begin notes a write before it is sent: from now on its effect may be found.
func (c *client) begin(key, state string) {
	c.mu.Lock()
	h := c.doc(key)
	h.states = append(h.states, state)
	c.mu.Unlock()
}

// acknowledged notes that the newest write of a document is durable.
func (c *client) acknowledged(key string) {
	c.mu.Lock()
	h := c.doc(key)
	h.durable = len(h.states) - 1
	c.mu.Unlock()
}

func text(key string, v, u int) string { return fmt.Sprintf("%s v=%d u=%d", key, v, u) }

// step does one random write.
func (c *client) step(ctx context.Context) error {
	key := fmt.Sprintf("%d-%d", c.id, c.rng.IntN(20))
	now := c.now(key)
	journaled := c.rng.IntN(3) > 0
	wc := bson.D("w", 1, "j", journaled)
	var cmd bson.Raw
	var next string
	c.serial++
	v, u := c.rng.IntN(1000), c.serial*workers+c.id
	switch {
	case now == "":
		next = text(key, v, u)
		cmd = bson.D("insert", c.coll, "documents", bson.A(bson.D("_id", key, "v", v, "u", u, "pad", make([]byte, c.rng.IntN(2000)))), "writeConcern", wc)
	case c.rng.IntN(4) == 0:
		cmd = bson.D("delete", c.coll, "deletes", bson.A(bson.D("q", bson.D("_id", key), "limit", 1)), "writeConcern", wc)
	default:
		next = text(key, v, u)
		cmd = bson.D("update", c.coll, "updates", bson.A(bson.D("q", bson.D("_id", key), "u", bson.D("$set", bson.D("v", v, "u", u)))), "writeConcern", wc)
	}
	c.begin(key, next)
	reply, err := c.n.Run(ctx, "test", cmd)
	if err != nil {
		return err
	}
	if reply.Has("writeErrors") || reply.Has("writeConcernError") {
		return fmt.Errorf("reply %v", reply.Get("writeErrors").Doc())
	}
	if n, _ := reply.Get("n").AsInt64(); n != 1 {
		return fmt.Errorf("%s: n is %d", key, n)
	}
	if journaled {
		c.acknowledged(key)
	}
	return nil
}

// snapshot copies what is known now; it is taken before the crash, so everything in
// it that is durable must be found.
func (c *client) snapshot() map[string]history {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := map[string]history{}
	for k, h := range c.docs {
		m[k] = history{append([]string(nil), h.states...), h.durable}
	}
	return m
}

// after adds what was begun while the clone was made.
func (c *client) after(m map[string]history) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, h := range c.docs {
		m[k] = history{append([]string(nil), h.states...), m[k].durable}
	}
}

func TestCrash(t *testing.T) {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("seed %d", s)
	left := *clones
	for round := uint64(0); left > 0; round++ {
		left -= crashRound(t, rand.New(rand.NewPCG(s, round)), min(left, 50))
	}
}

// crashRound runs one server, crashes it count times, and checks each copy.
func crashRound(t *testing.T, rng *rand.Rand, count int) int {
	fs := vfs.NewCrashableMem()
	n, err := node.Start(context.Background(), config(fs))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var pause sync.RWMutex // held while a copy is checked, so that the log does not grow meanwhile
	clients := make([]*client, workers)
	for i := range clients {
		c := &client{n: n, id: i, rng: rand.New(rand.NewPCG(rng.Uint64(), 1)), coll: "docs", docs: map[string]*history{}}
		clients[i] = c
		wg.Add(1)
		go func() {
			defer wg.Done()
			for ctx.Err() == nil {
				pause.RLock()
				err := c.step(ctx)
				pause.RUnlock()
				if err != nil && ctx.Err() == nil {
					t.Errorf("client %d: %v", c.id, err)
					return
				}
			}
		}()
	}
	wg.Add(1)
	churning := rand.New(rand.NewPCG(rng.Uint64(), 2))
	go func() { defer wg.Done(); churn(ctx, t, n, &pause, churning) }()
	for i := range count {
		step := rng.IntN(40)
		for range step { // let some writes pass
			if _, err := n.Run(ctx, "test", bson.D("insert", "pace", "documents", bson.A(bson.D("x", 1)))); err != nil {
				t.Error(err)
			}
		}
		before := make([]map[string]history, workers)
		for i, c := range clients {
			before[i] = c.snapshot()
		}
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rand.New(rand.NewPCG(rng.Uint64(), 3))})
		for i, c := range clients {
			c.after(before[i])
		}
		pause.Lock()
		check(t, clone, before, i%5 == 0)
		pause.Unlock()
		if t.Failed() {
			break
		}
	}
	stop()
	wg.Wait()
	if err := n.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	return count
}

// churn makes and breaks collections and indexes beside the clients.
func churn(ctx context.Context, t *testing.T, n *node.Node, pause *sync.RWMutex, rng *rand.Rand) {
	run := func(cmd bson.Raw) {
		if _, err := n.Run(ctx, "test", cmd); err != nil && ctx.Err() == nil {
			t.Errorf("churn %v: %v", firstKey(cmd), err)
		}
	}
	ignore := func(db string, cmd bson.Raw) { n.Run(ctx, db, cmd) } // may meet a missing namespace
	run(bson.D("createIndexes", "docs", "indexes", bson.A(bson.D("key", bson.D("u", 1), "name", "u_1", "unique", true, "sparse", true))))
	step := func(i int) {
		pause.RLock()
		defer pause.RUnlock()
		switch rng.IntN(6) {
		case 0:
			run(bson.D("createIndexes", "docs", "indexes", bson.A(bson.D("key", bson.D("v", 1), "name", "v_1"))))
		case 1:
			ignore("test", bson.D("dropIndexes", "docs", "index", "v_1"))
		case 2:
			run(bson.D("insert", "other", "documents", bson.A(bson.D("x", i, "a", bson.A(1, 2, i)))))
		case 3:
			ignore("admin", bson.D("renameCollection", "test.other", "to", "test.renamed", "dropTarget", true))
		case 4:
			ignore("test", bson.D("drop", "other"))
		case 5:
			run(bson.D("update", "renamed", "updates", bson.A(bson.D("q", bson.D(), "u", bson.D("$inc", bson.D("n", 1)), "multi", true))))
		}
	}
	for i := 0; ctx.Err() == nil; i++ {
		step(i)
	}
}

func firstKey(d bson.Raw) string { k, _ := d.First(); return k }

// check opens a crashed copy and looks at everything that must hold; with replay also
// that the log alone makes the same data.
func check(t *testing.T, fs vfs.FS, known []map[string]history, replay bool) {
	t.Helper()
	ctx := context.Background()
	n, err := node.Start(ctx, config(fs))
	if err != nil {
		t.Errorf("reopen: %v", err)
		return
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Errorf("close of the copy: %v", err)
		}
	}()
	found, err := documents(ctx, n)
	if err != nil {
		t.Error(err)
		return
	}
	for _, m := range known {
		for key, h := range m {
			if !contains(h.states[h.durable:], found[key]) {
				t.Errorf("%s: found %q, but %q was acknowledged as journaled (later ones: %d)", key, found[key], h.states[h.durable], len(h.states)-1-h.durable)
			}
		}
	}
	hash, err := validateAll(ctx, n)
	if err != nil {
		t.Error(err)
		return
	}
	if !replay {
		return
	}
	entries, err := oplogEntries(ctx, n)
	if err != nil {
		t.Error(err)
		return
	}
	if err := replayElsewhere(ctx, entries, hash); err != nil {
		t.Error(err)
	}
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// all returns every document of a collection.
func all(ctx context.Context, n *node.Node, db, coll string) (docs []bson.Raw, err error) {
	reply, err := n.Run(ctx, db, bson.D("find", coll, "batchSize", 100000))
	for field := "firstBatch"; err == nil; field = "nextBatch" {
		cur := reply.Get("cursor").Doc()
		for v := range cur.Get(field).Doc().Values() {
			docs = append(docs, v.Doc().Clone())
		}
		id := cur.Get("id").Int64()
		if id == 0 {
			return docs, nil
		}
		reply, err = n.Run(ctx, db, bson.D("getMore", id, "collection", coll))
	}
	return nil, err
}

func documents(ctx context.Context, n *node.Node) (map[string]string, error) {
	docs, err := all(ctx, n, "test", "docs")
	m := map[string]string{}
	for _, d := range docs {
		v, _ := d.Get("v").AsInt64()
		u, _ := d.Get("u").AsInt64()
		key := string([]byte(d.Get("_id").Str()))
		m[key] = text(key, int(v), int(u))
	}
	return m, err
}

// validateAll checks every collection against its indexes and returns the database's hash.
func validateAll(ctx context.Context, n *node.Node) (string, error) {
	reply, err := n.Run(ctx, "test", bson.D("listCollections", 1, "nameOnly", true))
	if err != nil {
		return "", err
	}
	for v := range reply.Path("cursor.firstBatch").Doc().Values() {
		name := v.Doc().Get("name").Str()
		r, err := n.Run(ctx, "test", bson.D("validate", name, "full", true))
		if err != nil {
			return "", fmt.Errorf("validate %s: %w", name, err)
		}
		if !r.Get("valid").Bool() {
			return "", fmt.Errorf("validate %s: %v", name, r.Get("errors").Doc())
		}
	}
	return dbHash(ctx, n)
}

func dbHash(ctx context.Context, n *node.Node) (string, error) {
	r, err := n.Run(ctx, "test", bson.D("dbHash", 1))
	if err != nil {
		return "", err
	}
	s := ""
	for name, v := range r.Get("collections").Doc().Elems() {
		s += name + "=" + v.Str() + " "
	}
	return s, nil
}

func oplogEntries(ctx context.Context, n *node.Node) ([]bson.Raw, error) {
	return all(ctx, n, "local", "oplog.rs")
}

// replayElsewhere applies the whole log to an empty server, which must end up equal;
// then a suffix once more, which must change nothing.
func replayElsewhere(ctx context.Context, entries []bson.Raw, want string) (err error) {
	n, err := node.Start(ctx, config(vfs.NewMem()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	for _, part := range [][]bson.Raw{entries, entries[len(entries)/2:]} {
		for len(part) > 0 {
			k := min(len(part), 500)
			var ops []any
			for _, e := range part[:k] {
				if ns := e.Get("ns").Str(); len(ns) >= 5 && ns[:5] == "test." {
					ops = append(ops, e)
				}
			}
			part = part[k:]
			if len(ops) == 0 {
				continue
			}
			if _, err := n.Run(ctx, "admin", bson.D("applyOps", bson.A(ops...))); err != nil {
				return fmt.Errorf("applyOps: %w", err)
			}
		}
		got, err := dbHash(ctx, n)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("the log does not explain the data:\n replayed %s\n found    %s", got, want)
		}
	}
	return nil
}
