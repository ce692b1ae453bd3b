package server

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/wire"
)

// BenchmarkPing is the yardstick: raw clients on loopback. cpu-µs/op is what client
// and server used together; the client does no more than write and read.
func BenchmarkPing(b *testing.B) {
	for _, conns := range []int{1, 16} {
		b.Run(fmt.Sprint("conns=", conns), func(b *testing.B) { benchPing(b, conns) })
	}
}

func benchPing(b *testing.B, conns int) {
	s := start(b, Config{Handler: handlerFunc(okHandler)})
	msg := (&wire.Msg{Body: bson.D("ping", 1, "lsid", bson.D("id", bson.UUID{1}), "$db", "admin")}).Append(nil)
	clients := make([]*client, conns)
	for i := range clients {
		clients[i] = dial(b, s)
		clients[i].nc.SetDeadline(time.Time{})
	}
	b.ReportAllocs()
	b.ResetTimer()
	cpu := processCPU()
	var wg sync.WaitGroup
	for i, c := range clients {
		n := b.N / conns
		if i < b.N%conns {
			n++
		}
		wg.Go(func() {
			for range n {
				c.nc.Write(msg)
				if _, err := c.r.Next(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((processCPU()-cpu).Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
}

// BenchmarkInProcess leaves the sockets out: what the server itself does for a ping.
func BenchmarkInProcess(b *testing.B) {
	s, err := New(Config{Handler: handlerFunc(okHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Shutdown(context.Background())
	c := newConn(s, discardConn{})
	msg := (&wire.Msg{Body: bson.D("ping", 1, "lsid", bson.D("id", bson.UUID{1}), "$db", "admin")}).Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		c.watch.begin()
		if err := c.serveMessage(msg); err != nil {
			b.Fatal(err)
		}
		c.watch.finish()
	}
}

func processCPU() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// discardConn is a client that takes everything.
type discardConn struct{ net.Conn }

func (discardConn) Write(p []byte) (int, error)     { return len(p), nil }
func (discardConn) Close() error                    { return nil }
func (discardConn) RemoteAddr() net.Addr            { return nil }
func (discardConn) LocalAddr() net.Addr             { return nil }
func (discardConn) SetReadDeadline(time.Time) error { return nil }
