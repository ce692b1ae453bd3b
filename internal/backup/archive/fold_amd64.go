package archive

import (
	"encoding/binary"
	"hash/crc64"
	"sync"

	"golang.org/x/sys/cpu"
)

// foldBlocks takes blocks of 64 bytes, at least one, behind a sum in the first half of state, and
// leaves in it 16 bytes that have the same sum as all of them.
//
//go:noescape
func foldBlocks(state *[2]uint64, p *byte, blocks int, far, near *[2]uint64)

// foldKeys move 16 bytes over 64 and over 16 others: what stands n bits further up is worth x^n more,
// reduced by the polynomial. The halves differ by 64 bits; a product of two reflected numbers comes
// out one bit lower than it is worth.
var foldKeys = sync.OnceValue(func() (k struct{ far, near [2]uint64 }) {
	power := func(n int) uint64 {
		v := uint64(1) << 63 // x^0, reflected
		for range n {
			if out := v & 1; out != 0 {
				v = v>>1 ^ crc64.ECMA
			} else {
				v >>= 1
			}
		}
		return v
	}
	k.far = [2]uint64{power(512 + 63), power(512 - 1)}
	k.near = [2]uint64{power(128 + 63), power(128 - 1)}
	return k
})

// foldCRC adds the whole blocks of 64 bytes of p to a sum, as crc64.Update does, and returns what is
// left of p.
func foldCRC(crc uint64, p []byte) (uint64, []byte) {
	n := len(p) / 64
	if n == 0 || !cpu.X86.HasPCLMULQDQ {
		return crc, p
	}
	k := foldKeys()
	state := [2]uint64{^crc}
	foldBlocks(&state, &p[0], n, &k.far, &k.near)
	var rest [16]byte
	binary.LittleEndian.PutUint64(rest[:], state[0])
	binary.LittleEndian.PutUint64(rest[8:], state[1])
	return crc64.Update(^uint64(0), crcTable, rest[:]), p[n*64:]
}
