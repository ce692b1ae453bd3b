package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func openTest(t testing.TB, fs vfs.FS, segmentSize int64) *Journal {
	t.Helper()
	j, err := Open(Options{FS: fs, Dir: "journal", SegmentSize: segmentSize})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func closeTest(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// entry makes the record of an index; ts is ten times the index, and the
// payload is of a size that the index determines.
func entry(index uint64) Record {
	p := binary.LittleEndian.AppendUint64(nil, index)
	p = append(p, bytes.Repeat([]byte{byte(index)}, int(index*37%301))...)
	return Record{Kind: KindEntry, Index: index, Term: 1, TS: index * 10, Payload: p}
}

func appendEntries(t testing.TB, j *Journal, from, to uint64) {
	t.Helper()
	for i := from; i <= to; i++ {
		if _, err := j.Append([]Record{entry(i)}); err != nil {
			t.Fatal(err)
		}
	}
}

func syncAll(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.SyncTo(j.Appended().Pos); err != nil {
		t.Fatal(err)
	}
}

// collect reads indexes forward from a place to the end.
func collect(t testing.TB, j *Journal, from ReadFrom) []uint64 {
	t.Helper()
	r, err := j.NewReader(from)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got []uint64
	for r.Next() {
		rec := r.Record()
		if want := entry(rec.Index); rec.Kind == KindEntry && !bytes.Equal(rec.Payload, want.Payload) {
			t.Fatalf("payload of index %d differs", rec.Index)
		}
		got = append(got, rec.Index)
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return got
}

func wantRange(t testing.TB, got []uint64, from, to uint64) {
	t.Helper()
	if uint64(len(got)) != to+1-from {
		t.Fatalf("got %d records, want %d to %d", len(got), from, to)
	}
	for i, g := range got {
		if g != from+uint64(i) {
			t.Fatalf("record %d has index %d, want %d", i, g, from+uint64(i))
		}
	}
}

func TestReadersSeeOnlyDurable(t *testing.T) {
	j := openTest(t, vfs.NewMem(), 4096)
	defer closeTest(t, j)
	appendEntries(t, j, 1, 100)
	if got := collect(t, j, FromStart()); len(got) != 0 {
		t.Fatalf("a reader saw %d records before the sync", len(got))
	}
	wantRange(t, collect(t, j, FromStart().Undurable()), 1, 100)
	syncAll(t, j)
	wantRange(t, collect(t, j, FromStart()), 1, 100)
	if n := len(j.Segments()); n < 3 {
		t.Fatalf("%d segments, want several", n)
	}
}

func TestSeekForwardAndBackward(t *testing.T) {
	const n = 3000
	for _, reopen := range []bool{false, true} {
		fs := vfs.NewMem()
		j := openTest(t, fs, 300<<10)
		appendEntries(t, j, 1, n)
		syncAll(t, j)
		if reopen {
			closeTest(t, j)
			j = openTest(t, fs, 300<<10)
		}
		if f := j.First(); f != (Mark{0, 1, 10}) {
			t.Fatalf("first %+v", f)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		for range 200 {
			i := 1 + rng.Uint64N(n)
			for _, from := range []ReadFrom{FromIndex(i), FromTS(i * 10), FromTS(i*10 - 9)} {
				r, err := j.NewReader(from)
				if err != nil {
					t.Fatal(err)
				}
				for k := range uint64(5) {
					if i+k > n {
						break
					}
					if !r.Next() || r.Record().Index != i+k {
						t.Fatalf("from %+v: at %d, err %v, want %d", from, r.Record().Index, r.Err(), i+k)
					}
				}
				at := min(i+4, n)
				for ; at > 0 && at+300 > i; at-- {
					if !r.Prev() || r.Record().Index != at {
						t.Fatalf("back from %+v: at %d, err %v, want %d", from, r.Record().Index, r.Err(), at)
					}
				}
				r.Close()
			}
		}
		if _, ok, err := j.SeekTS(n*10 + 1); ok || err != nil {
			t.Fatalf("seek behind the end: %v %v", ok, err)
		}
		if i, ok, err := j.SeekTS(77); i != 8 || !ok || err != nil {
			t.Fatalf("seek 77: %d %v %v", i, ok, err)
		}
		r, err := j.NewReader(FromEnd())
		if err != nil {
			t.Fatal(err)
		}
		for i := uint64(n); i >= 1; i-- {
			if !r.Prev() || r.Record().Index != i {
				t.Fatalf("back from the end: at %d, err %v, want %d", r.Record().Index, r.Err(), i)
			}
		}
		if r.Prev() || r.Err() != nil {
			t.Fatalf("moved before the start: %v", r.Err())
		}
		r.Close()
		closeTest(t, j)
	}
}

func TestKindsKeepIndexes(t *testing.T) {
	fs := vfs.NewMem()
	j := openTest(t, fs, 0)
	recs := []Record{
		{Kind: KindLocal, Payload: []byte("a"), TS: 99},
		entry(1),
		{Kind: KindRaftEmpty, Index: 2, Term: 7},
		{Kind: KindHardState, Payload: []byte("b")},
		entry(3),
		{Kind: KindLocal, Payload: make([]byte, 200<<10)},
	}
	if _, err := j.Append(recs); err != nil {
		t.Fatal(err)
	}
	closeTest(t, j)
	j = openTest(t, fs, 0)
	defer closeTest(t, j)
	want := []Mark{{0, 0, 0}, {0, 1, 10}, {0, 2, 10}, {0, 2, 10}, {0, 3, 30}, {0, 3, 30}}
	r, err := j.NewReader(FromStart())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i, w := range want {
		if !r.Next() {
			t.Fatalf("record %d: %v", i, r.Err())
		}
		if rec := r.Record(); rec.Kind != recs[i].Kind || rec.Index != w.Index || rec.TS != w.TS || !bytes.Equal(rec.Payload, recs[i].Payload) {
			t.Fatalf("record %d: %v index %d ts %d", i, rec.Kind, rec.Index, rec.TS)
		}
	}
	if got := j.Appended(); got.Index != 3 || got.TS != 30 || got != j.Durable() {
		t.Fatalf("appended %+v durable %+v", got, j.Durable())
	}
}

func TestAppendRefusesDisorder(t *testing.T) {
	j := openTest(t, vfs.NewMem(), 0)
	defer closeTest(t, j)
	appendEntries(t, j, 1, 2)
	for name, rec := range map[string]Record{
		"gap":         entry(4),
		"again":       entry(2),
		"ts back":     {Kind: KindEntry, Index: 3, TS: 20},
		"no ts":       {Kind: KindEntry, Index: 3},
		"raft ts":     {Kind: KindRaftConf, Index: 3, TS: 20},
		"kind 0":      {Index: 3, TS: 30},
		"kind beyond": {Kind: 6, Index: 3, TS: 30},
	} {
		before := j.Appended()
		if _, err := j.Append([]Record{entry(3), rec}); err == nil && name != "gap" {
			t.Errorf("%s: accepted", name)
		} else if name == "gap" {
			continue
		}
		if j.Appended() != before {
			t.Errorf("%s: something was appended", name)
		}
		if j.Err() != nil {
			t.Errorf("%s: poisoned", name)
		}
	}
}

func TestTruncateFront(t *testing.T) {
	fs := vfs.NewMem()
	j := openTest(t, fs, 4096)
	appendEntries(t, j, 1, 500)
	syncAll(t, j)
	old, err := j.NewReader(FromStart())
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	before := j.Size()
	want := j.Reclaimable(250)
	if err := j.TruncateFront(250); err != nil {
		t.Fatal(err)
	}
	if got := before - j.Size(); got != want || got == 0 {
		t.Fatalf("freed %d bytes, announced %d", got, want)
	}
	first := j.First()
	if first.Index > 250 || first.Index < 200 || first.TS != first.Index*10 {
		t.Fatalf("first %+v", first)
	}
	wantRange(t, collect(t, j, FromStart()), first.Index, 500)
	if _, err := j.NewReader(FromPos(0)); !errors.Is(err, ErrTruncated) {
		t.Fatalf("read from a truncated place: %v", err)
	}
	for old.Next() {
	}
	if !errors.Is(old.Err(), ErrTruncated) {
		t.Fatalf("old reader: %v", old.Err())
	}
	closeTest(t, j)
	j = openTest(t, fs, 4096)
	defer closeTest(t, j)
	if j.First() != first {
		t.Fatalf("first after reopen %+v, want %+v", j.First(), first)
	}
	if err := j.TruncateFront(1 << 60); err != nil {
		t.Fatal(err)
	}
	appendEntries(t, j, 501, 510)
	syncAll(t, j)
	if got := collect(t, j, FromStart()); got[len(got)-1] != 510 {
		t.Fatalf("last %d", got[len(got)-1])
	}
}

func TestTruncateAfter(t *testing.T) {
	for _, keep := range []uint64{500, 499, 250, 1} {
		fs := vfs.NewMem()
		j := openTest(t, fs, 4096)
		appendEntries(t, j, 1, 500)
		if err := j.TruncateAfter(keep); err != nil {
			t.Fatal(err)
		}
		wantRange(t, collect(t, j, FromStart()), 1, keep)
		for i := keep + 1; i <= 600; i++ {
			r := entry(i)
			r.Term = 2
			if _, err := j.Append([]Record{r}); err != nil {
				t.Fatal(err)
			}
		}
		closeTest(t, j)
		j = openTest(t, fs, 4096)
		wantRange(t, collect(t, j, FromStart()), 1, 600)
		if i, _, err := j.SeekTS(keep * 10); i != keep || err != nil {
			t.Fatalf("seek: %d %v", i, err)
		}
		closeTest(t, j)
	}
}

func TestWaitDurableSyncsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := openTest(t, vfs.NewMem(), 0)
		var wg sync.WaitGroup
		for i := uint64(1); i <= 3; i++ {
			wg.Go(func() {
				if err := j.WaitDurable(context.Background(), i); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		appendEntries(t, j, 1, 2)
		synctest.Wait()
		if d := j.Durable(); d.Index != 2 {
			t.Errorf("durable index %d, want 2", d.Index)
		}
		appendEntries(t, j, 3, 3)
		wg.Wait()

		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := j.WaitDurable(ctx, 4); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait for what never comes: %v", err)
		}
		woken := make(chan error)
		go func() { woken <- j.WaitDurable(context.Background(), 4) }()
		synctest.Wait()
		closeTest(t, j)
		if err := <-woken; !errors.Is(err, ErrClosed) {
			t.Errorf("waiter at close: %v", err)
		}
	})
}

func TestConcurrentSyncsShare(t *testing.T) {
	j := openTest(t, vfs.NewMem(), 64<<10)
	defer closeTest(t, j)
	var mu sync.Mutex
	next := uint64(1)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 100 {
				mu.Lock()
				end, err := j.Append([]Record{entry(next)})
				next++
				mu.Unlock()
				if err == nil {
					err = j.SyncTo(end)
				}
				if err != nil || j.Durable().Pos < end {
					t.Errorf("sync: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	wantRange(t, collect(t, j, FromStart()), 1, 1600)
	if s := j.Stats(); s.Records != 1600 || s.Syncs > s.SyncWaits {
		t.Fatalf("stats %+v", s)
	}
}

func TestLargeUnitsStayInOneSegment(t *testing.T) {
	fs := vfs.NewMem()
	j := openTest(t, fs, 1000)
	index := uint64(1)
	for range 5 {
		var unit []Record
		for range 20 {
			r := entry(index)
			r.More = len(unit) < 19
			unit = append(unit, r)
			index++
		}
		if _, err := j.Append(unit); err != nil {
			t.Fatal(err)
		}
	}
	closeTest(t, j)
	j = openTest(t, fs, 1000)
	defer closeTest(t, j)
	for _, s := range j.Segments() {
		if s.PrevIndex%20 != 0 {
			t.Fatalf("a segment begins inside a unit, behind index %d", s.PrevIndex)
		}
	}
	wantRange(t, collect(t, j, FromStart()), 1, 100)
}

// damage flips a byte of a file.
func damage(t *testing.T, fs vfs.FS, path string, off int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(path, writeCategory)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
}

func TestCorruptMiddleIsNamed(t *testing.T) {
	build := func() (*vfs.MemFS, []Segment, []Pos) {
		fs := vfs.NewMem()
		j := openTest(t, fs, 4096)
		var ends []Pos
		for i := uint64(1); i <= 200; i++ {
			appendEntries(t, j, i, i)
			syncAll(t, j)
			ends = append(ends, j.Appended().Pos)
		}
		segs := j.Segments()
		closeTest(t, j)
		return fs, segs, ends
	}
	_, segs, ends := build()
	for n, pos := range ends[:len(ends)-1] { // each is where a record begins
		seg := segs[0]
		for _, s := range segs {
			if s.Base <= pos {
				seg = s
			}
		}
		fs, _, _ := build()
		off := segmentHeaderLen + int64(pos-seg.Base)
		damage(t, fs, seg.Path, off+int64(n)%recordHeaderLen)
		j, err := Open(Options{FS: fs, Dir: "journal", SegmentSize: 4096})
		if n == len(ends)-2 {
			// Nothing behind the last record can prove that it was synced.
			if err != nil {
				t.Fatalf("damaged last record: %v", err)
			}
			if j.Torn().File != seg.Path || j.Torn().Offset != off {
				t.Fatalf("torn %+v, want %s %d", j.Torn(), seg.Path, off)
			}
			closeTest(t, j)
			continue
		}
		if err == nil {
			// Older segments are not read by Open; reading must find it.
			r, rerr := j.NewReader(FromStart())
			for rerr == nil && r.Next() {
			}
			if err = rerr; err == nil {
				err = r.Err()
				r.Close()
			}
			closeTest(t, j)
		}
		var ce *CorruptionError
		if !errors.As(err, &ce) || ce.File != seg.Path || ce.Offset != off {
			t.Fatalf("record %d at %s %d: %v", n+2, seg.Path, off, err)
		}
	}
}

func TestDamagedHeadersAndMissingFiles(t *testing.T) {
	build := func() (*vfs.MemFS, []Segment) {
		fs := vfs.NewMem()
		j := openTest(t, fs, 4096)
		for i := uint64(1); i <= 215; i++ {
			appendEntries(t, j, i, i)
			syncAll(t, j)
		}
		defer closeTest(t, j)
		return fs, j.Segments()
	}
	fs, segs := build()
	for _, s := range segs {
		var ce *CorruptionError
		damage(t, fs, s.Path, 20)
		_, err := Open(Options{FS: fs, Dir: "journal", SegmentSize: 4096})
		if !errors.As(err, &ce) || ce.File != s.Path || ce.Offset > segmentHeaderLen {
			t.Fatalf("damaged header of %s: %v", s.Path, err)
		}
		damage(t, fs, s.Path, 20)
	}
	for i, s := range segs[1 : len(segs)-1] {
		fs, _ := build()
		if err := fs.Remove(s.Path); err != nil {
			t.Fatal(err)
		}
		var ce *CorruptionError
		if _, err := Open(Options{FS: fs, Dir: "journal"}); !errors.As(err, &ce) || ce.File != segs[i].Path {
			t.Fatalf("missing file %s: %v", s.Path, err)
		}
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	j := openTest(t, fs, 0)
	closeTest(t, j)
	h := segmentHeader{}
	b := h.encode()
	b[8]++
	binary.LittleEndian.PutUint32(b[12:], segmentChecksum(b))
	f, err := fs.OpenReadWrite(fs.PathJoin("journal", segmentName(0)), writeCategory)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := Open(Options{FS: fs, Dir: "journal"}); err == nil || errors.As(err, new(*CorruptionError)) {
		t.Fatalf("newer version: %v", err)
	}
}

func TestKindNames(t *testing.T) {
	for k := Kind(0); k < 7; k++ {
		if got := fmt.Sprint(k); (got == fmt.Sprintf("kind-%d", uint8(k))) == k.valid() {
			t.Errorf("kind %d is called %s", uint8(k), got)
		}
	}
}
