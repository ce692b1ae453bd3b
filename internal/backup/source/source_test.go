package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn"
	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/batch"
	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/otherserver"
	"github.com/cairndb/cairn/internal/bson"
)

func connect(t testing.TB, uri string) *mongo.Client {
	t.Helper()
	d := &batch.Dialer{Scribble: true}
	c, err := mongo.Connect(options.Client().ApplyURI(uri).SetDialer(d).SetServerMonitoringMode(options.ServerMonitoringModePoll))
	if err != nil {
		t.Fatal(err)
	}
	dialers.Store(c, d)
	t.Cleanup(func() {
		dialers.Delete(c)
		_ = c.Disconnect(context.Background()) // the server may be gone before
	})
	return c
}

// dialers has the dialer of each client.
var dialers sync.Map

func open(t testing.TB, c *mongo.Client) *Source {
	t.Helper()
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	s.Pace = time.Millisecond
	if d, ok := dialers.Load(c); ok {
		s.Dialer = d.(*batch.Dialer)
	}
	return s
}

// both runs a test against both faces of a server, past the driver and through it.
func both(t *testing.T, fn func(t *testing.T, c *mongo.Client)) {
	for _, set := range []string{"", "rs0"} {
		for _, way := range []string{"past", "through"} {
			t.Run("set "+set+" "+way+" the driver", func(t *testing.T) {
				c := connect(t, cairntest.Start(t, cairntest.ReplSet(set)))
				if way == "through" {
					dialers.Delete(c)
				}
				fn(t, c)
			})
		}
	}
}

// newest is the place to begin at, after a write that makes sure there is one.
func newest(t testing.TB, c *mongo.Client, s *Source) entry.OpTime {
	t.Helper()
	if _, err := c.Database("d").Collection("before").InsertOne(t.Context(), dbson.D{}); err != nil {
		t.Fatal(err)
	}
	from, err := s.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return from
}

func insert(t testing.TB, c *mongo.Client, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		if _, err := c.Database("d").Collection("c").InsertOne(t.Context(), dbson.D{{Key: "_id", Value: i}}); err != nil {
			t.Fatal(err)
		}
	}
}

// tail runs Tail in the background and hands out the _ids of inserts into d.c.
type tail struct {
	t      testing.TB
	cancel context.CancelFunc
	done   chan error
	mu     sync.Mutex
	ids    []int64
	times  []entry.OpTime
	grew   chan struct{}
	ended  bool
}

