// Package node is the composition root: it reads a Config, opens storage, oplog,
// catalog, query, session and repl in that order, wires commands to them, starts the
// listeners and background services, and closes all of it in the reverse order.
//
// It promises that Close leaves nothing to replay and no goroutine behind, and that
// several nodes live side by side in one process. It must not hold logic of its own
// that a room below could own, and it must not import backup.
package node
