package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Listen opens all listeners, or none if one of them fails.
func (s *Server) Listen(ctx context.Context) error {
	listeners, err := s.listenAll(ctx)
	if err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return err
	}
	s.mu.Lock()
	s.mu.listeners = listeners
	s.mu.Unlock()
	return nil
}

// Addrs returns the addresses that the server listens at: "127.0.0.1:27017", or the
// path of the Unix socket.
func (s *Server) Addrs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, l := range s.mu.listeners {
		list = append(list, l.Addr().String())
	}
	return list
}

// listenAll may return listeners besides an error.
func (s *Server) listenAll(ctx context.Context) ([]net.Listener, error) {
	var hosts []string
	if !s.cfg.NoTCP {
		var err error
		if hosts, err = resolve(ctx, s.cfg.BindIPs, s.cfg.IPv6); err != nil {
			return nil, err
		}
	}
	// mongod's own keep-alive: a peer that vanished is noticed within minutes.
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 300 * time.Second, Interval: time.Second}}
	var listeners []net.Listener
	port := s.cfg.Port
	for _, h := range hosts {
		l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(h, strconv.Itoa(port)))
		if err != nil {
			return listeners, fmt.Errorf("server: %w", err)
		}
		listeners = append(listeners, l)
		port = l.Addr().(*net.TCPAddr).Port // a free port is chosen once, for all addresses
	}
	if s.cfg.UnixSocketPrefix != "" {
		l, err := listenUnix(ctx, filepath.Join(s.cfg.UnixSocketPrefix, fmt.Sprintf("mongodb-%d.sock", port)))
		if err != nil {
			return listeners, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// resolve turns host names into addresses, each once: "localhost,127.0.0.1" is one listener.
func resolve(ctx context.Context, binds []string, ipv6 bool) ([]string, error) {
	var out []string
	add := func(h string) {
		if !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	for _, b := range binds {
		if b == "*" {
			if ipv6 {
				return []string{""}, nil
			}
			return []string{"0.0.0.0"}, nil
		}
		if ip, err := netip.ParseAddr(b); err == nil {
			add(ip.String())
			continue
		}
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", b)
		if err != nil {
			return nil, fmt.Errorf("server: bind address %q: %w", b, err)
		}
		n := len(out)
		for _, ip := range ips {
			if ip = ip.Unmap(); ip.Is4() || ipv6 {
				add(ip.String())
			}
		}
		if len(out) == n && !slices.ContainsFunc(ips, func(ip netip.Addr) bool { return ip.Unmap().Is4() || ipv6 }) {
			return nil, fmt.Errorf("server: bind address %q has no IPv4 address", b)
		}
	}
	return out, nil
}

// listenUnix listens at path, taking the place of a socket that a dead server left.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("server: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("server: %s exists and is not a socket", path)
	default:
		if c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path); err == nil {
			c.Close()
			return nil, fmt.Errorf("server: %s: %w", path, syscall.EADDRINUSE)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("server: stale socket: %w", err)
		}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		l.Close()
		return nil, fmt.Errorf("server: %w", err)
	}
	return l, nil
}

// Delays between attempts to accept when the system refuses (no more files).
const (
	minAcceptDelay = 5 * time.Millisecond
	maxAcceptDelay = time.Second
)

func (s *Server) acceptLoop(l net.Listener) {
	delay := minAcceptDelay
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			delay = minAcceptDelay
			// Here, not in the goroutine: connections are numbered, and refused when
			// there are too many, in the order in which they came.
			if c, ok := s.admit(nc); ok {
				go s.serveAdmitted(c)
			}
		case s.draining.Load() || errors.Is(err, net.ErrClosed):
			return
		default:
			s.log.Error("cannot accept connections", "addr", l.Addr().String(), "retry_in", delay, "err", err)
			t := time.NewTimer(delay)
			select {
			case <-t.C:
			case <-s.ctx.Done():
				t.Stop()
				return
			}
			delay = min(2*delay, maxAcceptDelay)
		}
	}
}
