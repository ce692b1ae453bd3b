package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// CompressorID is the number of a compressor in OP_COMPRESSED.
type CompressorID uint8

// The compressors of the protocol.
const (
	CompressorNone   CompressorID = 0
	CompressorSnappy CompressorID = 1
	CompressorZlib   CompressorID = 2
	CompressorZstd   CompressorID = 3

	compressors = 4
)

var compressorNames = [compressors]string{"noop", "snappy", "zlib", "zstd"}

// String returns the name that hello uses.
func (c CompressorID) String() string {
	if int(c) < len(compressorNames) {
		return compressorNames[c]
	}
	return fmt.Sprintf("compressor %d", uint8(c))
}

// CompressorByName returns the compressor that hello calls name; noop is never negotiated.
func CompressorByName(name string) (CompressorID, bool) {
	for i := CompressorSnappy; i < compressors; i++ {
		if compressorNames[i] == name {
			return i, true
		}
	}
	return 0, false
}

// compressedHeader is what OP_COMPRESSED puts before the compressed bytes: the
// opcode inside, its length, the compressor.
const compressedHeader = 9

// Compression holds the pools of encoders and decoders of one server. Nothing is
// allocated before the first use.
type Compression struct {
	zlibWriters sync.Pool
	zlibReaders sync.Pool
	zstdOnce    sync.Once
	zstdEnc     *zstd.Encoder
	zstdDec     *zstd.Decoder
	zstdErr     error

	// Stats are the counters of serverStatus.network.compression, by CompressorID.
	Stats [compressors]CompressionStats
}

// NewCompression returns a Compression with all compressors.
func NewCompression() *Compression { return &Compression{} }

func (c *Compression) zstd() (*zstd.Encoder, *zstd.Decoder, error) {
	c.zstdOnce.Do(func() {
		c.zstdEnc, c.zstdErr = zstd.NewWriter(nil, zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<20))
		if c.zstdErr != nil {
			return
		}
		c.zstdDec, c.zstdErr = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
			zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(MaxMessageSize))
	})
	return c.zstdEnc, c.zstdDec, c.zstdErr
}

// compress appends src, compressed, to dst.
func (c *Compression) compress(id CompressorID, dst, src []byte) ([]byte, error) {
	start := len(dst)
	var err error
	switch id {
	case CompressorNone:
		dst = append(dst, src...)
	case CompressorSnappy:
		dst, err = appendSnappy(dst, src), nil
	case CompressorZlib:
		dst, err = c.appendZlib(dst, src)
	case CompressorZstd:
		var enc *zstd.Encoder
		if enc, _, err = c.zstd(); err == nil {
			dst = enc.EncodeAll(src, dst)
		}
	default:
		err = fmt.Errorf("no %s", id)
	}
	if err == nil {
		c.Stats[id].Compressed(len(src), len(dst)-start)
	}
	return dst, err
}

func appendSnappy(dst, src []byte) []byte {
	need := len(dst) + snappy.MaxEncodedLen(len(src))
	if cap(dst) < need {
		dst = append(make([]byte, 0, need), dst...)
	}
	out := snappy.Encode(dst[len(dst):cap(dst)], src)
	return dst[:len(dst)+len(out)]
}

func (c *Compression) appendZlib(dst, src []byte) ([]byte, error) {
	w, _ := c.zlibWriters.Get().(*zlib.Writer)
	out := bytes.NewBuffer(dst)
	if w == nil {
		w = zlib.NewWriter(out)
	} else {
		w.Reset(out)
	}
	_, err := w.Write(src)
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	c.zlibWriters.Put(w)
	return out.Bytes(), err
}

// maxRatio is the most that a compressor can save. A claim beyond it is a lie, and
// is refused before room is made for what was claimed.
var maxRatio = [compressors]int{CompressorNone: 1, CompressorSnappy: 32, CompressorZlib: 1100, CompressorZstd: 33000}

