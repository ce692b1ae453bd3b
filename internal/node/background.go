package node

import "time"

// noopInterval is how long the log may stay idle before a no-op keeps time moving.
const noopInterval = 10 * time.Second

// startBackground starts the monitors that node owns; those of other rooms were
// started with them.
func (n *Node) startBackground() {
	n.local.Start()
	noops := n.seq.StartNoops(noopInterval)
	n.onClose(func() error { noops.Stop(); return nil })
}
