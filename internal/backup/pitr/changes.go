package pitr

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/pitr/find"
	"github.com/cairndb/cairn/internal/bson"
)

// ChangesOptions say what to look for.
type ChangesOptions struct {
	NS     string
	Filter bson.Raw
	// From and To bound the time that is looked at; zero values are everything that is stored.
	From, To chain.Moment
}

// Searched is what was looked through.
type Searched struct {
	Entries int64
	Changes int64
	// Runs are the intervals that were looked at; between them changes may be missing.
	Runs []chain.Window
}

// Changes reports the entries that changed documents that match, in order. If the filter speaks of
// more than the _id, the newest full backup before the interval is looked through too, so that
// documents that matched before are followed.
func (e *Env) Changes(ctx context.Context, o ChangesOptions, report func(find.Change) error) (out Searched, err error) {
	if db, coll, _ := strings.Cut(o.NS, "."); db == "" || coll == "" {
		return out, badSelection("%q is not a namespace: give --ns DATABASE.COLLECTION", o.NS)
	}
	filter, err := find.Compile(o.Filter)
	if err != nil {
		return out, badSelection("--filter: %v", err)
	}
	if o.To.TS != 0 && o.From.TS > o.To.TS {
		return out, badSelection("--from %s is after --to %s", chain.Describe(o.From.TS), chain.Describe(o.To.TS))
	}
	st, err := e.State(ctx)
	if err != nil {
		return out, err
	}
	from, to := o.From.TS, o.To.TS
	if o.From.TS != 0 && !o.From.Exact {
		from = bson.NewTimestamp(o.From.TS.Seconds(), 0) // from the beginning of the second
	}
	f := &find.Finder{NS: o.NS, Filter: filter}
	for i := range st.Coverage.Runs {
		r := &st.Coverage.Runs[i]
		start, end := r.Start.TS, r.End.TS
		if from > end || to != 0 && to < start {
			continue
		}
		if to != 0 {
			end = min(end, to)
		}
		pieces, ok := r.Cover(max(start, min(from, end)), end)
		if !ok {
			return out, fmt.Errorf("the oplog from %s to %s does not join", chain.Text(start), chain.Text(end))
		}
		if !filter.OnlyID {
			if err := e.knowFromFull(ctx, st, r, from, f); err != nil {
				return out, err
			}
			// Once without a report: a document may match only later than it was changed first.
			if err := e.searchRun(ctx, st, pieces, f, from, to, nil, nil); err != nil {
				return out, err
			}
		}
		if err := e.searchRun(ctx, st, pieces, f, from, to, &out, report); err != nil {
			return out, err
		}
		out.Runs = append(out.Runs, chain.Window{From: r.Start, To: chain.OpTime{TS: end, Term: r.End.Term}})
	}
	return out, nil
}

// knowFromFull marks the documents of the newest full backup before a moment that match.
func (e *Env) knowFromFull(ctx context.Context, st *State, r *chain.Run, from bson.Timestamp, f *find.Finder) error {
	id := ""
	for _, full := range r.Fulls {
		if id == "" || full.End.TS <= from {
			id = full.ID
		}
	}
	if id == "" {
		return nil
	}
	all, err := e.catalog(ctx, st, id)
	if err != nil {
		return err
	}
	for i := range all {
		c := &all[i]
		if c.Namespace() != f.NS || c.stream == "" {
			continue
		}
		ref, ok := stream(st.Manifests[id], c.stream)
		if !ok {
			return &ChainError{id, "it has no stream " + c.stream}
		}
		in, err := e.Repo.Open(ctx, ref)
		if err != nil {
			return err
		}
		err = documents(in, func(doc bson.Raw) error { f.Know(doc); return nil })
		if err = errors.Join(err, in.Close()); err != nil {
			return fmt.Errorf("backup %s: %w", id, err)
		}
	}
	return nil
}

func (e *Env) searchRun(ctx context.Context, st *State, pieces []chain.Backup, f *find.Finder, from, to bson.Timestamp, out *Searched, report func(find.Change) error) error {
	var asm entry.Assembler
	add, done := e.bar("searching "+f.NS, 0)
	defer done()
	fd := &feeder{env: e, to: to, all: true, fn: func(en *entry.Entry) error {
		add(1)
		units, err := asm.Add(*en)
		var broken *entry.ChainError
		if errors.As(err, &broken) {
			// A transaction that began before what is stored: what its entries show is reported.
			units, err = []entry.Unit{{OpTime: en.OpTime, First: en.OpTime, Wall: en.Wall, Txn: true, Entries: []entry.Entry{*en}}}, nil
		}
		if err != nil {
			return err
		}
		if out != nil {
			out.Entries++
		}
		for i := range units {
			if units[i].OpTime.TS < from {
				continue
			}
			changes, err := f.Unit(&units[i])
			if err != nil || out == nil {
				return err
			}
			for _, c := range changes {
				out.Changes++
				if err := report(c); err != nil {
					return err
				}
			}
		}
		return nil
	}}
	return fd.run(ctx, st, "", pieces)
}
