package wire

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/cairndb/cairn/internal/bson"
)

// Msg is an OP_MSG to send, for clients.
type Msg struct {
	RequestID      int32
	ResponseTo     int32
	Body           bson.Raw
	Sequences      []Docs
	MoreToCome     bool
	ExhaustAllowed bool
	Checksum       bool
}

// Docs is a document sequence to send.
type Docs struct {
	ID   string
	Docs []bson.Raw
}

// Append appends the encoded message to dst.
func (m *Msg) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, headerSize)...)
	var flags uint32
	if m.Checksum {
		flags |= flagChecksum
	}
	if m.MoreToCome {
		flags |= flagMoreToCome
	}
	if m.ExhaustAllowed {
		flags |= flagExhaust
	}
	dst = binary.LittleEndian.AppendUint32(dst, flags)
	dst = append(append(dst, 0), m.Body...)
	for _, s := range m.Sequences {
		dst = append(dst, 1)
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		dst = append(append(dst, s.ID...), 0)
		for _, d := range s.Docs {
			dst = append(dst, d...)
		}
		binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	}
	h := Header{RequestID: m.RequestID, ResponseTo: m.ResponseTo, OpCode: OpMsg, Length: int32(len(dst) - start)}
	if m.Checksum {
		h.Length += checksumLen
	}
	h.put(dst[start:])
	if m.Checksum {
		dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	}
	return dst
}

// AppendCompressed appends the message as OP_COMPRESSED.
func (m *Msg) AppendCompressed(dst []byte, id CompressorID, c *Compression) ([]byte, error) {
	plain := m.Append(nil)
	return appendCompressed(dst, parseHeader(plain), plain, id, c)
}

// AppendQuery appends an OP_QUERY for one document, as old drivers greet.
func AppendQuery(dst []byte, requestID int32, ns string, query bson.Raw) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, headerSize+4)...)
	dst = append(append(dst, ns...), 0)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint32(dst, ^uint32(0)) // -1: one document
	dst = append(dst, query...)
	Header{RequestID: requestID, OpCode: OpQuery, Length: int32(len(dst) - start)}.put(dst[start:])
	return dst
}

// Answer is a reply as a client reads it.
type Answer struct {
	Header
	Doc        bson.Raw
	MoreToCome bool
	Checksum   bool
	Compressor CompressorID
	Failure    bool // OP_REPLY's QueryFailure
}

// ParseAnswer parses one whole message from a server. The document aliases msg,
// or a fresh buffer if it was compressed.
func ParseAnswer(msg []byte, c *Compression) (*Answer, error) {
	if len(msg) < headerSize || int(parseHeader(msg).Length) != len(msg) {
		return nil, frameErrorf("reply of %d bytes", len(msg))
	}
	h := parseHeader(msg)
	a := &Answer{Header: h}
	if h.OpCode == OpCompressed {
		r := Request{Header: h}
		p := Parser{Compression: c}
		plain, err := p.decompress(msg, &r)
		if err != nil {
			return nil, err
		}
		msg, a.Header, a.Compressor = plain, r.Header, r.Compressor
	}
	if a.OpCode == OpReply {
		return a, a.parseReply(msg)
	}
	if a.OpCode != OpMsg || len(msg) < headerSize+4 {
		return nil, frameErrorf("reply is %s", a.OpCode)
	}
	r := Request{Header: a.Header}
	a.MoreToCome = binary.LittleEndian.Uint32(msg[headerSize:])&flagMoreToCome != 0
	if err := r.parseAnswer(msg); err != nil {
		return nil, err
	}
	a.Doc, a.Checksum = r.Body, r.checksum
	return a, nil
}

func (a *Answer) parseReply(msg []byte) error {
	if len(msg) < replyPrefix {
		return frameErrorf("OP_REPLY of %d bytes", len(msg))
	}
	a.Failure = binary.LittleEndian.Uint32(msg[headerSize:])&replyQueryFailure != 0
	a.Doc = bson.Raw(msg[replyPrefix:])
	if err := bson.Validate(a.Doc, MaxMessageDepth); err != nil {
		return frameErrorf("OP_REPLY: %v", err)
	}
	return nil
}