// decompress writes exactly size bytes of plain text to dst, which has room for them.
func (c *Compression) decompress(id CompressorID, dst, src []byte, size int) ([]byte, error) {
	start := len(dst)
	var err error
	switch id {
	case CompressorNone:
		dst = append(dst, src...)
	case CompressorSnappy:
		dst, err = decodeSnappy(dst, src, size)
	case CompressorZlib:
		dst, err = c.decodeZlib(dst, src, size)
	case CompressorZstd:
		dst, err = c.decodeZstd(dst, src, size)
	default:
		return nil, fmt.Errorf("unknown %s", id)
	}
	if err != nil {
		return nil, err
	}
	if len(dst)-start != size {
		return nil, fmt.Errorf("%d bytes instead of %d", len(dst)-start, size)
	}
	c.Stats[id].Decompressed(len(src), size)
	return dst, nil
}

func decodeSnappy(dst, src []byte, size int) ([]byte, error) {
	if n, err := snappy.DecodedLen(src); err != nil {
		return nil, err
	} else if n != size {
		return nil, fmt.Errorf("%d bytes instead of %d", n, size)
	}
	out, err := snappy.Decode(dst[len(dst):len(dst)+size], src)
	return dst[:len(dst)+len(out)], err
}

func (c *Compression) decodeZlib(dst, src []byte, size int) ([]byte, error) {
	in := bytes.NewReader(src)
	zr, _ := c.zlibReaders.Get().(io.ReadCloser)
	if zr == nil {
		var err error
		if zr, err = zlib.NewReader(in); err != nil {
			return nil, err
		}
	} else if err := zr.(zlib.Resetter).Reset(in, nil); err != nil {
		c.zlibReaders.Put(zr)
		return nil, err
	}
	defer c.zlibReaders.Put(zr)
	n, err := io.ReadFull(zr, dst[len(dst):len(dst)+size])
	if err != nil {
		return nil, err
	}
	var more [1]byte
	if m, err := zr.Read(more[:]); m != 0 || err != io.EOF {
		return nil, fmt.Errorf("more than %d bytes (%v)", size, err)
	}
	return dst[:len(dst)+n], nil
}

func (c *Compression) decodeZstd(dst, src []byte, size int) ([]byte, error) {
	_, dec, err := c.zstd()
	if err != nil {
		return nil, err
	}
	var h zstd.Header
	if err := h.Decode(src); err != nil {
		return nil, err
	}
	if h.HasFCS && h.FrameContentSize > uint64(size) {
		return nil, fmt.Errorf("%d bytes instead of %d", h.FrameContentSize, size)
	}
	return dec.DecodeAll(src, dst[:len(dst):len(dst)+size])
}

// decompress unpacks OP_COMPRESSED into a buffer of r and makes it look as if the
// inner message had come.
func (p *Parser) decompress(msg []byte, r *Request) ([]byte, error) {
	if len(msg) < headerSize+compressedHeader {
		return nil, frameErrorf("OP_COMPRESSED of %d bytes", len(msg))
	}
	b := msg[headerSize:]
	op := OpCode(binary.LittleEndian.Uint32(b))
	size := int(int32(binary.LittleEndian.Uint32(b[4:])))
	id := CompressorID(b[8])
	src := b[compressedHeader:]
	switch {
	case p.Compression == nil || id >= compressors:
		return nil, frameErrorf("message compressed with unknown %s", id)
	case op == OpCompressed:
		return nil, frameErrorf("OP_COMPRESSED within OP_COMPRESSED")
	case size < 0 || size > MaxMessageSize-headerSize:
		return nil, frameErrorf("decompressed length %d", size)
	case size > maxRatio[id]*len(src)+64:
		return nil, frameErrorf("%d bytes of %s cannot hold %d", len(src), id, size)
	}
	plain := GetBuffer(headerSize + size)
	out, err := p.Compression.decompress(id, plain.B[:headerSize], src, size)
	if err != nil {
		plain.Free()
		return nil, frameErrorf("%s: %v", id, err)
	}
	plain.B, r.plain = out, plain
	r.Compressor, r.OpCode, r.Length = id, op, int32(len(out))
	r.compressed = true
	r.Header.put(out)
	return out, nil
}
