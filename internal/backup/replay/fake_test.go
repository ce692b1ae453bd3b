package replay

import (
	"context"
	"encoding/binary"
	"io"
	"net"
)

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
