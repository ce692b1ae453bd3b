package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// Names of what the program owns on the server.
const (
	benchDB = "cairn_bench"
	ycsbDB  = "cairn_ycsb"
)

// env is one server under measurement and the data set on it.
type env struct {
	config
	client  *mongo.Client // as many connections as workers, w:1
	single  *mongo.Client // one connection, w:1
	version string
	pads    []string // texts that documents are filled with
	loaded  bool     // docs holds the data set
	indexed bool     // … and its secondary index
	templates
	ycsb int // records in usertable that no row has touched; 0: load anew
}

// row is one line of the report.
type row struct {
	name, about string
	// prepare is not measured: it makes the data, and returns what to measure.
	prepare func(ctx context.Context, e *env) (*work, error)
}

// work is what a row measures: op is called by each of workers until the time is over, or
// limit calls are done. verify says whether what is on the server now is right.
type work struct {
	unit    string
	workers int
	limit   int64
	op      func(ctx context.Context, w *worker) (units int64, err error)
	verify  func(ctx context.Context, t *tally) error
	note    string
	pings   pings
}

// pings says when ping is measured for a row whose rate is judged as a share of ping's. A shared
// machine is a fifth faster or slower from one minute to the next; ping measured close by has the
// same machine.
type pings int

const (
	noPings pings = iota
	// pingsBetween: ping and the row by turns, for rows that only read. What the server does in
	// the background meanwhile falls on both.
	pingsBetween
	// pingsAround: one piece in front of the row and one behind it, once the server is idle again, for
	// rows that write. Between pieces of such a row, and right behind it, the server would do in ping's
	// time what the writes have left to do.
	pingsAround
)

// piece is how long ping and a row run before the other has its turn.
const piece = 500 * time.Millisecond

// warmUp is what a row's later rate leaves out of it.
const warmUp = time.Second

// worker is one client. Its fields are used by its goroutine alone.
type worker struct {
	id    int
	calls int64
	rng   *rand.Rand
	hist  histogram
	units int64
}

// tally is what all workers of a row did together.
type tally struct {
	calls, units int64
	hist         histogram
}

func newEnv(ctx context.Context, c config) (*env, error) {
	e := &env{config: c}
	var err error
	if e.client, err = connect(c.uri, c.connections); err != nil {
		return nil, err
	}
	if e.single, err = connect(c.uri, 1); err != nil {
		return nil, err
	}
	ping, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := e.client.Ping(ping, readpref.Primary()); err != nil {
		return nil, fmt.Errorf("cannot reach %s: %w", c.uri, err)
	}
	e.identify(ctx)
	e.pads = makePads(c.seed, c.docSize)
	return e, nil
}

func connect(uri string, conns int) (*mongo.Client, error) {
	n := uint64(conns)
	return mongo.Connect(options.Client().ApplyURI(uri).SetMaxPoolSize(n).SetMinPoolSize(n).
		SetWriteConcern(writeconcern.W1()).SetServerSelectionTimeout(10 * time.Second))
}

// identify finds the server's version and, when it runs here, its process.
func (e *env) identify(ctx context.Context) {
	admin := e.client.Database("admin")
	var info struct {
		Version string `bson:"version"`
		Cairn   any    `bson:"cairn"`
		Ferret  any    `bson:"ferretdb"`
	}
	_ = admin.RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&info)
	e.version = "MongoDB " + info.Version
	if info.Cairn != nil {
		e.version = "Cairn as " + e.version
	} else if info.Ferret != nil {
		e.version = "FerretDB as " + e.version
	}
	port, local := localPort(e.uri)
	if e.serverPID != 0 || !local {
		return
	}
	if pid, ok := listener(port); ok {
		e.serverPID = pid
		return
	}
	var status struct {
		PID int64 `bson:"pid"`
	}
	_ = admin.RunCommand(ctx, bson.D{{Key: "serverStatus", Value: 1}}).Decode(&status)
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/stat", status.PID)); err == nil && status.PID > 0 {
		e.serverPID = int(status.PID)
	}
}

func (e *env) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, db := range []string{benchDB, ycsbDB} {
		_ = e.client.Database(db).Drop(ctx)
	}
	_ = e.client.Disconnect(ctx)
	_ = e.single.Disconnect(ctx)
}

