package archive

import (
	"encoding/binary"
	"hash/crc64"
	"sync"
)

// The checksum of a namespace is CRC-64 with the polynomial of ECMA-182. hash/crc64 has it,
// but looks eight tables up one after the other, each waiting for the one before: that was
// half of the processor's work for an archive. Here the data are cut into lanes whose
// sums are computed side by side, and joined by what a lane's length of zeros
// does to a sum. Where the processor multiplies without carries, foldCRC is many times faster
// still, and the lanes are for the others.

const (
	crcLanes = 2
	crcLane  = 2048 // bytes; a multiple of 8
	crcBlock = crcLanes * crcLane
)

var crcTable = crc64.MakeTable(crc64.ECMA)

// crcTables are what eight bytes at once, and a lane of zeros, do to a sum: linear, so
// that a table for each byte of it is enough.
type crcTables struct {
	eight [8][256]uint64
	lane  [8][256]uint64
}

var crcOnce = sync.OnceValue(func() *crcTables {
	t := &crcTables{}
	t.eight[0] = [256]uint64(*crcTable)
	for i := range 256 {
		for k := 1; k < 8; k++ {
			before := t.eight[k-1][i]
			t.eight[k][i] = crcTable[byte(before)] ^ before>>8
		}
	}
	for k := range 8 {
		for i := range 256 {
			sum := uint64(i) << (8 * k)
			for range crcLane {
				sum = crcTable[byte(sum)] ^ sum>>8
			}
			t.lane[k][i] = sum
		}
	}
	return t
})

// look is what a table does to eight bytes. The table's first row is the last byte's.
func look(t *[8][256]uint64, v uint64) uint64 {
	return t[7][byte(v)] ^ t[6][byte(v>>8)] ^ t[5][byte(v>>16)] ^ t[4][byte(v>>24)] ^
		t[3][byte(v>>32)] ^ t[2][byte(v>>40)] ^ t[1][byte(v>>48)] ^ t[0][v>>56]
}

// zeros is what a lane of zeros makes of a sum.
func (t *crcTables) zeros(v uint64) uint64 {
	l := &t.lane
	return l[0][byte(v)] ^ l[1][byte(v>>8)] ^ l[2][byte(v>>16)] ^ l[3][byte(v>>24)] ^
		l[4][byte(v>>32)] ^ l[5][byte(v>>40)] ^ l[6][byte(v>>48)] ^ l[7][v>>56]
}

// updateCRC adds p to a sum, as crc64.Update does.
func updateCRC(crc uint64, p []byte) uint64 {
	if len(p) >= 128 {
		crc, p = foldCRC(crc, p)
	}
	return lanesCRC(crc, p)
}

// lanesCRC is updateCRC for every processor.
func lanesCRC(crc uint64, p []byte) uint64 {
	if len(p) < crcBlock {
		return crc64.Update(crc, crcTable, p)
	}
	t := crcOnce()
	e := &t.eight
	crc = ^crc
	for len(p) >= crcBlock {
		a, b := crc, uint64(0)
		for p0, p1 := p[:crcLane], p[crcLane:crcBlock]; len(p0) >= 8 && len(p1) >= 8; p0, p1 = p0[8:], p1[8:] {
			a = look(e, a^binary.LittleEndian.Uint64(p0))
			b = look(e, b^binary.LittleEndian.Uint64(p1))
		}
		crc = t.zeros(a) ^ b
		p = p[crcBlock:]
	}
	return crc64.Update(^crc, crcTable, p)
}
