// Package retry shows with real connections that a retryable write happens once: replies that are
// cut off, requests that are lost, restarts, two connections at a time. It owns the servers that
// it starts in its own process; it knows of them only what a client sees.
package retry