func startTail(t testing.TB, s *Source, from entry.OpTime) *tail {
	ctx, cancel := context.WithCancel(context.Background())
	tl := &tail{t: t, cancel: cancel, done: make(chan error, 1), grew: make(chan struct{}, 1)}
	go func() {
		tl.done <- s.Tail(ctx, from, func(raw bson.Raw) error {
			at, err := optime(raw)
			if err != nil {
				return err
			}
			tl.mu.Lock()
			defer tl.mu.Unlock()
			tl.times = append(tl.times, at)
			if raw.Get("op").Str() == "i" && raw.Get("ns").Str() == "d.c" {
				n, _ := raw.Path("o._id").AsInt64()
				tl.ids = append(tl.ids, n)
			}
			select {
			case tl.grew <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	t.Cleanup(tl.stop)
	return tl
}

func (tl *tail) stop() {
	tl.cancel()
	if !tl.ended {
		tl.ended = true
		<-tl.done
	}
}

// waitFor waits until n inserts came and checks that they are 0 to n-1, each once.
func (tl *tail) waitFor(n int) {
	tl.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		tl.mu.Lock()
		have := len(tl.ids)
		tl.mu.Unlock()
		if have >= n {
			break
		}
		select {
		case <-tl.grew:
		case err := <-tl.done:
			tl.ended = true
			tl.t.Fatalf("the tail ended after %d of %d: %v", have, n, err)
		case <-deadline:
			tl.t.Fatalf("%d of %d inserts came", have, n)
		}
	}
	tl.mu.Lock()
	defer tl.mu.Unlock()
	for i, id := range tl.ids {
		if id != int64(i) {
			tl.t.Fatalf("insert %d has _id %d: missed or doubled", i, id)
		}
	}
	for i := 1; i < len(tl.times); i++ {
		if tl.times[i].TS <= tl.times[i-1].TS {
			tl.t.Fatalf("entry %v after %v", tl.times[i], tl.times[i-1])
		}
	}
}

func TestEdgesAndEntries(t *testing.T) {
	both(t, func(t *testing.T, c *mongo.Client) {
		ctx := t.Context()
		insert(t, c, 0, 5)
		s := open(t, c)
		if s.Namespace() != "local.oplog.rs" {
			t.Error(s.Namespace())
		}
		oldest, err := s.Oldest(ctx)
		if err != nil {
			t.Fatal(err)
		}
		newest, err := s.Newest(ctx)
		if err != nil || newest.Compare(oldest) <= 0 {
			t.Fatalf("newest %v oldest %v: %v", newest, oldest, err)
		}
		for _, tc := range []struct {
			at   entry.OpTime
			want bool
		}{{newest, true}, {oldest, true}, {entry.OpTime{TS: newest.TS, Term: newest.Term + 1}, false}, {entry.OpTime{TS: newest.TS + 1, Term: newest.Term}, false}} {
			if has, err := s.Has(ctx, tc.at); has != tc.want || err != nil {
				t.Errorf("Has(%v) = %v, %v", tc.at, has, err)
			}
		}
		var got []bson.Timestamp
		err = s.Read(ctx, oldest.TS, newest.TS, func(raw bson.Raw) error {
			at, err := optime(raw)
			got = append(got, at.TS)
			return err
		})
		if err != nil || len(got) < 6 || got[0] != oldest.TS || got[len(got)-1] != newest.TS {
			t.Errorf("read %v of [%v, %v]: %v", got, oldest, newest, err)
		}
		if err := s.Read(ctx, oldest.TS-1, newest.TS, func(bson.Raw) error { return nil }); !errors.Is(err, ErrGone) {
			t.Errorf("read from before the beginning: %v", err)
		}
		w, err := s.Window(ctx)
		if err != nil || w.Oldest != oldest || w.Newest != newest || w.NewestWall.IsZero() || w.Length() < 0 || w.Lag(oldest) != w.Length() || w.Left(newest) != w.Length() {
			t.Errorf("window %+v: %v", w, err)
		}
		if start, err := s.Start(ctx); err != nil || start != newest {
			t.Errorf("start %v, want %v: %v", start, newest, err)
		}
	})
}

func TestTailFollows(t *testing.T) {
	both(t, func(t *testing.T, c *mongo.Client) {
		s := open(t, c)
		from := newest(t, c, s)
		tl := startTail(t, s, from)
		insert(t, c, 0, 50)
		tl.waitFor(50)
		tl.mu.Lock()
		first := tl.times[0]
		tl.mu.Unlock()
		if first != from {
			t.Errorf("the tail began with %v, want %v itself", first, from)
		}
		tl.cancel()
		tl.ended = true
		if err := <-tl.done; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}

// A tail that is far behind gets replies that are cut by their number and by their size, none of
// which is an end: all entries come, each once, without a pause.
func TestTailCatchesUp(t *testing.T) {
	t.Parallel()
	uri := cairntest.Start(t)
	for _, way := range []string{"past", "through"} {
		t.Run(way+" the driver", func(t *testing.T) {
			c := connect(t, uri)
			if way == "through" {
				dialers.Delete(c)
			}
			s := open(t, c)
			s.Pace = time.Hour
			from := newest(t, c, s)
			const n = batchSize + 25_000 // more than one reply of 4 MB beside the first
			fill(t, c, n)
			enough := errors.New("enough")
			got, last := 0, bson.Timestamp(0)
			err := s.TailBatches(t.Context(), from, func(items []Item) error {
				for i := range items {
					at := items[i].Head.OpTime.TS
					if at <= last {
						return fmt.Errorf("%v after %v", at, last)
					}
					if last = at; items[i].Raw.Get("op").Str() == "i" && items[i].Raw.Get("ns").Str() != "d.before" {
						got++
					}
				}
				if got == n {
					return enough
				}
				return nil
			})
			if err != enough {
				t.Errorf("%d of %d: %v", got, n, err)
			}
		})
	}
}

func TestTailEndsWithTheCallbacksError(t *testing.T) {
	c := connect(t, cairntest.Start(t))
	s := open(t, c)
	from := newest(t, c, s)
	mine := errors.New("full")
	if err := s.Tail(t.Context(), from, func(bson.Raw) error { return mine }); err != mine {
		t.Errorf("got %v", err)
	}
}

func TestTailSurvivesKilledCursors(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, c *mongo.Client) {
		s := open(t, c)
		retried := make(chan error, 100)
		s.OnRetry = func(err error, _ time.Duration) { retried <- err }
		from := newest(t, c, s)
		tl := startTail(t, s, from)
		n := 0
		for range 5 {
			insert(t, c, n, 20)
			n += 20
			tl.waitFor(n)
			killCursors(t, c)
			<-retried
		}
		insert(t, c, n, 20)
		tl.waitFor(n + 20)
	})
}

// killCursors kills every open cursor on the oplog, and waits until there was one.
func killCursors(t testing.TB, c *mongo.Client) {
	t.Helper()
	for {
		cur, err := c.Database("admin").Aggregate(t.Context(), dbson.A{dbson.D{{Key: "$currentOp", Value: dbson.D{{Key: "idleCursors", Value: true}, {Key: "allUsers", Value: true}}}}})
		if err != nil {
			t.Fatal(err)
		}
		killed := false
		for cur.Next(t.Context()) {
			op := bson.Raw(cur.Current)
			id, ok := op.Path("cursor.cursorId").AsInt64()
			if !ok || op.Get("ns").Str() != "local.oplog.rs" {
				continue
			}
			err := c.Database("local").RunCommand(t.Context(), dbson.D{{Key: "killCursors", Value: "oplog.rs"}, {Key: "cursors", Value: dbson.A{id}}}).Err()
			killed = killed || err == nil
		}
		if killed {
			return
		}
	}
}

// disk is a server on disk with a port of its own, that can be restarted.
type disk struct {
	t   testing.TB
	o   cairn.Options
	db  *cairn.DB
	uri string
}

func startDisk(t testing.TB, o cairn.Options) *disk {
	d := &disk{t: t, o: o}
	d.start()
	t.Cleanup(d.close)
	return d
}

func (d *disk) start() {
	d.t.Helper()
	var err error
	if d.db, err = cairn.Open(d.o); err != nil {
		d.t.Fatal(err)
	}
	d.o.Port = d.db.Port()
	d.uri = d.db.URI()
}

func (d *disk) close() {
	if d.db != nil {
		if err := d.db.Close(); err != nil {
			d.t.Error(err)
		}
		d.db = nil
	}
}

func TestTailSurvivesRestarts(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"", "rs0"} {
		t.Run("set "+set, func(t *testing.T) {
			t.Parallel()
			d := startDisk(t, cairn.Options{Dir: t.TempDir(), ReplSet: set, CacheBytes: 16 << 20, OplogBytes: 16 << 20})
			c := connect(t, d.uri)
			s := open(t, c)
			from := newest(t, c, s)
			tl := startTail(t, s, from)
			n := 0
			for range 3 {
				insert(t, c, n, 30)
				n += 30
				tl.waitFor(n)
				d.close()
				d.start()
				for c.Ping(t.Context(), nil) != nil { // finds the connections gone, so that the insert need not
				}
			}
			insert(t, c, n, 30)
			tl.waitFor(n + 30)
		})
	}
}

// TestRollback lets a tail meet a server of another history on the same port.
func TestRollback(t *testing.T) {
	t.Parallel()
	d := startDisk(t, cairn.Options{Dir: t.TempDir(), CacheBytes: 16 << 20, OplogBytes: 16 << 20})
	c := connect(t, d.uri)
	s := open(t, c)
	s.StaleWait = 100 * time.Millisecond
	insert(t, c, 0, 5)
	from := newest(t, c, s)
	tl := startTail(t, s, from)
	insert(t, c, 5, 5)
	tl.waitRaw(6)
	d.close()
	other := d.o
	other.Dir = t.TempDir()
	d.o = other
	d.start()
	var back *RollbackError
	var gap *GapError
	// The other history begins later, so what is found is a gap or a rollback by the
	// seconds that passed; never a continuation.
	err := <-tl.done
	tl.ended = true
	if !errors.As(err, &back) && !errors.As(err, &gap) {
		t.Fatalf("the tail ended with %v", err)
	}
}

func (tl *tail) waitRaw(n int) {
	tl.t.Helper()
	for {
		tl.mu.Lock()
		have := len(tl.times)
		tl.mu.Unlock()
		if have >= n {
			return
		}
		<-tl.grew
	}
}

// overrun writes until the oplog has lost from: more than a segment of the journal, and
// lets the server look at its size.
func overrun(t testing.TB, c *mongo.Client, s *Source, from entry.OpTime) {
	t.Helper()
	pad := bytes.Repeat([]byte("x"), 1<<20)
	for i := range 70 {
		if _, err := c.Database("d").Collection("pad").InsertOne(t.Context(), dbson.D{{Key: "_id", Value: i}, {Key: "p", Value: pad}}); err != nil {
			t.Fatal(err)
		}
	}
	for {
		// Changing what the oplog keeps cuts it at once, as far as the engine has what is cut off.
		if err := c.Database("admin").RunCommand(t.Context(), dbson.D{{Key: "replSetResizeOplog", Value: 1}, {Key: "minRetentionHours", Value: 0}}).Err(); err != nil {
			t.Fatal(err)
		}
		oldest, err := s.Oldest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if oldest.TS > from.TS {
			return
		}
	}
}

func TestGap(t *testing.T) {
	t.Parallel()
	uri := cairntest.Start(t, func(o *cairn.Options) { o.OplogBytes = 1 << 20 })
	c := connect(t, uri)
	s := open(t, c)
	from := newest(t, c, s)
	overrun(t, c, s, from)
	err := s.Tail(t.Context(), from, func(bson.Raw) error { t.Error("delivered over a gap"); return nil })
	var gap *GapError
	if !errors.As(err, &gap) || gap.From != from || gap.To.TS <= from.TS {
		t.Fatalf("got %v", err)
	}
	err = s.Read(t.Context(), from.TS, gap.To.TS, func(bson.Raw) error { return nil })
	if !errors.Is(err, ErrGone) || !errors.As(err, &gap) {
		t.Errorf("read over the gap: %v", err)
	}
}

// TestForged begins tails at places that were never in the oplog.
func TestForged(t *testing.T) {
	c := connect(t, cairntest.Start(t))
	s := open(t, c)
	s.StaleWait = 50 * time.Millisecond
	insert(t, c, 0, 3)
	newest, err := s.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	oldest, err := s.Oldest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]entry.OpTime{
		"other term":    {TS: newest.TS, Term: newest.Term + 1},
		"in between":    {TS: oldest.TS + 1<<31, Term: oldest.Term},
		"in the future": {TS: newest.TS + 1<<40, Term: newest.Term},
	} {
		err := s.Tail(t.Context(), from, func(bson.Raw) error { return errors.New("delivered") })
		var back *RollbackError
		if !errors.As(err, &back) || back.Entry != from {
			t.Errorf("%s: %v", name, err)
		}
	}
	before := entry.OpTime{TS: oldest.TS - 1, Term: oldest.Term}
	var gap *GapError
	if err := s.Tail(t.Context(), before, func(bson.Raw) error { return errors.New("delivered") }); !errors.As(err, &gap) {
		t.Errorf("before the beginning: %v", err)
	}
}

// TestMongosIsRefused answers hello as a router does.
func TestMongosIsRefused(t *testing.T) {
	uri := fakeServer(t, dbson.D{{Key: "ok", Value: 1.0}, {Key: "isWritablePrimary", Value: true}, {Key: "msg", Value: "isdbgrid"}, {Key: "maxWireVersion", Value: 25}, {Key: "minWireVersion", Value: 0},
		{Key: "maxBsonObjectSize", Value: 16 << 20}, {Key: "maxMessageSizeBytes", Value: 48000000}, {Key: "maxWriteBatchSize", Value: 100000}})
	if _, err := Open(t.Context(), connect(t, uri)); !errors.Is(err, ErrMongos) {
		t.Errorf("got %v", err)
	}
}

// fakeServer answers every OP_MSG and OP_QUERY with the same document.
func fakeServer(t testing.TB, reply dbson.D) string {
	t.Helper()
	doc, err := dbson.Marshal(reply)
	if err != nil {
		t.Fatal(err)
	}
	return otherserver.Start(t, doc)
}

// TestVisible: what a reader has seen has an entry at or before what Visible says.
func TestVisible(t *testing.T) {
	both(t, func(t *testing.T, c *mongo.Client) {
		s := open(t, c)
		var last bson.Timestamp
		for i := range 20 {
			insert(t, c, i, 1)
			seen, err := s.Visible(t.Context())
			if err != nil || seen <= last {
				t.Fatalf("visible up to %v after %v: %v", seen, last, err)
			}
			last = seen
		}
		if n := newest(t, c, s); n.TS < last {
			t.Errorf("the newest entry is %v, what is seen reaches %v", n.TS, last)
		}
	})
}

// TestFromTheBeginning tails from the zero OpTime: from the oldest entry that there is.
func TestFromTheBeginning(t *testing.T) {
	c := connect(t, cairntest.Start(t))
	s := open(t, c)
	oldest, err := s.Oldest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tl := startTail(t, s, entry.OpTime{})
	insert(t, c, 0, 10)
	tl.waitFor(10)
	tl.mu.Lock()
	defer tl.mu.Unlock()
	if tl.times[0] != oldest {
		t.Errorf("the tail began with %v, the oldest is %v", tl.times[0], oldest)
	}
}

// TestOlderServers tails as from servers without majority reads, and from those that must
// be told that a find reads an oplog.
func TestOlderServers(t *testing.T) {
	for name, set := range map[string]func(s *Source){
		"no majority reads": func(s *Source) { s.bounded = true },
		"before 4.4":        func(s *Source) { s.old = true },
		"both":              func(s *Source) { s.old, s.bounded = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, cairntest.Start(t, cairntest.ReplSet("rs0")))
			s := open(t, c)
			set(s)
			from := newest(t, c, s)
			tl := startTail(t, s, from)
			insert(t, c, 0, 30)
			tl.waitFor(30)
		})
	}
}
