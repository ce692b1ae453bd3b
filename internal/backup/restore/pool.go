package restore

import (
	"context"
	"sync"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn/internal/backup/tool"
)

// Sizes of an insert command. The server takes 100,000 documents and 48 MB; smaller ones
// cost the server next to nothing more and keep the memory small.
const (
	batchBytes = 512 << 10
	batchDocs  = 100000
)

// pool inserts batches of any namespace on a fixed number of workers, with a fixed number
// of buffers. A batch is complete in itself, so that a worker never waits for what has
// not been read yet: whatever the order of the namespaces in an archive, reading and
// inserting cannot wait for each other.
type pool struct {
	client *mongo.Client
	server tool.Server
	opts   insertOptions
	log    *tool.Log

	workers int
	ctx     context.Context
	stop    func() bool
	wg      sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond // of everything below
	largest int        // document that was seen, of those that are larger than a batch
	max     int        // buffers there may be
	made    int
	free    []*batch
	ready   []*batch
	busy    int       // batches that are ready, queued at their loader, or being inserted
	holders []*loader // loaders whose cur may be taken when there is no other buffer
	err     error     // why nothing is inserted any more
	culprit *loader   // whose documents that was, nil if it was something else
	closed  bool
}

// batch is one insert command being made or sent.
type batch struct {
	l     *loader
	cmd   []byte // the command, up to where the array of documents goes on
	array int    // offset of the array in cmd
	docs  int
	bytes int64 // of the documents
	seq   int64 // number in its namespace, from 0
	mixed bool  // the collection was told to take what these documents need
}

// loader puts the documents of one namespace into batches. Documents and Flush are
// called by one goroutine at a time.
type loader struct {
	p       *pool
	db      string
	coll    string
	ordered bool
	limit   int          // batches of this namespace that may be on the way at once
	steal   bool         // the caller of all such loaders is one goroutine
	checkID bool         // documents may be there already: equal ones count as restored
	bypass  bool         // bypassDocumentValidation
	objects bool         // check the inside of every document
	wrote   func(Result) // called, under no lock, with what is done behind all that was done before

	task   *task  // whose documents they are; nil for a temporary collection
	before Result // what an earlier restore, which is resumed, has done

	head []byte
	cur  *batch
	next int64 // seq of the next batch

	// Guarded by the pool's mu.
	queue    []*batch
	running  int
	result   Result
	failures failures
	done     map[int64]Result
	paused   bool  // the collection is not made yet
	upTo     int64 // batches before this one are done
	finished func()
}

// Result counts the documents of a namespace, or of a restore.
type Result struct {
	Read      int64 // documents that were read from the dump
	Successes int64 // documents the server acknowledged, or had already when resuming
	Failures  int64 // documents it refused
}

func (r *Result) add(o Result) {
	r.Read += o.Read
	r.Successes += o.Successes
	r.Failures += o.Failures
}

// newPool starts the workers. producers is the number of goroutines that fill batches.
func newPool(ctx context.Context, client *mongo.Client, server tool.Server, log *tool.Log, workers, producers int, o insertOptions) *pool {
	p := &pool{client: client, server: server, opts: o, log: log, workers: workers, max: producers + workers + 2}
	p.changed = sync.NewCond(&p.mu)
	p.ctx = ctx
	p.stop = context.AfterFunc(ctx, func() { p.fail(context.Cause(ctx)) })
	for range workers {
		p.wg.Add(1)
		go func() {
			defer p.wg.Done()
			p.work()
		}()
	}
	return p
}

// close ends the workers when all that was submitted is done.
func (p *pool) close() error {
	p.mu.Lock()
	p.closed = true
	p.changed.Broadcast()
	p.mu.Unlock()
	p.wg.Wait()
	p.stop()
	return p.error()
}

func (p *pool) error() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// fail makes the pool refuse everything from now on. The first reason stays.
func (p *pool) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	p.changed.Broadcast()
}

