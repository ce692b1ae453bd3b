// Package fuzz sends command documents that nobody would write to a whole node: each
// command's own, changed at random. No command may panic or hang, and every reply is
// well-formed BSON with ok and, if that is 0, with an error that has a code, a name
// and a text, and is not an internal one.
package fuzz