// runRow prepares, measures and verifies one row.
func (e *env) runRow(ctx context.Context, r row) (res result) {
	res.Name = r.name
	ctx, cancel := context.WithTimeout(ctx, e.rowTimeout)
	defer cancel()
	w, err := r.prepare(ctx, e)
	if err != nil {
		res.Err = "prepare: " + err.Error()
		return res
	}
	res.Unit = w.unit
	m, ping := &measured{work: w}, &measured{}
	if w.pings != noPings {
		if ping.work, err = pingRow(ctx, e); err != nil {
			res.Err = "prepare ping: " + err.Error()
			return res
		}
	}
	switch w.pings {
	case noPings:
		err = e.drive(ctx, m, e.duration)
	case pingsAround:
		around := max(e.duration/5, piece)
		steps := []func() error{
			func() error { return e.drive(ctx, ping, around) },
			func() error { return e.drive(ctx, m, e.duration) },
			func() error { return e.settle(ctx) },
			func() error { return e.drive(ctx, ping, around) },
		}
		for i := 0; i < len(steps) && err == nil; i++ {
			err = steps[i]()
		}
	case pingsBetween:
		var at, pingAt mark
		for m.elapsed < e.duration && err == nil {
			if m.elapsed >= warmUp && at.elapsed == 0 {
				at, pingAt = m.mark(), ping.mark()
			}
			err = e.drive(ctx, ping, piece/2)
			if err == nil {
				err = e.drive(ctx, m, min(piece, e.duration-m.elapsed))
			}
		}
		res.LaterRate, res.LaterPingRate = m.since(at), ping.since(pingAt)
	}
	t := m.tally()
	if err == nil && w.verify != nil {
		err = w.verify(ctx, t)
	}
	if err != nil {
		res.Err = err.Error()
		return res
	}
	res.Elapsed = m.elapsed
	res.Units, res.Ops, res.Note = t.units, t.calls, w.note // verify may have noted something
	res.Rate = float64(t.units) / m.elapsed.Seconds()
	res.P50, res.P99, res.Max = t.hist.quantile(0.5), t.hist.quantile(0.99), t.hist.max
	if m.known && t.units > 0 {
		res.CPU = m.cpu / time.Duration(t.units)
		res.Client = m.own / time.Duration(t.units)
	}
	if n := ping.tally().units; n > 0 {
		res.PingRate = float64(n) / ping.elapsed.Seconds()
		res.PingCPU, res.PingClient = ping.cpu/time.Duration(n), ping.own/time.Duration(n)
	}
	res.RSS, res.PeakRSS = memory(e.serverPID)
	return res
}

// measured is one kind of work with its workers and what it has taken so far.
type measured struct {
	work     *work
	workers  []*worker
	elapsed  time.Duration
	cpu, own time.Duration // of the server and of this program
	known    bool          // whether the server's could be read
}

// mark is how far a kind of work has come.
type mark struct {
	units   int64
	elapsed time.Duration
}

func (m *measured) mark() mark { return mark{m.tally().units, m.elapsed} }

// since is the rate behind a mark, units a second; 0 if there is no mark, or nothing behind it.
func (m *measured) since(at mark) float64 {
	if at.elapsed == 0 || m.elapsed <= at.elapsed {
		return 0
	}
	return float64(m.tally().units-at.units) / (m.elapsed - at.elapsed).Seconds()
}

// tally is what the workers have done together.
func (m *measured) tally() *tally {
	t := &tally{}
	for _, x := range m.workers {
		t.calls += x.calls
		t.units += x.units
		t.hist.merge(&x.hist)
	}
	return t
}

// drive lets the workers work for d or until the first of them fails, and adds to m what it took;
// the same workers go on when it is called again. A call that has begun is waited for, so that
// what the server did and what was counted agree.
func (e *env) drive(ctx context.Context, m *measured, d time.Duration) error {
	if m.workers == nil {
		for i := range m.work.workers {
			m.workers = append(m.workers, &worker{id: i, rng: rand.New(rand.NewPCG(uint64(e.seed), uint64(i)))})
		}
	}
	errs := make([]error, len(m.workers))
	var stop atomic.Bool
	var issued atomic.Int64
	cpu0, known := cpuTime(e.serverPID)
	own0, _ := cpuTime(os.Getpid())
	start := time.Now()
	timer := time.AfterFunc(d, func() { stop.Store(true) })
	defer timer.Stop()
	var wg sync.WaitGroup
	for i, k := range m.workers {
		wg.Go(func() {
			errs[i] = k.loop(ctx, m.work, func() bool {
				return !stop.Load() && (m.work.limit == 0 || issued.Add(1) <= m.work.limit)
			})
			if errs[i] != nil {
				stop.Store(true)
			}
		})
	}
	wg.Wait()
	m.elapsed += time.Since(start)
	cpu1, _ := cpuTime(e.serverPID)
	own1, _ := cpuTime(os.Getpid())
	m.cpu, m.own, m.known = m.cpu+cpu1-cpu0, m.own+own1-own0, known
	return errors.Join(errs...)
}

func (k *worker) loop(ctx context.Context, w *work, more func() bool) error {
	// At least one call each, so that a slow server has a figure too.
	for first := true; more() || (first && w.limit == 0); first = false {
		begin := time.Now()
		units, err := w.op(ctx, k)
		if err != nil {
			return err
		}
		k.hist.record(time.Since(begin))
		k.calls++
		k.units += units
	}
	return nil
}

// makePads draws the texts: letters of a 64-letter alphabet, which compress as little as real
// identifiers and hashes do; one of 256 for each document.
func makePads(seed int64, docSize int) []string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	rng := rand.New(rand.NewPCG(uint64(seed), 42))
	pads := make([]string, 256)
	for i := range pads {
		b := make([]byte, docSize-docOverhead)
		for j := range b {
			b[j] = letters[rng.IntN(len(letters))]
		}
		pads[i] = string(b)
	}
	return pads
}

