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
	for _, n := range []int{0, 1, 7, 8, 64, 127, 128, 129, 191, 192, 200, 1000, crcLane, crcBlock - 1, crcBlock, crcBlock + 1, 2 * crcBlock, 3*crcBlock + 13, len(data)} {
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

// TestCRCLanes is the same for the code that processors without the multiplication run.
func TestCRCLanes(t *testing.T) {
	data := make([]byte, 3*crcBlock+100)
	r := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // the same data every time
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	for n := 0; n < len(data); n += 97 {
		if got, want := lanesCRC(uint64(n), data[:n]), crc64.Update(uint64(n), crcTable, data[:n]); got != want {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
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
