package storage

import (
	"encoding/binary"
	"testing"
)

// TestRowSlabs: a slab says that it is full when every chunk of it is, once, however often the
// ring of chunks goes round; and what is put in chunks of slabs is found again.
func TestRowSlabs(t *testing.T) {
	const size = minSlabCache
	c := newRowCache(size)
	slabs := map[*rowSlab]int{} // chunks of each
	row := make([]byte, 1000)
	put := func(from, to int) {
		for i := from; i < to; i++ {
			key := binary.BigEndian.AppendUint64(nil, uint64(i))
			binary.BigEndian.PutUint64(row, uint64(i))
			_, _, f := c.get(key, nil)
			c.fill(f, key, row, nil)
			if v, ok, _ := c.get(key, nil); !ok || string(v) != string(row) {
				t.Fatalf("row %d is not what was put", i)
			}
		}
	}
	look := func() (full int) {
		clear(slabs)
		chunks := map[*rowSlab]int{}
		for i := range c.shards {
			s := &c.shards[i]
			for n := range s.chunks {
				chunk := &s.chunks[n]
				if chunk.slab == nil {
					t.Fatal("a chunk of no slab in a cache that has slabs")
				}
				chunks[chunk.slab]++
				if n != s.head || chunk.gen > 0 {
					slabs[chunk.slab]++
				}
			}
		}
		for slab, n := range chunks {
			if want := int32(rowSlabBytes/rowChunkBytes - slabs[slab]); slab.empty.Load() != want {
				t.Fatalf("%d chunks of a slab of which %d are given out are said not to be full, want %d", slab.empty.Load(), n, want)
			}
			if slab.empty.Load() == 0 {
				full++
			}
		}
		return full
	}
	put(0, 1000)
	if full := look(); full != 0 {
		t.Errorf("%d slabs are full after 1 MB", full)
	}
	put(1000, size/1000/2)
	look()
	put(size/1000/2, 4*size/1000) // the ring goes round
	if full := look(); full == 0 {
		t.Error("no slab is full, but the cache is")
	}
}
