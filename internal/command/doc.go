// Package command owns the command table: one row and, for all but the smallest,
// one file for every command that a client can send.
//
// A row names a command, its arguments with their types, and the function that
// runs it. The package promises that an argument is honoured or refused, never
// dropped: a field that no row names is error 40415, a command that no row names
// is error 59, a known command that Cairn has not built is 115 with its reason.
// Generic arguments (lsid, readConcern, maxTimeMS …) are parsed once, in generic.go.
//
// It must not know sockets or wire frames (server adapts those), storage or Pebble.
// It calls query.Executor and the admin interfaces of the rooms below it.
package command
