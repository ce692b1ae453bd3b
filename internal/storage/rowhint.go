package storage

import (
	"bytes"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

// UniqueKey is an index with an entry for every record of a store, which holds the record's id
// (ByID), and whose key can be told from the record: `_id`.
type UniqueKey struct {
	Index IndexStore
	// Of appends the KeyString of a record to dst, nothing if it has none.
	Of func(dst, value []byte) []byte
}

// rowHints tells where in the row cache the record lies that a unique key has, so that a read by
// `_id` looks into memory at two places instead of six: most of a hit is waiting for memory.
//
// A hint is a guess. Nothing keeps it true: whoever follows one looks whether what lies there is
// a current entry of the right record store, and whether its document has the key that was asked
// for. That is enough, because a unique key has one record, and the record says which. So hints
// need no lock and no care when something changes, and may be lost at any time.
//
// A hint is two words, hash^place and place, of which each is read and written for itself: of two
// halves that do not belong together the hash comes out wrong. A table is never changed in size;
// a larger one takes its place.
type rowHints struct {
	max   int // words of the largest table; 0: none
	table atomic.Pointer[[]atomic.Uint64]

	mu    sync.Mutex // of those who note
	turns uint32     // which of a full line is written over
	count int        // hints in the table
	lost  int        // hints written over since it was made
}

const (
	hintLine     = 8       // words of a cache line: four hints
	minHintWords = 1 << 10 // of the first table
	hintGrowth   = 2
	hintLost     = 128 // a table grows when one hint for so many words was written over,
	hintLoad     = 4   // or when there is one for so many: half of the room is taken
	hintShare    = 32  // of the cache's bytes one is for hints

	largeHintTable = 4 << 20 // bytes, from which on large pages are asked for
)

// A place is: shard 8 bits | generation of the chunk 24 bits | position 32 bits. The position is
// never 0.
const hintGenBits = 24

// hintTable is the words of the largest table in that many bytes.
func hintTable(size int64) int {
	if size < minHintWords*8 {
		return 0
	}
	return 1 << (bits.Len64(uint64(size/8)) - 1)
}

// hintLineOf is where the hints of a hash lie. The bits are others than those which choose the
// shard and the slot.
func hintLineOf(words []atomic.Uint64, h uint64) (line []atomic.Uint64, at int) {
	at = int(h>>16) & (len(words) - 1) &^ (hintLine - 1)
	return words[at : at+hintLine : at+hintLine], at
}

// hintBeside is the line that takes what a full one has no room for: its neighbour in memory, which
// processors bring in with it. With four hints a line and half as many hints as there is room for,
// one in fifty would find its line full, and each of them again and again: those of a full line
// write each other over.
func hintBeside(words []atomic.Uint64, at int) []atomic.Uint64 {
	at ^= hintLine
	return words[at : at+hintLine : at+hintLine]
}

// hintFull reports whether a line is. It is filled from the front and never emptied.
func hintFull(line []atomic.Uint64) bool { return line[hintLine-1].Load() != 0 }

// hintIn returns what a table says of the hash, 0 if nothing.
func hintIn(table *[]atomic.Uint64, h uint64) uint64 {
	if table == nil {
		return 0
	}
	line, at := hintLineOf(*table, h)
	p := hintOf(line, h)
	if p == 0 && hintFull(line) {
		p = hintOf(hintBeside(*table, at), h)
	}
	return p
}

func hintOf(line []atomic.Uint64, h uint64) uint64 {
	for ; len(line) > 1; line = line[2:] {
		if p := line[1].Load(); line[0].Load()^p == h && p != 0 {
			return p
		}
	}
	return 0
}

// place returns what is noted for the hash, 0 if nothing is.
func (t *rowHints) place(h uint64) uint64 {
	return hintIn(t.table.Load(), h)
}

// note writes a hint down, or passes it over while others are written.
func (t *rowHints) note(h, place uint64) {
	if t.max == 0 || !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	t.noteLocked(h, place)
}

// noteAll writes hints down, once for many.
func (t *rowHints) noteAll(list []rowHint) {
	if t.max == 0 || len(list) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range list {
		t.noteLocked(n.hash, n.place)
	}
}

// rowHint is one of them.
type rowHint struct{ hash, place uint64 }

func (t *rowHints) noteLocked(h, place uint64) {
	words := t.words()
	if len(words) < t.max && (words == nil || t.lost > len(words)/hintLost || t.count > len(words)/hintLoad) {
		words = t.grow(words)
	}
	t.put(words, h, place)
}

func (t *rowHints) put(words []atomic.Uint64, h, place uint64) {
	line, n := hintLineOf(words, h)
	at := hintSlot(line, h)
	if at < 0 {
		beside := hintBeside(words, n)
		if at = hintSlot(beside, h); at >= 0 {
			line = beside
		}
	}
	if at < 0 {
		at = int(t.turns%(hintLine/2)) * 2
		t.turns++
		t.lost++
	} else if line[at+1].Load() == 0 {
		t.count++
	}
	line[at].Store(h ^ place)
	line[at+1].Store(place)
}

// hintSlot is where the hint of a hash is or can be in a line, -1 if nowhere.
func hintSlot(line []atomic.Uint64, h uint64) int {
	for i := 0; i < hintLine; i += 2 {
		if p := line[i+1].Load(); p == 0 || line[i].Load()^p == h {
			return i
		}
	}
	return -1
}

// grow makes a larger table. Where there may be none, what is asked for takes the place of what is
// not.
func (t *rowHints) grow(words []atomic.Uint64) []atomic.Uint64 {
	size := min(max(hintGrowth*len(words), minHintWords), t.max)
	larger := make([]atomic.Uint64, size)
	mem := unsafe.Slice((*byte)(unsafe.Pointer(&larger[0])), size*8)
	writeFirst(mem)
	t.lost, t.count = 0, 0
	for i := 0; i < len(words); i += 2 {
		if p := words[i+1].Load(); p != 0 {
			t.put(larger, words[i].Load()^p, p)
		}
	}
	if size*8 >= largeHintTable { // all of it has been touched: see rowMemory
		wantLargePages(mem)
	}
	t.table.Store(&larger)
	return larger
}

func (t *rowHints) words() []atomic.Uint64 {
	if p := t.table.Load(); p != nil {
		return *p
	}
	return nil
}

// bytes is the memory of the table.
func (t *rowHints) bytes() int64 { return int64(len(t.words())) * 8 }

// hintHops is how many moves of a row a hint is followed through.
const hintHops = 4

// recall returns the record of table that a hint of h leads to, if is says that it is the one,
// appended to dst[:0]; without copies its id only.
func (c *rowCache) recall(h uint64, table Table, is func(value []byte) bool, dst []byte, copies bool) (id RecordID, v []byte, ok bool) {
	place := c.hints.place(h)
	if place == 0 {
		return 0, nil, false
	}
	s := &c.shards[place>>56]
	s.mu.Lock()
	pos, gen, hops := uint32(place), uint32(place>>32)&(1<<hintGenBits-1), 0
	e := s.at(pos, gen)
	for ; e != nil && e.flags()&rowMoved != 0 && hops < hintHops; hops++ {
		pos, gen = e.forwarded()
		e = s.at(pos, gen)
	}
	var prefix [prefixLen]byte
	switch {
	case e == nil, e.keyLen() != prefixLen+recordIDLen, e.flags()&(rowDead|rowStale) != 0:
	case !bytes.HasPrefix(e.key(), table.AppendPrefix(prefix[:0])) || !is(e.value()):
	default:
		ok = true
		if e.flags()&rowUsed == 0 { // else the line is left as it is, and need not be written back
			e.set(rowUsed)
		}
		s.hits++
		s.typical = int32(min(rowHeader+e.keyLen()+e.valueLen(), maxTypical))
		if copies {
			v = append(dst[:0], e.value()...)
		}
		id = DecodeRecordID(e.key()[prefixLen:])
	}
	s.mu.Unlock()
	if ok && hops > 0 {
		c.note(h, uint32(place>>56), gen, pos)
	}
	return id, v, ok
}

// chunkAt is the memory from pos on to the end of its chunk, if that is still in that generation,
// else nil.
func (s *rowShard) chunkAt(pos, gen uint32) []byte {
	n := int((pos - 1) / rowChunkUnits)
	if n >= len(s.chunks) || (s.chunks[n].gen^gen)&(1<<hintGenBits-1) != 0 {
		return nil
	}
	return s.chunks[n].bytes()[(pos-1)%rowChunkUnits*rowUnit:]
}

// at is the entry at pos if its chunk is still in that generation, else nil. It may be a dead one.
func (s *rowShard) at(pos, gen uint32) rowEntry {
	b := s.chunkAt(pos, gen)
	if b == nil {
		return nil
	}
	prefetchStart(b, int(s.typical))
	if e := rowEntry(b); len(b) >= rowHeader+prefixLen+recordIDLen && rowHeader+e.keyLen()+e.valueLen() <= len(b) {
		return e
	}
	return nil
}

// note makes the hint from the hash of a key to the entry that lay at pos of a shard in generation
// gen of its chunk. If the chunk was used again meanwhile, the hint leads nowhere.
func (c *rowCache) note(h uint64, shard, gen, pos uint32) { c.hints.note(h, place(shard, gen, pos)) }

func place(shard, gen, pos uint32) uint64 {
	return uint64(shard)<<56 | uint64(gen&(1<<hintGenBits-1))<<32 | uint64(pos)
}

// noteRecord makes the hint to the record of that engine key, if it is kept.
func (c *rowCache) noteRecord(h uint64, key []byte) {
	hk := c.hash(key)
	s := c.shard(hk)
	s.mu.Lock()
	pos := s.find(uint32(hk), key)
	gen := s.gen(pos)
	s.mu.Unlock()
	if pos != 0 {
		c.note(h, c.shardNumber(hk), gen, pos)
	}
}

// hinter makes hints to records that are put, all at once when they are: two readers that
// bring in many would pass over each other's if each hint were made for itself.
type hinter struct {
	key  *UniqueKey
	buf  []byte
	list []rowHint
}

// put takes down a record that was put at pos. A nil hinter makes no hints.
func (h *hinter) put(c *rowCache, value []byte, shard, gen, pos uint32) {
	if h == nil || pos == 0 || c.hints.max == 0 {
		return
	}
	h.buf = h.key.Of(h.key.Index.AppendPrefix(h.buf[:0]), value)
	if len(h.buf) > prefixLen {
		h.list = append(h.list, rowHint{c.hash(h.buf), place(shard, gen, pos)})
	}
}

// end makes the hints.
func (h *hinter) end(c *rowCache) {
	if h != nil {
		c.hints.noteAll(h.list)
	}
}

// Expected is a Lookup that will come. Who knows of one early says so, and goes on with other things:
// then what it looks at has come from memory when it looks, which is most of its time. Nothing depends
// on it.
type Expected struct {
	rows *rowCache
	hash uint64
}

// expectBytes is how much of a record is asked for when it is expected. Processors have room for
// so many requests at once: with more, the one that asks would wait. The rest is asked for when
// the record is read.
const expectBytes = 512

// Expect asks memory for what leads to the record whose key k has that KeyString.
func Expect(e *Engine, k *UniqueKey, keyString []byte) Expected {
	if e.rows == nil {
		return Expected{}
	}
	var buf [128]byte
	x := Expected{e.rows, e.rows.hash(k.Index.AppendKey(buf[:0], keyString))}
	if t := x.rows.hints.table.Load(); t != nil {
		line, _ := hintLineOf(*t, x.hash)
		prefetchLine(unsafe.Pointer(&line[0]))
	}
	return x
}

// Record asks memory for the record, if it is known where it lies.
func (x Expected) Record() {
	if x.rows == nil {
		return
	}
	place := x.rows.hints.place(x.hash)
	if place == 0 {
		return
	}
	s := &x.rows.shards[place>>56]
	s.mu.Lock()
	if b := s.chunkAt(uint32(place), uint32(place>>32)); b != nil {
		prefetchStart(b, min(int(s.typical), expectBytes))
	}
	s.mu.Unlock()
}

// Lookup returns the record of s whose key k has that KeyString, and appends it to dst[:0];
// ErrNotFound if there is none. is reports whether a record has exactly that key, by looking at
// it; where it cannot tell cheaply it may say no.
func (s RecordStore) Lookup(r Reader, k *UniqueKey, keyString []byte, is func(value []byte) bool, dst []byte) (RecordID, []byte, error) {
	return s.lookup(r, k, keyString, is, dst, true)
}

// LookupID is Lookup for who wants to know the record's id only.
func (s RecordStore) LookupID(r Reader, k *UniqueKey, keyString []byte, is func(value []byte) bool) (RecordID, error) {
	id, _, err := s.lookup(r, k, keyString, is, nil, false)
	return id, err
}

func (s RecordStore) lookup(r Reader, k *UniqueKey, keyString []byte, is func(value []byte) bool, dst []byte, copies bool) (RecordID, []byte, error) {
	e, _ := latestOf(r)
	var h uint64
	if e != nil {
		var buf [128]byte
		h = e.rows.hash(k.Index.AppendKey(buf[:0], keyString))
		if id, v, ok := e.rows.recall(h, s.Table, is, dst, copies); ok {
			return id, v, nil
		}
	}
	// Alone: hints are made to the record's neighbours, so that their entries are not asked for.
	id, _, err := k.Index.find(r, keyString, make([]byte, 0, 2*recordIDLen), keep{ahead: aheadNothing})
	if err != nil {
		return 0, nil, err
	}
	var v []byte
	if copies {
		if v, err = s.GetKeyed(r, k, id, dst); err != nil {
			return 0, nil, err
		}
	}
	if e != nil {
		var buf [prefixLen + recordIDLen]byte
		e.rows.noteRecord(h, s.AppendRecordKey(buf[:0], id))
	}
	return id, v, nil
}

// GetKeyed is Get of a record whose key is likely to be looked up later.
func (s RecordStore) GetKeyed(r Reader, k *UniqueKey, id RecordID, dst []byte) ([]byte, error) {
	var buf [prefixLen + recordIDLen]byte
	return getPoint(r, s.AppendRecordKey(buf[:0], id), dst, keep{key: k, ahead: aheadRecords})
}
