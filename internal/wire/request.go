package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"iter"
	"slices"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Request is one parsed message of a client. It is meant to be reused: Parse
// overwrites it.
type Request struct {
	Header
	// Body is the command document.
	Body bson.Raw
	// Sequences are the document sequences (kind 1 sections), in their order.
	Sequences []Sequence
	// DB is the database that the command runs on.
	DB string
	// Legacy says that the request came as OP_QUERY and is answered with OP_REPLY.
	Legacy bool
	// ExhaustAllowed says that the client accepts replies that it did not ask for.
	ExhaustAllowed bool
	// NoReply says that the client reads no reply (moreToCome).
	NoReply bool
	// Deep says that something in the request nests deeper than a stored document
	// may (bson.MaxDepth): who stores parts of it must check them.
	Deep bool
	// WireSize is the length of the message as it came, compressed if it was.
	WireSize int
	// Compressor is what the message was compressed with; its reply will be as well.
	Compressor CompressorID

	checksum   bool
	compressed bool
	plain      *Buffer // the decompressed message
}

// Sequence is a section of documents beside the body, such as insert's "documents".
type Sequence struct {
	// ID is the name of the command's field that the documents stand for.
	ID   string
	data []byte
	n    int
}

// Len returns how many documents there are.
func (s *Sequence) Len() int { return s.n }

// Size returns the length of all documents in bytes.
func (s *Sequence) Size() int { return len(s.data) }

// All ranges over the documents where they lie.
func (s *Sequence) All() iter.Seq[bson.Raw] {
	return func(yield func(bson.Raw) bool) {
		for b := s.data; len(b) > 0; {
			n := binary.LittleEndian.Uint32(b)
			if !yield(bson.Raw(b[:n:n])) {
				return
			}
			b = b[n:]
		}
	}
}

// AppendTo appends views of the documents to dst.
func (s *Sequence) AppendTo(dst []bson.Raw) []bson.Raw {
	dst = slices.Grow(dst, s.n)
	for d := range s.All() {
		dst = append(dst, d)
	}
	return dst
}

// Command returns the name of the command, the first key of the body.
func (r *Request) Command() string {
	name, _ := r.Body.First()
	return name
}

// Checksum reports whether the request carried a checksum; its reply then does too.
func (r *Request) Checksum() bool { return r.checksum }

// Follow makes r the request that a client would send after reply id of an exhaust
// stream: the body next, or the same again if it is nil.
func (r *Request) Follow(id int32, next bson.Raw) {
	r.RequestID, r.Sequences = id, r.Sequences[:0]
	if next == nil {
		return
	}
	r.Body = next
	if db := next.Get("$db"); db.Type == bson.TypeString {
		r.DB = db.Str()
	}
}

// Release gives back the memory of a request that was compressed.
func (r *Request) Release() {
	if r.plain != nil {
		r.plain.Free()
		r.plain = nil
	}
}

// Parser turns messages into requests. The zero Parser accepts no compression.
type Parser struct {
	Compression *Compression
}

// Parse parses one whole message into r, which keeps aliasing msg. A *FrameError
// must end the connection; with a *mongoerr.Error r is filled as far as a reply
// needs it.
func (p *Parser) Parse(msg []byte, r *Request) error {
	r.Release()
	*r = Request{Sequences: r.Sequences[:0], WireSize: len(msg)}
	if len(msg) < headerSize {
		return frameErrorf("%d bytes are too few for a header", len(msg))
	}
	r.Header = parseHeader(msg)
	if int(r.Length) != len(msg) {
		return frameErrorf("length %d of a message of %d bytes", r.Length, len(msg))
	}
	if r.OpCode == OpCompressed {
		plain, err := p.decompress(msg, r)
		if err != nil {
			return err
		}
		msg = plain
	}
	switch r.OpCode {
	case OpMsg:
		return r.parseMsg(msg)
	case OpQuery:
		return r.parseQuery(msg[headerSize:])
	case OpGetMore:
		r.Legacy = true
		return unsupportedOp(r.OpCode)
	}
	return frameErrorf("%s is not supported", r.OpCode)
}

func (r *Request) parseMsg(msg []byte) error {
	if err := r.parseSections(msg); err != nil {
		return err
	}
	return r.validate()
}

// parseAnswer parses an OP_MSG that a server sent: it has no $db.
func (r *Request) parseAnswer(msg []byte) error {
	if err := r.parseSections(msg); err != nil {
		return err
	}
	return r.validateDoc(r.Body)
}

