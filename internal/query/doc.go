// Package query is the one door to documents: it answers find, aggregate, count,
// distinct, insert, update, delete, findAndModify, bulkWrite and explain.
//
// It owns the Executor interface and its requests, Local (the executor of this
// process's own collections), the cursors that stay open between batches, the way a
// write takes (plan, latch, re-read, re-match, evaluate, write unit) and the TTL
// monitor. Subpackages: plan (filters to index bounds and plans), exec (plans to
// rows) and pipeline (aggregation stages).
//
// It promises MongoDB's results, errors and explain shapes; that memory of an
// operation is bounded; that an operation looks for interruption between documents;
// and that no latch is held while it waits for a write concern.
//
// It must not know sockets, the syntax of commands (the command room parses and
// validates them) or sessions (they come in through SessionHook).
package query
