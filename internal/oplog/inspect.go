package oplog

import (
	"slices"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/storage"
	"github.com/cairndb/cairn/internal/storage/journal"
)

// State is what the oplog keeps of itself in the store; zero fields were never
// set.
type State struct {
	Ceiling   Timestamp // every ts ever given out is below
	Size      int64     // set by Resize
	Retention time.Duration
}

// ReadState reads it, as the engine holds it: for tools that look at a store
// without a sequencer.
func ReadState(r storage.Reader) (st State, err error) {
	var ceiling, size, retention uint64
	for _, f := range []struct {
		key string
		dst *uint64
	}{{stateCeiling, &ceiling}, {stateSize, &size}, {stateRetention, &retention}} {
		if *f.dst, _, err = loadState(r, f.key); err != nil {
			return State{}, err
		}
	}
	return State{Timestamp(ceiling), int64(size), time.Duration(retention)}, nil
}

// Newest returns copies of the newest n entries of a journal, oldest first,
// those that are not replayed yet among them: for tools that look at a store
// without a sequencer.
func Newest(j *journal.Journal, n int) ([]bson.Raw, error) {
	r, err := j.NewReader(journal.FromEnd().Undurable())
	if err != nil {
		return nil, readError(err)
	}
	defer r.Close()
	var out []bson.Raw
	for len(out) < n && r.Prev() {
		if rec := r.Record(); rec.Kind == journal.KindEntry {
			out = append(out, bson.Raw(rec.Payload).Clone())
		}
	}
	if r.Err() != nil {
		return nil, readError(r.Err())
	}
	slices.Reverse(out)
	return out, nil
}
