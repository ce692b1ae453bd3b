package journal

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FuzzSegment opens arbitrary bytes as the only segment: Open must cut or
// refuse, never panic, and what it accepts must read forward and backward and
// take appends.
func FuzzSegment(f *testing.F) {
	fs := vfs.NewMem()
	j := openTest(f, fs, 0)
	unit := []Record{entry(3), entry(4)}
	unit[0].More = true
	appendEntries(f, j, 1, 2)
	if _, err := j.Append(append(unit, Record{Kind: KindLocal, Payload: []byte("x")})); err != nil {
		f.Fatal(err)
	}
	closeTest(f, j)
	w, err := openWindow(fs, fs.PathJoin("journal", segmentName(0)))
	if err != nil {
		f.Fatal(err)
	}
	whole, err := w.at(0, w.size)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(whole[:segmentHeaderLen+20])
	f.Add(append(append([]byte(nil), whole...), whole[segmentHeaderLen:]...))
	f.Add([]byte{})

	f.Fuzz(func(t *testing.T, b []byte) {
		fs := vfs.NewMem()
		if err := fs.MkdirAll("journal", 0o755); err != nil {
			t.Fatal(err)
		}
		file, err := fs.Create(fs.PathJoin("journal", segmentName(0)), writeCategory)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write(append([]byte(nil), b...)); err != nil {
			t.Fatal(err)
		}
		file.Close()
		j, err := Open(Options{FS: fs, Dir: "journal"})
		if err != nil {
			return
		}
		r, err := j.NewReader(FromStart())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; r.Next(); n++ {
		}
		for ; r.Prev(); n-- {
		}
		if r.Err() != nil || n != 0 {
			t.Fatalf("accepted by Open, but reading says %v (%d)", r.Err(), n)
		}
		r.Close()
		last := j.Appended()
		next := Record{Kind: KindEntry, Index: last.Index + 1, TS: last.TS + 1}
		if last.TS+1 == 0 || last.Index+1 == 0 {
			return
		}
		if _, err := j.Append([]Record{next}); err != nil {
			t.Fatal(err)
		}
		closeTest(t, j)
		j, err = Open(Options{FS: fs, Dir: "journal"})
		if err != nil {
			t.Fatal(errors.Join(errors.New("not readable after an append"), err))
		}
		if got := j.Appended(); got.Index != next.Index || j.Torn().File != "" {
			t.Fatalf("end %+v, torn %+v", got, j.Torn())
		}
		closeTest(t, j)
	})
}
