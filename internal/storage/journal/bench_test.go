package journal

import (
	"fmt"
	"sync/atomic"
	"testing"

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
