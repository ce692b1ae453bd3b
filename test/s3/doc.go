// Package s3 runs the repository's suite against real servers of the object stores' APIs, each on
// loopback: the Versity S3 gateway, built from a Go module and run as a process, for s3://; the
// fake-gcs-server module for gs://; and, if it is installed (npm ci --prefix test/s3/azurite),
// Microsoft's Azurite for azblob://.
//
// It is a module of its own, so that neither these servers nor what they stand on become
// dependencies of Cairn.
package s3