func (r *Request) parseSections(msg []byte) error {
	if len(msg) < headerSize+4 {
		return frameErrorf("OP_MSG of %d bytes", len(msg))
	}
	flags := binary.LittleEndian.Uint32(msg[headerSize:])
	if bad := flags & requiredFlags &^ (flagChecksum | flagMoreToCome); bad != 0 {
		return frameErrorf("unknown required flags %#x", bad)
	}
	r.NoReply = flags&flagMoreToCome != 0
	r.ExhaustAllowed = flags&flagExhaust != 0
	sections := msg[headerSize+4:]
	if flags&flagChecksum != 0 {
		n := len(msg) - 4
		if n < headerSize+4 {
			return frameErrorf("no room for the checksum")
		}
		if crc32.Checksum(msg[:n], castagnoli) != binary.LittleEndian.Uint32(msg[n:]) {
			return frameErrorf("checksum mismatch")
		}
		r.checksum = true
		sections = msg[headerSize+4 : n]
	}
	return r.cutSections(sections)
}

// cutSections finds the sections; the documents in them are not looked into yet.
func (r *Request) cutSections(b []byte) error {
	for len(b) > 0 {
		kind := b[0]
		size, ok := sizePrefix(b[1:])
		if !ok {
			return frameErrorf("section of kind %d overruns the message", kind)
		}
		data := b[1 : 1+size]
		b = b[1+size:]
		switch kind {
		case 0:
			if r.Body != nil {
				return frameErrorf("more than one body section")
			}
			r.Body = bson.Raw(data[:size:size])
		case 1:
			s, err := cutSequence(data)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(r.Sequences, func(o Sequence) bool { return o.ID == s.ID }) {
				return frameErrorf("document sequence %q twice", s.ID)
			}
			r.Sequences = append(r.Sequences, s)
		default:
			return frameErrorf("unknown section kind %d", kind)
		}
	}
	if r.Body == nil {
		return frameErrorf("OP_MSG without a body section")
	}
	return nil
}

// sizePrefix returns the length that b begins with if b is that long.
func sizePrefix(b []byte) (int, bool) {
	if len(b) < 4 {
		return 0, false
	}
	n := int(int32(binary.LittleEndian.Uint32(b)))
	return n, n >= 4 && n <= len(b)
}

func cutSequence(data []byte) (Sequence, error) {
	id := data[4:]
	end := bytes.IndexByte(id, 0)
	if end < 0 {
		return Sequence{}, frameErrorf("document sequence without an identifier")
	}
	s := Sequence{ID: sequenceID(id[:end]), data: id[end+1:]}
	for b := s.data; len(b) > 0; s.n++ {
		n, ok := sizePrefix(b)
		if !ok {
			return s, frameErrorf("document sequence %q overruns its section", s.ID)
		}
		b = b[n:]
	}
	return s, nil
}

// sequenceID spares an allocation for the identifiers that commands have.
func sequenceID(b []byte) string {
	switch string(b) {
	case "documents":
		return "documents"
	case "updates":
		return "updates"
	case "deletes":
		return "deletes"
	case "ops":
		return "ops"
	case "nsInfo":
		return "nsInfo"
	}
	return string(b)
}

// validate checks every document once, so that nothing behind it has to.
func (r *Request) validate() error {
	if err := r.validateDoc(r.Body); err != nil {
		r.Body = nil
		return err
	}
	for i := range r.Sequences {
		s := &r.Sequences[i]
		for d := range s.All() {
			if err := r.validateDoc(d); err != nil {
				return err
			}
		}
		if r.Body.Has(s.ID) {
			return mongoerr.New(40433, "Duplicate field between body and document sequence %s", s.ID)
		}
	}
	db := r.Body.Get("$db")
	if db.Type != bson.TypeString {
		return mongoerr.New(40571, "OP_MSG requests require a $db argument")
	}
	r.DB = db.Str()
	return nil
}

func (r *Request) validateDoc(d bson.Raw) error {
	if len(d) > MaxInternalDocSize {
		return mongoerr.New(mongoerr.BSONObjectTooLarge, "BSONObj size: %d (0x%X) is invalid. Size must be between 0 and %d(16MB)", len(d), len(d), MaxInternalDocSize)
	}
	err := bson.Validate(d, bson.MaxDepth)
	if err != nil && errors.Is(err, bson.ErrTooDeep) {
		r.Deep = true
		err = bson.Validate(d, MaxMessageDepth)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bson.ErrTooDeep):
		return mongoerr.New(mongoerr.Overflow, "BSONObj exceeds maximum nested object depth: %d", MaxMessageDepth)
	}
	return mongoerr.New(mongoerr.InvalidBSON, "%v", err)
}
