// Package docsum is a hash of a collection that does not depend on the order of its documents.
//
// It owns the definition: the sum of the documents' SHA-256, as four little-endian 64-bit lanes,
// each modulo 2^64, and their number. Two collections have equal sums only if they hold
// the same documents byte for byte, each as often; what order they are read in is all the same, so
// that a restored collection compares with its source. It detects accidents, not forgery.
package docsum

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Sum is the hash so far. The zero value is the hash of nothing.
type Sum struct {
	// Documents is their number, Bytes their size.
	Documents, Bytes int64
	lanes            [4]uint64
}

// Add takes one document.
func (s *Sum) Add(doc []byte) {
	h := sha256.Sum256(doc)
	for i := range s.lanes {
		s.lanes[i] += binary.LittleEndian.Uint64(h[8*i:])
	}
	s.Documents++
	s.Bytes += int64(len(doc))
}

// Merge takes the documents of another sum.
func (s *Sum) Merge(o Sum) {
	for i := range s.lanes {
		s.lanes[i] += o.lanes[i]
	}
	s.Documents += o.Documents
	s.Bytes += o.Bytes
}

// Equal reports whether both are of the same documents.
func (s *Sum) Equal(o Sum) bool { return *s == o }

// Hash is the hash in hexadecimal, without the number of documents.
func (s *Sum) Hash() string {
	var b [32]byte
	for i, l := range s.lanes {
		binary.LittleEndian.PutUint64(b[8*i:], l)
	}
	return hex.EncodeToString(b[:])
}

// Parse reads back what Hash wrote.
func Parse(hash string, documents, bytes int64) (Sum, error) {
	b, err := hex.DecodeString(hash)
	if err != nil || len(b) != 32 {
		return Sum{}, fmt.Errorf("%q is not a collection's hash", hash)
	}
	s := Sum{Documents: documents, Bytes: bytes}
	for i := range s.lanes {
		s.lanes[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return s, nil
}
