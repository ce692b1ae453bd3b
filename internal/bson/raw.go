package bson

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"strings"
)

// Raw is the bytes of one BSON document (or array): length, elements, terminator.
type Raw []byte

// Array is a Raw whose keys are "0", "1", …; builders encode it with the type array.
type Array []byte

// Empty is the document without elements.
var Empty = Raw{5, 0, 0, 0, 0}

// ErrCorrupt marks bytes that are not well-formed BSON.
var ErrCorrupt = errors.New("bson: malformed document")

// Iter walks the elements of a document. The zero Iter is empty.
//
//	it := doc.Iter()
//	for it.Next() { use(it.Key(), it.Value()) }
//	if it.Err() != nil { … }   // only needed for bytes that were not validated
type Iter struct {
	buf  []byte
	pos  int
	key  []byte
	val  Value
	fail bool
}

// Iter returns an iterator before the first element.
func (r Raw) Iter() Iter {
	if len(r) < 5 {
		return Iter{fail: len(r) != 0}
	}
	return Iter{buf: r, pos: 4}
}

// Next moves to the next element and reports whether there is one.
func (it *Iter) Next() bool {
	if it.pos >= len(it.buf) {
		return false
	}
	t := Type(it.buf[it.pos])
	if t == 0 {
		it.pos = len(it.buf)
		return false
	}
	rest := it.buf[it.pos+1:]
	k := keyLen(rest)
	if k < 0 {
		return it.bad()
	}
	it.key = rest[:k]
	data := rest[k+1:]
	n := valueLen(t, data)
	if n < 0 || n >= len(data) { // at least the terminator follows
		return it.bad()
	}
	it.val = Value{t, data[:n:n]}
	it.pos += 1 + k + 1 + n
	return true
}

// keyLen returns the length of the key at the start of b, -1 without an end. Keys are
// short: a loop beats bytes.IndexByte, whose wide loads also reach into cache lines that
// a scan has no other reason to fetch.
func keyLen(b []byte) int {
	for i, c := range b {
		if c == 0 {
			return i
		}
	}
	return -1
}

func (it *Iter) bad() bool {
	it.fail, it.pos = true, len(it.buf)
	return false
}

// Key returns the current key; it aliases the document.
func (it *Iter) Key() string { return unsafeString(it.key) }

// Value returns the current value.
func (it *Iter) Value() Value { return it.val }

// Err returns ErrCorrupt if the walk ended at malformed bytes.
func (it *Iter) Err() error {
	if it.fail {
		return ErrCorrupt
	}
	return nil
}

// valueLen returns how many bytes a value of type t at the start of data takes, -1 if malformed.
func valueLen(t Type, data []byte) int {
	n := -1
	switch t {
	case TypeDouble, TypeDate, TypeTimestamp, TypeInt64:
		n = 8
	case TypeInt32:
		n = 4
	case TypeBool:
		n = 1
	case TypeNull, TypeUndefined, TypeMinKey, TypeMaxKey:
		n = 0
	case TypeObjectID:
		n = 12
	case TypeDecimal128:
		n = 16
	case TypeString, TypeSymbol, TypeCode:
		if len(data) < 5 {
			return -1
		}
		l := int(int32(binary.LittleEndian.Uint32(data)))
		if l < 1 {
			return -1
		}
		n = 4 + l
		if n > len(data) || data[n-1] != 0 {
			return -1
		}
	case TypeDocument, TypeArray, TypeCodeWScope:
		if len(data) < 5 {
			return -1
		}
		n = int(int32(binary.LittleEndian.Uint32(data)))
		if n < 5 {
			return -1
		}
	case TypeBinary:
		if len(data) < 5 {
			return -1
		}
		l := int(int32(binary.LittleEndian.Uint32(data)))
		if l < 0 {
			return -1
		}
		n = 5 + l
	case TypeRegex:
		i := bytes.IndexByte(data, 0)
		if i < 0 {
			return -1
		}
		j := bytes.IndexByte(data[i+1:], 0)
		if j < 0 {
			return -1
		}
		n = i + j + 2
	case TypeDBPointer:
		if len(data) < 4 {
			return -1
		}
		l := int(int32(binary.LittleEndian.Uint32(data)))
		if l < 1 {
			return -1
		}
		n = 4 + l + 12
	}
	if n > len(data) {
		return -1
	}
	return n
}

// Elems ranges over the elements; keys alias the document.
func (r Raw) Elems() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		it := r.Iter()
		for it.Next() {
			if !yield(it.Key(), it.val) {
				return
			}
		}
	}
}

// Values ranges over the values, for arrays.
func (r Raw) Values() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		it := r.Iter()
		for it.Next() {
			if !yield(it.val) {
				return
			}
		}
	}
}

// Get returns the value of the first element named key, or a missing value.
// It does not look into subdocuments.
func (r Raw) Get(key string) Value {
	if len(r) < 5 {
		return Value{}
	}
	for rest := r[4:]; len(rest) > 0; {
		t := Type(rest[0])
		if t == 0 {
			return Value{}
		}
		rest = rest[1:]
		k := keyLen(rest)
		if k < 0 {
			return Value{}
		}
		name := rest[:k]
		rest = rest[k+1:]
		n := int(fixedLen[t])
		if n < 0 {
			n = valueLen(t, rest)
		}
		if n < 0 || n >= len(rest) {
			return Value{}
		}
		if k == len(key) && (k == 0 || name[0] == key[0]) && unsafeString(name) == key { // most names differ in the first letter
			return Value{t, rest[:n:n]}
		}
		rest = rest[n:]
	}
	return Value{}
}

// fixedLen is valueLen of the types whose values are all of one size, -1 of the others.
var fixedLen = func() (l [256]int8) {
	for t := range l {
		if l[t] = -1; isFixed(Type(t)) {
			l[t] = int8(valueLen(Type(t), make([]byte, 16)))
		}
	}
	return l
}()

func isFixed(t Type) bool {
	switch t {
	case TypeDouble, TypeDate, TypeTimestamp, TypeInt64, TypeInt32, TypeBool, TypeNull, TypeUndefined, TypeMinKey, TypeMaxKey, TypeObjectID, TypeDecimal128:
		return true
	default:
		return false
	}
}

// Path returns the value at a dotted path, going through subdocuments and, by
// numeric component, into arrays; it does not fan out over array elements.
func (r Raw) Path(path string) Value {
	for {
		head, tail, more := strings.Cut(path, ".")
		v := r.Get(head)
		if !more {
			return v
		}
		d := v.Doc()
		if d == nil {
			return Value{}
		}
		r, path = d, tail
	}
}

// Has reports whether r has an element named key.
func (r Raw) Has(key string) bool { return r.Get(key).Type != TypeMissing }

// IsEmpty reports whether r has no elements.
func (r Raw) IsEmpty() bool { return len(r) <= 5 }

// Len counts the elements.
func (r Raw) Len() int {
	n := 0
	it := r.Iter()
	for it.Next() {
		n++
	}
	return n
}

// First returns the first element, or a missing value.
func (r Raw) First() (string, Value) {
	it := r.Iter()
	if it.Next() {
		return it.Key(), it.val
	}
	return "", Value{}
}

// Clone returns a copy of r.
func (r Raw) Clone() Raw { return append(Raw(nil), r...) }

// Value returns r as a document value.
func (r Raw) Value() Value { return Value{TypeDocument, r} }

// Value returns a as an array value.
func (a Array) Value() Value { return Value{TypeArray, a} }

// Raw returns the array's bytes as a document with numeric keys.
func (a Array) Raw() Raw { return Raw(a) }
