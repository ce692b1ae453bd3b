package restore

import (
	"hash/crc64"
)

// expectation is what a manifest says of the dump.
type expectation struct{}

// sum is the checksum and the count of the documents of a namespace.
type sum struct {
	crc  uint64
	docs int64
	on   bool
}

var ecma = crc64.MakeTable(crc64.ECMA)

func (s *sum) add(block []byte) {
	if !s.on {
		return
	}
	s.crc = crc64.Update(s.crc, ecma, block)
	for len(block) > 0 {
		block = block[docSize(block):]
		s.docs++
	}
}

func (s *dataSink) finish(bool) error { return nil }

func (r *Restore) checkMetadataSum(*task, []byte) error { return nil }

func (r *Restore) verify() error { return nil }
