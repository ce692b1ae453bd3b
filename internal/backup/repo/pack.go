package repo

import (
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
)

const (
	// blockTarget is how many bytes of chunks are compressed together: a chunk alone compresses
	// badly, and reading one costs decoding its block.
	blockTarget = 128 << 10
	maxBlock    = 4 << 20 // a decoder refuses more

	dirNonce     = math.MaxUint64 - 1
	trailerNonce = math.MaxUint64
)

// packName is where a pack lies.
func packName(id ID) string {
	h := id.String()
	return kindPack.prefix() + h[:2] + "/" + h
}

// packOfName is the reverse.
func packOfName(name string) (id ID, ok bool) {
	n := len(kindPack.prefix()) + 3
	if len(name) != n+2*len(id) {
		return id, false
	}
	if _, err := hex.Decode(id[:], []byte(name[n:])); err != nil {
		return id, false
	}
	return id, packName(id) == name
}

// block is a group of chunks on its way into a pack.
type block struct {
	raw    []byte
	chunks []chunkEntry
	piece  *logPiece // nil, or raw is this piece of a log
}

func (b *block) full() bool { return len(b.raw) >= blockTarget || len(b.chunks) == maxBlockChunks }

func (b *block) add(id ID, data []byte) {
	b.raw = append(b.raw, data...)
	b.chunks = append(b.chunks, chunkEntry{id, uint32(len(data))})
}

// encode is the block as it is stored, before encryption: u8 codec (0 as it is, 1 zstd, and 2 more
// for a piece of a log), u8 count, u32 size of each chunk, the bytes. It is made in scratch, if
// that is large enough.
func (b *block) encode(c *codec, scratch []byte) []byte {
	out := slices.Grow(scratch[:0], 2+4*len(b.chunks)+len(b.raw))
	kind := byte(codecZstd)
	if b.piece != nil {
		kind += codecLog
	}
	out = append(out, kind, byte(len(b.chunks)))
	for _, ch := range b.chunks {
		out = binary.LittleEndian.AppendUint32(out, ch.size)
	}
	head := len(out)
	if b.piece == nil {
		out = c.enc.EncodeAll(b.raw, out)
	} else {
		for part := range slices.Chunk(b.raw, logFrame) {
			out = c.enc.EncodeAll(part, out)
		}
	}
	if len(out)-head >= len(b.raw) {
		out = append(out[:head], b.raw...)
		out[0] = kind - codecZstd
	}
	return out
}

// plainBlock is a block that was read.
type plainBlock struct {
	chunks [][]byte // their bytes, in order
	// id names the only chunk of a piece of a log, whose chunks' ids are not of their bytes.
	id    ID
	isLog bool
}

// matches says whether a chunk is what its id says.
func (p *plainBlock) matches(k *keys, n int, id ID) bool {
	if p.isLog {
		return n == 0 && p.id == id
	}
	return k.chunkID(p.chunks[n]) == id
}

// decode reads a block. Chunks are still to be compared with their ids.
func (r *Repo) decode(plain []byte) (*plainBlock, error) {
	p := &plainBlock{}
	if p.isLog = len(plain) > 0 && plain[0]&^1 == codecLog; p.isLog {
		p.id = r.keys.logID(plain)
	}
	var err error
	p.chunks, err = decodeBlock(r.codec, plain)
	return p, err
}

// decodeListed reads a block that a directory describes.
func (r *Repo) decodeListed(plain []byte, b blockEntry) (*plainBlock, error) {
	p, err := r.decode(plain)
	if err == nil && len(p.chunks) != len(b.chunks) {
		err = fmt.Errorf("%d chunks, its directory says %d", len(p.chunks), len(b.chunks))
	}
	return p, err
}

// decodeBlock gives the chunks' bytes, in order.
func decodeBlock(c *codec, plain []byte) ([][]byte, error) {
	r := &byteReader{b: plain}
	kind := r.take(1)[0]
	count := int(r.take(1)[0])
	sizes := make([]int, count)
	total := 0
	for i := range sizes {
		n := r.u32()
		if n > maxBlock {
			return nil, fmt.Errorf("a chunk of %d bytes", n)
		}
		sizes[i] = int(n)
		total += int(n)
	}
	if r.err != nil {
		return nil, r.err
	}
	if total > maxBlock {
		return nil, fmt.Errorf("a block of %d bytes", total)
	}
	if kind&codecLog != 0 && count != 1 {
		return nil, fmt.Errorf("a piece of a log with %d chunks", count)
	}
	raw := r.b
	switch kind {
	case codecPlain, codecLog | codecPlain:
		raw = slices.Clone(raw) // do not keep what it was read with
	case codecZstd, codecLog | codecZstd:
		var err error
		if raw, err = c.dec.DecodeAll(r.b, make([]byte, 0, total)); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("unknown codec %d", kind)
	}
	if len(raw) != total {
		return nil, fmt.Errorf("%d bytes, its chunks have %d", len(raw), total)
	}
	out := make([][]byte, count)
	for i, n := range sizes {
		out[i], raw = raw[:n:n], raw[n:]
	}
	return out, nil
}

