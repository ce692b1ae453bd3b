package node

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/command"
	"github.com/cairndb/cairn/internal/server"
	"github.com/cairndb/cairn/internal/wire"
)

// handler hands the server's requests to the commands.
type handler struct{ cmds *command.Node }

// Handle implements server.Handler.
func (h handler) Handle(ctx context.Context, c *server.Conn, req *wire.Request, out *wire.Reply) error {
	r := command.Request{Body: req.Body, Legacy: req.Legacy, LegacyDB: req.DB, ExhaustOK: req.ExhaustAllowed, NoReply: req.NoReply, Deep: req.Deep}
	if len(req.Sequences) > 0 {
		r.Sequences = make([]command.Sequence, len(req.Sequences))
		for i := range req.Sequences {
			s := &req.Sequences[i]
			r.Sequences[i] = command.Sequence{Name: s.ID, Docs: s.AppendTo(make([]bson.Raw, 0, s.Len()))}
		}
	}
	res := h.cmds.Handle(ctx, c, r, out.Doc())
	switch {
	case res.Drop:
		out.Drop()
	case res.Next != nil:
		out.Continue(res.Next)
	}
	if res.Failed {
		out.Fail()
	}
	return nil
}
