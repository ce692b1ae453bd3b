package repo

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// maxBlockChunks is what a block's count byte can hold.
const maxBlockChunks = 255

// appendBlocks encodes a pack's blocks: u32 count; for each u32 offset, u32 stored size, u8 count
// of chunks; for each of these 32 bytes id, u32 size.
func appendBlocks(b []byte, blocks []blockEntry) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(blocks)))
	for _, bl := range blocks {
		b = binary.LittleEndian.AppendUint32(b, bl.off)
		b = binary.LittleEndian.AppendUint32(b, bl.stored)
		b = append(b, byte(len(bl.chunks)))
		for _, c := range bl.chunks {
			b = append(b, c.id[:]...)
			b = binary.LittleEndian.AppendUint32(b, c.size)
		}
	}
	return b
}

// byteReader takes fields from bytes that may be cut short; err stays.
type byteReader struct {
	b   []byte
	err error
}

func (r *byteReader) take(n int) []byte {
	if r.err != nil || n > len(r.b) {
		r.err = errors.New("it ends in the middle of an entry")
		return make([]byte, min(n, 64))
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *byteReader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }

// readBlocks decodes appendBlocks; the counts are not trusted.
func (r *byteReader) readBlocks() []blockEntry {
	n := int(r.u32())
	if r.err == nil && n > len(r.b)/9 {
		r.err = fmt.Errorf("%d blocks do not fit in %d bytes", n, len(r.b))
	}
	if r.err != nil {
		return nil
	}
	blocks := make([]blockEntry, 0, n)
	for range n {
		bl := blockEntry{off: r.u32(), stored: r.u32()}
		count := int(r.take(1)[0])
		if r.err == nil && count > len(r.b)/36 {
			r.err = fmt.Errorf("%d chunks do not fit in %d bytes", count, len(r.b))
		}
		if r.err != nil {
			return nil
		}
		bl.chunks = make([]chunkEntry, count)
		for i := range bl.chunks {
			copy(bl.chunks[i].id[:], r.take(32))
			bl.chunks[i].size = r.u32()
		}
		blocks = append(blocks, bl)
	}
	return blocks
}

// encodeIndex is the payload of an index object: u32 count of packs; for each 32 bytes id, u32
// size, 32 bytes salt, its blocks.
func encodeIndex(packs []packEntry) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(packs)))
	for _, p := range packs {
		b = append(b, p.id[:]...)
		b = binary.LittleEndian.AppendUint32(b, p.size)
		b = append(b, p.salt[:]...)
		b = appendBlocks(b, p.blocks)
	}
	return b
}

func decodeIndex(b []byte) ([]packEntry, error) {
	r := &byteReader{b: b}
	n := int(r.u32())
	if r.err == nil && n > len(r.b)/72 {
		return nil, fmt.Errorf("%d packs do not fit in %d bytes", n, len(r.b))
	}
	var packs []packEntry
	for range n {
		var p packEntry
		copy(p.id[:], r.take(32))
		p.size = r.u32()
		copy(p.salt[:], r.take(saltSize))
		p.blocks = r.readBlocks()
		if r.err == nil {
			r.err = p.check()
		}
		if r.err != nil {
			return nil, r.err
		}
		packs = append(packs, p)
	}
	if r.err == nil && len(r.b) != 0 {
		r.err = fmt.Errorf("%d bytes are left over", len(r.b))
	}
	return packs, r.err
}

// check refuses entries that reading a pack could not follow.
func (p *packEntry) check() error {
	for i, b := range p.blocks {
		if b.off < headerSize || b.stored == 0 || uint64(b.off)+uint64(b.stored) > uint64(p.size) {
			return fmt.Errorf("block %d at %d with %d bytes does not lie in its pack of %d", i, b.off, b.stored, p.size)
		}
		if len(b.chunks) == 0 {
			return fmt.Errorf("block %d has no chunks", i)
		}
		var raw uint64
		for _, c := range b.chunks {
			raw += uint64(c.size)
		}
		if raw > maxBlock {
			return fmt.Errorf("block %d has %d bytes", i, raw)
		}
	}
	return nil
}
