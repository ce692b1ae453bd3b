// Package dump is mongodump: it copies the collections of any MongoDB into files the
// original mongorestore reads, and more than that where it is asked to.
//
// It owns the command line of the tool, the finding of what is to be dumped (intents and
// their order), the reading of collections, the directory, archive and stream forms of
// the output with their compression, and the oplog part of a dump.
//
// It promises that a dump either succeeds after it was checked (documents written are the
// documents read, files are on the disk) or fails with nothing under a final name that
// is not whole; that its memory is bounded by workers × (a reply of the server + four
// blocks), whatever the number and size of collections; and that in original form
// (Options.Original) every byte, line and exit is mongodump's.
//
// With an oplog it promises more than the original, see tail.go: a dump may take longer
// than the oplog's window, and collections may be renamed, dropped and replaced while it
// runs. Each copy is stored under the name its collection had when the tail began, and a
// collection that came later is not copied: all of it is in the oplog. So a replay of the
// oplog over the copies ends in the state of the server at the oplog's last entry.
//
// It must not know the server's code; it is a client of any server through the driver.
package dump
