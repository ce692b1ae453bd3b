// Package oplog is the ordered log of changes: what an entry is, how a unit of
// change gets its place in the order, and local.oplog.rs as a view of the
// journal.
//
// It owns the bytes of an entry (Entry), the unit of change (WriteUnit), the
// one door that all writes go through (Committer; Sequencer on a single node),
// the clock of ts, reading and tailing the log (Log, Cursor), and what may be
// cut off its front (size, retention, pins).
//
// It promises: ts and index increase together and never twice the same, over
// restarts and clocks that step back; a unit is appended to the journal before
// it reaches the engine, and both hold it whole or not at all; readers of the
// log see what is journaled and applied only, in order and without holes.
//
// It must not know what an entry does to a collection: catalog emits entries
// and applies them.
package oplog
