// Package keystring encodes BSON values as bytes whose order is MongoDB's order:
// the sign of bytes.Compare of two encodings is bson.Compare of their values. Index
// keys are made of it.
//
// It owns the byte format, which docs/FORMATS.md writes down, and the type bits that
// give the exact value back: equal numbers of different types have equal keys, the
// type bits (which are no part of the key) remember which one it was.
//
// It promises that no encoding of a value is a prefix of another one, that
// ascending fields begin with a byte from 0x0A to 0xF0 and descending ones with the
// complement of such a byte, so that a prefix of whole fields is a lower bound and the
// prefix followed by 0xFF an upper bound of all keys that begin with it, and that the
// common types are encoded without allocation.
//
// It must not know indexes, namespaces or storage; how fields become keys is the
// catalog's business.
package keystring
