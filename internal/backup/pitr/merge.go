package pitr

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/repo"
)

// Merging keeps the number of small slices in bounds: a slice every few seconds would make
// millions of objects a year. Neighbours are written anew as one slice, then deleted.
const (
	mergeSmall = 8 << 20  // a slice below this is small
	mergeLarge = 64 << 20 // a merged slice ends at this
	mergeMin   = 32       // fewer are left alone
	mergeLeave = 12       // the newest are: they are what a restore to now and a running backup look at
)

// merge joins runs of small slices. It takes a sweeping lock if it is to be had, and else leaves
// everything for the next time.
func (e *Env) merge(ctx context.Context) (merged int, err error) {
	st, err := e.State(ctx)
	if err != nil {
		return 0, err
	}
	groups := mergeable(st.Coverage)
	if len(groups) == 0 {
		return 0, nil
	}
	lk, unlock, err := e.lock(ctx, repo.LockRequest{Kind: repo.Sweeping, Purpose: "merging slices"})
	var locked *repo.LockedError
	if errors.As(err, &locked) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	for _, g := range groups {
		if err := e.mergeGroup(ctx, lk, st, g); err != nil {
			return merged, err
		}
		merged += len(g)
	}
	return merged, nil
}

// mergeable are runs of neighbours that are worth it.
func mergeable(c *chain.Coverage) (groups [][]chain.Backup) {
	for _, r := range c.Runs {
		var group []chain.Backup
		size := int64(0)
		flush := func() {
			for _, g := range split(group) {
				if len(g) >= mergeMin {
					groups = append(groups, g)
				}
			}
			group, size = nil, 0
		}
		var small []chain.Backup
		for _, p := range r.Pieces {
			if p.Kind != chain.Full {
				small = append(small, p)
			}
		}
		for _, p := range small[:max(len(small)-mergeLeave, 0)] {
			if n := len(group); n > 0 && group[n-1].End != p.Start || p.Bytes >= mergeSmall || size+p.Bytes > mergeLarge {
				flush()
			}
			if p.Bytes < mergeSmall {
				group = append(group, p)
				size += p.Bytes
			}
		}
		flush()
	}
	return groups
}

// split parts the extensions at the ends of a group from the slices between: the entries at the ends
// of extensions are not stored, so a merged slice begins and ends with a slice.
func split(group []chain.Backup) [][]chain.Backup {
	isSlice := func(b chain.Backup) bool { return b.Kind == chain.Slice }
	first := slices.IndexFunc(group, isSlice)
	if first < 0 {
		return [][]chain.Backup{group}
	}
	last := len(group)
	for !isSlice(group[last-1]) {
		last--
	}
	return [][]chain.Backup{group[:first], group[first:last], group[last:]}
}

func (e *Env) mergeGroup(ctx context.Context, lk *repo.Lock, st *State, group []chain.Backup) (err error) {
	w, err := e.Repo.NewWriter(ctx, lk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Abort()) }()
	first, last := st.Manifests[group[0].ID], st.Manifests[group[len(group)-1].ID]
	m := &repo.Manifest{Kind: first.Kind, Source: last.Source, ServerVersion: last.ServerVersion, Tool: e.Tool,
		Start: first.Start, End: last.End, Parents: first.Parents, Counts: map[string]int64{}, Sizes: map[string]int64{},
		Options: map[string]string{optionMerged: fmt.Sprint(len(group)), optionEnd: last.Options[optionEnd]}, Streams: []repo.StreamRef{}}
	if group[0].Kind == chain.Extension {
		for _, b := range group {
			m.Counts[countEntries] += b.Entries
		}
	} else if err := e.mergeStreams(ctx, w, m, st, group); err != nil {
		return err
	}
	if err := w.Commit(ctx, m); err != nil {
		return fmt.Errorf("signing off merged slices: %w", err)
	}
	var ids []string
	for i := len(group) - 1; i >= 0; i-- {
		ids = append(ids, group[i].ID)
	}
	return e.Repo.Delete(ctx, lk, ids...)
}

// mergeStreams writes the entries of slices into one stream. The no-ops of extensions between
// them are not stored anywhere and stay away.
func (e *Env) mergeStreams(ctx context.Context, w *repo.Writer, m *repo.Manifest, st *State, group []chain.Backup) error {
	s := w.Log(streamOplog)
	n, size := int64(-1), int64(0) // the first entry is shared with what is before
	var wr written
	f := &feeder{env: e, all: true, fn: func(en *entry.Entry) error {
		if n++; n > 0 {
			size += int64(len(en.Raw))
		}
		_, err := s.Write(en.Raw)
		return err
	}}
	if err := f.run(ctx, st, "", group); err != nil {
		return err
	}
	for _, b := range group {
		part, err := writtenIn(st.Manifests[b.ID])
		if err != nil {
			return err
		}
		wr.merge(&part)
	}
	ref, err := s.Finish()
	if err != nil {
		return err
	}
	m.Streams = append(m.Streams, ref)
	m.Counts[countEntries], m.Sizes[sizeOplog] = n, size
	m.Details, err = wr.details()
	return err
}
