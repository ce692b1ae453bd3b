package server

import (
	"context"

	"github.com/cairndb/cairn/internal/wire"
)

// Handler runs requests. It is called by many goroutines at once, by one at a time
// for each connection.
//
// The reply's document is appended to out.Doc(). The request, and everything read
// from it, is valid until Handle returns. A returned error replaces what was
// written. out.Continue asks to be called again with the next request of an exhaust
// stream once this reply is sent; out.Drop closes the connection instead of replying.
//
// ctx ends when the client is gone (cause ErrClientGone) or the server gave up
// waiting at shutdown (cause ErrShutdown). What must not be left half done when a
// client goes uses context.WithoutCancel.
type Handler interface {
	Handle(ctx context.Context, c *Conn, req *wire.Request, out *wire.Reply) error
}
