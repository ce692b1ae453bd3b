// Package otherserver owns a server that is neither a Cairn nor a MongoDB, for the tests of the
// backup packages: it says the same to whatever it is asked, as a proxy or a database of another
// kind might.
//
// It promises that a test's server has ended, with its connections, when the test has. It must
// not know what the tests ask for, nor any other package of the tools.
package otherserver

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
)

// Start runs a server until the end of the test that answers each OP_MSG and OP_QUERY with reply,
// a BSON document, and returns its connection string.
func Start(t testing.TB, reply []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { answer(ctx, conn, reply) })
		}
	})
	t.Cleanup(func() { cancel(); l.Close(); wg.Wait() })
	return "mongodb://" + l.Addr().String() + "/?directConnection=true"
}

// answer serves one connection: each request gets doc as its reply.
func answer(ctx context.Context, conn net.Conn, doc []byte) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	for {
		var head [16]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		n := binary.LittleEndian.Uint32(head[:])
		if _, err := io.CopyN(io.Discard, conn, int64(n)-16); err != nil {
			return
		}
		out := make([]byte, 16, 64+len(doc))
		copy(out[8:12], head[4:8])
		if op := binary.LittleEndian.Uint32(head[12:]); op == 2013 {
			binary.LittleEndian.PutUint32(out[12:], 2013)
			out = append(out, 0, 0, 0, 0, 0) // flags, a body section
		} else {
			binary.LittleEndian.PutUint32(out[12:], 1)
			out = append(out, make([]byte, 20)...)
			out[16+16] = 1 // one document
		}
		out = append(out, doc...)
		binary.LittleEndian.PutUint32(out, uint32(len(out)))
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}
