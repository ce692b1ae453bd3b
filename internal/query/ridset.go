package query

import "github.com/cairndb/cairn/internal/storage"

// ridSet is a set of RecordIds, a bit each: they are dense.
type ridSet map[storage.RecordID]*[64]uint64

// add puts id in and reports whether it is new.
func (s ridSet) add(id storage.RecordID) bool {
	block := s[id>>12]
	if block == nil {
		block = &[64]uint64{}
		s[id>>12] = block
	}
	word, bit := &block[id>>6&63], uint64(1)<<(id&63)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}
