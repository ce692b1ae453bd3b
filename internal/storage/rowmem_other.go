//go:build !linux

package storage

func wantLargePages([]byte) {}
