// Package archive is the archive format of mongodump: one stream that carries any
// number of collections, written by any number of writers at once and restored while
// it is read.
//
// It owns the bytes: the magic number, the prelude, the blocks of the namespaces with
// their headers and terminators, and the CRC-64 at the end of each namespace
// (docs/FORMATS.md has them one by one). What Writer writes the original tools read,
// and the other way round.
//
// It promises bounded memory whatever the number and the size of the collections: a
// Writer holds one buffer for each namespace that is open at the moment, a Reader one
// buffer for the stream and a few bytes for each namespace of the prelude. A Reader
// never accepts a damaged archive: whatever is cut off, doubled, out of order or
// changed is a *FormatError that names the namespace and the offset, and nothing after
// it is handed out. The format has no checksum for its prelude; a Writer can add one in
// a place where the originals do not look (Prelude.Seal).
//
// It must not know MongoDB's commands, files or compression: it reads an io.Reader and
// writes an io.Writer.
package archive
