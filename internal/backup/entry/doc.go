// Package entry is an oplog entry as a backup tool sees it.
//
// It owns reading an entry that any MongoDB from 3.6 to 8.0, or Cairn, wrote: its kind,
// its place, what it touches, whether it can be replayed and whether the original tools
// could (Entry, Kind, Class); filtering and renaming by namespace (Rules); and joining
// the entries of a transaction to one unit with the place of its commit (Assembler).
// docs/OPLOG.md lists the kinds.
//
// It promises that nothing is passed over: an op or command that it does not know is an
// *UnknownError with its name and place, a chain whose beginning is missing a
// *ChainError, a rename across the border of what is kept a *BorderError, a transaction
// that is kept in part a *SplitTransactionError. Bytes are only read where they are well
// formed; entries that were changed are new bytes, others alias what was handed in.
//
// It must not know a server or a connection: it turns entries into entries.
package entry
