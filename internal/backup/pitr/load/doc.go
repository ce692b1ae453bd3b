// Package load fills a server with the data of a full backup.
//
// It owns making collections (with their UUIDs where the server takes them), inserting documents
// in batches, building indexes, and reading a server's collections back for a comparison. It
// promises that every document that was read from the backup was acknowledged by the server, that
// capped collections keep their order, and that what a server refuses is an error with the
// collection's name. It must not know where documents come from.
package load
