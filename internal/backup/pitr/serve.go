package pitr

import (
	"context"
	"errors"

	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// Served is a read-only server on a moment of the past.
type Served struct {
	URI      string
	Restored *Restored
	stop     func() error
}

// Close ends it and removes its data.
func (s *Served) Close() error { return s.stop() }

// Serve restores a moment, or a part of it, into an embedded server that then refuses every write.
// The server has no users: it listens where Embedded lets it, and that should be the loopback
// interface.
func (e *Env) Serve(ctx context.Context, o RestoreOptions, dir string) (*Served, error) {
	if e.Embedded == nil {
		return nil, errors.New("this program has no embedded server to restore into")
	}
	st, err := e.State(ctx)
	if err != nil {
		return nil, err
	}
	o.NoUsers = true
	p, err := e.plan(ctx, st, o)
	if err != nil {
		return nil, err
	}
	srv, there, stop, err := e.throwAway(ctx, dir)
	if err != nil {
		return nil, err
	}
	e.say("restoring %s (%s, %s)", chain.Describe(p.To), tool.Count(p.Documents, "document", "documents"), tool.Count(p.OplogEntries, "oplog entry", "oplog entries"))
	out, err := there.Restore(ctx, p, o)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	srv.SetReadOnly()
	return &Served{srv.URI(), out, stop}, nil
}
