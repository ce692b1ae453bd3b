// Package find tells which oplog entries changed a document, and how.
//
// It owns a small filter language over documents and the words for the effect of an entry. It
// promises that a filter it does not understand is refused by name, never taken to match. The
// filter is equality and comparisons on dotted fields, as people type them to point at a
// document; whoever needs all of MongoDB's language opens a moment with `cairn backup serve`.
// It must not know a server.
package find
