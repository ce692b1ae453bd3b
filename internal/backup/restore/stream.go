package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/cairndb/cairn/internal/backup/archive"
)

// archiveRun restores from an archive while it is read. Everything but the making of
// collections and the inserting happens on the goroutine that reads; it never waits for
// anything that depends on bytes it has not read yet.
type archiveRun struct {
	r     *Restore
	ctx   context.Context
	slots chan struct{} // collections being made at once
	wg    sync.WaitGroup
	open  int // loaders that are not done; guarded by the pool's mu

	specials map[*task]*spool
}

// restoreArchive reads the archive to its end.
func (r *Restore) restoreArchive(ctx context.Context) error {
	a := &archiveRun{r: r, ctx: ctx, slots: make(chan struct{}, r.o.Output.NumParallelCollections), specials: map[*task]*spool{}}
	err := r.archive.Run(ctx, a.namespace)
	if err != nil {
		r.pool.fail(err)
	}
	a.wg.Wait()
	werr := a.wait()
	r.specials = a.specials
	switch {
	case err == nil:
		err = werr
	case r.pool.error() != nil && !errors.Is(r.pool.error(), err) && !errors.Is(r.pool.error(), errDamaged):
		err = r.pool.error() // the cause: reading only stopped because of it
	}
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	if c := r.pool.culprit; c != nil && errors.Is(err, r.pool.err) {
		err = fmt.Errorf("%v: error restoring from %v: %w", c.task.namespace(), c.task.location, err)
	}
	return err
}

// wait returns when all that was read before is inserted.
func (a *archiveRun) wait() error {
	p := a.r.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	for a.open > 0 && p.err == nil {
		p.changed.Wait()
	}
	return p.err
}

// namespace is called where a namespace begins in the archive.
func (a *archiveRun) namespace(db, coll string) (archive.Sink, error) {
	r := a.r
	t := r.plan.inArchive[db+"."+coll]
	switch {
	case t == nil:
		r.log.Debug("skipping %#q in the archive", db+"."+coll)
		return nil, nil
	case t == r.plan.users || t == r.plan.roles || t == r.plan.version:
		s := &spool{}
		a.specials[t] = s
		return s, nil
	case t == r.plan.oplog:
		return &oplogSink{a: a, t: t}, nil
	case t.coll == "system.indexes":
		return nil, nil
	}
	if r.alreadyDone(t) {
		return nil, nil
	}
	if t.typ == "view" && !r.o.Original {
		return nil, nil // made when what it reads is there
	}
	l := r.loader(t)
	l.hold()
	l.pause()
	r.pool.mu.Lock()
	a.open++
	r.pool.mu.Unlock()
	a.wg.Add(1)
	go func() {
		defer a.wg.Done()
		select {
		case a.slots <- struct{}{}:
		case <-a.ctx.Done():
			return
		}
		defer func() { <-a.slots }()
		if err := r.makeCollection(a.ctx, t); err != nil {
			r.pool.fail(fmt.Errorf("%v: %w", t.namespace(), err))
			return
		}
		r.log.Always("restoring %#q from %#q", t.db+"."+t.dataColl(r.server), t.location)
		l.resume()
	}()
	bar := r.progress.StartBytes(t.namespace(), t.size)
	return &archiveSink{a: a, dataSink: dataSink{r: r, t: t, l: l, bar: bar, skip: r.state.skip(t)}}, nil
}

// archiveSink takes one collection's documents out of the archive.
type archiveSink struct {
	dataSink
	a *archiveRun
}

// errDamaged stops the inserting when reading an archive has failed.
var errDamaged = errors.New("the archive cannot be read on")

