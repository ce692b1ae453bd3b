// Package repo is the backup repository: named streams of bytes and their manifests on any
// blob store, deduplicated, compressed, encrypted if wanted.
//
// It owns the objects below one prefix of a bucket and every byte in them (docs/FORMATS.md,
// "Backup repository"): the format marker, keys, packs of chunks, indexes, manifests, records,
// locks and lists of condemned packs. There is no other state: a bucket alone is enough.
//
// It promises:
//   - a manifest is written last, when all that it refers to is stored; what was not signed off
//     is never listed;
//   - every object carries a SHA-256 and every chunk is checked by its id on each read; damage is
//     a *CorruptError that names the object;
//   - a sweep deletes nothing that a manifest refers to, nor what a live writer or reader may
//     still need, whatever moment either is interrupted at;
//   - a writer whose lock was lost signs nothing off.
//
// Memory: a writer holds about 0.5 MB a stream that is open, 2 × (pack size + 0.3 MB) and the
// index; the index costs about 21 bytes a chunk that the repository holds (2.6 MB for each GB at
// 8 KB a chunk); a reader holds 5 segments of about 4 MB and 16 MB of decoded blocks.
//
// It must not know MongoDB: a position is three numbers, a stream is bytes.
package repo