// docOverhead is what document() needs besides its text.
const docOverhead = 64

// document i of the data set: _id, k (ten documents each), c (100 groups), n (a number), s (an
// unordered number), t (text).
func (e *env) document(id int) bson.D {
	return bson.D{
		{Key: "_id", Value: int32(id)}, {Key: "k", Value: int32(id / perKey)}, {Key: "c", Value: int32(id % groups)},
		{Key: "n", Value: int64(id)}, {Key: "s", Value: sortValue(id)}, {Key: "t", Value: e.pads[id%len(e.pads)]},
	}
}

const (
	perKey = 10
	groups = 100
)

// sortValue scatters ids: the order by s has nothing to do with the order on disk.
func sortValue(id int) int64 { return int64(hash64(uint64(id)) >> 2) }

// encode marshals documents once, so that a measured call spends its time on the way, not here.
func encode(docs []bson.D) ([]any, error) {
	out := make([]any, len(docs))
	for i, d := range docs {
		raw, err := bson.Marshal(d)
		if err != nil {
			return nil, err
		}
		out[i] = bson.Raw(raw)
	}
	return out, nil
}

// batch encodes documents [from, to). A measured call must spend its time on the way, not
// here, where it would take it from the server that shares the machine: a document is a copy of
// one with the same text, in which the numbers are replaced.
func (e *env) batch(from, to int) ([]any, error) {
	e.once.Do(func() { e.encoded, e.encodeErr = e.makeTemplates() })
	if e.encodeErr != nil {
		return nil, e.encodeErr
	}
	size := 0
	for id := from; id < to; id++ {
		size += len(e.encoded[id%len(e.pads)])
	}
	buf := make([]byte, 0, size)
	out := make([]any, 0, to-from)
	for id := from; id < to; id++ {
		start := len(buf)
		buf = append(buf, e.encoded[id%len(e.pads)]...)
		doc := buf[start:len(buf):len(buf)]
		fillNumbers(doc, id)
		out = append(out, bson.Raw(doc))
	}
	return out, nil
}

// templates are encoded documents, one for each text.
type templates struct {
	once      sync.Once
	encoded   [][]byte
	encodeErr error
}

func (e *env) makeTemplates() (docs [][]byte, err error) {
	for i := range e.pads {
		b, err := bson.Marshal(e.document(i))
		if err != nil {
			return nil, err
		}
		docs = append(docs, b)
	}
	return docs, nil
}

// fillNumbers writes the numbers of document(id) into an encoded document: behind the length
// each element is a type, a name of one letter (_id: three) and a zero in front of its value.
func fillNumbers(doc []byte, id int) {
	pos := 4 + 1 + len("_id") + 1
	for _, v := range []int{id, id / perKey, id % groups} {
		binary.LittleEndian.PutUint32(doc[pos:], uint32(int32(v)))
		pos += 4 + 3
	}
	binary.LittleEndian.PutUint64(doc[pos:], uint64(id))
	binary.LittleEndian.PutUint64(doc[pos+8+3:], uint64(sortValue(id)))
}

// collection returns a collection of the bench database over all connections.
func (e *env) collection(name string) *mongo.Collection {
	return e.client.Database(benchDB).Collection(name)
}

// fresh returns an empty collection that exists: creating it is not part of a row.
func (e *env) fresh(ctx context.Context, name string) (*mongo.Collection, error) {
	c := e.collection(name)
	if err := c.Drop(ctx); err != nil {
		return nil, err
	}
	return c, e.client.Database(benchDB).CreateCollection(ctx, name)
}

// dataSet makes sure that docs holds the data set, with the index on k when asked for.
func (e *env) dataSet(ctx context.Context, index bool) (*mongo.Collection, error) {
	c := e.collection("docs")
	if !e.loaded {
		if _, err := e.fresh(ctx, "docs"); err != nil {
			return nil, err
		}
		if err := e.load(ctx, c); err != nil {
			return nil, err
		}
		e.loaded, e.indexed = true, false
	}
	if index && !e.indexed {
		if _, err := c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: "k", Value: 1}}}); err != nil {
			return nil, err
		}
		e.indexed = true
	}
	return c, nil
}

func (e *env) load(ctx context.Context, c *mongo.Collection) error {
	for from := 0; from < e.docs; from += 1000 {
		docs, err := e.batch(from, min(from+1000, e.docs))
		if err != nil {
			return err
		}
		if _, err := c.InsertMany(ctx, docs); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until the server is idle: less than 3 % of a CPU over a second, at most a minute.
func (e *env) settle(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	before, known := cpuTime(e.serverPID)
	for i := range 60 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		now, _ := cpuTime(e.serverPID)
		if known && now-before < 30*time.Millisecond || !known && i >= 5 {
			return nil
		}
		before = now
	}
	return nil
}
