//go:build !unix

package server

import "syscall"

const canWatch = false

func peerGone(syscall.RawConn) bool { return false }

func fileLimit() int { return maxConnsCeiling }
