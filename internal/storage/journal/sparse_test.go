package journal

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func sideFiles(t testing.TB, fs vfs.FS) []string {
	t.Helper()
	names, err := fs.List("journal")
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, sparseSuffix) })
	slices.Sort(names)
	return names
}

func readAll(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open("journal/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeAll(t testing.TB, fs vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create("journal/"+name, writeCategory)
	if err != nil {
		t.Fatal(err)
	}
	// A vfs.File may change what it is given to write.
	if _, err := f.Write(bytes.Clone(b)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// bigSegments makes a closed journal of three segments with several table
// entries each, and returns its file system and the newest index.
func bigSegments(t testing.TB) (*vfs.MemFS, uint64) {
	t.Helper()
	fs := vfs.NewMem()
	j := openTest(t, fs, 1<<20)
	i := uint64(0)
	for len(j.Segments()) < 4 {
		i++
		r := entry(i)
		r.Payload = append(r.Payload, make([]byte, 5000)...)
		if _, err := j.Append([]Record{r}); err != nil {
			t.Fatal(err)
		}
		syncAll(t, j) // or the next open reads it all to find the end
	}
	closeTest(t, j)
	if got := len(sideFiles(t, fs)); got != 3 {
		t.Fatalf("%d side files for 3 sealed segments", got)
	}
	return fs, i
}

// seekEvery checks the seeks to every 17th ts and tells how many bytes the
// first of them read of segment files.
func seekEvery(t testing.TB, fs vfs.FS, newest uint64) (firstReads int64) {
	t.Helper()
	var reads atomic.Int64
	j := openTest(t, errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, segmentSuffix) {
			reads.Add(1)
		}
		return nil
	})), 1<<20)
	defer closeTest(t, j)
	reads.Store(0)
	for i := uint64(3); i <= newest; i += 17 {
		got, ok, err := j.SeekTS(i*10 - 5)
		if !ok || got != i || err != nil {
			t.Fatalf("seek to index %d: %d, %v, %v", i, got, ok, err)
		}
		if i == 3 {
			firstReads = reads.Load()
		}
	}
	return firstReads
}

// TestFirstSeekReadsLittle: after a restart a seek into an older segment reads
// its side file and a block, not the segment; without the side file it makes it
// anew, whatever is in its place.
func TestFirstSeekReadsLittle(t *testing.T) {
	fs, newest := bigSegments(t)
	if n := seekEvery(t, fs, newest); n > 3 {
		t.Errorf("the first seek read the segment %d times", n)
	}
	first := sideFiles(t, fs)[0]
	good := readAll(t, fs, first)
	second := readAll(t, fs, sideFiles(t, fs)[1])
	newer := bytes.Clone(good)
	newer[8] = 2
	for name, b := range map[string][]byte{
		"empty": {}, "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "another segment's": second,
		"newer version": newer, "damaged": append(bytes.Clone(good[:60]), append([]byte{good[60] + 1}, good[61:]...)...),
	} {
		writeAll(t, fs, first, b)
		seekEvery(t, fs, newest)
		if !bytes.Equal(readAll(t, fs, first), good) {
			t.Errorf("%s: the side file was not made anew", name)
		}
	}
	if err := fs.Remove("journal/" + first); err != nil {
		t.Fatal(err)
	}
	seekEvery(t, fs, newest)
	if !bytes.Equal(readAll(t, fs, first), good) {
		t.Error("missing: the side file was not made anew")
	}
}

func TestSideFilesGoWithTheirSegments(t *testing.T) {
	fs, newest := bigSegments(t)
	orphan := strings.TrimSuffix(segmentName(1<<40), segmentSuffix) + sparseSuffix
	writeAll(t, fs, orphan, []byte("x"))
	j := openTest(t, fs, 1<<20)
	if got := sideFiles(t, fs); len(got) != 3 || slices.Contains(got, orphan) {
		t.Errorf("after open: %v", got)
	}
	if err := j.TruncateFront(j.Segments()[1].PrevIndex + 1); err != nil {
		t.Fatal(err)
	}
	if got := sideFiles(t, fs); len(got) != 2 {
		t.Errorf("after the front was cut: %v", got)
	}
	// The second segment is appended to again.
	keep := j.Segments()[1].PrevIndex - 5
	if err := j.TruncateAfter(keep); err != nil {
		t.Fatal(err)
	}
	if got := sideFiles(t, fs); len(got) != 0 {
		t.Errorf("after the tail was cut: %v", got)
	}
	for i := keep + 1; i <= newest; i++ {
		r := entry(i)
		r.Payload = append(r.Payload, make([]byte, 4000)...)
		if _, err := j.Append([]Record{r}); err != nil {
			t.Fatal(err)
		}
	}
	first := j.First().Index
	closeTest(t, j)
	if got := sideFiles(t, fs); len(got) == 0 {
		t.Error("no new side files")
	}
	j = openTest(t, fs, 1<<20)
	defer closeTest(t, j)
	for i := first; i <= newest; i++ {
		if got, ok, err := j.SeekTS(i * 10); got != i || !ok || err != nil {
			t.Fatalf("seek to index %d: %d, %v, %v", i, got, ok, err)
		}
	}
}

// TestSideFileFailureIsNone: a journal goes on though none can be written.
func TestSideFileFailureIsNone(t *testing.T) {
	mem := vfs.NewMem()
	j := openTest(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasSuffix(op.Path, sparseSuffix) {
			return errorfs.ErrInjected
		}
		return nil
	})), 4096)
	appendEntries(t, j, 1, 200)
	syncAll(t, j)
	if len(j.Segments()) < 3 || len(sideFiles(t, mem)) != 0 {
		t.Errorf("%d segments, side files %v", len(j.Segments()), sideFiles(t, mem))
	}
	wantRange(t, collect(t, j, FromTS(555)), 56, 200)
	closeTest(t, j)
}

func FuzzSideFile(f *testing.F) {
	end := Mark{1 << 20, 77, 770}
	f.Add(encodeSparse(4096, end, []sparseEntry{{0, 1, 10}, {70000, 9, 90}}))
	f.Add([]byte(sparseMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if entries, ok := decodeSparse(b, 4096, end); ok && !bytes.Equal(encodeSparse(4096, end, entries), b) {
			t.Error("a table that was never written is read")
		}
	})
}
