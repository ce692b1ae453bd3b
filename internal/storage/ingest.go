package storage

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// filesOfIngest is how much larger than Options.IngestBytes a file of a load gets.
const filesOfIngest = 16

// intoTables writes the entries as finished files of the engine's last level and hands them
// over at once: they pass neither a memtable nor a compaction, which for entries that come
// in order do nothing but cost. The hand-over is one record of the manifest. Writers wait
// for it (some milliseconds), as their changes become visible behind it.
func (l *BulkLoader) intoTables(ctx context.Context, next nextPair) (err error) {
	if err := l.e.writable(); err != nil {
		return err
	}
	f := tableFiles{e: l.e, sorter: l.s}
	defer func() { err = errors.Join(err, f.close()) }()
	var key []byte
	for n := 0; ; n++ {
		rest, value, ok, err := next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		key = l.t.AppendKey(key[:0], rest)
		if err := f.add(key, value); err != nil {
			return err
		}
	}
	if err := f.finish(); err != nil {
		return err
	}
	if err := l.e.writable(); err != nil {
		return err
	}
	names := f.names
	f.names = nil // Pebble removes these links to them
	if err := l.e.ingest(ctx, names); err != nil {
		return err
	}
	l.e.ckpt.dirty.Store(true)
	return nil
}

// ingest hands files over to the engine. In a store that failed it would wait for the close,
// as all that write tables do (gate.go), and so that the caller does not, it goes on without.
func (e *Engine) ingest(ctx context.Context, names []string) error {
	done := make(chan error, 1)
	e.ingests.Add(1)
	go func() {
		defer e.ingests.Done()
		err := e.db.Ingest(ctx, names)
		if err != nil {
			for _, name := range names { // some may be gone
				if rerr := e.fs.Remove(name); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
					err = errors.Join(err, rerr)
				}
			}
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("storage: ingest: %w", convErr(err))
		}
		return nil
	case <-e.fail.failed:
		return e.fail.err()
	}
}

// tableFiles writes sorted entries into temporary files.
type tableFiles struct {
	e      *Engine
	sorter *Sorter
	names  []string
	w      *sstable.Writer
	size   int // of the entries in the present file
}

func (f *tableFiles) add(key, value []byte) error {
	if f.w == nil {
		if err := f.create(); err != nil {
			return err
		}
	}
	if err := f.w.Set(key, value); err != nil {
		return fmt.Errorf("storage: write a table: %w", convErr(err))
	}
	if f.size += len(key) + len(value); int64(f.size) >= filesOfIngest*f.e.opts.IngestBytes {
		return f.finish()
	}
	return nil
}

func (f *tableFiles) create() error {
	name := f.sorter.tempName()
	file, err := f.e.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("storage: create a table: %w", err)
	}
	f.names = append(f.names, name)
	o := f.e.opts.pebbleOptions()
	o.EnsureDefaults()
	wo := o.MakeWriterOptions(len(o.Levels)-1, f.e.db.FormatMajorVersion().MaxTableFormat())
	f.w, f.size = sstable.NewWriter(objstorageprovider.NewFileWritable(file), wo), 0
	return nil
}

// finish ends the present file: it is synced.
func (f *tableFiles) finish() error {
	w := f.w
	f.w = nil
	if w == nil {
		return nil
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("storage: write a table: %w", convErr(err))
	}
	return nil
}

// close removes what was not handed over.
func (f *tableFiles) close() error {
	errs := []error{}
	if f.w != nil {
		errs = append(errs, f.w.Close())
	}
	for _, name := range f.names {
		errs = append(errs, f.e.fs.Remove(name))
	}
	return errors.Join(errs...)
}
