package storage

import (
	"context"
	"errors"
)

// BulkLoader fills one new table with entries that come in any order: for
// index builds. It sorts them within bounded memory and loads them in order,
// unlogged, in batches. Nothing may refer to the table before the load, a
// Flush, and a logged entry that makes the table part of the catalog.
type BulkLoader struct {
	e *Engine
	t Table
	s *Sorter

	closed bool
}

// bulkBatchBytes is the size of a batch of the load.
const bulkBatchBytes = 512 << 10

// NewBulkLoader returns a loader that sorts within about maxMemory bytes.
func (e *Engine) NewBulkLoader(t Table, maxMemory int64) *BulkLoader {
	e.pressure.loads.Add(1)
	return &BulkLoader{e: e, t: t, s: e.NewSorter(maxMemory)}
}

// Add adds an entry: rest is its key behind the table's prefix.
func (l *BulkLoader) Add(rest, value []byte) error { return l.s.Add(rest, value) }

// AddIndexEntry adds an entry of the index s, which must be the loader's table.
func (l *BulkLoader) AddIndexEntry(s IndexStore, keyString []byte, id RecordID, typeBits []byte) error {
	var kb [256]byte
	var vb [64]byte
	if s.ByID {
		return l.s.Add(keyString, append(AppendRecordID(vb[:0], id), typeBits...))
	}
	return l.s.Add(AppendRecordID(append(kb[:0], keyString...), id), typeBits)
}

// Len is the number of entries added.
func (l *BulkLoader) Len() int64 { return l.s.Len() }

// Load loads the entries in order. each, if not nil, sees every one before it
// is loaded and ends the load by an error: for the check for duplicates, since
// equal KeyStrings follow each other. What was loaded when an error came stays
// in the table, for the caller to drop. Loaders of different tables may load at
// the same time.
func (l *BulkLoader) Load(ctx context.Context, each func(rest, value []byte) error) (err error) {
	pairs, err := l.s.Sorted()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pairs.Close()) }()
	into := l.intoMemory
	if l.s.Bytes() >= l.e.opts.IngestBytes {
		into = l.intoTables
	}
	return into(ctx, func() (rest, value []byte, ok bool, err error) {
		if !pairs.Next() {
			return nil, nil, false, pairs.Err()
		}
		rest, value = pairs.Key(), pairs.Value()
		if each != nil {
			if err := each(rest, value); err != nil {
				return nil, nil, false, err
			}
		}
		return rest, value, true, nil
	})
}

// nextPair returns the next entry of a load, until ok is false.
type nextPair func() (rest, value []byte, ok bool, err error)

// intoMemory loads few entries as writes are: a file for each table would cost more.
func (l *BulkLoader) intoMemory(ctx context.Context, next nextPair) error {
	w := l.e.NewWriteSet()
	defer w.Release()
	for {
		rest, value, ok, err := next()
		if err != nil {
			return err
		}
		if !ok {
			return l.flush(ctx, w)
		}
		op := w.b.SetDeferred(prefixLen+len(rest), len(value))
		l.t.AppendKey(op.Key[:0], rest)
		copy(op.Value, value)
		finish(op)
		if w.Size() < bulkBatchBytes {
			continue
		}
		if err := l.flush(ctx, w); err != nil {
			return err
		}
	}
}

func (l *BulkLoader) flush(ctx context.Context, w *WriteSet) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := l.e.ApplyUnlogged(w); err != nil {
		return err
	}
	w.Reset()
	return nil
}

// Close removes what is left of the sort.
func (l *BulkLoader) Close() error {
	if !l.closed {
		l.closed = true
		l.e.pressure.loads.Add(-1)
	}
	return l.s.Close()
}
