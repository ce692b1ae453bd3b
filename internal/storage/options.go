package storage

import (
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options configure Open. The zero value of a field means its default.
type Options struct {
	// Dir is the data directory; made if it does not exist. Required.
	Dir string
	// FS is the file system. Default: the operating system's. An in-memory
	// store is vfs.NewMem().
	FS vfs.FS
	// CacheBytes bounds block cache, row cache and memtables in sum. Default
	// 256 MB, at least 8 MB.
	CacheBytes int64
	// MemTableBytes is the size that a memtable grows to (it starts at 256 KB
	// and doubles). Default: an eighth of CacheBytes, 1 MB to 32 MB.
	MemTableBytes int64
	// MaxOpenFiles bounds the engine's open table files. Default 1000.
	MaxOpenFiles int
	// JournalSegmentBytes is the size of a journal segment. Default: the
	// journal's own.
	JournalSegmentBytes int64
	// IngestBytes is the size from which on a bulk load makes table files of its own,
	// each of up to sixteen times that. Default 4 MB.
	IngestBytes int64
	// CheckpointInterval is the longest time between checkpoints while there
	// are changes. Default 60 s; negative: none.
	CheckpointInterval time.Duration
	// CheckpointBytes of journal since the last checkpoint start a new one.
	// Default 1 GB.
	CheckpointBytes int64
	// NoSettle leaves tables as they are while nobody writes. By default an idle moment is used
	// to merge what was written last.
	NoSettle bool
	// ReadOnly opens an existing store without changing a byte of it: a torn
	// tail of the journal stays, nothing is replayed (see Unapplied), and every
	// write is ErrReadOnly.
	ReadOnly bool
	// Logger gets what the operator should see. Default: discarded.
	Logger *slog.Logger
}

const (
	defaultCacheBytes      = 256 << 20
	minCacheBytes          = 8 << 20
	maxMemTableBytes       = 32 << 20
	minMemTableBytes       = 1 << 20
	defaultIngestBytes     = 4 << 20
	defaultCheckpointEvery = 60 * time.Second
	defaultCheckpointBytes = 1 << 30

	// formatMajorVersion is Pebble's on-disk format that this version of
	// Cairn writes. Raising it is a format change: see FORMATS.md.
	formatMajorVersion = pebble.FormatTableFormatV6
)

// EnsureDefaults fills in the defaults.
func (o *Options) EnsureDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCacheBytes
	}
	o.CacheBytes = max(o.CacheBytes, minCacheBytes)
	if o.IngestBytes == 0 {
		o.IngestBytes = defaultIngestBytes
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = min(max(o.CacheBytes/8, minMemTableBytes), maxMemTableBytes)
	}
	if o.MaxOpenFiles == 0 {
		o.MaxOpenFiles = 1000
	}
	if o.CheckpointInterval == 0 {
		o.CheckpointInterval = defaultCheckpointEvery
	}
	if o.CheckpointBytes == 0 {
		o.CheckpointBytes = defaultCheckpointBytes
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// rowCacheBytes is the row cache's share of the cache. Rows take a third of what a block
// with one hot record in it takes, so for point reads this quarter is worth the rest.
func (o *Options) rowCacheBytes() int64 { return o.CacheBytes / 4 }

// Validate reports what cannot work.
func (o *Options) Validate() error {
	if o.Dir == "" {
		return fmt.Errorf("storage: no data directory given")
	}
	if o.CacheBytes < 0 || o.MemTableBytes < 0 || o.CheckpointBytes < 0 {
		return fmt.Errorf("storage: a size is negative")
	}
	return nil
}

// lastLevelCompression is that of the last level, where nearly all data is once
// compaction is through. Decompressing is more than half of a cold scan's CPU,
// so it must be worth it: a block is stored as it is unless it shrinks by 40 %.
// The levels above are not compressed: it would be done again below.
var lastLevelCompression = func() sstable.CompressionProfile {
	p := *block.FastestCompression
	p.Name, p.MinReductionPercent = "cairn", 40
	return p
}()

// pebbleOptions is the tuning; docs/STORAGE.md has the figures behind it. The engine lives on scans and point reads right
// after writes, so read amplification is kept low: large blocks, early L0
// compactions, flushes split so that the runs of one table do not overlap
// those of another, bloom filters on every level, and no second level below
// 512 MB: records come in the order of their keys, so merging into the last
// level at once rewrites little of it. Pebble's own write
// stalls are put out of reach: stalls are the engine's (stall.go), because
// those can be interrupted.
func (o *Options) pebbleOptions() *pebble.Options {
	p := &pebble.Options{
		DisableWAL:                  true,
		ReadOnly:                    o.ReadOnly,
		ErrorIfNotExists:            o.ReadOnly,
		FormatMajorVersion:          formatMajorVersion,
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: 1 << 20,
		L0StopWritesThreshold:       1 << 20,
		L0CompactionThreshold:       4,
		L0CompactionFileThreshold:   200,
		FlushSplitBytes:             8 << 20,
		LBaseMaxBytes:               512 << 20,
		MaxOpenFiles:                o.MaxOpenFiles,
		MaxManifestFileSize:         8 << 20,
		BytesPerSync:                1 << 20,
		FlushDelayDeleteRange:       10 * time.Second,
		CompactionConcurrencyRange: func() (int, int) {
			return 1, max(1, min(4, runtime.GOMAXPROCS(0)-1))
		},
	}
	for i := range p.TargetFileSizes {
		p.TargetFileSizes[i] = int64(min(8<<20<<i, 128<<20))
	}
	for i := range p.Levels {
		p.Levels[i] = pebble.LevelOptions{
			BlockSize:      32 << 10,
			IndexBlockSize: 64 << 10,
			FilterPolicy:   bloom.FilterPolicy(10),
			Compression:    func() *sstable.CompressionProfile { return block.NoCompression },
		}
	}
	p.Levels[len(p.Levels)-1].Compression = func() *sstable.CompressionProfile { return &lastLevelCompression }
	p.Experimental.FileCacheShards = max(1, min(4, runtime.GOMAXPROCS(0)))
	return p
}
