package storage

import (
	"errors"
	"sync"
)

// dropper deletes the ranges of dropped tables in the background. A mark in
// the engine, written with the drop itself, keeps each until it is done; the
// deletion and the removal of the mark are one batch.
type dropper struct {
	e    *Engine
	wake chan struct{}
	mu   struct {
		sync.Mutex
		queue []Table
		busy  bool
		idle  bell
	}
}

func (d *dropper) init(e *Engine) {
	d.e = e
	d.wake = make(chan struct{}, 1)
	if e.opts.ReadOnly {
		return
	}
	e.wg.Add(1)
	go d.loop()
}

// add queues a table whose mark is in the engine.
func (d *dropper) add(t Table) {
	d.mu.Lock()
	d.mu.queue = append(d.mu.queue, t)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// resume queues what a crash or shutdown left.
func (d *dropper) resume() error {
	lower, upper := droppedBounds()
	c := d.e.NewCursor(lower, upper)
	for ok := c.First(); ok; ok = c.Next() {
		t, rest, ok := SplitKey(c.Key()[2:])
		if !ok || len(rest) != 0 {
			return errors.Join(corruptf("mark of a dropped table %x", c.Key()), c.Close())
		}
		d.add(t)
	}
	return errors.Join(c.Err(), c.Close())
}

func (d *dropper) loop() {
	defer d.e.wg.Done()
	for {
		select {
		case <-d.wake:
		case <-d.e.quit:
			return
		case <-d.e.fail.failed:
			return
		}
		for d.one() {
		}
	}
}

// one deletes the first queued table and reports whether there was one.
func (d *dropper) one() bool {
	d.mu.Lock()
	d.mu.busy = len(d.mu.queue) > 0
	if !d.mu.busy {
		d.mu.idle.ring()
		d.mu.Unlock()
		return false
	}
	t := d.mu.queue[0]
	d.mu.queue = d.mu.queue[1:]
	d.mu.Unlock()
	if err := d.e.deleteTable(t); err != nil {
		if d.e.writable() == nil {
			d.e.log.Error("deleting a dropped table failed; the next start tries again", "table", t.String(), "err", err.Error())
		}
		return false
	}
	return true
}

func (e *Engine) deleteTable(t Table) error {
	w := e.NewWriteSet()
	defer w.Release()
	w.DeleteRange(t.Bounds())
	w.Delete(droppedKey(t))
	return e.ApplyUnlogged(w)
}

// DropIdent drops a table that no unit drops: one that a crash left half made.
// Its range is deleted in the background.
func (e *Engine) DropIdent(t Table) error {
	w := e.NewWriteSet()
	defer w.Release()
	w.Set(droppedKey(t), nil)
	if err := e.ApplyUnlogged(w); err != nil {
		return err
	}
	e.drops.add(t)
	return nil
}

// WaitDropped returns when no dropped table waits for its deletion.
func (e *Engine) WaitDropped() {
	d := &e.drops
	for {
		d.mu.Lock()
		if !d.mu.busy && len(d.mu.queue) == 0 {
			d.mu.Unlock()
			return
		}
		ch := d.mu.idle.listen()
		d.mu.Unlock()
		select {
		case <-ch:
		case <-e.quit:
			return
		case <-e.fail.failed:
			return
		}
	}
}
