package storage

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

// rowCache keeps values of single keys in front of the engine, which Engine.Get answers
// from: records and `_id` entries that were read, as they were last written. It holds nothing
// that a flush, a scan or a snapshot needs, so losing any of it costs a read and no more.
//
// What it says is the latest state, always. Whoever changes keys in the engine does, in
// this order:
//
//	seq := begin()
//	touch(seq, key) for each key that is to change: what is kept of it is not shown any more
//	the change itself, which makes all of it visible at once
//	put(seq, key, value) or drop(seq, key), for each key what was done to it last
//	end(seq)
//
// So no kept value of a key is seen beside a changed one of another, and who has seen a
// change finds no older value. A reader that missed may keep what it read from the engine
// (fill) unless a change of its shard began that had not ended when it looked: `ended` is
// taken before the read, and the shard knows the newest change that touched it.
//
// A key that did not exist before the change need not be touched: nothing is kept of it, and
// who reads it meanwhile finds either nothing, which is not kept, or the new value.
//
// Memory: each shard is a ring of chunks, allocated as they fill, without pointers. When
// all are full the oldest is used again: what was read since it was written there moves
// to its front, the rest is forgotten.
type rowCache struct {
	seed   maphash.Seed
	shards []rowShard
	shift  uint // of the hash, to a shard

	hints rowHints

	// changes are those between begin and end. All numbers up to ended have ended.
	changes struct {
		sync.Mutex
		next   uint64
		active []uint64
	}
	ended  atomic.Uint64
	ahead  rowAhead
	memory rowMemory
}

const (
	rowChunkBytes  = 64 << 10
	rowShardChunks = 4 // at least: a shard with fewer is not worth it
	maxRowShards   = 256
	maxRowBytes    = 16 << 10 // a larger value is worth its way through the engine
	maxTypical     = 1 << 10  // more lines than processors ask for at once

	rowHeader = 16
	rowUnit   = 8 // positions count in these

	rowChunkUnits = rowChunkBytes / rowUnit
)

// Flags of an entry.
const (
	rowDead  = 1 << iota // belongs to no slot
	rowStale             // its key is being changed, or was and the new value is not known
	rowUsed              // read since it was put where it is
	rowMoved             // dead, and its value says where the row went: see forward
)

// rowShard is a part of the cache.
//
// An entry is: size u32 (in rowUnits, all of it) | tag u32 | key length u16 | flags u16 |
// value length u32 | key | value | padding.
type rowShard struct {
	mu      sync.Mutex
	chunks  []rowChunk
	hits    uint64
	slots   []uint64 // open addressing: tag<<32 | position; 0 is free
	live    int
	max     int // chunks
	memory  *rowMemory
	head    int    // the chunk that entries are added to
	fill    int    // its bytes in use
	touched uint64 // the newest change that touched a key of the shard
	misses  uint64
	// typical is the size of the row that a hint led to last, at most maxTypical. Memory is asked
	// for so much of the next one before that has said how large it is: its lines come in
	// together instead of one behind the other.
	typical int32
	_       [44]byte
}

// rowChunk is a piece of the ring.
type rowChunk struct {
	mem  *byte    // rowChunkBytes of them, see bytes
	slab *rowSlab // that mem is of, nil if of none
	end  int32    // where its entries end, unless it is the one that is added to
	gen  uint32   // how often it was used again: until then an entry stays where it is
}

// bytes is the memory of the chunk. It is no array: to be sure that the pointer to a large one is
// not nil, its first byte is read, which here means waiting for memory before the row that is
// wanted is even asked for.
func (c *rowChunk) bytes() []byte { return unsafe.Slice(c.mem, rowChunkBytes) }

// newRowCache returns a cache of at most about size bytes, or nil if that is too few.
func newRowCache(size int64) *rowCache {
	n := int(min(size/(rowShardChunks*rowChunkBytes), maxRowShards))
	if n == 0 {
		return nil
	}
	n = 1 << (bits.Len(uint(n)) - 1)
	c := &rowCache{seed: maphash.MakeSeed(), shards: make([]rowShard, n), shift: uint(64 - bits.Len(uint(n-1)))}
	c.memory.slabs = size >= minSlabCache
	// Slots take about an eighth of what small entries do, hints a thirtieth of all.
	chunks := int(size / int64(n) * 6 / 7 / rowChunkBytes)
	c.hints.max = hintTable(size / hintShare)
	for i := range c.shards {
		c.shards[i].max, c.shards[i].memory = max(chunks, 2), &c.memory
	}
	return c
}

// rowFill is what a reader that missed needs to fill in what it reads.
type rowFill struct {
	hash, ended uint64
}

func (c *rowCache) hash(key []byte) uint64 { return maphash.Bytes(c.seed, key) }

