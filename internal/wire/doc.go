// Package wire reads and writes MongoDB's wire protocol.
//
// It owns message frames (Reader), requests (Request: OP_MSG, OP_COMPRESSED, and
// OP_QUERY for the handshake of old drivers), replies (Reply: built in place behind
// their header, so that a document is never copied), message compression and the
// pool of message buffers.
//
// It promises that a parsed Request holds only well-formed BSON, that no byte from
// outside can make it panic or allocate more than a small multiple of what has
// really arrived, and that errors tell apart what ends a connection (*FrameError)
// from what a reply can say (*mongoerr.Error).
//
// A Request and everything read from it alias a buffer that is reused after the
// request: clone what must live longer.
//
// It must not know commands, sockets' life, sessions or storage.
package wire
