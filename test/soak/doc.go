// Package soak runs a mixed load from the official driver for as long as -soak says
// and checks that the server's memory and goroutines stay flat.
package soak
