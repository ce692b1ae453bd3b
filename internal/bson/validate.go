package bson

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// MaxDepth is how deeply documents and arrays may nest in a stored document.
const MaxDepth = 100

// MaxDocSize is the largest document a user may store: 16 MiB.
const MaxDocSize = 16 << 20

// ErrTooDeep is returned (wrapped) by Validate for documents nested too deeply.
var ErrTooDeep = fmt.Errorf("%w: nested too deeply", ErrCorrupt)

// Validate checks that b is exactly one well-formed document, nested at most
// maxDepth levels. Its error wraps ErrCorrupt (or ErrTooDeep) and names the offset.
// Like MongoDB it does not check that strings are valid UTF-8.
func Validate(b []byte, maxDepth int) error {
	n, err := validateDoc(b, 0, 1, maxDepth)
	if err == nil && n != len(b) {
		return fmt.Errorf("%w: %d bytes behind the document", ErrCorrupt, len(b)-n)
	}
	return err
}

func validateDoc(b []byte, off, depth, maxDepth int) (int, error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("%w (more than %d levels) at offset %d", ErrTooDeep, maxDepth, off)
	}
	if len(b) < 5 {
		return 0, fmt.Errorf("%w: %d bytes are too few at offset %d", ErrCorrupt, len(b), off)
	}
	size := int(int32(binary.LittleEndian.Uint32(b)))
	if size < 5 || size > len(b) {
		return 0, fmt.Errorf("%w: length %d of %d bytes at offset %d", ErrCorrupt, size, len(b), off)
	}
	doc := b[:size]
	if doc[size-1] != 0 {
		return 0, fmt.Errorf("%w: no terminator at offset %d", ErrCorrupt, off+size-1)
	}
	pos := 4
	for pos < size-1 {
		t := Type(doc[pos])
		k := bytes.IndexByte(doc[pos+1:size-1], 0)
		if t == 0 || k < 0 {
			return 0, fmt.Errorf("%w: bad element at offset %d", ErrCorrupt, off+pos)
		}
		start := pos + 1 + k + 1
		data := doc[start : size-1]
		n := valueLen(t, data)
		if n < 0 {
			return 0, fmt.Errorf("%w: bad value of type %d at offset %d", ErrCorrupt, byte(t), off+start)
		}
		if err := validateValue(t, data[:n], off+start, depth, maxDepth); err != nil {
			return 0, err
		}
		pos = start + n
	}
	return size, nil
}

func validateValue(t Type, data []byte, off, depth, maxDepth int) error {
	switch t {
	case TypeDocument, TypeArray:
		n, err := validateDoc(data, off, depth+1, maxDepth)
		if err == nil && n != len(data) {
			err = fmt.Errorf("%w: inner length at offset %d", ErrCorrupt, off)
		}
		return err
	case TypeBool:
		if data[0] > 1 {
			return fmt.Errorf("%w: bool is %d at offset %d", ErrCorrupt, data[0], off)
		}
	case TypeBinary:
		if data[4] == BinaryOld {
			p := data[5:]
			if len(p) < 4 || int(int32(binary.LittleEndian.Uint32(p))) != len(p)-4 {
				return fmt.Errorf("%w: inner length of old binary at offset %d", ErrCorrupt, off)
			}
		}
	case TypeDBPointer:
		if data[len(data)-13] != 0 {
			return fmt.Errorf("%w: unterminated DBPointer at offset %d", ErrCorrupt, off)
		}
	case TypeCodeWScope:
		if len(data) < 14 {
			return fmt.Errorf("%w: short code with scope at offset %d", ErrCorrupt, off)
		}
		l := int(int32(binary.LittleEndian.Uint32(data[4:])))
		if l < 1 || 8+l > len(data)-5 || data[8+l-1] != 0 {
			return fmt.Errorf("%w: bad code with scope at offset %d", ErrCorrupt, off)
		}
		n, err := validateDoc(data[8+l:], off+8+l, depth+1, maxDepth)
		if err == nil && 8+l+n != len(data) {
			err = fmt.Errorf("%w: inner length at offset %d", ErrCorrupt, off)
		}
		return err
	}
	return nil
}
