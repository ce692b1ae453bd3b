package repo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// inlineStream is the largest stream that is kept in the manifest, inlineManifest the most that
	// one manifest keeps: a slice of a quiet minute is one object instead of three.
	inlineStream   = 16 << 10
	inlineManifest = 64 << 10

	uploads     = 2               // packs on their way at a time
	packsAnIdx  = 8               // an index object is written for so many packs,
	flushPeriod = 5 * time.Minute // or when a pack or an index waits for so long
)

// Writer stores one backup: streams first, then its manifest. What is stored in packs becomes
// part of the repository only by the manifest, which Commit writes last.
type Writer struct {
	r      *Repo
	lk     *Lock
	ctx    context.Context
	cancel context.CancelCauseFunc
	blocks chan *block
	work   sync.WaitGroup // blocks that are not in a pack yet
	run    sync.WaitGroup // goroutines

	mu         sync.Mutex
	base       *chunkIndex     // loaded at the first chunk
	pending    map[ID]struct{} // chunks of ours that are in no index object yet
	tail       *block          // what streams leave at their end
	refs       []StreamRef
	stats      WriteStats
	inlineLeft int
	closed     bool

	packMu  sync.Mutex
	pack    *packBuilder
	started time.Time // when pack was begun

	upload chan struct{}  // one token an upload
	sent   sync.WaitGroup // uploads
	idxMu  sync.Mutex
	done   []packEntry // uploaded, in no index yet
	since  time.Time   // when the first of done was added
}

// NewWriter begins a backup under a lock. It ends with Commit or Abort.
func (r *Repo) NewWriter(ctx context.Context, lk *Lock) (*Writer, error) {
	if lk == nil {
		return nil, errors.New("a writer needs a lock")
	}
	if err := lk.lost(); err != nil {
		return nil, err
	}
	lk.users.Lock()
	lk.open++
	lk.users.Unlock()
	w := &Writer{r: r, lk: lk, blocks: make(chan *block, r.opts.Workers), pending: map[ID]struct{}{}, tail: &block{},
		inlineLeft: inlineManifest, upload: make(chan struct{}, uploads)}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	for range r.opts.Workers {
		w.run.Go(w.compress)
	}
	w.run.Go(w.watch)
	return w, nil
}

// fail ends the writer; the first reason stays.
func (w *Writer) fail(err error) { w.cancel(err) }

// watch ends the writer when its lock is lost, and sends what waits for too long.
func (w *Writer) watch() {
	t := time.NewTicker(flushPeriod / 4)
	defer t.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-w.lk.Lost():
			w.fail(w.lk.lost())
			return
		case <-t.C:
			if err := w.flushOld(); err != nil {
				w.fail(err)
				return
			}
		}
	}
}

func (w *Writer) flushOld() error {
	if p := w.takePack(func(p *packBuilder) bool { return time.Since(w.started) >= flushPeriod }); p != nil {
		w.send(p)
	}
	return w.index(w.ctx, false)
}

// takePack takes the open pack if there is one and it is due; the caller sends it.
func (w *Writer) takePack(due func(*packBuilder) bool) *packBuilder {
	w.packMu.Lock()
	defer w.packMu.Unlock()
	p := w.pack
	if p == nil || !due(p) {
		return nil
	}
	w.pack = nil
	w.sent.Add(1)
	return p
}

// store keeps a chunk, unless the repository has it, in the given open block, which is handed on
// when it is full. It returns the block to go on with.
func (w *Writer) store(id ID, data []byte, b *block) (*block, error) {
	isNew, err := w.claim(id, len(data))
	if err != nil || !isNew {
		return b, err
	}
	b.add(id, data)
	if !b.full() {
		return b, nil
	}
	return &block{}, w.submit(b)
}

