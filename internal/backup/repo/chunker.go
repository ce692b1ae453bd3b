package repo

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// ChunkerParams says where streams are cut. They are in the format marker and never change in a
// repository, since chunks that are cut elsewhere are not found again.
type ChunkerParams struct {
	Algorithm string `json:"algorithm"` // "gear"
	Average   int    `json:"average"`   // bytes, a power of two from 2 KB to 64 KB
	Min       int    `json:"min"`
	Max       int    `json:"max"`
}

// DefaultAverage is the average size of a chunk. Of 1 KB documents changed at random, a chunk
// of 8 KB is rewritten for every change; larger chunks cost more there and save index.
const DefaultAverage = 8 << 10

func chunkerParams(average int) ChunkerParams {
	return ChunkerParams{Algorithm: "gear", Average: average, Min: average / 4, Max: 8 * average}
}

func (p ChunkerParams) check() error {
	if p.Algorithm != "gear" {
		return fmt.Errorf("unknown chunker %q", p.Algorithm)
	}
	if p.Average < 2<<10 || p.Average > 64<<10 || p.Average&(p.Average-1) != 0 {
		return fmt.Errorf("average chunk size %d: it is a power of two from 2048 to 65536", p.Average)
	}
	if p.Min < 64 || p.Min >= p.Average || p.Max <= p.Average || p.Max > 16*p.Average {
		return fmt.Errorf("chunk sizes from %d to %d do not fit an average of %d", p.Min, p.Max, p.Average)
	}
	return nil
}

// cutter finds the ends of chunks with a gear hash: h = h<<1 + table[byte], so that the top
// bits depend on the last 64 bytes. A chunk ends where the bits under a mask are zero; the mask
// has two bits more in front of 13/16 of the average size and two less behind it, which keeps
// sizes near the average and makes their mean just that. With encryption the table is secret: where it cuts cannot be predicted.
type cutter struct {
	gear          [256]uint64
	params        ChunkerParams
	strict, loose uint64
}

func newCutter(p ChunkerParams, seed []byte) *cutter {
	c := &cutter{params: p}
	for i := range c.gear {
		h := hmac.New(sha256.New, seed)
		h.Write([]byte("cairn gear "))
		h.Write([]byte{byte(i)})
		c.gear[i] = binary.BigEndian.Uint64(h.Sum(nil))
	}
	n := bits.Len(uint(p.Average)) - 1
	c.strict = topMask(n + 2)
	c.loose = topMask(n - 2)
	return c
}

func topMask(n int) uint64 { return ^uint64(0) << (64 - n) }

// cut returns the length of the first chunk of b. b is max bytes or more, or the stream's end.
func (c *cutter) cut(b []byte) int {
	if len(b) <= c.params.Min {
		return len(b)
	}
	b = b[:min(len(b), c.params.Max)]
	mid := min(len(b), c.params.Average/16*13)
	var h uint64
	i := c.params.Min
	for _, x := range b[i:mid] {
		h = h<<1 + c.gear[x]
		i++
		if h&c.strict == 0 {
			return i
		}
	}
	for _, x := range b[mid:] {
		h = h<<1 + c.gear[x]
		i++
		if h&c.loose == 0 {
			return i
		}
	}
	return len(b)
}
