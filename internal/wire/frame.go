package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// OpCode is the kind of a message.
type OpCode int32

// The opcodes that MongoDB has used. Those before OpCompressed are legacy.
const (
	OpReply       OpCode = 1
	OpUpdate      OpCode = 2001
	OpInsert      OpCode = 2002
	OpQuery       OpCode = 2004
	OpGetMore     OpCode = 2005
	OpDelete      OpCode = 2006
	OpKillCursors OpCode = 2007
	OpCompressed  OpCode = 2012
	OpMsg         OpCode = 2013
)

var opNames = map[OpCode]string{
	OpReply: "OP_REPLY", OpUpdate: "OP_UPDATE", OpInsert: "OP_INSERT", OpQuery: "OP_QUERY", OpGetMore: "OP_GET_MORE",
	OpDelete: "OP_DELETE", OpKillCursors: "OP_KILL_CURSORS", OpCompressed: "OP_COMPRESSED", OpMsg: "OP_MSG",
}

// String returns the name that the protocol's documentation uses.
func (o OpCode) String() string {
	if n, ok := opNames[o]; ok {
		return n
	}
	return fmt.Sprintf("opcode %d", int32(o))
}

// Limits of messages, as hello announces them.
const (
	// MaxMessageSize is the longest message, header included.
	MaxMessageSize = 48_000_000
	// MaxInternalDocSize is the longest document in a message: a user's 16 MiB and
	// what a command wraps around it.
	MaxInternalDocSize = 16<<20 + 16<<10
	// MaxMessageDepth is how deeply a message's documents may nest: the 100 levels
	// that can be stored and what commands put around them, as much as MongoDB allows.
	MaxMessageDepth = 200
)

const headerSize = 16

// Header is the 16 bytes before every message.
type Header struct {
	Length     int32 // of the whole message
	RequestID  int32
	ResponseTo int32
	OpCode     OpCode
}

func parseHeader(b []byte) Header {
	_ = b[headerSize-1]
	return Header{
		Length:     int32(binary.LittleEndian.Uint32(b)),
		RequestID:  int32(binary.LittleEndian.Uint32(b[4:])),
		ResponseTo: int32(binary.LittleEndian.Uint32(b[8:])),
		OpCode:     OpCode(binary.LittleEndian.Uint32(b[12:])),
	}
}

func (h Header) put(b []byte) {
	_ = b[headerSize-1]
	binary.LittleEndian.PutUint32(b, uint32(h.Length))
	binary.LittleEndian.PutUint32(b[4:], uint32(h.RequestID))
	binary.LittleEndian.PutUint32(b[8:], uint32(h.ResponseTo))
	binary.LittleEndian.PutUint32(b[12:], uint32(h.OpCode))
}

// Flag bits of OP_MSG. The lower 16 are required: an unknown one is an error.
const (
	flagChecksum   uint32 = 1 << 0
	flagMoreToCome uint32 = 1 << 1
	flagExhaust    uint32 = 1 << 16

	requiredFlags = 0xffff
)

// FrameError is a message that cannot be answered because its frame is wrong: what
// follows on the connection cannot be trusted, it must end.
type FrameError struct {
	Reason string
	Head   []byte // the first bytes, where they may tell what the client really speaks
}

// Error returns the reason.
func (e *FrameError) Error() string { return "malformed message: " + e.Reason }

// IsFrameError reports whether err is or wraps a *FrameError.
func IsFrameError(err error) bool {
	var fe *FrameError
	return errors.As(err, &fe)
}

func frameErrorf(format string, args ...any) error {
	return &FrameError{Reason: fmt.Sprintf(format, args...)}
}
