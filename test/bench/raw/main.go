// Command raw measures what the server's parts can do without a server: Pebble without its WAL
// plus an appended, checksummed file, writing the same bytes as an insert does (record, _id key,
// log entry), and the raw iteration of the records. The server's own rates are judged by their
// ratio to these, taken on the same machine at the same time.
//
// It is the one program besides internal/storage that names Pebble: a yardstick cannot be made
// of what it measures.
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

func main() {
	docs := flag.Int("docs", 100_000, "documents")
	size := flag.Int("doc-size", 1024, "bytes a document")
	batch := flag.Int("batch", 1000, "documents a batch")
	dir := flag.String("dir", "", "directory to work in (default: a temporary one)")
	block := flag.Int("block", 32<<10, "block size of the engine's tables")
	cache := flag.Int64("cache", 1<<30, "block cache, bytes")
	rounds := flag.Int("rounds", 5, "scans a row")
	flag.Parse()
	r := &raw{docs: *docs, size: *size, batch: *batch, rounds: *rounds}
	if err := r.run(*dir, *block, *cache); err != nil {
		fmt.Fprintln(os.Stderr, "raw:", err)
		os.Exit(1)
	}
}

// raw is one run.
type raw struct {
	docs, size, batch, rounds int
	db                        *pebble.DB
	log                       *os.File
}

// Table prefixes, as wide as the server's: a space byte and a table number.
const (
	recordTable = "\x02\x00\x00\x00\x05"
	idTable     = "\x02\x00\x00\x00\x06"
)

func (r *raw) run(dir string, block int, cacheBytes int64) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "cairn-raw-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	cache := pebble.NewCache(cacheBytes)
	defer cache.Unref()
	o := &pebble.Options{DisableWAL: true, Cache: cache, MemTableSize: 64 << 20, FormatMajorVersion: pebble.FormatNewest,
		Logger: quiet{}}
	for i := range o.Levels {
		o.Levels[i].BlockSize = block
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	if r.db, err = pebble.Open(filepath.Join(dir, "engine"), o); err != nil {
		return err
	}
	defer r.db.Close()
	if r.log, err = os.Create(filepath.Join(dir, "journal")); err != nil {
		return err
	}
	defer r.log.Close()
	fmt.Printf("%d documents of %d bytes, batches of %d, blocks of %d KB\n\n", r.docs, r.size, r.batch, block>>10)
	fmt.Printf("%-36s %16s %14s\n", "row", "documents/s", "CPU/document")
	if err := r.row("write: engine without WAL + journal", r.docs, 1, r.write); err != nil {
		return err
	}
	if err := r.row("iterate right after the load, cold", r.docs, 1, r.iterate); err != nil {
		return err
	}
	if err := r.row("iterate right after the load, warm", r.docs, r.rounds, r.iterate); err != nil {
		return err
	}
	if err := r.db.Flush(); err != nil {
		return err
	}
	if err := r.db.Compact(context.Background(), []byte{0}, []byte{255}, true); err != nil {
		return err
	}
	if err := r.iterate(); err != nil { // fills the cache
		return err
	}
	if err := r.row("iterate settled", r.docs, r.rounds, r.iterate); err != nil {
		return err
	}
	return r.row("iterate settled, reading a field", r.docs, r.rounds, r.iterateField)
}

func (r *raw) row(name string, units, rounds int, f func() error) error {
	cpu, start := used(), time.Now()
	for range rounds {
		if err := f(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	n := float64(units * rounds)
	fmt.Printf("%-36s %16.0f %14s\n", name, n/time.Since(start).Seconds(), time.Duration(float64(used()-cpu)/n))
	return nil
}

// used is this process's CPU time, compactions included.
func used() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// write makes documents and puts each once into the journal and once, with its _id key, into the engine.
func (r *raw) write() error {
	table := crc32.MakeTable(crc32.Castagnoli)
	rng := rand.New(rand.NewPCG(1, 1))
	// 256 different texts, as in the load program: one alone would compress to nothing.
	texts := make([][]byte, 256)
	for t := range texts {
		texts[t] = make([]byte, r.size)
		for i := range texts[t] {
			texts[t][i] = byte('A' + rng.IntN(64))
		}
	}
	var buf []byte
	for from := 0; from < r.docs; from += r.batch {
		buf = buf[:0]
		b := r.db.NewBatch()
		for i := from; i < min(from+r.batch, r.docs); i++ {
			doc := texts[i%len(texts)]
			binary.BigEndian.PutUint64(doc[8:], uint64(i)*0x9e3779b97f4a7c15)
			buf = appendEntry(buf, doc, uint64(i), table)
			id := binary.BigEndian.AppendUint64(nil, uint64(i))
			if err := b.Set(append([]byte(recordTable), id...), doc, nil); err != nil {
				return err
			}
			if err := b.Set(append([]byte(idTable), id...), id, nil); err != nil {
				return err
			}
		}
		if _, err := r.log.Write(buf); err != nil {
			return err
		}
		if err := b.Commit(pebble.NoSync); err != nil {
			return err
		}
		if err := b.Close(); err != nil {
			return err
		}
	}
	return r.log.Sync()
}

// entryHead is about what an oplog entry adds to its document.
const entryHead = 130

func appendEntry(buf, doc []byte, index uint64, table *crc32.Table) []byte {
	start := len(buf)
	buf = append(buf, make([]byte, 36+entryHead)...)
	buf = append(buf, doc...)
	binary.LittleEndian.PutUint32(buf[start:], uint32(entryHead+len(doc)))
	binary.LittleEndian.PutUint64(buf[start+12:], index)
	binary.LittleEndian.PutUint32(buf[start+4:], crc32.Checksum(buf[start+8:], table))
	return buf
}

func (r *raw) iterate() error { return r.each(func([]byte) bool { return true }) }

func (r *raw) iterateField() error {
	return r.each(func(v []byte) bool { return binary.BigEndian.Uint64(v[8:]) != 1 })
}

func (r *raw) each(visit func(v []byte) bool) error {
	it, err := r.db.NewIter(&pebble.IterOptions{LowerBound: []byte(recordTable), UpperBound: []byte(idTable)})
	if err != nil {
		return err
	}
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if visit(it.Value()) {
			n++
		}
	}
	if err := it.Close(); err != nil {
		return err
	}
	if n != r.docs {
		return fmt.Errorf("WRONG: iterated %d of %d", n, r.docs)
	}
	return nil
}

// quiet drops the engine's log and ends the program on what it calls fatal.
type quiet struct{}

// Infof drops a message of the engine.
func (quiet) Infof(string, ...any) {}

// Errorf drops a message of the engine.
func (quiet) Errorf(string, ...any) {}

// Fatalf reports that the engine cannot go on.
func (quiet) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "raw: "+format+"\n", args...)
	os.Exit(1)
}
