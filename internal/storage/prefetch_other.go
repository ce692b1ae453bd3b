//go:build !amd64 && !arm64

package storage

import "unsafe"

func prefetchBehind([]byte) {}

func prefetchStart([]byte, int) {}

func prefetchLine(unsafe.Pointer) {}
