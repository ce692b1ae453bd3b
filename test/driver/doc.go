// Package driver holds tests of a server in the test's process through the official Go
// driver: what clients see when they meet each other, an interruption, or the schema
// changing under them.
package driver
