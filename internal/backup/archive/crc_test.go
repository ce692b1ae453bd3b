package archive

import (
	"hash/crc64"
	"math/rand/v2"
	"testing"
)

// TestCRC compares the checksum with the standard library's, in pieces of every kind of
// length.
func TestCRC(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same data every time
	data := make([]byte, 5*crcBlock+77)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	for _, n := range []int{0, 1, 7, 8, crcLane, crcBlock - 1, crcBlock, crcBlock + 1, 2 * crcBlock, 3*crcBlock + 13, len(data)} {
		var got, want uint64
		for at := 0; at < len(data); at += max(1, n) {
			piece := data[at:min(len(data), at+max(1, n))]
			got, want = updateCRC(got, piece), crc64.Update(want, crcTable, piece)
			if got != want {
				t.Fatalf("pieces of %d bytes, at %d: %x, want %x", n, at, got, want)
			}
		}
		if n > 0 {
			continue
		}
		if want := crc64.Checksum(data, crcTable); got != want {
			t.Fatalf("all: %x, want %x", got, want)
		}
	}
}

func BenchmarkCRC(b *testing.B) {
	data := make([]byte, 512<<10)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		updateCRC(0, data)
	}
}

func BenchmarkCRCLibrary(b *testing.B) {
	data := make([]byte, 512<<10)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		crc64.Update(0, crcTable, data)
	}
}
