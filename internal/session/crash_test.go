package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// crashClient is a client with one session: the batch that it sends, or sent last, and
// what must be there once that batch is done.
type crashClient struct {
	n     byte
	rng   *rand.Rand
	txn   int64
	batch []statement
	done  bool // the batch was acknowledged and is on disk
	value int32
	live  []int32 // documents that were inserted and not deleted
	next  int32
}

// plan makes the next batch: increments of the client's own document (the first batch
// inserts it), inserts and deletes of others, and at its end perhaps a findAndModify: only
// the newest image is kept, as a findAndModify is a command of its own.
func (c *crashClient) plan() {
	c.txn++
	c.batch, c.done = nil, false
	own := int32(c.n) * 1_000_000
	if c.txn == 1 {
		c.batch = append(c.batch, statement{0, 'i', own, 0})
	}
	n := int32(1 + c.rng.IntN(6))
	for i := range n {
		st := statement{stmt: 10 + i, op: "uidfg"[c.rng.IntN(5)], id: own, value: int32(1 + c.rng.IntN(9))}
		if i < n-1 && st.op > 'e' && st.op < 'h' {
			st.op = 'u'
		}
		switch {
		case st.op == 'i' || st.op == 'd' && len(c.live) == 0:
			c.next++
			st.op, st.id = 'i', own+c.next
			c.live = append(c.live, st.id)
		case st.op == 'd':
			st.id = c.live[0]
			c.live = c.live[1:]
		default:
			c.value += st.value
		}
		c.batch = append(c.batch, st)
	}
}

func (c *crashClient) clone() *crashClient {
	n := *c
	n.live = slices.Clone(c.live)
	return &n
}

// TestCrashAnywhere crashes under clients at random moments, with any part of the
// unsynced data surviving. Each client then sends its unfinished batch again: every
// statement of it must have happened exactly once.
func TestCrashAnywhere(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	fs := vfs.NewCrashableMem()
	rng := rand.New(rand.NewPCG(7, 7))
	var clients []*crashClient
	for n := byte(1); n <= 3; n++ {
		clients = append(clients, &crashClient{n: n, rng: rand.New(rand.NewPCG(uint64(n), 1)), done: true})
	}
	for round := range rounds {
		s := openStore(t, fs)
		for _, c := range clients {
			if c.done {
				continue
			}
			if err := c.send(s); err != nil {
				t.Fatalf("round %d: retry: %v", round, err)
			}
			c.done = true
		}
		check(t, s, clients)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
		fs, clients = crashUnder(t, s, fs, rng, clients)
	}
}

