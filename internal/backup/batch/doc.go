// Package batch takes the batches of a cursor off the connection as they are, for a
// reader that wants all documents and looks into none of them.
//
// The driver makes a new buffer for each reply, which the system has to fill with zeros
// first and the garbage collector to find again, and walks a reply document by document.
// For a dump that is most of what it does. So a [Dialer]'s connections look at what the
// driver sends: the reply to a getMore of a cursor that is followed is read into a buffer
// that was used before, and the driver gets the same reply without the documents. It goes
// on to own the connection, its errors and time limits, the session, the choice of the
// server and the cursor; a reply that is anything but what is expected here it gets
// untouched. So it does with TLS and with compression, where its bytes cannot be read
// here: a reader must be ready for both.
//
// It owns the buffers and this way around the driver. It promises whole documents in the
// order of the reply, each with a length that fits, and that a batch is handed out once or
// stays in the driver's reply. It must not know what the documents are for.
package batch
