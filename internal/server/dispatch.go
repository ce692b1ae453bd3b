package server

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/command"
	"github.com/cairndb/cairn/internal/wire"
)

// Commands is the Handler of a node: it hands requests to the command table.
type Commands struct{ Node *command.Node }

var _ command.Client = (*Conn)(nil)

// maxKeptDocs is how many document views a connection keeps room for between
// requests; what a larger batch needed goes back to the garbage collector.
const maxKeptDocs = 2048

// scratch is room that a connection's requests share, one after the other.
type scratch struct {
	sequences []command.Sequence
	docs      []bson.Raw
}

// Handle implements Handler.
func (h Commands) Handle(ctx context.Context, c *Conn, req *wire.Request, out *wire.Reply) error {
	res := h.Node.Handle(ctx, c, command.Request{
		Body: req.Body, Sequences: c.scratch.fill(req.Sequences), Legacy: req.Legacy, LegacyDB: req.DB,
		ExhaustOK: req.ExhaustAllowed, NoReply: req.NoReply, Deep: req.Deep,
	}, out.Doc())
	c.scratch.clear()
	if res.Drop {
		out.Drop()
	}
	if res.Next != nil {
		out.Continue(res.Next)
	}
	if res.Failed {
		out.Fail()
	}
	return nil
}

// fill returns the sequences in the form that commands take.
func (s *scratch) fill(from []wire.Sequence) []command.Sequence {
	if len(from) == 0 {
		return nil
	}
	n := 0
	for i := range from {
		n += from[i].Len()
	}
	if cap(s.docs) < n {
		s.docs = make([]bson.Raw, 0, n) // once: the views below must not move
	}
	for i := range from {
		start := len(s.docs)
		s.docs = from[i].AppendTo(s.docs)
		s.sequences = append(s.sequences, command.Sequence{Name: from[i].ID, Docs: s.docs[start:len(s.docs):len(s.docs)]})
	}
	return s.sequences
}

// clear drops the views, so that they keep no message alive.
func (s *scratch) clear() {
	clear(s.docs)
	clear(s.sequences)
	s.docs, s.sequences = s.docs[:0], s.sequences[:0]
	if cap(s.docs) > maxKeptDocs {
		s.docs = nil
	}
}
