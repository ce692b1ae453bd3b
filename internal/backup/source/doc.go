// Package source reads the oplog of a server.
//
// It owns finding it (local.oplog.rs of a replica set's member or a Cairn, else
// local.oplog.$main), its window, the presence of an entry, reading an interval, and a
// tail that outlives cursors, elections and restarts of the server.
//
// It promises that Tail delivers every entry after the one it begins with, once, in
// order, and only entries that the majority of the set has: at each new cursor the entry
// delivered last must still be there, with the same term and the same bytes. If it is not,
// the caller gets a *GapError (it was overwritten; what is lost is named) or a
// *RollbackError (the set went on without it); it never goes on from somewhere else. A
// mongos is refused by name: each shard has an oplog of its own.
//
// What is handed to a caller aliases the server's reply; it is valid until the callback
// returns. It must not know what entries mean; it looks at ts and t only.
package source
