package node

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/query"
)

// statsProvider answers $collStats and $currentOp from the command layer's figures.
type statsProvider struct{ n *Node }

// CollStats implements query.StatsProvider.
func (s statsProvider) CollStats(ctx context.Context, ns query.Namespace, spec bson.Raw) (bson.Raw, error) {
	return s.n.cmds.CollStats(ctx, ns, spec)
}

// Host implements query.StatsProvider.
func (s statsProvider) Host() string { return s.n.cmds.Host.Hostname }

// CurrentOp implements query.StatsProvider.
func (s statsProvider) CurrentOp(_ context.Context, spec bson.Raw) ([]bson.Raw, error) {
	return s.n.cmds.CurrentOp(spec)
}

// Sessions implements query.StatsProvider.
func (s statsProvider) Sessions(context.Context) ([]bson.Raw, error) {
	return s.n.cmds.ListSessions(), nil
}