func (c *rowCache) shard(h uint64) *rowShard { return &c.shards[c.shardNumber(h)] }

func (c *rowCache) shardNumber(h uint64) uint32 {
	return uint32(h >> c.shift & uint64(len(c.shards)-1))
}

// get appends the value of key to dst[:0]. If it has none, f is for fill.
func (c *rowCache) get(key, dst []byte) (v []byte, ok bool, f rowFill) {
	h := c.hash(key)
	s := c.shard(h)
	s.mu.Lock()
	if e := s.entry(s.find(uint32(h), key)); e != nil && e.flags()&rowStale == 0 {
		if e.flags()&rowUsed == 0 {
			e.set(rowUsed)
		}
		s.hits++
		v = append(dst[:0], e.value()...)
		s.mu.Unlock()
		return v, true, f
	}
	s.misses++
	s.mu.Unlock()
	return nil, false, rowFill{h, c.ended.Load()}
}

// fill keeps what was read from the engine after the get that returned f, and has h make a hint to it.
func (c *rowCache) fill(f rowFill, key, value []byte, h *hinter) {
	if len(key)+len(value) > maxRowBytes {
		return
	}
	s := c.shard(f.hash)
	s.mu.Lock()
	pos := uint32(0)
	if s.touched <= f.ended {
		pos = s.put(uint32(f.hash), key, value)
	}
	gen := s.gen(pos)
	s.mu.Unlock()
	h.put(c, value, c.shardNumber(f.hash), gen, pos)
}

// begin starts a change.
func (c *rowCache) begin() uint64 {
	m := &c.changes
	m.Lock()
	defer m.Unlock()
	m.next++
	m.active = append(m.active, m.next)
	return m.next
}

// end ends it: all of it is visible in the engine.
func (c *rowCache) end(seq uint64) {
	m := &c.changes
	m.Lock()
	defer m.Unlock()
	i := slices.Index(m.active, seq)
	m.active = slices.Delete(m.active, i, i+1)
	ended := m.next
	if len(m.active) > 0 {
		ended = m.active[0] - 1 // in the order in which they began
	}
	c.ended.Store(ended)
}

// touch says that key is about to change.
func (c *rowCache) touch(seq uint64, key []byte) {
	h := c.hash(key)
	s := c.shard(h)
	s.mu.Lock()
	s.touched = max(s.touched, seq)
	if s.live > 0 {
		if e := s.entry(s.find(uint32(h), key)); e != nil {
			e.set(rowStale)
		}
	}
	s.mu.Unlock()
}

// touchRange is touch for the keys of [lower, upper). It looks at everything.
func (c *rowCache) touchRange(seq uint64, lower, upper []byte) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.touched = max(s.touched, seq)
		for n := range s.chunks {
			s.each(n, func(e rowEntry, pos uint32) {
				if k := e.key(); bytes.Compare(k, lower) >= 0 && bytes.Compare(k, upper) < 0 {
					s.remove(e, pos)
				}
			})
		}
		s.mu.Unlock()
	}
}

// put keeps the value that a change gave to key, if there is something of it: what nobody
// has read is not kept. Of several puts and drops of a key the first counts.
func (c *rowCache) put(seq uint64, key, value []byte) {
	if len(key)+len(value) > maxRowBytes {
		c.drop(seq, key) // what an earlier operation gave must not count
		return
	}
	h := c.hash(key)
	s := c.shard(h)
	s.mu.Lock()
	if s.touched == seq { // else another change is under way in the shard
		if pos := s.find(uint32(h), key); pos != 0 && s.entry(pos).flags()&rowStale != 0 {
			s.replace(pos, uint32(h), key, value)
		}
	}
	s.mu.Unlock()
}

// putNew is put, but for a key that nobody has read too: only the last of a change.
func (c *rowCache) putNew(seq uint64, key, value []byte) {
	if len(key)+len(value) > maxRowBytes {
		c.drop(seq, key)
		return
	}
	h := c.hash(key)
	s := c.shard(h)
	s.mu.Lock()
	if s.touched == seq {
		if pos := s.find(uint32(h), key); pos == 0 {
			s.add(uint32(h), key, value, 0)
		} else if s.entry(pos).flags()&rowStale != 0 {
			s.replace(pos, uint32(h), key, value)
		}
	}
	s.mu.Unlock()
}

// drop forgets a key that a change deleted.
func (c *rowCache) drop(seq uint64, key []byte) {
	h := c.hash(key)
	s := c.shard(h)
	s.mu.Lock()
	if pos := s.find(uint32(h), key); pos != 0 {
		if e := s.entry(pos); e.flags()&rowStale != 0 {
			s.remove(e, pos)
		}
	}
	s.mu.Unlock()
}

