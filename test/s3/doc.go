// Package s3 runs the repository's suite against a real S3-compatible server: the Versity S3
// gateway, built from a Go module and run as a process on loopback.
//
// It is a module of its own, so that neither the gateway nor what it stands on becomes a
// dependency of Cairn.
package s3
