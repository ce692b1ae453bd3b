//go:build unix

package server

import (
	"errors"
	"syscall"
)

const canWatch = true

// peerGone blocks until the peer has closed the connection, and then returns true,
// or until the read deadline passes. It reads nothing: bytes that the client sent
// ahead stay where they are, and a client that has some there still counts as present.
func peerGone(raw syscall.RawConn) bool {
	gone := false
	var b [1]byte
	err := raw.Read(func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case err == nil && n > 0, errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
			return false // wait for the next event on the socket
		}
		gone = true
		return true
	})
	return gone && err == nil
}

// fileLimit returns how many files the process may open.
func fileLimit() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return int(min(uint64(l.Cur), maxConnsCeiling))
}
