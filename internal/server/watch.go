package server

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// watchAfter is how long a request runs before its client is watched.
const watchAfter = 100 * time.Millisecond

// watch notices that the client of a long request has gone, without reading what it
// may have sent ahead. A short request costs it two atomic additions: the timer is
// armed once every watchAfter at most, looks whether the request that it saw last is
// still the same one, and only then waits on the socket.
type watch struct {
	c     *Conn
	raw   syscall.RawConn // nil: the stream cannot be watched
	timer *time.Timer

	seq      atomic.Uint64 // odd while a request runs
	armed    atomic.Bool
	watching atomic.Bool
	ignore   atomic.Bool // the client of this request may leave: it reads no reply
	seen     uint64      // only the timer's function uses it

	mu struct {
		sync.Mutex
		done    chan struct{} // closed when the present wait on the socket ends
		stopped bool
	}
}

func (w *watch) init(c *Conn) {
	w.c = c
	sc, ok := c.nc.(syscall.Conn)
	if !ok || !canWatch {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	w.raw = raw
	w.timer = time.AfterFunc(time.Hour, w.look)
	w.timer.Stop()
}

func (w *watch) running() bool { return w.seq.Load()%2 == 1 }

// begin says that a request starts.
func (w *watch) begin() {
	w.seq.Add(1)
	if w.raw != nil && !w.armed.Load() && w.armed.CompareAndSwap(false, true) {
		w.timer.Reset(watchAfter)
	}
}

// setIgnore says whether the running request goes on without its client.
func (w *watch) setIgnore(on bool) {
	if w.ignore.Load() != on {
		w.ignore.Store(on)
	}
}

// finish says that the request has ended; the socket is then the reader's again.
func (w *watch) finish() {
	w.seq.Add(1)
	if !w.watching.Load() {
		return
	}
	w.mu.Lock()
	done := w.mu.done
	w.mu.Unlock()
	if done == nil {
		return
	}
	w.c.nc.SetReadDeadline(time.Unix(1, 0))
	<-done
	w.c.nc.SetReadDeadline(time.Time{})
}

// stop ends the watch for good; no request runs.
func (w *watch) stop() {
	if w.raw == nil {
		return
	}
	w.mu.Lock()
	w.mu.stopped = true
	w.mu.Unlock()
	w.timer.Stop()
}

// look is the timer's function.
func (w *watch) look() {
	seq := w.seq.Load()
	switch {
	case seq%2 == 0:
		w.armed.Store(false)
		if !w.running() || !w.armed.CompareAndSwap(false, true) {
			return // the next request arms the timer
		}
	case seq == w.seen && !w.ignore.Load():
		w.wait(seq)
	}
	w.seen = seq
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.mu.stopped {
		w.timer.Reset(watchAfter)
	}
}

// wait blocks until the client is gone or request seq has ended.
func (w *watch) wait(seq uint64) {
	done := make(chan struct{})
	defer close(done)
	w.mu.Lock()
	w.mu.done = done
	w.mu.Unlock()
	w.watching.Store(true)
	defer w.watching.Store(false)
	if w.seq.Load() != seq {
		return // finish may have looked before watching was set
	}
	if peerGone(w.raw) {
		w.c.cancel(ErrClientGone)
	}
}
