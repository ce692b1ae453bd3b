// Package catalog knows what exists: databases, collections, indexes, views, and
// where their bytes lie. It is the only room that changes user data, and the only one
// that turns a change into oplog entries and an oplog entry into a change.
//
// It owns the catalog table (namespace → UUID → ident, options, indexes), the
// versions of the catalog that operations pin, collections with their counters,
// RecordIds and writers' locks, the making of index keys, the write primitives
// Insert, Update and Delete, all DDL, online index builds, Apply, and Validate.
//
// It promises that a write, its index entries and its oplog entry are one unit;
// that a pinned version never changes; that DDL waits for the writers of its
// collection and no writer sees half of it; that what Apply makes of the entries of
// a unit is byte-equal to what the unit left, records and indexes, and that replaying
// a suffix of the log over newer data changes nothing.
//
// It must not know commands, filters' plans, cursors, sessions or replication:
// OpObserver is the hook for what must happen inside the unit of a write.
package catalog
