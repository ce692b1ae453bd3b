package repo

import (
	"bytes"
	"encoding/binary"
	"sort"
)

// place is where a chunk lies: the pos-th chunk of a block.
type place struct {
	block uint32
	pos   uint8
}

// packEntry says what is in a pack; it is what an index object and a pack's directory hold.
type packEntry struct {
	id     ID // SHA-256 of the pack's bytes
	size   uint32
	salt   [saltSize]byte // zeros if not encrypted
	blocks []blockEntry
}

// blockEntry is a group of chunks compressed as one.
type blockEntry struct {
	off, stored uint32
	chunks      []chunkEntry
}

type chunkEntry struct {
	id   ID
	size uint32
}

func (p *packEntry) rawBytes() (n int64) {
	for _, b := range p.blocks {
		for _, c := range b.chunks {
			n += int64(c.size)
		}
	}
	return n
}

// packInfo is a pack in memory. A pack that is condemned or not there is readable at most: a
// writer does not count on its chunks.
type packInfo struct {
	id         ID
	size       uint32
	salt       [saltSize]byte
	firstBlock uint32
	blocks     uint32
	raw        int64
	condemned  bool
}

// blockInfo is a block in memory; first numbers the block's first chunk among all of the index.
type blockInfo struct{ pack, off, stored, first uint32 }

// chunkIndex finds chunks. An id's first two bytes choose a bucket; in a bucket entries of 19
// bytes (14 more of the id, block, position) are sorted, so that a chunk costs about 21 bytes and
// no pointers: 100 GB in chunks of 8 KB are 250 MB. 16 bytes of an id are kept: two contents that
// share them do not happen by chance, and a chunk read is always checked by its whole id.
type chunkIndex struct {
	buckets [1 << 16][]byte
	blocks  []blockInfo
	packs   []packInfo
	packNo  map[ID]uint32
	entries int    // places known, one a chunk
	chunks  uint32 // chunks in packs, those that lie in two packs counted twice
}

const (
	keyBytes   = 14
	entryBytes = keyBytes + 5
)

func newChunkIndex() *chunkIndex { return &chunkIndex{packNo: map[ID]uint32{}} }

// find returns the entry's offset in its bucket, or where it belongs.
func (x *chunkIndex) find(id *ID) (bucket []byte, at int, found bool) {
	b := x.buckets[binary.BigEndian.Uint16(id[:])]
	key := id[2 : 2+keyBytes]
	n := len(b) / entryBytes
	i := sort.Search(n, func(i int) bool { return bytes.Compare(b[i*entryBytes:i*entryBytes+keyBytes], key) >= 0 })
	at = i * entryBytes
	return b, at, i < n && bytes.Equal(b[at:at+keyBytes], key)
}

func (x *chunkIndex) lookup(id ID) (place, bool) {
	b, at, ok := x.find(&id)
	if !ok {
		return place{}, false
	}
	return place{binary.LittleEndian.Uint32(b[at+keyBytes:]), b[at+keyBytes+4]}, true
}

// usable finds a chunk on which a writer may count.
func (x *chunkIndex) usable(id ID) bool {
	p, ok := x.lookup(id)
	return ok && !x.packs[x.blocks[p.block].pack].condemned
}

func (x *chunkIndex) put(id ID, p place, replace bool) {
	b, at, ok := x.find(&id)
	if ok && !replace {
		return
	}
	if !ok {
		b = growBucket(b)
		copy(b[at+entryBytes:], b[at:len(b)-entryBytes])
		copy(b[at:], id[2:2+keyBytes])
		x.buckets[binary.BigEndian.Uint16(id[:])] = b
		x.entries++
	}
	binary.LittleEndian.PutUint32(b[at+keyBytes:], p.block)
	b[at+keyBytes+4] = p.pos
}

// growBucket adds room for one entry; by an eighth, where append would double.
func growBucket(b []byte) []byte {
	if n := len(b) + entryBytes; n <= cap(b) {
		return b[:n]
	}
	n := len(b) / entryBytes
	grown := make([]byte, len(b)+entryBytes, (n+1+n/8)*entryBytes)
	copy(grown, b)
	return grown
}

// add makes a pack's chunks known. Chunks that are known already keep their place, unless that is
// in a condemned pack and this one is not.
func (x *chunkIndex) add(p packEntry, condemned bool) {
	if _, ok := x.packNo[p.id]; ok {
		return
	}
	no := uint32(len(x.packs))
	x.packNo[p.id] = no
	x.packs = append(x.packs, packInfo{id: p.id, size: p.size, salt: p.salt, firstBlock: uint32(len(x.blocks)),
		blocks: uint32(len(p.blocks)), raw: p.rawBytes(), condemned: condemned})
	for _, b := range p.blocks {
		block := uint32(len(x.blocks))
		x.blocks = append(x.blocks, blockInfo{no, b.off, b.stored, x.chunks})
		x.chunks += uint32(len(b.chunks))
		for i, c := range b.chunks {
			known, ok := x.lookup(c.id)
			worse := ok && x.packs[x.blocks[known.block].pack].condemned && !condemned
			x.put(c.id, place{block, uint8(i)}, worse)
		}
	}
}

// number is a chunk's number among all of the index, for a set of bits.
func (x *chunkIndex) number(p place) uint32 { return x.blocks[p.block].first + uint32(p.pos) }

// pack returns the pack of a place.
func (x *chunkIndex) pack(p place) *packInfo { return &x.packs[x.blocks[p.block].pack] }
