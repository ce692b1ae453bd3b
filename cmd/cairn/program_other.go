//go:build !linux

package main

// releaseProgram is for Linux, whose way to say it this is.
func releaseProgram() {}
