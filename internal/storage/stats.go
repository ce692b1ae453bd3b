package storage

import (
	"context"
	"fmt"

	"github.com/cairndb/cairn/internal/storage/journal"
)

// Stats are the engine's numbers for serverStatus and collStats.
type Stats struct {
	CacheBytes    int64 // in the block cache
	CacheMaxBytes int64 // configured: caches and memtables in sum
	CacheHits     int64
	CacheMisses   int64
	RowCacheBytes int64 // in the row cache
	RowCacheRows  int64
	RowCacheHits  int64
	RowCacheMiss  int64

	MemTableBytes  uint64
	MemTableCount  int64
	Flushes        int64
	Compactions    int64
	CompactionsNow int64
	CompactionDebt uint64 // bytes
	L0Files        int64
	L0Sublevels    int32
	ReadAmp        int
	WriteStalls    uint64 // times that a writer had to wait

	DiskBytes    uint64 // the engine's files
	JournalBytes int64
	TmpFiles     int

	Checkpoints   uint64
	Applied       Mark
	OpenSnapshots int
	OldestIndex   uint64 // of the open snapshots; 0 if there is none

	Journal journal.Stats
	Failure error // why the store is read-only, or nil
}

// Stats takes the numbers. It costs some tens of microseconds.
func (e *Engine) Stats() Stats {
	if e.closed.Load() {
		return Stats{Failure: ErrClosed}
	}
	m := e.db.Metrics()
	rows := e.rows.stats()
	s := Stats{
		RowCacheBytes: rows.bytes, RowCacheRows: rows.entries, RowCacheHits: rows.hits, RowCacheMiss: rows.misses,
		CacheBytes: m.BlockCache.Size, CacheMaxBytes: e.opts.CacheBytes,
		CacheHits: m.BlockCache.Hits, CacheMisses: m.BlockCache.Misses,
		MemTableBytes: m.MemTable.Size, MemTableCount: m.MemTable.Count,
		Flushes: m.Flush.Count, Compactions: m.Compact.Count,
		CompactionsNow: m.Compact.NumInProgress, CompactionDebt: m.Compact.EstimatedDebt,
		L0Files: m.Levels[0].TablesCount, L0Sublevels: m.Levels[0].Sublevels,
		ReadAmp: m.ReadAmp(), WriteStalls: e.stall.stalls.Load(),
		DiskBytes: m.DiskSpaceUsage(), JournalBytes: e.journal.Size(),
		Checkpoints: e.ckpt.count.Load(), Applied: e.Applied(),
		Journal: e.journal.Stats(), Failure: e.fail.err(),
	}
	e.snapshots.mu.Lock()
	s.OpenSnapshots = e.snapshots.n + int(e.readSnapshots.Load())
	if e.snapshots.first != nil {
		s.OldestIndex = e.snapshots.first.floor
	}
	e.snapshots.mu.Unlock()
	return s
}

// Describe is Pebble's own account of itself, for people.
func (e *Engine) Describe() string {
	if e.closed.Load() {
		return "closed\n"
	}
	return fmt.Sprintf("%s\napplied: %+v\n", e.db.Metrics().String(), e.Applied())
}

// TableSize estimates the bytes that a table takes on disk; what is still in
// memtables is not counted.
func (e *Engine) TableSize(t Table) (uint64, error) {
	lower, upper := t.Bounds()
	return e.RangeSize(lower, upper)
}

// RangeSize estimates the bytes on disk of the keys in [lower, upper).
func (e *Engine) RangeSize(lower, upper []byte) (uint64, error) {
	if e.closed.Load() {
		return 0, ErrClosed
	}
	n, err := e.db.EstimateDiskUsage(lower, upper)
	return n, convErr(err)
}

// Compact rewrites a table's files so that they hold no garbage: for the
// compact command and for tests.
func (e *Engine) Compact(t Table) error {
	if err := e.writable(); err != nil {
		return err
	}
	if err := e.flush(); err != nil {
		return err
	}
	lower, upper := t.Bounds()
	e.pressure.urgent.Add(1)
	defer e.pressure.urgent.Add(-1)
	return convErr(e.db.Compact(context.Background(), lower, upper, true))
}
