package pitr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/repo"
)

// Kinds of records in the repository.
const (
	recordGap    = "gap"
	recordVerify = "verify"
	recordDrill  = "drill"
	recordRun    = "run"
	recordLast   = "last" // the newest drill once more, which is found without reading all
)

// Keys of a manifest's counts, sizes and options.
const (
	countEntries     = "entries"     // of the oplog, without the one that it shares with what is before
	countDocuments   = "documents"   // of a full backup
	countCollections = "collections" // of a full backup
	sizeOplog        = "oplog"
	sizeDocuments    = "documents"
	optionEnd        = "end" // hash of the last entry
	optionMerged     = "merged"
	optionOrder      = "order" // of documents
)

// State is what a repository holds, read once.
type State struct {
	Coverage *chain.Coverage
	// Manifests are those of Coverage.Backups, by id.
	Manifests map[string]*repo.Manifest
	// Damaged names manifests that cannot be read; nil if none. What they cover is missing
	// from Coverage.
	Damaged error
}

// State reads manifests and gaps.
func (e *Env) State(ctx context.Context) (*State, error) {
	ms, err := e.Repo.Manifests(ctx)
	var corrupt *repo.CorruptError
	if err != nil && !errors.As(err, &corrupt) {
		return nil, fmt.Errorf("reading the repository's manifests: %w", err)
	}
	st := &State{Manifests: map[string]*repo.Manifest{}, Damaged: err}
	var backups []chain.Backup
	for _, m := range ms {
		switch kind := chain.Kind(m.Kind); kind {
		case chain.Full, chain.Slice, chain.Extension:
			backups = append(backups, chain.Backup{ID: m.ID, Kind: kind, Start: toOpTime(m.Start), End: toOpTime(m.End), Created: m.Created,
				Bytes: m.Sizes[sizeOplog] + m.Sizes[sizeDocuments], Entries: m.Counts[countEntries], Documents: m.Counts[countDocuments]})
			st.Manifests[m.ID] = m
		default:
			return nil, fmt.Errorf("backup %s is of kind %q, which this version does not know: use a newer one", m.ID, m.Kind)
		}
	}
	gaps, err := e.gaps(ctx)
	if err != nil {
		return nil, err
	}
	st.Coverage = chain.New(backups, gaps)
	return st, nil
}

// Source is the name of the server that the newest backup came from.
func (s *State) Source() string {
	if n := len(s.Coverage.Backups); n > 0 {
		return s.Manifests[s.Coverage.Backups[n-1].ID].Source
	}
	return ""
}

// gapRecord is a gap as it is stored.
type gapRecord struct {
	chain.Gap
	From repo.Position `json:"from"`
	To   repo.Position `json:"to"`
}

func (e *Env) gaps(ctx context.Context) ([]chain.Gap, error) {
	records, err := e.Repo.Records(ctx, recordGap)
	if err != nil {
		return nil, fmt.Errorf("reading the records of gaps: %w", err)
	}
	var gaps []chain.Gap
	for _, r := range records {
		var g gapRecord
		if err := json.Unmarshal(r.Data, &g); err != nil {
			return nil, fmt.Errorf("the record of gap %s: %w", r.ID, err)
		}
		g.Gap.From, g.Gap.To = toOpTime(g.From), toOpTime(g.To)
		gaps = append(gaps, g.Gap)
	}
	return gaps, nil
}

// recordGap writes a gap down; one that begins at the same entry is the same gap.
func (e *Env) recordGap(ctx context.Context, g chain.Gap) error {
	g.ID = fmt.Sprintf("%010d-%010d", g.From.TS.Seconds(), g.From.TS.Increment())
	if err := e.Repo.PutRecord(ctx, recordGap, g.ID, gapRecord{g, toPosition(g.From), toPosition(g.To)}); err != nil {
		return fmt.Errorf("recording the gap: %w", err)
	}
	return nil
}
