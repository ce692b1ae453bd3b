// Package server listens, keeps the connections and turns messages into replies.
//
// It owns the listeners (TCP and the Unix socket), the life of a connection (Conn),
// the request loop with its reply, exhaust and fire-and-forget forms, admission
// (maxConns), graceful shutdown, the network figures of serverStatus, and the one
// place where an error becomes a reply.
//
// It promises: a request gets exactly one reply (none if the client asked for none);
// replies of a connection leave in the order of its requests; a malformed frame ends
// its own connection only; a panic in a handler is that request's InternalError; an
// idle connection holds 4 KiB of buffers; a request's context ends when its client
// is gone.
//
// It must not know what a command means: everything behind the Handler is the
// command room's.
package server