// rowStats are the cache's numbers.
type rowStats struct {
	entries, bytes, hits, misses int64
}

func (c *rowCache) stats() (st rowStats) {
	if c == nil {
		return st
	}
	st.bytes = c.hints.bytes()
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		st.entries += int64(s.live)
		st.bytes += int64(len(s.chunks))*rowChunkBytes + int64(len(s.slots))*8
		st.hits += int64(s.hits)
		st.misses += int64(s.misses)
		s.mu.Unlock()
	}
	return st
}

// rowEntry is an entry where it lies.
type rowEntry []byte

func (e rowEntry) units() uint32 { return binary.LittleEndian.Uint32(e) }
func (e rowEntry) tag() uint32   { return binary.LittleEndian.Uint32(e[4:]) }
func (e rowEntry) keyLen() int   { return int(binary.LittleEndian.Uint16(e[8:])) }
func (e rowEntry) flags() uint16 { return binary.LittleEndian.Uint16(e[10:]) }
func (e rowEntry) valueLen() int { return int(binary.LittleEndian.Uint32(e[12:])) }
func (e rowEntry) key() []byte   { return e[rowHeader : rowHeader+e.keyLen()] }
func (e rowEntry) value() []byte {
	from := rowHeader + e.keyLen()
	return e[from : from+e.valueLen()]
}
func (e rowEntry) set(f uint16)   { binary.LittleEndian.PutUint16(e[10:], e.flags()|f) }
func (e rowEntry) clear(f uint16) { binary.LittleEndian.PutUint16(e[10:], e.flags()&^f) }

// rowSize is the bytes that an entry takes.
func rowSize(key, value []byte) int {
	return (rowHeader + len(key) + len(value) + rowUnit - 1) &^ (rowUnit - 1)
}

// position names an entry by where it lies; 0 is none.
func position(chunk, off int) uint32 {
	return uint32(chunk*rowChunkUnits+off/rowUnit) + 1
}

// entry is the entry at pos, nil for 0.
func (s *rowShard) entry(pos uint32) rowEntry {
	if pos == 0 {
		return nil
	}
	pos--
	return rowEntry(s.chunks[pos/rowChunkUnits].bytes()[pos%rowChunkUnits*rowUnit:])
}

// find returns the position of key's entry, or 0.
func (s *rowShard) find(tag uint32, key []byte) uint32 {
	if len(s.slots) == 0 {
		return 0
	}
	mask := uint32(len(s.slots) - 1)
	for i := tag & mask; s.slots[i] != 0; i = (i + 1) & mask {
		if uint32(s.slots[i]>>32) != tag {
			continue
		}
		if pos := uint32(s.slots[i]); bytes.Equal(s.entry(pos).key(), key) {
			return pos
		}
	}
	return 0
}

// slotOf finds the slot of an entry by its position.
func (s *rowShard) slotOf(tag, pos uint32) (uint32, bool) {
	mask := uint32(len(s.slots) - 1)
	want := uint64(tag)<<32 | uint64(pos)
	for i := tag & mask; s.slots[i] != 0; i = (i + 1) & mask {
		if s.slots[i] == want {
			return i, true
		}
	}
	return 0, false
}

// gen is the generation of the chunk that pos is in.
func (s *rowShard) gen(pos uint32) uint32 {
	if pos == 0 {
		return 0
	}
	return s.chunks[(pos-1)/rowChunkUnits].gen
}

// put stores an entry and returns where.
func (s *rowShard) put(tag uint32, key, value []byte) uint32 {
	if pos := s.find(tag, key); pos != 0 {
		return s.replace(pos, tag, key, value)
	}
	return s.add(tag, key, value, 0)
}

// replace stores another value for the entry at pos, in its place if it fits.
func (s *rowShard) replace(pos, tag uint32, key, value []byte) uint32 {
	e := s.entry(pos)
	size := rowSize(key, value)
	if have := int(e.units()) * rowUnit; size <= have && size >= have-have/4 {
		binary.LittleEndian.PutUint32(e[12:], uint32(len(value)))
		e.clear(rowStale)
		copy(e.value(), value)
		return pos
	}
	flags := e.flags() & rowUsed
	s.remove(e, pos)
	gen := s.gen(pos)
	to := s.add(tag, key, value, flags)
	if s.gen(pos) == gen { // else its chunk was used again for the new one
		s.forward(e, to)
	}
	return to
}

// forward leaves word where a row was that moved, so that hints to it lead on until the chunk is
// used again: the new position and the generation of its chunk, in place of the value.
func (s *rowShard) forward(e rowEntry, to uint32) {
	at := rowHeader + e.keyLen()
	if int(e.units())*rowUnit < at+8 {
		return
	}
	binary.LittleEndian.PutUint32(e[at:], to)
	binary.LittleEndian.PutUint32(e[at+4:], s.gen(to))
	e.set(rowMoved)
}

