package replay

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
)

// insertEntries is the seed's oplog: n inserts of about 100 bytes each.
func insertEntries(n int) (entries []bson.Raw, size int64) {
	ui := bson.UUID{1, 2, 3}
	entries = append(entries, logged(0, bson.D("op", "c", "ns", "seed.$cmd", "ui", ui, "o", bson.D("create", "c"))))
	for i := range n {
		var id bson.ObjectID
		id[0], id[8], id[9], id[10], id[11] = 0x6b, byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
		o := bson.D("_id", id, "name", fmt.Sprint("name-", i), "gender", "male", "age", i%100, "pad", "0123456789012345678")
		entries = append(entries, logged(i+1, bson.D("op", "i", "ns", "seed.c", "ui", ui, "o", o)))
	}
	for _, e := range entries {
		size += int64(len(e))
	}
	return entries, size
}

// mixedEntries are inserts of 1 KB and as many $v:2 updates of them.
func mixedEntries(n int) (entries []bson.Raw, size int64) {
	ui := bson.UUID{4, 5, 6}
	entries = append(entries, logged(0, bson.D("op", "c", "ns", "mixed.$cmd", "ui", ui, "o", bson.D("create", "c"))))
	pad := string(make([]byte, 0, 1024))
	for len(pad) < 900 {
		pad += "0123456789abcdef"
	}
	for i := range n / 2 {
		entries = append(entries, logged(2*i+1, bson.D("op", "i", "ns", "mixed.c", "ui", ui, "o", bson.D("_id", i, "n", 0, "a", "some text", "pad", pad))))
		entries = append(entries, logged(2*i+2, bson.D("op", "u", "ns", "mixed.c", "ui", ui,
			"o", bson.D("$v", 2, "diff", bson.D("u", bson.D("n", i, "a", "other text"))), "o2", bson.D("_id", i*7%(i+1)))))
	}
	for _, e := range entries {
		size += int64(len(e))
	}
	return entries, size
}

// logged is an entry with what the log adds to it.
func logged(i int, e bson.Raw) bson.Raw {
	return bson.NewBuilder(nil).AppendElems(e).Timestamp("ts", bson.NewTimestamp(1_700_000_000+uint32(i/100_000), uint32(i%100_000)+1)).
		Int64("t", 1).Int64("v", 2).Date("wall", bson.DateTime(1_700_000_000_000+int64(i))).Finish()
}

// BenchmarkReplay replays oplogs into a Cairn in the same process, also in the way that a
// MongoDB is given them (plain). cpu-µs/entry is the user and system time of both.
func BenchmarkReplay(b *testing.B) {
	for _, bc := range []struct {
		name    string
		entries func(int) ([]bson.Raw, int64)
		plain   bool
	}{
		{"inserts100B", insertEntries, false}, {"inserts100B-plain", insertEntries, true},
		{"mixed1KB", mixedEntries, false}, {"mixed1KB-plain", mixedEntries, true},
	} {
		b.Run(bc.name, func(b *testing.B) {
			name := bc.name
			list, size := bc.entries(100_000)
			if f := os.Getenv("CAIRN_BENCH_OPLOG"); f != "" { // for other tools to replay
				writeEntries(b, f+"."+name, list)
			}
			b.SetBytes(size)
			var cpu time.Duration
			for b.Loop() {
				b.StopTimer()
				c := server(b)
				b.StartTimer()
				before := cpuTime(b)
				st := replayAll(b, Options{Client: c, plain: bc.plain}, list)
				cpu += cpuTime(b) - before
				if st.Applied != int64(len(list)) {
					b.Fatalf("%+v", st)
				}
			}
			b.ReportMetric(float64(cpu.Microseconds())/float64(b.N)/float64(len(list)), "cpu-µs/entry")
			b.ReportMetric(float64(len(list))*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

func writeEntries(b *testing.B, name string, list []bson.Raw) {
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range list {
		if _, err := f.Write(e); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

func cpuTime(b *testing.B) time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