// packBuilder collects encoded blocks into one pack object:
//
//	header | salt, if encrypted | blocks | directory | trailer: u32 stored size of the directory
//
// With encryption each block, the directory and the trailer are sealed one by one, so that a
// block can be read alone; the directory is padded so that the pack's size is.
type packBuilder struct {
	keys  *keys
	aead  cipher.AEAD
	buf   []byte
	entry packEntry
}

// newPackBuilder begins a pack in an empty buffer.
func newPackBuilder(k *keys, buf []byte) (*packBuilder, error) {
	p := &packBuilder{keys: k, buf: buf}
	p.buf = append(p.buf, makeHeader(kindPack, k.encrypted())...)
	if k.encrypted() {
		salt := newSalt()
		copy(p.entry.salt[:], salt)
		a, err := k.aead(salt)
		if err != nil {
			return nil, err
		}
		p.aead = a
		p.buf = append(p.buf, salt...)
	}
	return p, nil
}

// part appends one part, sealed if there is a key.
func (p *packBuilder) part(number uint64, plain []byte) {
	if p.aead == nil {
		p.buf = append(p.buf, plain...)
		return
	}
	p.buf = p.aead.Seal(p.buf, nonce(number), plain, p.buf[:headerSize])
}

func (p *packBuilder) add(encoded []byte, chunks []chunkEntry) {
	off := len(p.buf)
	p.part(uint64(len(p.entry.blocks)), encoded)
	p.entry.blocks = append(p.entry.blocks, blockEntry{uint32(off), uint32(len(p.buf) - off), chunks})
}

// finish closes the pack and names it.
func (p *packBuilder) finish() (packEntry, []byte) {
	dir := appendBlocks(nil, p.entry.blocks)
	stored := len(dir)
	if p.aead != nil {
		total := len(p.buf) + len(dir) + tagSize + 4 + tagSize
		dir = append(dir, make([]byte, paddedSize(total)-total)...)
		stored = len(dir) + tagSize
	}
	p.part(dirNonce, dir)
	p.part(trailerNonce, binary.LittleEndian.AppendUint32(nil, uint32(stored)))
	p.entry.id = sha256.Sum256(p.buf)
	p.entry.size = uint32(len(p.buf))
	return p.entry, p.buf
}

// packReader opens the parts of a pack.
type packReader struct {
	keys   *keys
	aead   cipher.AEAD
	header []byte
}

func (k *keys) packReader(salt []byte) (*packReader, error) {
	p := &packReader{keys: k, header: makeHeader(kindPack, k.encrypted())}
	if k.encrypted() {
		a, err := k.aead(salt)
		if err != nil {
			return nil, err
		}
		p.aead = a
	}
	return p, nil
}

func (p *packReader) part(number uint64, stored []byte) ([]byte, error) {
	if p.aead == nil {
		return stored, nil
	}
	plain, err := p.aead.Open(nil, nonce(number), stored, p.header)
	if err != nil {
		return nil, errors.New("it does not decrypt")
	}
	return plain, nil
}

// readPack checks a whole pack and returns its entry and a reader for its blocks.
func (k *keys) readPack(name string, data []byte) (packEntry, *packReader, error) {
	var e packEntry
	id, ok := packOfName(name)
	if !ok {
		return e, nil, corrupt(kindPack, name, "its name is not that of a pack")
	}
	if err := checkName(kindPack, name, data); err != nil {
		return e, nil, err
	}
	encrypted, err := parseHeader(kindPack, name, data)
	if err != nil {
		return e, nil, err
	}
	if encrypted != k.encrypted() {
		return e, nil, corrupt(kindPack, name, "encrypted: %v, but the repository's marker says %v", encrypted, k.encrypted())
	}
	e.id, e.size = id, uint32(len(data))
	start, trailer := headerSize, 4
	if encrypted {
		start, trailer = headerSize+saltSize, 4+tagSize
	}
	if len(data) < start+trailer {
		return e, nil, corrupt(kindPack, name, "%d bytes are too short for a pack", len(data))
	}
	copy(e.salt[:], data[headerSize:start])
	r, err := k.packReader(e.salt[:])
	if err != nil {
		return e, nil, err
	}
	e.blocks, err = r.directory(data, start, trailer)
	if err == nil {
		err = e.check()
	}
	if err != nil {
		return e, nil, corrupt(kindPack, name, "its directory: %v", err)
	}
	return e, r, nil
}

func (p *packReader) directory(data []byte, start, trailer int) ([]blockEntry, error) {
	end := len(data) - trailer
	t, err := p.part(trailerNonce, data[end:])
	if err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(t)
	if uint64(n) > uint64(end-start) {
		return nil, fmt.Errorf("%d bytes do not fit", n)
	}
	dir, err := p.part(dirNonce, data[end-int(n):end])
	if err != nil {
		return nil, err
	}
	br := &byteReader{b: dir}
	blocks := br.readBlocks()
	for _, x := range br.b {
		if x != 0 && br.err == nil {
			br.err = errors.New("bytes are left over")
		}
	}
	return blocks, br.err
}
