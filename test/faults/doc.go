// Package faults runs a whole node on file systems that fail: disks that fill up,
// writes, syncs and reads that return errors, at every place where the node touches
// its files. Whatever fails, the client hears a clear error, nothing acknowledged is
// lost, reads go on or the store says loudly that it stopped, and the next start on
// a healthy disk finds a sound store.
package faults
