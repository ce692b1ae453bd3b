// Package e2e drives a real `cairn serve` process with real clients: mongosh, the Node driver,
// pymongo and the Go driver (build tag e2e). It owns the process it starts and everything in its
// temporary directory; it knows of the server only what a client sees.
package e2e