// forwarded is where the row of a moved entry went.
func (e rowEntry) forwarded() (to, gen uint32) {
	at := rowHeader + e.keyLen()
	return binary.LittleEndian.Uint32(e[at:]), binary.LittleEndian.Uint32(e[at+4:])
}

func (s *rowShard) add(tag uint32, key, value []byte, flags uint16) uint32 {
	size := rowSize(key, value)
	chunk, off := s.room(size)
	e := rowEntry(s.chunks[chunk].bytes()[off : off+size])
	binary.LittleEndian.PutUint32(e, uint32(size/rowUnit))
	binary.LittleEndian.PutUint32(e[4:], tag)
	binary.LittleEndian.PutUint16(e[8:], uint16(len(key)))
	binary.LittleEndian.PutUint16(e[10:], flags)
	binary.LittleEndian.PutUint32(e[12:], uint32(len(value)))
	copy(e.key(), key)
	copy(e.value(), value)
	pos := position(chunk, off)
	s.insert(tag, pos)
	return pos
}

func (s *rowShard) insert(tag, pos uint32) {
	if (s.live+1)*4 > len(s.slots)*3 {
		s.grow()
	}
	mask := uint32(len(s.slots) - 1)
	i := tag & mask
	for s.slots[i] != 0 {
		i = (i + 1) & mask
	}
	s.slots[i] = uint64(tag)<<32 | uint64(pos)
	s.live++
}

func (s *rowShard) grow() {
	old := s.slots
	s.slots = make([]uint64, max(64, 2*len(old)))
	mask := uint32(len(s.slots) - 1)
	for _, slot := range old {
		if slot == 0 {
			continue
		}
		i := uint32(slot>>32) & mask
		for s.slots[i] != 0 {
			i = (i + 1) & mask
		}
		s.slots[i] = slot
	}
}

// remove takes an entry out. Its bytes stay until the chunk is used again.
func (s *rowShard) remove(e rowEntry, pos uint32) {
	i, ok := s.slotOf(e.tag(), pos)
	if !ok {
		return
	}
	e.set(rowDead)
	s.live--
	// Entries behind the hole that may not stand behind it move up.
	mask := uint32(len(s.slots) - 1)
	for j := (i + 1) & mask; s.slots[j] != 0; j = (j + 1) & mask {
		home := uint32(s.slots[j]>>32) & mask
		if (j-home)&mask >= (j-i)&mask {
			s.slots[i] = s.slots[j]
			i = j
		}
	}
	s.slots[i] = 0
}

// each calls fn with the live entries of a chunk.
func (s *rowShard) each(chunk int, fn func(e rowEntry, pos uint32)) {
	for off := 0; off < s.end(chunk); {
		e := rowEntry(s.chunks[chunk].bytes()[off:])
		size := int(e.units()) * rowUnit
		if e = e[:size]; e.flags()&rowDead == 0 {
			fn(e, position(chunk, off))
		}
		off += size
	}
}

// end is where the entries of a chunk end.
func (s *rowShard) end(chunk int) int {
	if chunk == s.head {
		return s.fill
	}
	return int(s.chunks[chunk].end)
}

// room returns where size bytes are free.
func (s *rowShard) room(size int) (chunk, off int) {
	for len(s.chunks) == 0 || s.fill+size > rowChunkBytes {
		s.turn()
	}
	off = s.fill
	s.fill += size
	return s.head, off
}

// turn goes on to the next chunk, a new one if there may be more.
func (s *rowShard) turn() {
	if len(s.chunks) > 0 {
		last := &s.chunks[s.head]
		last.end = int32(s.fill)
		if last.gen == 0 {
			last.slab.filled()
		}
		s.head++
	}
	if len(s.chunks) < s.max {
		s.head = len(s.chunks)
		mem, slab := s.memory.chunk()
		s.chunks = append(s.chunks, rowChunk{mem: &mem[0], slab: slab})
		s.fill = 0
		return
	}
	s.head %= len(s.chunks)
	chunk := &s.chunks[s.head]
	chunk.gen++
	s.fill = int(chunk.end) // what each sees
	to := 0
	s.each(s.head, func(e rowEntry, pos uint32) {
		if e.flags()&(rowUsed|rowStale) != rowUsed || to+len(e) > rowChunkBytes/2 {
			s.remove(e, pos)
			return
		}
		i, _ := s.slotOf(e.tag(), pos)
		s.slots[i] = uint64(e.tag())<<32 | uint64(position(s.head, to))
		e.clear(rowUsed)
		to += copy(chunk.bytes()[to:], e)
	})
	s.fill = to
}
