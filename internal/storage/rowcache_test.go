package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestRowCacheModel: random puts, fills, changes and ranges on a cache that is far too small
// for them; it never answers with anything but the newest value.
func TestRowCacheModel(t *testing.T) {
	for seed := range uint64(5) {
		r := rand.New(rand.NewPCG(seed, 7))
		c := newRowCache(rowChunkBytes * int64(4+r.IntN(20)))
		model := map[string]string{}
		key := func() []byte { return fmt.Appendf(nil, "key-%d", r.IntN(3000)) }
		value := func(k []byte) []byte {
			return append(fmt.Appendf(nil, "%s:%d:", k, r.Int()), bytes.Repeat([]byte{'x'}, r.IntN([]int{10, 300, 3000}[r.IntN(3)]))...)
		}
		hits := 0
		for i := range 20_000 {
			k := key()
			switch r.IntN(10) {
			case 0, 1, 2: // a change of some keys
				seq := c.begin()
				keys := [][]byte{k, key(), key()}
				for _, k := range keys {
					c.touch(seq, k)
				}
				if _, ok, f := c.get(k, nil); ok {
					t.Fatalf("seed %d step %d: %s is shown while it is changed", seed, i, k)
				} else {
					c.fill(f, k, []byte("old"), nil)
				}
				for i, k := range keys {
					if slices.ContainsFunc(keys[:i], func(l []byte) bool { return bytes.Equal(k, l) }) {
						c.put(seq, k, []byte("overwritten in the same change"))
						continue
					}
					if v := value(k); r.IntN(4) > 0 {
						model[string(k)] = string(v)
						c.put(seq, k, v)
					} else {
						delete(model, string(k))
						c.drop(seq, k)
					}
				}
				c.end(seq)
			case 3:
				if r.IntN(40) > 0 {
					break
				}
				lower, upper := key(), key()
				seq := c.begin()
				c.touchRange(seq, lower, upper)
				for k := range model {
					if k >= string(lower) && k < string(upper) {
						delete(model, k)
					}
				}
				c.end(seq)
			default:
				v, ok, f := c.get(k, nil)
				want, there := model[string(k)]
				switch {
				case ok && (!there || want != string(v)):
					t.Fatalf("seed %d step %d: %s is %.40q, want %.40q (%v)", seed, i, k, v, want, there)
				case ok:
					hits++
				case there && r.IntN(2) == 0:
					c.fill(f, k, []byte(want), nil)
				case there:
					c.fillAhead(c.ended.Load(), k, []byte(want), nil)
				}
			}
		}
		if hits == 0 {
			t.Errorf("seed %d: no hit", seed)
		}
		for i := range c.shards {
			s := &c.shards[i]
			live := 0
			for n := range s.chunks {
				s.each(n, func(e rowEntry, pos uint32) {
					live++
					if s.find(e.tag(), e.key()) != pos {
						t.Errorf("seed %d: %q is not found where it is", seed, e.key())
					}
				})
			}
			if live != s.live || len(s.chunks) > s.max {
				t.Errorf("seed %d: %d entries counted as %d, %d chunks of %d", seed, live, s.live, len(s.chunks), s.max)
			}
		}
	}
}

// TestRowCacheSecondChance: what is read stays, what is only written goes.
func TestRowCacheSecondChance(t *testing.T) {
	c := newRowCache(rowChunkBytes * 8)
	put := func(k string) {
		_, _, f := c.get([]byte(k), nil)
		c.fill(f, []byte(k), bytes.Repeat([]byte{1}, 1000), nil)
	}
	put("hot")
	put("cold")
	for i := range 5000 {
		put(fmt.Sprint(i))
		if _, ok, _ := c.get([]byte("hot"), nil); !ok {
			t.Fatalf("the hot key is gone after %d others", i)
		}
	}
	if _, ok, _ := c.get([]byte("cold"), nil); ok {
		t.Error("the cold key is still there")
	}
	if st := c.stats(); st.bytes > rowChunkBytes*8 || st.entries < 100 {
		t.Errorf("%+v", st)
	}
}

