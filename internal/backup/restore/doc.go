// Package restore is `cairn restore`, the tool that brings a dump back, and under the
// name mongorestore the original's behaviour.
//
// It owns the command line, the plan of what goes where, the loading of documents by a
// pool of inserters, the building of indexes, the merging of users and roles, the replay
// of the dump's oplog through package replay, and the state file of a restore that can be
// resumed.
//
// It promises: success is only said when every document that was read was acknowledged or
// is counted as failed; nothing is dropped that is not being restored; the bytes of a
// document reach the server as they are in the dump; memory is bounded by the workers,
// whatever the number and the size of collections (docs/BACKUP.md has the formula).
// Nothing is written to standard output.
//
// It must not know the forms of connection strings and logs (package tool), the bytes of
// an archive (package archive) nor the meaning of oplog entries (entry, replay).
package restore
