package storage

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// checkpointer flushes the memtables every so often, which bounds replay.
type checkpointer struct {
	e       *Engine
	flushed atomic.Uint64 // Pos that a completed flush is known to cover
	dirty   atomic.Bool   // something was applied since the last flush began
	kick    chan struct{}
	mu      sync.Mutex // one explicit flush at a time
	count   atomic.Uint64
}

func (c *checkpointer) init(e *Engine) {
	c.e = e
	c.kick = make(chan struct{}, 1)
	if e.opts.ReadOnly {
		return
	}
	e.wg.Add(1)
	go c.loop()
}

func (c *checkpointer) loop() {
	defer c.e.wg.Done()
	var tick <-chan time.Time
	if every := c.e.opts.CheckpointInterval; every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-tick:
		case <-c.kick:
		case <-c.e.fail.failed:
			return
		case <-c.e.quit:
			return
		}
		if err := c.e.flush(); err != nil && !errors.Is(err, ErrClosed) {
			c.e.log.Error("checkpoint failed", "err", err.Error())
		}
	}
}

// note is told of every applied position and starts a checkpoint when the
// journal behind the last one is long.
func (c *checkpointer) note(pos Pos) {
	if uint64(pos)-c.flushed.Load() < uint64(c.e.opts.CheckpointBytes) {
		return
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Flush makes a checkpoint now: at return everything applied before the call
// is durable in the engine and a crash replays none of it.
func (e *Engine) Flush() error {
	if err := e.writable(); err != nil {
		return err
	}
	return e.flush()
}

func (e *Engine) flush() error {
	e.ckpt.mu.Lock()
	defer e.ckpt.mu.Unlock()
	if err := e.fail.err(); err != nil {
		return err
	}
	target := e.Applied().Pos
	if err := e.journal.SyncTo(target); err != nil {
		e.fail.fail(fmt.Errorf("sync the journal: %w", err))
		return e.fail.err()
	}
	// The flag is set behind a batch's entry into the memtable: a batch that
	// this flush misses sets it again.
	if e.ckpt.dirty.Swap(false) {
		if err := e.flushMemtables(); err != nil {
			return err
		}
	}
	e.ckpt.flushed.Store(uint64(target))
	e.ckpt.count.Add(1)
	return nil
}

// flushMemtables waits for the flush, but no longer than the store is well.
func (e *Engine) flushMemtables() error {
	done, err := e.db.AsyncFlush()
	if err != nil {
		return fmt.Errorf("storage: flush: %w", convErr(err))
	}
	select {
	case <-done:
		return e.fail.err()
	case <-e.fail.failed:
		return e.fail.err()
	}
}

// Checkpoint is the mark that the engine's durable state names: recovery would
// replay what is behind it, so the journal in front of it is not needed by the
// engine. It costs a read.
func (e *Engine) Checkpoint() (Mark, error) {
	if e.closed.Load() {
		return Mark{}, ErrClosed
	}
	it, err := e.db.NewIter(&pebble.IterOptions{
		LowerBound:                appliedKeyBytes,
		UpperBound:                []byte{byte(spaceMeta), metaApplied + 1},
		OnlyReadGuaranteedDurable: true,
	})
	if err != nil {
		return Mark{}, convErr(err)
	}
	var m Mark
	if it.First() {
		m, err = decodeMark(it.Value())
	}
	if ferr := e.fail.err(); ferr != nil {
		err = ferr // what Pebble takes for durable since then is not
	}
	return m, errors.Join(err, convErr(it.Error()), convErr(it.Close()))
}
