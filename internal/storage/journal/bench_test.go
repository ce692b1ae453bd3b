package journal

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func benchJournal(b *testing.B, opt Options) *Journal {
	b.Helper()
	opt.FS, opt.Dir = vfs.Default, b.TempDir()
	j, err := Open(opt)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closeTest(b, j) })
	return j
}

func benchRecord(size int) []Record {
	return []Record{{Kind: KindEntry, Term: 1, Payload: make([]byte, size)}}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{200, 1000, 100_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			j := benchJournal(b, Options{})
			recs := benchRecord(size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				recs[0].Index++
				recs[0].TS++
				if _, err := j.Append(recs); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSync is one append and one fsync, with and without writing ahead.
func BenchmarkSync(b *testing.B) {
	for _, pre := range []int64{-1, 64 << 10, 256 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("ahead=%d", pre), func(b *testing.B) {
			j := benchJournal(b, Options{Preallocate: pre})
			recs := benchRecord(1000)
			b.ReportAllocs()
			for b.Loop() {
				recs[0].Index++
				recs[0].TS++
				end, err := j.Append(recs)
				if err == nil {
					err = j.SyncTo(end)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGroupSync(b *testing.B) {
	j := benchJournal(b, Options{})
	var lock atomic.Bool
	var index uint64
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		recs := benchRecord(1000)
		for pb.Next() {
			for !lock.CompareAndSwap(false, true) {
			}
			index++
			recs[0].Index, recs[0].TS = index, index
			end, err := j.Append(recs)
			lock.Store(false)
			if err == nil {
				err = j.SyncTo(end)
			}
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	s := j.Stats()
	b.ReportMetric(float64(s.Records)/float64(max(1, s.Syncs)), "acks/fsync")
}

func BenchmarkRead(b *testing.B) {
	j := benchJournal(b, Options{})
	recs := benchRecord(1000)
	for range 50_000 {
		recs[0].Index++
		recs[0].TS++
		if _, err := j.Append(recs); err != nil {
			b.Fatal(err)
		}
	}
	syncAll(b, j)
	b.Run("next", func(b *testing.B) {
		r, err := j.NewReader(FromStart())
		if err != nil {
			b.Fatal(err)
		}
		defer r.Close()
		b.ReportAllocs()
		b.SetBytes(1000)
		for b.Loop() {
			if !r.Next() {
				if err := r.Seek(FromStart()); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("seek", func(b *testing.B) {
		r, err := j.NewReader(FromStart())
		if err != nil {
			b.Fatal(err)
		}
		defer r.Close()
		b.ReportAllocs()
		for i := uint64(0); b.Loop(); i++ {
			if err := r.Seek(FromTS(i * 7919 % 50_000)); err != nil || !r.Next() {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSeekAfterRestart is the first seek by ts into a log of 5,000,000
// small entries, each round on a journal just opened. Without side files it
// reads the headers of a whole segment.
func BenchmarkSeekAfterRestart(b *testing.B) {
	const entries = 5_000_000
	opt := Options{FS: vfs.Default, Dir: b.TempDir()}
	j, err := Open(opt)
	if err != nil {
		b.Fatal(err)
	}
	batch := make([]Record, 500)
	payload := make([]byte, 150)
	for i := uint64(1); i <= entries; {
		for k := range batch {
			batch[k] = Record{Kind: KindEntry, Term: 1, Index: i, TS: i * 10, Payload: payload}
			i++
		}
		end, err := j.Append(batch)
		if err == nil && i%100_000 == 1 {
			err = j.SyncTo(end) // as the sequencer does ten times a second
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("%d segments, %d MB", len(j.Segments()), j.Size()>>20)
	closeTest(b, j)
	for _, side := range []bool{true, false} {
		b.Run(fmt.Sprintf("side files %v", side), func(b *testing.B) {
			var worst, sum, opening time.Duration
			n := 0
			for b.Loop() {
				start := time.Now()
				j, err := Open(opt)
				if err != nil {
					b.Fatal(err)
				}
				opening += time.Since(start)
				want := uint64(n*7919*4999)%entries + 1
				if seg, _, _ := j.segmentAt(Pos(want) * (recordHeaderLen + 150)); !side && seg != nil {
					_ = opt.FS.Remove(seg.sparsePath())
				}
				start = time.Now()
				got, ok, err := j.SeekTS(want * 10)
				took := time.Since(start)
				if got != want || !ok || err != nil {
					b.Fatal(got, want, err)
				}
				sum, worst = sum+took, max(worst, took)
				n++
				closeTest(b, j)
			}
			b.ReportMetric(float64(sum.Microseconds())/float64(n), "µs/seek")
			b.ReportMetric(float64(worst.Microseconds()), "µs-worst")
			b.ReportMetric(float64(opening.Microseconds())/float64(n), "µs/open")
		})
	}
}
