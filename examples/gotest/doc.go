// Package gotest shows a Go test with a database of its own; see stones_test.go.
package gotest
