package node

import (
	"context"
	"sync"
	"time"
)

// noopInterval is how long the log may stay idle before a no-op keeps time moving.
const noopInterval = 10 * time.Second

// background runs what happens every so often until stop.
type background struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (b *background) every(ctx context.Context, d time.Duration, f func(now time.Time)) {
	b.wg.Add(1)
	go func() {
		defer b.wg.Done()
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case now := <-t.C:
				f(now)
			case <-ctx.Done():
				return
			}
		}
	}()
}

// startBackground starts the monitors that node owns.
func (n *Node) startBackground() {
	ctx, cancel := context.WithCancel(context.Background())
	n.bg = &background{cancel: cancel}
	n.bg.every(ctx, time.Minute, func(now time.Time) { n.cmds.Sessions.Expire(now) })
	noops := n.seq.StartNoops(noopInterval)
	n.onClose(func() error {
		noops.Stop()
		cancel()
		n.bg.wg.Wait()
		return nil
	})
}
