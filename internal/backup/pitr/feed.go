package pitr

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/pitr/load"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/bson"
)

// scratchDB holds the state of a restore on the server that is restored into. It is no part of
// a backup.
const scratchDB = "cairn_restore"

// ChainError is stored oplog that does not join as its manifests say.
type ChainError struct {
	Backup string
	Why    string
}

func (e *ChainError) Error() string {
	return fmt.Sprintf("backup %s does not continue the chain: %s", e.Backup, e.Why)
}

// feeder delivers the oplog of several backups as one: each entry once, in order, without a hole.
type feeder struct {
	env  *Env
	last entry.OpTime
	// to ends it: entries behind it are not delivered; 0 is everything.
	to bson.Timestamp
	fn func(e *entry.Entry) error
	// all delivers entries of the restore's own state on the server too.
	all bool
	// read is told of bytes that were read; nil: nobody.
	read func(n int64)
}

// run delivers the oplog of a full backup, then of pieces that follow it.
func (f *feeder) run(ctx context.Context, st *State, full string, pieces []chain.Backup) error {
	if full != "" {
		m := st.Manifests[full]
		ref, ok := stream(m, streamOplog)
		if !ok {
			return &ChainError{full, "it has no oplog of its own"}
		}
		if err := f.piece(ctx, m, ref, true); err != nil {
			return err
		}
		if end := toOpTime(m.End); f.to == 0 && f.last != end {
			return &ChainError{full, fmt.Sprintf("its oplog ends at %s, its manifest says %s", chain.Text(f.last.TS), chain.Text(end.TS))}
		}
	}
	for _, p := range pieces {
		if f.to != 0 && f.last.TS >= f.to {
			return nil
		}
		m := st.Manifests[p.ID]
		if p.Kind == chain.Extension {
			if p.Start.TS > f.last.TS || p.Start.TS == f.last.TS && p.Start.Term != f.last.Term {
				return &ChainError{p.ID, fmt.Sprintf("it begins at %s, what is before it ends at %s", p.Start, f.last)}
			}
			f.last = p.End
			continue
		}
		for _, ref := range oplogStreams(m) {
			if err := f.piece(ctx, m, ref, f.last.IsNull()); err != nil {
				return err
			}
		}
	}
	return nil
}

// stream finds a stream of a manifest by its name.
func stream(m *repo.Manifest, name string) (repo.StreamRef, bool) {
	for _, s := range m.Streams {
		if s.Name == name {
			return s, true
		}
	}
	return repo.StreamRef{}, false
}

// oplogStreams are the streams of oplog of a full backup or a slice, in order; merged slices
// have several.
func oplogStreams(m *repo.Manifest) []repo.StreamRef {
	if m.Kind != string(chain.Full) {
		return m.Streams
	}
	if ref, ok := stream(m, streamOplog); ok {
		return []repo.StreamRef{ref}
	}
	return nil
}

// piece delivers one stream. Unless it is the first, what is delivered last must be in it.
func (f *feeder) piece(ctx context.Context, m *repo.Manifest, ref repo.StreamRef, first bool) (err error) {
	r, err := f.env.Repo.Open(ctx, ref)
	if err != nil {
		return fmt.Errorf("backup %s: %w", m.ID, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	joined := first
	err = documents(r, func(raw bson.Raw) error {
		if f.read != nil {
			f.read(int64(len(raw)))
		}
		e, err := entry.Parse(raw)
		if err != nil {
			return fmt.Errorf("backup %s: %w", m.ID, err)
		}
		switch {
		case e.OpTime.TS == f.last.TS:
			if e.OpTime.Term != f.last.Term {
				return &ChainError{m.ID, fmt.Sprintf("it has the entry %s, what is before it ends at %s: one of them was rolled back", e.OpTime, f.last)}
			}
			joined = true
			return nil
		case e.OpTime.TS < f.last.TS:
			if joined && !first {
				return nil // overlapping backups
			}
			if first && !f.last.IsNull() {
				return &ChainError{m.ID, fmt.Sprintf("entry %s comes after %s", e.OpTime, f.last)}
			}
			return nil
		case !joined:
			return &ChainError{m.ID, fmt.Sprintf("it goes on at %s and does not have %s, where what is before it ends", e.OpTime, f.last)}
		case f.to != 0 && e.OpTime.TS > f.to:
			return errReached
		}
		f.last = e.OpTime
		if e.DB == scratchDB && !f.all {
			return nil
		}
		return f.fn(&e)
	})
	if errors.Is(err, errReached) {
		err = nil
		f.last.TS = max(f.last.TS, f.to) // nothing more is wanted
	}
	return err
}

// documents calls fn with each document of a stream. They are valid until fn returns.
func documents(r io.Reader, fn func(bson.Raw) error) error {
	in := bufio.NewReaderSize(r, 256<<10)
	var big []byte
	for {
		size, err := load.Next(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if size <= in.Size() {
			doc, err := in.Peek(size)
			if err != nil {
				return fmt.Errorf("reading a document: %w", err)
			}
			if err := fn(bson.Raw(doc)); err != nil {
				return err
			}
			if _, err := in.Discard(size); err != nil {
				return err
			}
			continue
		}
		if cap(big) < size {
			big = make([]byte, size)
		}
		if _, err := io.ReadFull(in, big[:size]); err != nil {
			return fmt.Errorf("reading a document: %w", err)
		}
		if err := fn(bson.Raw(big[:size])); err != nil {
			return err
		}
	}
}

// openTxns holds the entries up to a full backup's base: what took effect by then is in its data;
// of transactions that were open then, the entries are needed.
type openTxns struct {
	base bson.Timestamp
	held []heldEntry // in order
	open map[string]bool
	done bool
}

type heldEntry struct {
	txn string // session and number
	raw bson.Raw
}

// add returns the raw entries that are to be replayed when e comes, in order.
func (o *openTxns) add(e *entry.Entry) []bson.Raw {
	if o.done {
		return []bson.Raw{e.Raw}
	}
	if e.OpTime.TS > o.base {
		var all []bson.Raw
		for _, h := range o.held {
			if o.open[h.txn] {
				all = append(all, h.raw)
			}
		}
		o.done, o.held, o.open = true, nil, nil
		return append(all, e.Raw)
	}
	if !e.Kind.IsTxn() {
		return nil
	}
	key := string(e.LSID) + fmt.Sprint(e.TxnNumber)
	if e.Kind == entry.TxnWhole || e.Kind == entry.TxnCommit || e.Kind == entry.TxnAbort {
		if o.open[key] {
			delete(o.open, key)
			o.held = slices.DeleteFunc(o.held, func(h heldEntry) bool { return h.txn == key })
		}
		return nil
	}
	if o.open == nil {
		o.open = map[string]bool{}
	}
	o.open[key] = true
	o.held = append(o.held, heldEntry{key, e.Raw.Clone()})
	return nil
}
