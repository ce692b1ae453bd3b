// Package backup is the room of the backup toolchain: programs that are clients of any
// MongoDB-speaking server through the official Go driver.
//
// It owns dump, restore and bsondump (the originals' flags, files and archive bytes),
// the reading and replaying of an oplog, the repository of full backups and oplog
// slices on a blob store, and the commands of `cairn backup` on top of them. Each is a
// package below this one; docs/plan-backup.md has their contracts.
//
// It promises that nothing that is not whole looks whole, and that a gap is never
// silent. It must not know the server: no storage, no catalog, no node. What needs an
// embedded server gets one handed in by cmd.
//
// Its packages are used by cmd/cairn: tool, batch, archive, entry, source, replay,
// dump, restore, bsondump, repo, pitr, pitr/chain, pitr/find, pitr/gauges, pitr/picture,
// pitr/results.
package backup
