// Package pitr is `cairn backup`: full backups, oplog slices, and every moment between them.
//
// It owns the operations on a backup repository and a server: full, incremental and continuous
// backup, coverage and status, verification and drills, restore to an oplog entry, serving a
// moment, finding changes, retention. The packages below it own what each stands on: chain (which
// moments can be brought back), snapshot (reading a server), load (filling one), indexes, expect
// (what a restored server must hold), find, docsum, picture.
//
// It promises:
//   - a backup is signed off when everything it needs is stored, and not before;
//   - only majority-committed entries are captured, each once, from the very entry that the chain
//     ends with; if that is gone, the loss is recorded and is an error;
//   - a moment is restored exactly and inclusively, or refused with the nearest ones;
//   - what is overwritten was named and confirmed before;
//   - memory is bounded whatever the size of the data.
//
// It prints nothing and ends no process; cmd does. It must not know the server's inside: an embedded
// server is handed in.
package pitr
