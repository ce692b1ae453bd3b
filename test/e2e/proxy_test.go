//go:build e2e

package e2e

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
)

// proxy passes wire messages between a driver and the server. When told to, it lets one command
// reach the server, waits for the reply (so that the write has happened), and then closes the
// connection instead of passing the reply on.
type proxy struct {
	listener net.Listener
	server   string
	mu       sync.Mutex
	cut      string // command whose next reply is lost
	done     int    // replies lost since cutReplyOf
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, server: server}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) cutReplyOf(command string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.done = command, 0
}

func (p *proxy) cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// wanted says whether this request is the one to lose the reply of, and takes the order.
func (p *proxy) wanted(msg []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	// The command's name is the first key of the body: header 16, flags 4, section kind 1, length 4, type 1.
	if p.cut == "" || len(msg) < 27 || !bytes.HasPrefix(msg[26:], append([]byte(p.cut), 0)) {
		return false
	}
	p.cut = ""
	p.done++
	return true
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	var mu sync.Mutex
	cutting := false
	go func() {
		defer client.Close()
		for {
			reply, err := readMessage(server)
			mu.Lock()
			lose := cutting
			mu.Unlock()
			if err != nil || lose {
				return
			}
			if _, err := client.Write(reply); err != nil {
				return
			}
		}
	}()
	for {
		msg, err := readMessage(client)
		if err != nil {
			return
		}
		if p.wanted(msg) {
			mu.Lock()
			cutting = true
			mu.Unlock()
		}
		if _, err := io.Copy(server, bytes.NewReader(msg)); err != nil {
			return
		}
	}
}