// sawLarge tells how much memory documents of that size need: one in each buffer, in the
// copies that the driver makes of those on the way, and in each collection's reading.
func (p *pool) sawLarge(size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if size <= p.largest || p.opts.memory == nil {
		return
	}
	p.largest = size
	p.opts.memory(int64(size) * int64(2*p.max+3*p.workers))
}

// get returns an empty batch, waiting for one that is being inserted if need be.
func (p *pool) get(l *loader) (*batch, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.err != nil {
			return nil, p.err
		}
		if n := len(p.free); n > 0 {
			b := p.free[n-1]
			p.free = p.free[:n-1]
			return b, nil
		}
		if p.made < p.max {
			p.made++
			return &batch{cmd: make([]byte, 0, batchBytes+batchBytes/8)}, nil
		}
		if l.steal && p.busy == 0 {
			// Every buffer is held, half full, by a namespace of the archive: the fullest
			// goes on its way.
			var most *loader
			for _, h := range p.holders {
				if h.cur != nil && (most == nil || h.cur.bytes > most.cur.bytes) {
					most = h
				}
			}
			if most != nil {
				b := most.cur
				most.cur = nil
				p.submitLocked(b)
				continue
			}
		}
		p.changed.Wait()
	}
}

// submitLocked sends a batch on its way: to a worker, or into its namespace's queue.
func (p *pool) submitLocked(b *batch) {
	p.busy++
	if !b.l.paused && b.l.running < b.l.limit {
		b.l.running++
		p.ready = append(p.ready, b)
		p.changed.Broadcast()
		return
	}
	b.l.queue = append(b.l.queue, b)
}

func (p *pool) work() {
	s := &sender{p: p}
	defer s.close()
	for {
		p.mu.Lock()
		for len(p.ready) == 0 && p.err == nil && (!p.closed || p.busy > 0) {
			p.changed.Wait()
		}
		if len(p.ready) == 0 || p.err != nil {
			p.mu.Unlock()
			return
		}
		b := p.ready[0]
		p.ready = p.ready[1:]
		p.mu.Unlock()

		out := s.insert(p.ctx, b)
		p.finish(b, out)
	}
}

// finish books the outcome of a batch, lets the next of its namespace go, and gives the
// buffer back.
func (p *pool) finish(b *batch, out outcome) {
	l := b.l
	p.mu.Lock()
	l.result.add(Result{Successes: out.inserted, Failures: out.failed})
	l.failures.merge(&out.failures)
	l.running--
	p.busy--
	var mark Result
	if out.err == nil {
		l.done[b.seq] = Result{int64(b.docs), out.inserted, out.failed}
		for m, ok := l.done[l.upTo]; ok; m, ok = l.done[l.upTo] {
			mark.add(m)
			delete(l.done, l.upTo)
			l.upTo++
		}
	} else if p.err == nil {
		p.err, p.culprit = out.err, l
	}
	if len(l.queue) > 0 && l.running < l.limit {
		l.running++
		p.ready = append(p.ready, l.queue[0])
		l.queue = l.queue[1:]
	}
	b.l = nil
	if cap(b.cmd) > 2*batchBytes { // one that held a large document
		b.cmd = make([]byte, 0, batchBytes+batchBytes/8)
	}
	p.free = append(p.free, b)
	end := l.endLocked()
	p.changed.Broadcast()
	p.mu.Unlock()
	if mark != (Result{}) && l.wrote != nil {
		l.wrote(mark)
	}
	if end != nil {
		end()
	}
}

// endLocked returns what is to be called if the namespace has come to its end just now.
func (l *loader) endLocked() func() {
	if l.finished == nil || l.p.err != nil || l.paused || l.running > 0 || len(l.queue) > 0 {
		return nil
	}
	f := l.finished
	l.finished = nil
	return f
}

// newLoader starts a namespace.
func (p *pool) newLoader(db, coll string, limit int, ordered bool) *loader {
	if ordered || limit < 1 {
		limit = 1
	}
	l := &loader{p: p, db: db, coll: coll, ordered: ordered, limit: limit, bypass: p.opts.bypassValidation,
		objects: p.opts.objcheck, done: map[int64]Result{}}
	return l
}

