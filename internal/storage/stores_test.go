package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func recordsOf(t *testing.T, c RecordCursor, seek RecordID) (ids []RecordID) {
	t.Helper()
	ok := false
	if seek != 0 {
		ok = c.Seek(seek)
	} else {
		ok = c.Next()
	}
	for ; ok; ok = c.Next() {
		if want := fmt.Sprint("doc", c.RecordID()); string(c.Value()) != want {
			t.Fatalf("record %d is %q", c.RecordID(), c.Value())
		}
		ids = append(ids, c.RecordID())
	}
	if c.Next() {
		t.Fatal("a cursor goes on behind its end")
	}
	if err := errors.Join(c.Err(), c.Close()); err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestRecordStore(t *testing.T) {
	n := memNode(t)
	s := RecordStore{testTable}
	put := func(u *RecoveryUnit, ids ...RecordID) {
		for _, id := range ids {
			s.Put(u, id, fmt.Append(nil, "doc", id))
		}
	}
	if id, err := s.LastID(n.e); id != 0 || err != nil {
		t.Fatal(id, err)
	}
	n.mustCommit(func(u *RecoveryUnit) {
		put(u, 1, 3, 5, 7, MaxRecordID)
		other := RecordStore{Table{SpaceReplicated, testTable.Ident + 1}}
		other.Put(u, 2, []byte("foreign"))
		RecordStore{Table{SpaceReplicated, testTable.Ident - 1}}.Put(u, 4, []byte("foreign"))
	})
	u := n.e.NewRecoveryUnit(nil)
	defer u.Rollback()
	put(u, 4)
	s.Delete(u, 5)
	const M = MaxRecordID
	for _, c := range []struct {
		r            Reader
		d            Direction
		lower, upper RecordID
		seek         RecordID
		want         []RecordID
	}{
		{r: n.e, d: Forward, want: []RecordID{1, 3, 5, 7, M}},
		{r: n.e, d: Backward, want: []RecordID{M, 7, 5, 3, 1}},
		{r: n.e, d: Forward, seek: 4, want: []RecordID{5, 7, M}},
		{r: n.e, d: Backward, seek: 4, want: []RecordID{3, 1}},
		{r: n.e, d: Backward, seek: 3, want: []RecordID{3, 1}},
		{r: n.e, d: Backward, seek: M, want: []RecordID{M, 7, 5, 3, 1}},
		{r: n.e, d: Forward, lower: 3, upper: 7, want: []RecordID{3, 5, 7}},
		{r: n.e, d: Backward, lower: 2, upper: 6, want: []RecordID{5, 3}},
		{r: n.e, d: Forward, lower: 6, upper: 2},
		{r: n.e, d: Forward, lower: 7, upper: M, want: []RecordID{7, M}},
		{r: u, d: Forward, want: []RecordID{1, 3, 4, 7, M}},
		{r: u, d: Backward, seek: 5, want: []RecordID{4, 3, 1}},
	} {
		got := recordsOf(t, s.CursorRange(c.r, c.d, c.lower, c.upper), c.seek)
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if id, err := s.LastID(u); id != M || err != nil {
		t.Fatal(id, err)
	}
	if v, err := s.Get(u, 4, nil); err != nil || string(v) != "doc4" {
		t.Fatal(v, err)
	}
	if _, err := s.Get(n.e, 4, nil); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
}

func TestRecordIDOrder(t *testing.T) {
	ids := []RecordID{-1 << 63, -5, 0, 1, 2, 255, 256, 1 << 40, MaxRecordID}
	for i, a := range ids {
		ab := AppendRecordID(nil, a)
		if DecodeRecordID(ab) != a {
			t.Errorf("%d comes back as %d", a, DecodeRecordID(ab))
		}
		if i > 0 && bytes.Compare(AppendRecordID(nil, ids[i-1]), ab) >= 0 {
			t.Errorf("%d is not above %d", a, ids[i-1])
		}
	}
}

func TestIndexStore(t *testing.T) {
	for _, byID := range []bool{false, true} {
		t.Run(fmt.Sprintf("byID=%v", byID), func(t *testing.T) {
			n := memNode(t)
			s := IndexStore{testTable, byID}
			n.mustCommit(func(u *RecoveryUnit) {
				s.Put(u, []byte("bb"), 10, []byte{7})
				s.Put(u, []byte("dd"), 3, nil)
				s.Put(u, []byte("ff"), 8, nil)
				s.Put(u, []byte("gg"), 9, nil)
				s.Remove(u, []byte("gg"), 9)
				if !byID {
					s.Put(u, []byte("dd"), 4, nil)
				}
			})
			walk := func(c *IndexCursor, ok bool) (got string) {
				for ; ok; ok = c.Next() {
					got += fmt.Sprintf("%s:%d%x ", c.KeyString(), c.RecordID(), c.TypeBits())
				}
				if err := errors.Join(c.Err(), c.Close()); err != nil {
					t.Fatal(err)
				}
				return got
			}
			dd, back := "dd:3 dd:4 ", "dd:4 dd:3 "
			if byID {
				dd, back = "dd:3 ", "dd:3 "
			}
			expect := func(got, want string) {
				t.Helper()
				if got != want {
					t.Errorf("%q, want %q", got, want)
				}
			}
			cur := func(d Direction, lo, hi string) *IndexCursor {
				var b IndexBounds
				if lo != "" {
					b.Lower = []byte(lo)
				}
				if hi != "" {
					b.Upper = []byte(hi)
				}
				return s.Cursor(n.e, d, b)
			}
			c := cur(Forward, "", "")
			expect(walk(c, c.Next()), "bb:1007 "+dd+"ff:8 ")
			c = cur(Backward, "", "")
			expect(walk(c, c.Next()), "ff:8 "+back+"bb:1007 ")
			c = cur(Forward, "c", "f")
			expect(walk(c, c.Next()), dd)
			c = cur(Forward, "f", "c")
			expect(walk(c, c.Next()), "")
			c = cur(Forward, "", "")
			expect(walk(c, c.Seek([]byte("dd"))), dd+"ff:8 ")
			c = cur(Backward, "", "")
			expect(walk(c, c.Seek([]byte("dd"))), "bb:1007 ")
			c = cur(Forward, "", "")
			expect(walk(c, c.SeekBeyond([]byte("dd"), 3)), dd[5:]+"ff:8 ")
			c = cur(Backward, "", "")
			expect(walk(c, c.SeekBeyond([]byte("ff"), 8)), back+"bb:1007 ")
			c = cur(Forward, "", "")
			expect(walk(c, c.SeekBeyond([]byte("ee"), 1)), "ff:8 ") // it was removed meanwhile

			id, bits, err := s.Find(n.e, []byte("bb"), nil)
			if id != 10 || !bytes.Equal(bits, []byte{7}) || err != nil {
				t.Error(id, bits, err)
			}
			if id, _, err := s.Find(n.e, []byte("dd"), nil); id != 3 || err != nil {
				t.Error(id, err)
			}
			if _, _, err := s.Find(n.e, []byte("gg"), nil); !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
		})
	}
}

func TestBulkLoad(t *testing.T) {
	for name, ingest := range map[string]int64{"memory": 1 << 30, "tables": 8 << 10} {
		t.Run(name, func(t *testing.T) { testBulkLoad(t, ingest) })
	}
}

func testBulkLoad(t *testing.T, ingest int64) {
	o := testOptions(vfs.NewMem())
	o.IngestBytes = ingest
	n := openNode(t, o)
	defer func() {
		if err := n.e.Close(); err != nil {
			t.Error(err)
		}
	}()
	ingested := n.e.db.Metrics().Ingest.Count
	const entries = 60_000
	s := IndexStore{testTable, false}
	l := n.e.NewBulkLoader(testTable, 1<<20)
	r := rand.New(rand.NewPCG(1, 1))
	for _, i := range r.Perm(entries) {
		if err := l.AddIndexEntry(s, fmt.Appendf(nil, "key%08d", i/2), RecordID(i+1), []byte("tb")); err != nil {
			t.Fatal(err)
		}
	}
	if l.s.Spilled() == 0 || l.Len() != entries {
		t.Fatalf("spilled %d bytes, %d entries", l.s.Spilled(), l.Len())
	}
	if mem := cap(l.s.arena) + cap(l.s.entries)*sortEntryBytes; mem > 3<<20 {
		t.Errorf("the sort holds %d bytes", mem)
	}
	dups := 0
	var last []byte
	if err := l.Load(t.Context(), func(rest, _ []byte) error {
		if ks := rest[:len(rest)-recordIDLen]; bytes.Equal(ks, last) {
			dups++
		} else {
			last = append(last[:0], ks...)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if dups != entries/2 {
		t.Errorf("%d duplicates seen", dups)
	}
	c := s.Cursor(n.e, Forward, IndexBounds{})
	i := 0
	for ; c.Next(); i++ {
		if int(c.RecordID()) != i+1 || string(c.TypeBits()) != "tb" {
			t.Fatalf("entry %d is of record %d", i, c.RecordID())
		}
	}
	if err := errors.Join(c.Err(), c.Close()); err != nil || i != entries {
		t.Fatal(i, err)
	}
	if names, _ := n.e.fs.List("db/tmp"); len(names) != 0 {
		t.Errorf("left in tmp: %v", names)
	}
	if m := n.e.db.Metrics(); (m.Ingest.Count > ingested) != (ingest < entries) {
		t.Errorf("%d files were ingested", m.Ingest.Count-ingested)
	}
	// Later writes to the table count more than what was loaded.
	n.mustCommit(func(u *RecoveryUnit) { s.Put(u, []byte("key00000000"), 1, []byte("new")) })
	c = s.Cursor(n.e, Forward, IndexBounds{})
	if !c.Next() || string(c.TypeBits()) != "new" {
		t.Error("the load hides a later write")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBulkLoadStops(t *testing.T) {
	n := memNode(t)
	l := n.e.NewBulkLoader(testTable, 0)
	for i := range 10 {
		if err := l.Add(fmt.Append(nil, i), nil); err != nil {
			t.Fatal(err)
		}
	}
	boom := errors.New("boom")
	if err := l.Load(t.Context(), func(_, _ []byte) error { return boom }); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(boom)
	if err := l.Load(ctx, nil); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSorterMergesManyRuns(t *testing.T) {
	n := memNode(t)
	s := n.e.NewSorter(1)
	s.max = 4 << 10 // smaller than allowed: to get many runs
	want := make([]string, 0, 20_000)
	r := rand.New(rand.NewPCG(5, 5))
	for i := range cap(want) {
		k := fmt.Sprintf("%04d", r.IntN(5000))
		if err := s.Add([]byte(k), fmt.Appendf(nil, "%06d", i)); err != nil {
			t.Fatal(err)
		}
		want = append(want, k+fmt.Sprintf("%06d", i))
	}
	if len(s.runs) > maxMergeRuns {
		t.Fatalf("%d runs", len(s.runs))
	}
	slices.Sort(want) // equal keys come in the order of their adding
	p, err := s.Sorted()
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; p.Next(); i++ {
		if got := string(p.Key()) + string(p.Value()); got != want[i] {
			t.Fatalf("pair %d is %s, want %s", i, got, want[i])
		}
		want[i] += "!"
	}
	if err := errors.Join(p.Err(), p.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if want[len(want)-1][len(want[0])-1] != '!' {
		t.Fatal("pairs are missing")
	}
}

func TestSorterSeesDamage(t *testing.T) {
	n := memNode(t)
	s := n.e.NewSorter(1)
	s.max = 4 << 10
	for i := range 1000 {
		if err := s.Add(fmt.Append(nil, i), nil); err != nil {
			t.Fatal(err)
		}
	}
	f, err := n.e.fs.OpenReadWrite(s.runs[0], vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0xff, 0xff}, 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	p, err := s.Sorted()
	if err == nil {
		for p.Next() {
		}
		err = p.Err()
		p.Close()
	}
	if !errors.Is(err, ErrCorruption) {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStatsAndSizes(t *testing.T) {
	n := memNode(t)
	s := RecordStore{testTable}
	n.mustCommit(func(u *RecoveryUnit) {
		for i := range RecordID(500) {
			s.Put(u, i+1, bytes.Repeat([]byte{byte(i), byte(i >> 8), 3, 4}, 250))
		}
	})
	if err := n.e.Flush(); err != nil {
		t.Fatal(err)
	}
	size, err := n.e.TableSize(testTable)
	if err != nil || size == 0 {
		t.Fatal(size, err)
	}
	st := n.e.Stats()
	if st.DiskBytes == 0 || st.Flushes == 0 || st.Checkpoints == 0 || st.CacheMaxBytes != minCacheBytes || st.Applied.Index != 1 {
		t.Fatalf("%+v", st)
	}
	if err := n.e.Compact(testTable); err != nil {
		t.Fatal(err)
	}
	if n.e.Describe() == "" {
		t.Fatal("nothing described")
	}
}
