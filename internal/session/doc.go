// Package session owns what outlives one message but not the server: running
// operations (currentOp, killOp), logical sessions with their 30 minutes, and the
// history of retryable writes that makes them happen exactly once.
//
// It promises that an operation that was killed, ran out of time or lost its client
// learns of it at its next Interrupt call, and that a statement of a session is
// executed once however often it is sent, over connections, crashes and restarts.
//
// It must not know commands, replies or sockets.
package session