// End lets the rest of the documents go. That the namespace is done is said when they are
// inserted; reading goes on meanwhile.
func (s *archiveSink) End(ok bool) error {
	s.bar.Done()
	r := s.r
	done := func() {
		err := r.end(s.t, s.l, nil)
		p := r.pool
		p.mu.Lock()
		if err != nil && p.err == nil {
			p.err = fmt.Errorf("%v: %w", s.t.namespace(), err)
		}
		s.a.open--
		p.changed.Broadcast()
		p.mu.Unlock()
	}
	if !ok {
		// The namespace is damaged or the restore is ending: what became of it is said as
		// far as it is known, and nothing more is inserted.
		s.l.cur = nil
		r.pool.fail(errDamaged) // the reason is what reading returns
		return nil
	}
	return s.l.end(done)
}

// oplogSink replays the archive's oplog as it is read. The dumps write it last; if
// something else is still open, it is kept in a file and replayed at the end.
type oplogSink struct {
	a    *archiveRun
	t    *task
	keep *spool
	run  *oplogRun
}

func (s *oplogSink) start() error {
	if s.keep != nil || s.run != nil {
		return nil
	}
	r := s.a.r
	if r.archive.Open() > 1 {
		s.keep = &spool{}
		s.a.specials[s.t] = s.keep
		return nil
	}
	s.a.wg.Wait()
	if err := s.a.wait(); err != nil {
		return err
	}
	r.specials = s.a.specials
	if err := r.beforeOplog(s.a.ctx); err != nil {
		return err
	}
	var err error
	s.run, err = r.startReplay(s.a.ctx, s.t)
	return err
}

func (s *oplogSink) Documents(block []byte) error {
	if err := s.start(); err != nil {
		return err
	}
	if s.keep != nil {
		return s.keep.Documents(block)
	}
	return s.run.documents(block)
}

func (s *oplogSink) End(ok bool) error {
	if !ok {
		if s.run != nil {
			s.run.abandon()
		}
		return nil
	}
	if err := s.start(); err != nil {
		return err
	}
	if s.keep != nil {
		return s.keep.End(ok)
	}
	return s.run.close()
}

// spool keeps a small namespace until its place: in memory, or in a file if it is larger.
type spool struct {
	mem   bytes.Buffer
	file  *os.File
	size  int64
	whole bool
}

// spoolMemory is how much of a spool is kept in memory.
const spoolMemory = 1 << 20

func (s *spool) Documents(block []byte) error {
	s.size += int64(len(block))
	if s.file == nil && s.mem.Len()+len(block) <= spoolMemory {
		s.mem.Write(block)
		return nil
	}
	if s.file == nil {
		f, err := os.CreateTemp("", "cairn-restore-")
		if err != nil {
			return err
		}
		// Without a name it goes with the process, however that ends.
		if err := os.Remove(f.Name()); err != nil {
			return errors.Join(err, f.Close())
		}
		s.file = f
		if _, err := f.Write(s.mem.Bytes()); err != nil {
			return err
		}
		s.mem.Reset()
	}
	_, err := s.file.Write(block)
	return err
}

func (s *spool) End(ok bool) error { s.whole = ok; return nil }

// open returns the documents from the first.
func (s *spool) open() (io.Reader, error) {
	if s.file == nil {
		return bytes.NewReader(s.mem.Bytes()), nil
	}
	_, err := s.file.Seek(0, io.SeekStart)
	return s.file, err
}

func (s *spool) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// openTask opens the documents of a special task, wherever they are.
func (r *Restore) openTask(t *task) (io.Reader, func() error, error) {
	if r.archive != nil && t.path == "" || r.specials[t] != nil {
		s := r.specials[t]
		if s == nil {
			return bytes.NewReader(nil), func() error { return nil }, nil
		}
		in, err := s.open()
		return in, func() error { return nil }, err
	}
	in, err := openFile(t.path, t.form)
	if err != nil {
		return nil, nil, err
	}
	return in, in.Close, nil
}

// sizeOf is how many bytes a special task has.
func (r *Restore) sizeOf(t *task) int64 {
	if s := r.specials[t]; s != nil {
		return s.size
	}
	if r.archive != nil {
		return 0
	}
	return t.size
}