// TestRowCacheFillRace: what was read before a change is not kept behind it, whenever the
// change began and ended.
func TestRowCacheFillRace(t *testing.T) {
	k := []byte("k")
	for name, run := range map[string]func(c *rowCache, f rowFill){
		"change between the miss and the fill": func(c *rowCache, _ rowFill) {
			seq := c.begin()
			c.touch(seq, k)
			c.end(seq)
		},
		"change under way at the fill": func(c *rowCache, _ rowFill) {
			c.touch(c.begin(), k)
		},
		"a younger change ends first": func(c *rowCache, _ rowFill) {
			old := c.begin()
			c.touch(old, k)
			c.end(c.begin())
		},
	} {
		c := newRowCache(1 << 20)
		_, _, f := c.get(k, nil)
		run(c, f)
		c.fill(f, k, []byte("old"), nil)
		c.fillAhead(f.ended, k, []byte("old"), nil)
		if v, ok, _ := c.get(k, nil); ok {
			t.Errorf("%s: %q is shown", name, v)
		}
	}
	// A key that a change sets twice, while another begins: the first value is never shown.
	for _, younger := range []int{0, 1, 2, 3} {
		c := newRowCache(1 << 20)
		_, _, f := c.get(k, nil)
		c.fill(f, k, []byte("old"), nil)
		seq := c.begin()
		c.touch(seq, k)
		step := func(n int) {
			if n == younger {
				c.touchRange(c.begin(), []byte("a"), []byte("b"))
			}
		}
		step(0)
		c.put(seq, k, []byte("second")) // the last operation comes first
		step(1)
		c.put(seq, k, []byte("first"))
		step(2)
		c.end(seq)
		if v, ok, _ := c.get(k, nil); ok && string(v) != "second" || ok != (younger != 0) {
			t.Errorf("younger change at step %d: %q is shown (%v)", younger, v, ok)
		}
	}
	// Begun before the miss and not ended: the reader may have read either state.
	c := newRowCache(1 << 20)
	seq := c.begin()
	c.touch(seq, k)
	_, _, f := c.get(k, nil)
	c.end(seq)
	c.fill(f, k, []byte("old"), nil)
	if _, ok, _ := c.get(k, nil); ok {
		t.Error("a value read during a change is shown")
	}
	_, _, f = c.get(k, nil)
	c.fill(f, k, []byte("new"), nil)
	if v, ok, _ := c.get(k, nil); !ok || string(v) != "new" {
		t.Errorf("%q %v", v, ok)
	}
}

