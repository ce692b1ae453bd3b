package wire

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

const (
	msgPrefix   = headerSize + 4 + 1         // flags, section kind
	replyPrefix = headerSize + 4 + 8 + 4 + 4 // flags, cursor, starting from, number returned
	checksumLen = 4
	firstReply  = 4 << 10
	maxHint     = 256 << 10

	replyQueryFailure = 1 << 1
	replyAwaitCapable = 1 << 3
)

// Reply is a message to a client under construction. The document is built right
// behind the header in a pooled buffer. A Reply is meant to be reused, through Reset.
type Reply struct {
	b       bson.Builder
	buf     *Buffer
	legacy  bool
	begun   bool
	failed  bool // the document is an error; only OP_REPLY says so in its flags
	more    bool
	next    bson.Raw
	dropped bool
	plain   int
	hint    int // room to begin with: about the size of the last replies
}

// Reset makes the reply ready for the answer to req and frees what it held.
func (p *Reply) Reset(req *Request) {
	p.Free()
	p.legacy = req.Legacy
}

// Free gives the buffer back.
func (p *Reply) Free() {
	p.buf.Free()
	p.buf, p.begun, p.failed, p.more, p.next, p.dropped = nil, false, false, false, nil, false
}

// Doc begins the reply's document and returns the builder that it is appended to.
// Called again, it drops what was written and begins anew.
func (p *Reply) Doc() *bson.Builder {
	if p.buf == nil {
		p.buf = GetBuffer(max(firstReply, p.hint))
	} else if p.begun {
		p.buf.B = p.b.Buffer()
	}
	prefix := msgPrefix
	if p.legacy {
		prefix = replyPrefix
	}
	dst := p.buf.B[:prefix]
	clear(dst)
	p.b.Reset(dst)
	p.begun, p.failed = true, false
	return &p.b
}

// Fail marks the document as an error, for clients that read OP_REPLY.
func (p *Reply) Fail() { p.failed = true }

// Begun reports whether a document was begun.
func (p *Reply) Begun() bool { return p.begun }

// Continue announces another reply that the client need not ask for (moreToCome):
// once this one is sent the server runs next as if the client had sent it; nil is
// the same request again. It has no effect unless the request is ExhaustAllowed.
// next must not alias the reply.
func (p *Reply) Continue(next bson.Raw) { p.more, p.next = true, next }

// More reports whether Continue was called, and with what.
func (p *Reply) More() (next bson.Raw, more bool) { return p.next, p.more }

// Drop closes the connection instead of sending this reply.
func (p *Reply) Drop() { p.dropped = true }

// Dropped reports whether Drop was called.
func (p *Reply) Dropped() bool { return p.dropped }

// PlainSize returns the length of the finished message without compression.
func (p *Reply) PlainSize() int { return p.plain }

// Finish completes the message that answers req and returns its bytes, valid until
// Free or Reset. more sets moreToCome. The error is a *mongoerr.Error if the reply is too large.
func (p *Reply) Finish(req *Request, id int32, more bool, comp *Compression) ([]byte, error) {
	if !p.begun {
		p.Doc()
	}
	doc := p.b.Finish()
	out := p.b.Buffer()
	p.buf.B, p.plain = out, len(out)
	p.hint = min(max(len(out), p.hint-p.hint/8), maxHint)
	if len(doc) > MaxInternalDocSize {
		return nil, mongoerr.New(mongoerr.BSONObjectTooLarge, "BSONObj size: %d (0x%X) is invalid. Size must be between 0 and %d(16MB)", len(doc), len(doc), MaxInternalDocSize)
	}
	h := Header{RequestID: id, ResponseTo: req.RequestID, OpCode: OpMsg}
	if p.legacy {
		h.OpCode = OpReply
		flags := uint32(replyAwaitCapable)
		if p.failed {
			flags |= replyQueryFailure
		}
		binary.LittleEndian.PutUint32(out[headerSize:], flags)
		binary.LittleEndian.PutUint32(out[replyPrefix-4:], 1)
	} else if more {
		binary.LittleEndian.PutUint32(out[headerSize:], flagMoreToCome)
	}
	if req.compressed {
		return p.finishCompressed(req, h, out, comp)
	}
	if req.checksum && !p.legacy {
		out[headerSize] |= byte(flagChecksum)
		h.Length = int32(len(out) + checksumLen)
		h.put(out)
		out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
		p.buf.B = out
		return out, nil
	}
	h.Length = int32(len(out))
	h.put(out)
	return out, nil
}

func (p *Reply) finishCompressed(req *Request, h Header, plain []byte, comp *Compression) ([]byte, error) {
	buf := GetBuffer(headerSize + compressedHeader + len(plain))
	out, err := appendCompressed(buf.B, h, plain, req.Compressor, comp)
	if err != nil {
		buf.Free()
		return nil, err
	}
	p.buf.Free()
	buf.B = out
	p.buf, p.begun = buf, false
	return out, nil
}

// appendCompressed appends plain, a message with room for a header, as OP_COMPRESSED.
func appendCompressed(dst []byte, h Header, plain []byte, id CompressorID, comp *Compression) ([]byte, error) {
	start := len(dst)
	dst = append(dst, make([]byte, headerSize)...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.OpCode))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(plain)-headerSize))
	dst = append(dst, byte(id))
	dst, err := comp.compress(id, dst, plain[headerSize:])
	if err != nil {
		return nil, err
	}
	h.OpCode, h.Length = OpCompressed, int32(len(dst)-start)
	h.put(dst[start:])
	return dst, nil
}
