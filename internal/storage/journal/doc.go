// Package journal is the segmented, checksummed, append-only log under the
// engine. It is the one place where a change is first written: the oplog is a
// view of it, crash recovery replays it, and it is the Raft log of a
// one-member group.
//
// It owns the byte format of a segment (docs/FORMATS.md), the rule of what a
// torn tail is, and the sharing of fsyncs between concurrent waiters.
//
// It promises: records come back in the order in which they were appended; a
// unit (records chained by Record.More) is there whole or not at all; what
// SyncTo returned for survives a crash; a record that changed on disk is never
// returned. After a failed write or fsync nothing is appended again: the
// kernel may have dropped the pages, so a later success would prove nothing.
//
// It must not know what a payload means. Files go through Pebble's vfs.FS so
// that tests can crash it; the FS must allow WriteAt and SyncData on one file
// at the same time, as the operating system and vfs.MemFS do.
package journal
