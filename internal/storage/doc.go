// Package storage is the engine under everything: ordered keys and values with
// snapshots, the durability gate, and the units of change that are written to
// both the journal and the engine. It is the only importer of Pebble.
//
// It owns the data directory: its lock, its format version, the journal
// (subpackage journal, which other rooms may use directly), the engine's files
// and the temporary files, the rows that are kept in front of the engine (rowcache.go,
// rowhint.go, rowahead.go, rowmem.go), and when compactions run (pressure.go: not in the middle of a
// burst of writes or an index build; settle.go: in an idle moment). All file access goes
// through one vfs.FS.
//
// It promises:
//   - the state of the engine, at every flush, in every snapshot and after every
//     crash, is exactly the journal prefix that its applied position names,
//     beside bulk loads, to which nothing refers until a logged entry does;
//   - no engine state becomes durable before the journal that explains it;
//   - a failed background write turns the store read-only (ErrReadOnly with the
//     cause); the process is never ended;
//   - what the row cache answers is the latest state, as the engine has it;
//   - memory: block cache, row cache and memtables stay within Options.CacheBytes in sum.
//
// It must not know documents, namespaces, commands or oplog entries: keys and
// values are bytes. The one exception is the shape of record and index keys,
// see keyspace.go.
package storage