// TestRowCacheEngine: units that keep an invariant over several keys, readers of the latest
// state and of snapshots among them: nobody sees a value go back, a unit's part without what
// came before it, or a snapshot that changes.
func TestRowCacheEngine(t *testing.T) {
	n := openNode(t, testOptions(vfs.NewMem()))
	defer n.e.Close()
	if n.e.rows == nil {
		t.Fatal("no row cache")
	}
	table := RecordStore{Table{SpaceReplicated, 100}}
	const keys, rounds = 40, 200
	val := func(v uint64, pad int) []byte {
		return append(binary.BigEndian.AppendUint64(nil, v), bytes.Repeat([]byte{'p'}, pad)...)
	}
	get := func(r Reader, id RecordID) uint64 {
		b, err := table.Get(r, id, nil)
		if errors.Is(err, ErrNotFound) {
			return 0
		}
		if err != nil {
			t.Error(err)
			return 0
		}
		return binary.BigEndian.Uint64(b)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 3))
			seen := uint64(0) // a unit sets every key it does not delete to its number, in order of keys
			for !stop.Load() {
				id := RecordID(r.IntN(keys) + 1)
				first := get(n.e, id)
				if second := get(n.e, keys+1); second < first {
					t.Errorf("key %d shows unit %d, then the last key %d", id, first, second)
					return
				}
				if now := get(n.e, keys+1); now < seen {
					t.Errorf("unit %d seen, then %d", seen, now)
					return
				} else {
					seen = now
				}
			}
		})
	}
	wg.Go(func() {
		r := rand.New(rand.NewPCG(9, 3))
		for !stop.Load() {
			s, err := n.e.Snapshot()
			if err != nil {
				t.Error(err)
				return
			}
			last := get(s, keys+1)
			for range 10 {
				if v := get(s, RecordID(r.IntN(keys)+1)); v > last {
					t.Errorf("the snapshot of unit %d shows unit %d", last, v)
				}
			}
			if again := get(s, keys+1); again != last {
				t.Errorf("a snapshot changed from unit %d to %d", last, again)
			}
			s.Close()
		}
	})
	wg.Go(func() { // tables go meanwhile: changes that nobody waits for
		for id := Ident(1000); !stop.Load(); id++ {
			if err := n.e.DropIdent(Table{SpaceReplicated, id}); err != nil {
				t.Error(err)
				return
			}
			n.e.WaitDropped()
		}
	})
	r := rand.New(rand.NewPCG(1, 3))
	want := map[RecordID]uint64{}
	for v := uint64(1); v <= rounds; v++ {
		if _, err := n.commit(func(u *RecoveryUnit) {
			if v%3 == 0 {
				u.KeepRows()
			}
			for range 5 {
				id := RecordID(r.IntN(keys) + 1)
				switch r.IntN(4) {
				case 0: // set, then deleted: the last counts
					table.Put(u, id, val(v, 10))
					table.Delete(u, id)
					delete(want, id)
				case 1:
					table.Delete(u, id)
					table.Put(u, id, val(v, r.IntN(3000)))
					want[id] = v
				default:
					table.Put(u, id, val(1<<40, r.IntN(100)))
					table.Put(u, id, val(v, r.IntN(100)))
					want[id] = v
				}
			}
			if v%50 == 0 {
				at := u.Savepoint()
				table.Put(u, 1, val(1<<40, 0))
				if err := u.RollbackTo(at); err != nil {
					t.Error(err)
				}
			}
			table.Put(u, keys+1, val(v, 0))
		}); err != nil {
			t.Fatal(err)
		}
		for id := RecordID(1); id <= keys; id++ {
			if got := get(n.e, id); got != want[id] {
				t.Fatalf("after unit %d key %d shows %d, want %d", v, id, got, want[id])
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	if st := n.e.Stats(); st.RowCacheHits == 0 || st.RowCacheRows == 0 {
		t.Errorf("the cache was not used: %+v", st)
	}
	if _, err := n.commit(func(u *RecoveryUnit) { u.DropIdent(table.Table) }); err != nil {
		t.Fatal(err)
	}
	n.e.WaitDropped()
	for id := RecordID(1); id <= keys+1; id++ {
		if got := get(n.e, id); got != 0 {
			t.Errorf("key %d of the dropped table shows %d", id, got)
		}
	}
}

// TestKeepRows: a unit that says so leaves its new rows in the cache, and no other; of units
// that become visible together the cache shows what the last of them left, whoever keeps.
func TestKeepRows(t *testing.T) {
	n := openNode(t, testOptions(vfs.NewMem()))
	defer n.e.Close()
	records, ids, other := RecordStore{Table{SpaceReplicated, 100}}, IndexStore{Table{SpaceReplicated, 101}, true}, IndexStore{Table{SpaceReplicated, 102}, false}
	insert := func(u *RecoveryUnit, id RecordID) {
		records.PutNew(u, id, []byte("row"))
		ids.PutNew(u, []byte{byte(id)}, id, nil)
		other.PutNew(u, []byte{byte(id)}, id, nil)
	}
	for id, keep := range map[RecordID]bool{1: false, 2: true} {
		if _, err := n.commit(func(u *RecoveryUnit) {
			if keep {
				u.KeepRows()
			}
			insert(u, id)
		}); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.e.rows.stats().entries; got != 2 {
		t.Errorf("%d rows are kept, want the record and the _id entry of one unit", got)
	}

	r := rand.New(rand.NewPCG(5, 8))
	model := map[RecordID]string{1: "row", 2: "row"}
	for step := range 3000 {
		var sets []*WriteSet
		for range 1 + r.IntN(3) {
			w := n.e.NewWriteSet()
			w.keep = r.IntN(2) == 0
			u := &RecoveryUnit{e: n.e, ws: w}
			for range 1 + r.IntN(4) {
				id := RecordID(r.IntN(12) + 1)
				v := fmt.Sprintf("%d %s", r.Int(), bytes.Repeat([]byte("x"), []int{0, 300, maxRowBytes}[r.IntN(3)]))
				_, there := model[id]
				switch {
				case there && r.IntN(3) == 0:
					records.Delete(u, id)
					delete(model, id)
				case there:
					records.Put(u, id, []byte(v))
					model[id] = v
				default:
					records.PutNew(u, id, []byte(v))
					model[id] = v
				}
			}
			sets = append(sets, w)
		}
		change := n.e.beginChange(rowChange{}, sets...)
		for _, w := range sets {
			if err := n.e.db.Apply(w.b, pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		}
		change.end()
		for id := RecordID(1); id <= 12; id++ {
			v, err := records.Get(n.e, id, nil)
			if want, there := model[id]; there != (err == nil) || string(v) != want {
				t.Fatalf("step %d: record %d is %.20q (%v), want %.20q", step, id, v, err, want)
			}
		}
		for _, w := range sets {
			w.Release()
		}
	}
}

// TestReadAhead: a miss brings in the group of its record, which is smaller where records are
// larger, or what stands behind an entry, as long as there is room that was never used, and
// nothing of another table; who reads once brings in nothing.
func TestReadAhead(t *testing.T) {
	n := openNode(t, testOptions(vfs.NewMem()))
	defer n.e.Close()
	table, other := RecordStore{Table{SpaceReplicated, 100}}, RecordStore{Table{SpaceReplicated, 101}}
	const rows = 3*aheadRows + 8
	if _, err := n.commit(func(u *RecoveryUnit) {
		for id := RecordID(1); id <= rows; id++ {
			table.PutNew(u, id, binary.BigEndian.AppendUint64(nil, uint64(id)))
			other.PutNew(u, id, []byte("other"))
		}
	}); err != nil {
		t.Fatal(err)
	}
	kept := func() int64 { return n.e.rows.stats().entries }
	read := func(s RecordStore, id RecordID) {
		t.Helper()
		if _, err := s.Get(n.e, id, nil); err != nil {
			t.Fatal(err)
		}
	}
	u := n.e.NewRecoveryUnit(nil)
	u.ReadsOnce()
	if v, err := table.Get(u, 7, nil); err != nil || binary.BigEndian.Uint64(v) != 7 {
		t.Errorf("%x %v", v, err)
	}
	u.Rollback()
	if kept() != 0 {
		t.Errorf("a unit that reads once left %d rows", kept())
	}
	// Ids 1 to aheadRows-1 are the first group, lastGroup to rows the last one.
	const lastGroup = 3 * aheadRows
	expect := func(what string, read func(), rows, misses int64) {
		t.Helper()
		keptBefore, missed := kept(), n.e.rows.stats().misses
		read()
		if got := kept() - keptBefore; got != rows {
			t.Errorf("%s: %d more rows are kept, want %d", what, got, rows)
		}
		if got := n.e.rows.stats().misses - missed; got != misses {
			t.Errorf("%s: %d misses, want %d", what, got, misses)
		}
	}
	expect("a miss brings in its group", func() { read(table, 10) }, aheadRows-1, 1)
	expect("which is there", func() {
		for id := RecordID(1); id < aheadRows; id++ {
			read(table, id)
		}
	}, 0, 0)
	expect("the next group", func() { read(table, 2*aheadRows-1) }, aheadRows, 1)
	expect("the last group", func() { read(table, rows-2) }, rows-lastGroup+1, 1)
	expect("one row of a group that was brought in", func() {
		if _, err := n.commit(func(u *RecoveryUnit) { table.Delete(u, 20) }); err != nil {
			t.Fatal(err)
		}
		if _, err := n.commit(func(u *RecoveryUnit) { table.PutNew(u, 20, []byte("again")) }); err != nil {
			t.Fatal(err)
		}
		if _, err := n.commit(func(u *RecoveryUnit) { table.Delete(u, 30) }); err != nil {
			t.Fatal(err)
		}
		if _, err := n.commit(func(u *RecoveryUnit) { table.PutNew(u, 30, []byte("again")) }); err != nil {
			t.Fatal(err)
		}
		read(table, 20) // its neighbours are kept, so nothing else is looked for
	}, -1, 1)
	large := RecordStore{Table{SpaceReplicated, 102}}
	if _, err := n.commit(func(u *RecoveryUnit) {
		for id := RecordID(1); id <= 40; id++ {
			large.PutNew(u, id, make([]byte, 8<<10))
		}
		large.PutNew(u, 41, make([]byte, aheadBytes))
	}); err != nil {
		t.Fatal(err)
	}
	expect("records of 8 KB, of which aheadBytes has room for 32", func() { read(large, 21) }, 31, 1)
	expect("one that is not kept", func() { read(large, 41) }, 0, 1)
	key := table.AppendRecordKey(nil, 2*aheadRows+1)
	expect("entries of an index: what stands behind", func() { n.e.readAhead(key, 8, aheadBehind, nil) }, lastGroup-(2*aheadRows+2), 0)
	n.e.rows.ahead.full.Store(true)
	before := kept()
	read(other, 50)
	if got := kept(); got != before+1 {
		t.Errorf("a full cache took %d rows for one", got-before)
	}
}

// TestReadAheadPauses: where deleted rows lie behind what is read the reading ahead ends for a while.
func TestReadAheadPauses(t *testing.T) {
	var a rowAhead
	key := Table{SpaceReplicated, FirstIdent}.AppendRecordKey(nil, 1)
	count := func() (n int) {
		for !a.due(key) {
			n++
		}
		return n
	}
	if n := count(); n != 0 {
		t.Errorf("%d misses passed at first", n)
	}
	for _, want := range []int{aheadPause, 2 * aheadPause, 4 * aheadPause} {
		a.took(aheadSteps + 1)
		if n := count(); n != want {
			t.Errorf("%d misses passed, want %d", n, want)
		}
	}
	a.took(1)
	if n := count(); n != 0 {
		t.Errorf("%d misses passed after a good run", n)
	}
	a.took(aheadSteps + 1)
	if n := count(); n != 4*aheadPause {
		t.Errorf("%d misses passed, want %d", n, 4*aheadPause)
	}
	if a.due(Table{SpaceReplicated, IdentCatalog}.AppendKey(nil, []byte("x"))) {
		t.Error("reads ahead in the catalog")
	}
}

// BenchmarkRowCache is what the cache adds to a point read (the _id entry and the record) that it
// does not answer and to an update, and what one costs that it answers.
func BenchmarkRowCache(b *testing.B) {
	const size, n = 1 << 30, 200_000
	record := func(dst []byte, i int) []byte {
		return Table{SpaceReplicated, 64}.AppendRecordKey(dst, RecordID(i+1))
	}
	id := func(dst []byte, i int) []byte {
		return binary.BigEndian.AppendUint32(append(Table{SpaceReplicated, 65}.AppendPrefix(dst), 0x2b), uint32(i))
	}
	doc, rid := bytes.Repeat([]byte{'d'}, 1024), make([]byte, 8)
	fill := func(c *rowCache, from, to int) {
		var buf [32]byte
		for i := from; i < to; i++ {
			_, _, f := c.get(id(buf[:0], i), nil)
			c.fill(f, id(buf[:0], i), rid, nil)
			_, _, f = c.get(record(buf[:0], i), nil)
			c.fill(f, record(buf[:0], i), doc, nil)
		}
	}
	b.Run("miss", func(b *testing.B) {
		c := newRowCache(size)
		defer reportCPU(b)()
		fill(c, 0, b.N)
	})
	b.Run("miss in a full cache", func(b *testing.B) {
		c := newRowCache(64 << 20)
		fill(c, 0, 100_000)
		defer reportCPU(b)()
		fill(c, 100_000, 100_000+b.N)
	})
	b.Run("update", func(b *testing.B) {
		c := newRowCache(size)
		fill(c, 0, n)
		defer reportCPU(b)()
		var buf [32]byte
		for i := range b.N {
			k := i * 7919 % n
			seq := c.begin()
			c.touch(seq, record(buf[:0], k))
			c.put(seq, record(buf[:0], k), doc)
			c.end(seq)
		}
	})
	b.Run("lookup", func(b *testing.B) {
		c := newRowCache(size)
		fill(c, 0, n)
		var buf, rbuf [32]byte
		for i := range n {
			c.noteRecord(c.hash(id(buf[:0], i)), record(rbuf[:0], i))
		}
		is := func(value []byte) bool { return value[0] == 'd' }
		var dst []byte
		found := 0
		defer func() { b.ReportMetric(float64(found)/float64(b.N), "hits/op") }()
		defer reportCPU(b)()
		for i := range b.N {
			k := i * 7919 % n
			_, v, ok := c.recall(c.hash(id(buf[:0], k)), Table{SpaceReplicated, 64}, is, dst, true)
			if ok {
				dst = v
				found++
			}
		}
	})
	b.Run("get", func(b *testing.B) {
		c := newRowCache(size)
		fill(c, 0, n)
		defer reportCPU(b)()
		var buf [32]byte
		var v []byte
		for i := range b.N {
			k := i * 7919 % n
			c.get(id(buf[:0], k), nil)
			var ok bool
			if v, ok, _ = c.get(record(buf[:0], k), v); !ok {
				b.Fatal(k)
			}
		}
	})
}
