package server

import (
	"context"
	"errors"

	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/wire"
)

// writeError makes err the reply: {ok: 0, errmsg, code, codeName, …}.
func (c *Conn) writeError(out *wire.Reply, err error) {
	e := c.srv.clientError(c.ctx, err)
	b := out.Doc()
	out.Fail()
	if c.req.Legacy {
		b.Str("$err", e.Message) // where OP_QUERY's clients look for it
	}
	b.Double("ok", 0)
	b.Str("errmsg", e.Message)
	b.Int32("code", int32(e.Code))
	b.Str("codeName", e.Code.String())
	b.AppendElems(e.Extra)
	if len(e.Labels) > 0 {
		b.Any("errorLabels", e.Labels)
	}
	if c.srv.cfg.ErrorTrailer != nil && !c.req.Legacy {
		c.srv.cfg.ErrorTrailer(b)
	}
}

// clientError turns any error into one that a client can see. What has no MongoDB
// meaning is logged here, and only here.
func (s *Server) clientError(ctx context.Context, err error) *mongoerr.Error {
	if e, ok := mongoerr.As(err); ok {
		return e
	}
	if s.cfg.MapError != nil {
		if e := s.cfg.MapError(err); e != nil {
			return e
		}
	}
	cause := context.Cause(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return mongoerr.New(mongoerr.MaxTimeMSExpired, "operation exceeded time limit")
	case errors.Is(err, context.Canceled) && errors.Is(cause, ErrShutdown), errors.Is(err, ErrShutdown):
		return mongoerr.New(mongoerr.InterruptedAtShutdown, "interrupted at shutdown")
	case errors.Is(err, context.Canceled) && cause != nil, errors.Is(err, ErrClientGone):
		return mongoerr.New(mongoerr.ClientDisconnect, "operation was interrupted because a client disconnected")
	case errors.Is(err, context.Canceled):
		return mongoerr.New(mongoerr.Interrupted, "operation was interrupted")
	}
	s.log.Error("request failed", "err", err)
	return mongoerr.New(mongoerr.InternalError, "%v", err)
}
