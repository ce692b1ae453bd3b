package server

import (
	"net"
	"sync"
	"testing"
)

// TestConnectionsAreListedWhole: whoever lists the connections while others come, as the
// server's end does, finds each with its id.
func TestConnectionsAreListedWhole(t *testing.T) {
	s, err := New(Config{Handler: handlerFunc(okHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var near []net.Conn
	for range 50 {
		a, b := net.Pipe()
		near = append(near, a)
		wg.Go(func() { s.ServeConn(b) })
		for _, c := range s.conns() {
			if c.ID() == 0 {
				t.Fatal("a connection without an id")
			}
		}
	}
	for _, c := range near {
		c.Close()
	}
	wg.Wait()
	if n := len(s.conns()); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
