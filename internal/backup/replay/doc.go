// Package replay applies oplog entries to a server.
//
// It owns the order in which that is safe and fast. Entries are gathered into rounds; the
// document writes of a round are dealt out to workers by document, so that all writes of a
// document, and those of the documents that a transaction joins with it, are applied by one
// worker in order; each worker sends thousands in one applyOps. Commands (DDL) are applied
// alone, between rounds. It follows the collections by the source's UUIDs, whatever they
// are called when, and gives the entries the target's.
//
// It promises that a replay over data that is as new as the first entry, or newer, up to
// the last one, ends in the source's state after the last one; that it ends exactly at
// Until, transactions whole; that what is passed over is counted with its reason; that
// everything up to an OpTime given to Applied is done; and that memory is bounded by two
// rounds and the transactions under way.
//
// Cairn replays any suffix over newer data by itself. What a plain MongoDB does not
// forgive is avoided here: docs/OPLOG.md says what is sent to which server, and what is not
// possible there. It must not know where entries come from, nor print.
package replay
