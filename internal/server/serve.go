package server

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime/debug"

	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/wire"
)

// serve is the request loop of one connection.
func (c *Conn) serve() {
	s := c.srv
	s.log.Log(c.ctx, s.connLevel(), "connection accepted", "remote", c.remote, "connection_id", c.id, "connection_count", s.metrics.current.Load())
	defer func() {
		c.end()
		s.log.Log(context.Background(), s.connLevel(), "connection ended", "remote", c.remote, "connection_id", c.id, "connection_count", s.metrics.current.Load()-1)
	}()
	for !s.draining.Load() {
		msg, err := c.reader.Next()
		if err != nil {
			c.readFailed(err)
			return
		}
		c.watch.begin()
		s.metrics.active.Add(1)
		err = c.serveMessage(msg)
		s.metrics.active.Add(-1)
		c.watch.finish()
		if err != nil {
			c.requestFailed(err)
			return
		}
	}
}

// readFailed logs why no further message came.
func (c *Conn) readFailed(err error) {
	var fe *wire.FrameError
	switch {
	case errors.As(err, &fe):
		c.badFrame(fe)
	case isNormalEnd(err), c.srv.draining.Load() && errors.Is(err, os.ErrDeadlineExceeded):
	case errors.Is(err, io.ErrUnexpectedEOF):
		c.srv.log.Info("client disconnected in the middle of a message", "remote", c.remote, "connection_id", c.id)
	default:
		c.srv.log.Info("cannot read from client", "remote", c.remote, "connection_id", c.id, "err", err)
	}
}

// requestFailed logs why a connection ends behind a request.
func (c *Conn) requestFailed(err error) {
	var fe *wire.FrameError
	switch {
	case errors.As(err, &fe):
		c.badFrame(fe)
	case errors.Is(err, errDropped):
		c.srv.log.Info("connection dropped by its request", "remote", c.remote, "connection_id", c.id)
	case isNormalEnd(err):
	default:
		c.srv.log.Info("cannot reply to client", "remote", c.remote, "connection_id", c.id, "err", err)
	}
}

const httpAnswer = "HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n" +
	"It looks like you are trying to access MongoDB over HTTP on the native driver port.\r\n"

func (c *Conn) badFrame(fe *wire.FrameError) {
	hint := ""
	switch {
	case len(fe.Head) >= 4 && string(fe.Head[:4]) == "GET ":
		hint = "the client speaks HTTP"
		io.WriteString(c.nc, httpAnswer) // the connection ends whether or not this arrives
	case len(fe.Head) >= 2 && fe.Head[0] == 0x16 && fe.Head[1] == 3:
		hint = "the client speaks TLS"
	}
	c.srv.log.Warn("connection ended by a malformed message", "remote", c.remote, "connection_id", c.id, "reason", fe.Reason, "hint", hint)
}

var errDropped = errors.New("dropped")

// serveMessage parses one message, runs it and sends its reply, or all replies of
// its exhaust stream. An error ends the connection.
func (c *Conn) serveMessage(msg []byte) error {
	s, req := c.srv, &c.req
	err := s.parser.Parse(msg, req)
	if err != nil && wire.IsFrameError(err) {
		return err
	}
	s.metrics.received(req)
	c.watch.setIgnore(req.NoReply)
	more, err := c.answer(err)
	if more {
		err = c.stream()
	}
	req.Release()
	return err
}

// stream sends the further replies of an exhaust stream until the handler ends it.
func (c *Conn) stream() error {
	gauge := c.srv.metrics.streams(c.req.Command())
	gauge.Add(1)
	defer gauge.Add(-1)
	c.streaming.Store(true)
	defer c.streaming.Store(false)
	if c.srv.draining.Load() { // kick may have looked before streaming was set
		c.cancel(ErrShutdown)
	}
	for {
		if more, err := c.answer(nil); err != nil || !more {
			return err
		}
	}
}

// answer runs c.req, unless parsing it failed with perr, and sends the reply. more
// says that c.req is now the next request of an exhaust stream.
func (c *Conn) answer(perr error) (more bool, err error) {
	req, out := &c.req, &c.out
	out.Reset(req)
	defer out.Free()
	err = perr
	if err == nil {
		err = c.invoke(req, out)
	}
	if out.Dropped() {
		return false, errDropped
	}
	if req.NoReply {
		if err != nil {
			c.srv.log.Debug("request without reply failed", "connection_id", c.id, "err", err)
		}
		return false, nil
	}
	next, more := out.More()
	more = more && err == nil && req.ExhaustAllowed && !req.Legacy && !c.srv.draining.Load()
	if err != nil {
		c.writeError(out, err)
	}
	id := c.srv.replyIDs.Add(1)
	b, err := out.Finish(req, id, more, c.srv.comp)
	if err != nil {
		more = false
		c.writeError(out, err)
		if b, err = out.Finish(req, id, false, c.srv.comp); err != nil {
			return false, err
		}
	}
	if _, err := c.nc.Write(b); err != nil {
		return false, err
	}
	c.srv.metrics.sent(len(b), out.PlainSize())
	if more {
		req.Follow(id, next)
		c.srv.metrics.requests.Add(1)
	}
	return more, nil
}

// invoke runs the handler; a panic in it is this request's error.
func (c *Conn) invoke(req *wire.Request, out *wire.Reply) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.srv.log.Error("request panicked", "remote", c.remote, "connection_id", c.id, "command", req.Command(), "panic", p, "stack", string(debug.Stack()))
			err = mongoerr.New(mongoerr.InternalError, "%s ended by an internal error: %v", req.Command(), p)
		}
	}()
	return c.srv.cfg.Handler.Handle(c.ctx, c, req, out)
}