// claim says whether the chunk is new and this caller's to store.
func (w *Writer) claim(id ID, size int) (bool, error) {
	if err := w.ctx.Err(); err != nil {
		return false, context.Cause(w.ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.base == nil {
		base, err := w.r.loadIndex(w.ctx)
		if err != nil {
			return false, err
		}
		w.base = base
	}
	w.stats.Chunks++
	if _, ours := w.pending[id]; ours {
		return false, nil
	}
	w.r.mu.RLock()
	known := w.base.usable(id)
	w.r.mu.RUnlock()
	if known {
		return false, nil
	}
	w.pending[id] = struct{}{}
	w.stats.NewChunks++
	w.stats.NewBytes += int64(size)
	return true, nil
}

// submit hands a block to the compressors; it waits when they are behind.
func (w *Writer) submit(b *block) error {
	w.work.Add(1)
	select {
	case w.blocks <- b:
		return nil
	case <-w.ctx.Done():
		w.work.Done()
		return context.Cause(w.ctx)
	}
}

func (w *Writer) compress() {
	var scratch []byte
	for {
		select {
		case <-w.ctx.Done():
			return
		case b := <-w.blocks:
			var err error
			if b.piece != nil {
				scratch, err = w.addPiece(b, scratch)
			} else {
				scratch = b.encode(w.r.codec, scratch)
				err = w.addBlock(scratch, b.chunks)
			}
			if err != nil {
				w.fail(err)
			}
			w.work.Done()
		}
	}
}

// addBlock puts a block into the current pack and sends that when it is full.
func (w *Writer) addBlock(encoded []byte, chunks []chunkEntry) error {
	size := w.r.marker.PackSize
	w.packMu.Lock()
	if w.pack == nil {
		p, err := newPackBuilder(w.r.keys, w.r.packBuffer())
		if err != nil {
			w.packMu.Unlock()
			return err
		}
		w.pack, w.started = p, time.Now()
	}
	w.pack.add(encoded, chunks)
	w.packMu.Unlock()
	if p := w.takePack(func(p *packBuilder) bool { return len(p.buf) >= size }); p != nil {
		w.send(p)
	}
	return nil
}

// send uploads a pack that was taken, in the background; it waits while others are on their way.
func (w *Writer) send(p *packBuilder) {
	select {
	case w.upload <- struct{}{}:
	case <-w.ctx.Done():
		w.sent.Done()
		return
	}
	go func() {
		defer w.sent.Done()
		defer func() { <-w.upload }()
		if err := w.uploadPack(p); err != nil {
			w.fail(err)
		}
	}()
}

func (w *Writer) uploadPack(p *packBuilder) error {
	entry, data := p.finish()
	if err := w.lk.hold(w.ctx); err != nil {
		return err
	}
	if err := w.r.store.put(w.ctx, packName(entry.id), data); err != nil {
		return fmt.Errorf("writing a pack: %w", err)
	}
	// After an error the store may still be reading it.
	w.r.freePackBuffer(data)
	w.mu.Lock()
	w.stats.Packs++
	w.stats.Stored += int64(len(data))
	w.mu.Unlock()
	w.idxMu.Lock()
	if len(w.done) == 0 {
		w.since = time.Now()
	}
	w.done = append(w.done, entry)
	w.idxMu.Unlock()
	return w.index(w.ctx, false)
}

// index writes an index object for the packs that wait, if there are many, or it is time, or now.
// From then on an interrupted backup finds their chunks again.
func (w *Writer) index(ctx context.Context, now bool) error {
	w.idxMu.Lock()
	defer w.idxMu.Unlock()
	if len(w.done) == 0 || (!now && len(w.done) < packsAnIdx && time.Since(w.since) < flushPeriod) {
		return nil
	}
	if err := w.lk.hold(ctx); err != nil {
		return err
	}
	name, size, err := w.r.writeIndex(ctx, w.done)
	if err != nil {
		return err
	}
	w.mu.Lock()
	base := w.base
	w.mu.Unlock()
	w.r.publish(name, w.done, base)
	w.mu.Lock()
	w.stats.Stored += int64(size)
	for _, p := range w.done {
		for _, b := range p.blocks {
			for _, c := range b.chunks {
				delete(w.pending, c.id)
			}
		}
	}
	w.mu.Unlock()
	w.done = nil
	return nil
}

// await waits for a group's end, or the writer's.
func (w *Writer) await(group *sync.WaitGroup) error {
	idle := make(chan struct{})
	go func() { group.Wait(); close(idle) }()
	select {
	case <-idle:
		return context.Cause(w.ctx)
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

// drain waits until all that was written is stored and indexed.
func (w *Writer) drain() error {
	w.mu.Lock()
	tail := w.tail
	w.tail = &block{}
	w.mu.Unlock()
	if len(tail.chunks) > 0 {
		if err := w.submit(tail); err != nil {
			return err
		}
	}
	if err := w.await(&w.work); err != nil {
		return err
	}
	if p := w.takePack(func(*packBuilder) bool { return true }); p != nil {
		w.send(p)
	}
	w.sent.Wait()
	if err := w.index(w.ctx, true); err != nil {
		return err
	}
	return context.Cause(w.ctx)
}

// Commit stores what is still in memory, checks the lock, and signs the manifest off. It sets the
// manifest's ID, Repository, Created and Written, and Streams if they are nil: all streams in the
// order in which they were finished. After an error nothing was signed off.
func (w *Writer) Commit(ctx context.Context, m *Manifest) error {
	w.mu.Lock()
	closed := w.closed
	w.closed = true
	w.mu.Unlock()
	if closed {
		return errors.New("the writer was committed or aborted before")
	}
	err := w.drain()
	if err == nil {
		err = w.sign(ctx, m)
	}
	return errors.Join(err, w.end())
}

func (w *Writer) sign(ctx context.Context, m *Manifest) error {
	w.mu.Lock()
	m.Written = w.stats
	if m.Streams == nil {
		m.Streams = w.refs
	}
	w.mu.Unlock()
	now := w.r.now().UTC()
	m.Repository, m.Created = w.r.marker.ID, now
	m.ID = now.Format("20060102T150405.000000Z") + "-" + randomHex(4)
	name := manifestName(m.ID)
	data, err := w.r.sealJSON(kindManifest, name, m)
	if err != nil {
		return err
	}
	// A request that is still tried when the lock's life is over is given up.
	ctx, done := w.lk.within(ctx)
	defer done()
	if err := w.lk.Check(ctx); err != nil {
		return err
	}
	if err := w.r.store.put(ctx, name, data); err != nil {
		// The request may have arrived all the same.
		return errors.Join(fmt.Errorf("signing off: %w", err), w.withdraw(name))
	}
	// The lock may have been taken over after the first check, and a sweep may have begun; who
	// deletes a lock reads the manifests afterwards, so if the lock is still there the sweep has
	// seen, or will see, this one.
	if err := w.lk.Check(ctx); err != nil {
		return errors.Join(err, w.withdraw(name))
	}
	return nil
}

// withdraw removes a manifest that could not be signed off; also when the caller has given up.
func (w *Writer) withdraw(name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), time.Minute)
	defer cancel()
	if err := w.r.store.remove(ctx, name); err != nil {
		return fmt.Errorf("the manifest could not be withdrawn, delete it: %w", err)
	}
	return nil
}

// end stops the goroutines and indexes the packs that are there: a later try finds them.
func (w *Writer) end() error {
	w.cancel(errWriterClosed)
	w.run.Wait()
	for len(w.blocks) > 0 {
		if b := <-w.blocks; b.piece != nil {
			b.piece.log.work.Done()
		}
		w.work.Done()
	}
	w.sent.Wait()
	w.lk.users.Lock()
	w.lk.open--
	w.lk.users.Unlock()
	if w.lk.lost() != nil {
		return nil // who wrote said why; nothing more is written
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), time.Minute)
	defer cancel()
	ctx, done := w.lk.within(ctx)
	defer done()
	return w.index(ctx, true)
}

var errWriterClosed = errors.New("the writer is closed")

// Abort gives the backup up. What was uploaded stays until a sweep, and a later backup finds it.
func (w *Writer) Abort() error {
	w.mu.Lock()
	closed := w.closed
	w.closed = true
	w.mu.Unlock()
	if closed {
		return nil
	}
	return w.end()
}

// Stats says what was written so far.
func (w *Writer) Stats() WriteStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}
