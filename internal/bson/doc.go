// Package bson reads, compares and builds BSON without decoding it into trees.
//
// It owns the raw document view (Raw), the raw value view (Value), the iterator and
// the builder, MongoDB's order of values across types (Compare), exact arithmetic
// between the numeric types, and the check of bytes that come from outside
// (Validate).
//
// It promises that reading never panics on bytes that Validate accepted, that
// views alias the bytes they were made from and never copy or change them, and
// that keys and strings handed out by views live exactly as long as those bytes:
// clone what must outlive the buffer.
//
// It must not know collections, commands, errors codes of the server or any I/O.
// Its subpackages are public to the other rooms: keystring (order-preserving index
// keys) and extjson (extended JSON).
package bson