// hold makes the loader one of those whose half full batch may be sent when buffers are
// short. All of them must be filled by one goroutine.
func (l *loader) hold() {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.steal = true
	l.p.holders = append(l.p.holders, l)
}

// pause keeps batches in the queue until resume: what is read does not wait for the
// collection to be made.
func (l *loader) pause() {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.paused = true
}

// resume lets the batches go.
func (l *loader) resume() {
	l.p.mu.Lock()
	l.paused = false
	for len(l.queue) > 0 && l.running < l.limit {
		l.running++
		l.p.ready = append(l.p.ready, l.queue[0])
		l.queue = l.queue[1:]
	}
	f := l.endLocked()
	l.p.changed.Broadcast()
	l.p.mu.Unlock()
	if f != nil {
		f()
	}
}

// Documents takes a run of whole documents, which it copies.
func (l *loader) Documents(block []byte) error {
	read := int64(0)
	defer func() {
		l.p.mu.Lock()
		l.result.Read += read
		l.p.mu.Unlock()
	}()
	for len(block) > 0 {
		size := docSize(block)
		doc := block[:size]
		block = block[size:]
		if l.objects {
			if err := checkDocument(doc); err != nil {
				return err
			}
		}
		if size > batchBytes {
			l.p.sawLarge(size)
		}
		if l.cur != nil && (len(l.cur.cmd)+size > batchBytes || l.cur.docs >= batchDocs) {
			if err := l.flush(); err != nil {
				return err
			}
		}
		if l.cur == nil {
			b, err := l.p.get(l)
			if err != nil {
				return err
			}
			l.begin(b)
		}
		l.cur.add(doc)
		read++
	}
	return nil
}

// flush sends the batch that is being filled.
func (l *loader) flush() error {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	if l.p.err != nil {
		return l.p.err
	}
	if b := l.cur; b != nil {
		l.cur = nil
		l.p.submitLocked(b)
	}
	return nil
}

// end sends what is left. finished is called, by any goroutine, when all is inserted; not
// if the pool failed.
func (l *loader) end(finished func()) error {
	if err := l.flush(); err != nil {
		return err
	}
	l.p.mu.Lock()
	l.finished = finished
	f := l.endLocked()
	if l.steal {
		for i, h := range l.p.holders {
			if h == l {
				l.p.holders = append(l.p.holders[:i], l.p.holders[i+1:]...)
				break
			}
		}
	}
	l.p.mu.Unlock()
	if f != nil {
		f()
	}
	return nil
}

// wait is end for a caller that has nothing else to do.
func (l *loader) wait() error {
	done := make(chan struct{})
	if err := l.end(func() {
		close(done)
		l.p.mu.Lock()
		l.p.changed.Broadcast()
		l.p.mu.Unlock()
	}); err != nil {
		return err
	}
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	for {
		if l.p.err != nil {
			return l.p.err
		}
		select {
		case <-done:
			return nil
		default:
		}
		l.p.changed.Wait()
	}
}

// settle waits for the batches of a failed restore that are on the way, so that what they
// did is counted.
func (l *loader) settle() {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	for l.p.err != nil && l.running > 0 && l.inFlightLocked() {
		l.p.changed.Wait()
	}
}

// inFlightLocked says that a worker has a batch of l; those that are only ready stay where
// they are when the pool has failed.
func (l *loader) inFlightLocked() bool {
	ready := 0
	for _, b := range l.p.ready {
		if b.l == l {
			ready++
		}
	}
	return l.running > ready
}

// abandoned says that l stopped because of another namespace.
func (l *loader) abandoned() bool {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	return l.p.culprit != nil && l.p.culprit != l
}

// outcome returns what became of the namespace so far.
func (l *loader) outcome() (Result, failures) {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	return l.result, l.failures
}
