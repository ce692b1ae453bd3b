package node

import (
	"context"
	"fmt"
)

// dropTemporary drops the collections that are marked temp: $out and convertToCapped build
// theirs under such a name, and a crash in the middle leaves it.
func (n *Node) dropTemporary(ctx context.Context) error {
	v := n.catalog.Pin()
	for _, db := range v.Databases() {
		for _, c := range v.Collections(db) {
			if !c.Options.Temp {
				continue
			}
			if _, err := n.catalog.Drop(ctx, c.NS); err != nil {
				return fmt.Errorf("drop the temporary collection %s: %w", c.NS, err)
			}
			n.cfg.Log.Info("dropped a temporary collection", "component", "node", "ns", c.NS.String())
		}
	}
	return nil
}
