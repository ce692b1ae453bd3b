// Package snapshot reads a server for a full backup: its catalog as of an oplog entry, and the
// documents of each collection.
//
// It owns listing collections, options and indexes and taking that list back to the moment
// that the oplog of the backup begins at; finding a collection again, by its UUID, that was
// renamed meanwhile; and the order of documents, which is the natural one: it is the order of
// insertion on Cairn and of record ids on MongoDB, so it needs no index, reads the disk in order,
// and keeps what did not change side by side from one backup to the next, which is what makes
// their chunks equal.
//
// It promises that a collection is one collection: a read over which its name came to mean
// another collection is done again, never mixed. Documents are handed on as the server's
// bytes. A copy is fuzzy, the oplog from the beginning on makes it exact: documents that are
// read may be newer than the catalog, never older. It must not know where the bytes go.
package snapshot