// TestRecoveryMakesTheSameBytes compares all replicated tables, records and images with
// their places and counters included, with what recovery makes of the log alone.
func TestRecoveryMakesTheSameBytes(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := openStore(t, fs)
	var clients []*crashClient
	for n := byte(1); n <= 5; n++ {
		clients = append(clients, &crashClient{n: n, rng: rand.New(rand.NewPCG(uint64(n), 2))})
	}
	for range 10 {
		var wg sync.WaitGroup
		for _, c := range clients {
			wg.Go(func() {
				c.plan()
				if err := c.send(s); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	want := dump(s)
	clone := fs.CrashClone(vfs.CrashCloneCfg{})
	s.crash()
	s = openStore(t, clone)
	defer s.close(t)
	got := dump(s)
	for k, v := range want {
		if got[k] != v {
			t.Errorf("key %x: %x, recovery made %x", k, v, got[k])
		}
		delete(got, k)
	}
	for k, v := range got {
		t.Errorf("key %x: recovery made %x of nothing", k, v)
	}
}

// dump returns all keys of replicated tables.
func dump(s *store) map[string]string {
	keys := map[string]string{}
	cur := s.eng.NewCursor([]byte{byte(storage.SpaceReplicated)}, []byte{byte(storage.SpaceReplicated) + 1})
	defer cur.Close()
	for ok := cur.First(); ok; ok = cur.Next() {
		keys[string(cur.Key())] = string(cur.Value())
	}
	return keys
}

func (c *crashClient) send(s *store) error {
	if _, err := s.run(lsidOf(c.n), c.txn, c.batch...); err != nil {
		return fmt.Errorf("client %d, txnNumber %d, %v: %w", c.n, c.txn, c.batch, err)
	}
	return s.seq.Sync(context.Background())
}

// crashUnder lets the clients work and takes a crash image and what the clients knew
// at that moment.
func crashUnder(t *testing.T, s *store, fs *vfs.MemFS, rng *rand.Rand, clients []*crashClient) (*vfs.MemFS, []*crashClient) {
	var mu sync.Mutex // held while a client learns something, and while the world ends
	var wg sync.WaitGroup
	var over atomic.Bool
	left := make(chan struct{}, 1000)
	for range rng.IntN(20) {
		left <- struct{}{}
	}
	crash := make(chan struct{})
	var once sync.Once
	for _, c := range clients {
		wg.Go(func() {
			for !over.Load() {
				mu.Lock()
				c.plan()
				mu.Unlock()
				select {
				case <-left:
				default:
					once.Do(func() { close(crash) })
				}
				if err := c.send(s); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				c.done = true
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for !over.Load() {
			if err := s.eng.Flush(); err != nil {
				t.Error(err)
			}
		}
	})
	<-crash
	mu.Lock()
	clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	var then []*crashClient
	for _, c := range clients {
		then = append(then, c.clone())
	}
	mu.Unlock()
	over.Store(true)
	wg.Wait()
	s.crash()
	return clone, then
}

// check compares the store with what the clients want to find.
func check(t *testing.T, s *store, clients []*crashClient) {
	want := map[int32]bool{}
	for _, c := range clients {
		if c.txn > 0 {
			want[int32(c.n)*1_000_000] = true
		}
		for _, id := range c.live {
			want[id] = true
		}
	}
	for _, d := range s.docs(t, testColl) {
		id := d.Get("_id").Int32()
		if !want[id] {
			t.Errorf("unexpected or doubled %s", d)
		}
		delete(want, id)
		if id%1_000_000 != 0 {
			continue
		}
		if c := clients[id/1_000_000-1]; d.Get("v").Int32() != c.value {
			t.Errorf("client %d, txnNumber %d: %s, want v %d", c.n, c.txn, d, c.value)
		}
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	checkRecords(t, s)
}

// checkRecords compares records and images with the log that they follow from.
func checkRecords(t *testing.T, s *store) {
	records, images := map[string]string{}, map[string]string{}
	cur, err := s.log.NewCursor(context.Background(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for cur.Next() {
		e, err := cur.Entry()
		if err != nil {
			t.Fatal(err)
		}
		if e.LSID == nil {
			continue
		}
		key := e.LSID.String()
		records[key] = bson.Raw(appendRecord(nil, e.LSID, record{e.TxnNumber, e.OpTime, e.Wall})).String()
		if e.NeedsRetryImage != "" {
			images[key] = fmt.Sprint(e.NeedsRetryImage, e.OpTime.TS)
		}
	}
	if cur.Err() != nil {
		t.Fatal(cur.Err())
	}
	_ = cur.Close()
	for _, d := range s.docs(t, Transactions) {
		if key := d.Get("_id").Doc().String(); records[key] != d.String() {
			t.Errorf("record %s, the log says %s", d, records[key])
		} else {
			delete(records, key)
		}
	}
	for _, d := range s.docs(t, Images) {
		key := d.Get("_id").Doc().String()
		if images[key] != fmt.Sprint(d.Get("imageKind").Str(), oplog.Timestamp(d.Get("ts").Timestamp())) {
			t.Errorf("image %s, the log says %s", d, images[key])
		}
		delete(images, key)
	}
	if len(records) > 0 || len(images) > 0 {
		t.Errorf("missing: %v %v", records, images)
	}
}
