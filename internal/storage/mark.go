package storage

import "github.com/cairndb/cairn/internal/storage/journal"

// The journal's words, which this package's signatures use.
type (
	// Pos is a position in the journal.
	Pos = journal.Pos
	// Mark names a place in the journal: position, and the newest index and ts before it.
	Mark = journal.Mark
)
