package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestRowHints: a hint says what was noted for its hash or nothing; a table that grows takes
// what was in the one before; one that may not grow gives room to what is noted last.
func TestRowHints(t *testing.T) {
	const n = 20_000
	hash := func(i int) uint64 { return uint64(i+1) * 0x9e3779b97f4a7c15 }
	for name, limit := range map[string]int{"grows": 1 << 18, "full": 4 * minHintWords} {
		h := rowHints{max: limit}
		for round := range 3 {
			for i := range n {
				h.note(hash(i), uint64(i+1)<<32|uint64(round+1))
				if p := h.place(hash(i)); p != uint64(i+1)<<32|uint64(round+1) {
					t.Fatalf("%s: %d is at %#x right after it was noted", name, i, p)
				}
			}
		}
		known := 0
		for i := range n {
			switch p := h.place(hash(i)); p {
			case 0:
			case uint64(i+1)<<32 | 3:
				known++
			default:
				t.Fatalf("%s: %d is at %#x", name, i, p)
			}
		}
		if h.bytes() > int64(limit)*8 {
			t.Errorf("%s: %d bytes, at most %d", name, h.bytes(), limit*8)
		}
		if least := min(n*9/10, limit/2*8/10); known < least {
			t.Errorf("%s: %d hints of %d are left, want %d", name, known, n, least)
		}
		if p := h.place(hash(n + 1)); p != 0 {
			t.Errorf("%s: a hint to %#x from nowhere", name, p)
		}
	}
	if h := (rowHints{}); h.place(1) != 0 {
		t.Error("a hint without a table")
	} else if h.note(1, 1); h.place(1) != 0 {
		t.Error("a hint where none may be")
	}
}

// TestRowHintsTogether: of hints that many make at once, each in groups, none is passed over.
func TestRowHintsTogether(t *testing.T) {
	const writers, groups, size = 4, 50, 64
	h := rowHints{max: 1 << 18}
	hash := func(w, i int) uint64 { return uint64(w*groups*size+i+1) * 0x9e3779b97f4a7c15 }
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for g := range groups {
				var list []rowHint
				for i := range size {
					list = append(list, rowHint{hash(w, g*size+i), uint64(w+1)<<32 | 1})
				}
				h.noteAll(list)
			}
		})
	}
	wg.Wait()
	known := 0
	for w := range writers {
		for i := range groups * size {
			switch p := h.place(hash(w, i)); p {
			case 0:
			case uint64(w+1)<<32 | 1:
				known++
			default:
				t.Fatalf("%d of %d is at %#x", i, w, p)
			}
		}
	}
	if least := writers * groups * size * 97 / 100; known < least { // a full line loses some
		t.Errorf("%d hints of %d are left, want %d", known, writers*groups*size, least)
	}
	if h := (rowHints{}); true {
		h.noteAll([]rowHint{{1, 1}})
		if h.place(1) != 0 {
			t.Error("a hint where none may be")
		}
	}
}

// keyed is a record store whose records begin with their unique key of 4 bytes.
type keyed struct {
	records RecordStore
	key     UniqueKey
}

func newKeyed(ident Ident) *keyed {
	return &keyed{RecordStore{Table{SpaceReplicated, ident}}, UniqueKey{
		Index: IndexStore{Table{SpaceReplicated, ident + 1}, true},
		Of:    func(dst, value []byte) []byte { return append(dst, value[:4]...) },
	}}
}

func (k *keyed) keyOf(i int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(i)) }

func (k *keyed) lookup(t testing.TB, r Reader, i int) (RecordID, string) {
	key := k.keyOf(i)
	is := func(value []byte) bool { return bytes.HasPrefix(value, key) }
	if e, ok := r.(*Engine); ok && i%2 == 0 {
		Expect(e, &k.key, key).Record() // changes nothing but how long it takes
	}
	id, v, err := k.records.Lookup(r, &k.key, key, is, nil)
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	only, oerr := k.records.LookupID(r, &k.key, key, is)
	if oerr != nil && !errors.Is(oerr, ErrNotFound) {
		t.Error(oerr)
	}
	if err == nil && oerr == nil && only != id {
		t.Errorf("key %d: record %d, then %d", i, id, only)
	}
	return id, string(v)
}

// TestLookupModel: records come, change their size, go and come again under other ids, in two
// stores whose keys are the same, with a cache that is too small for them; a look-up by key finds
// what the model has, in every state of a unit and of a snapshot, and whole tables go.
func TestLookupModel(t *testing.T) {
	for seed := range uint64(3) {
		o := testOptions(vfs.NewMem())
		o.CacheBytes = 4 << 20
		n := openNode(t, o)
		if n.e.rows == nil || n.e.rows.hints.max == 0 {
			t.Fatal("no hints")
		}
		r := rand.New(rand.NewPCG(seed, 11))
		const keys = 600
		type record struct {
			id RecordID
			v  string
		}
		stores := []*keyed{newKeyed(100), newKeyed(200)}
		models := []map[int]record{{}, {}}
		next := RecordID(1)
		check := func(s, i int) {
			t.Helper()
			if id, v := stores[s].lookup(t, n.e, i); v != models[s][i].v || id != models[s][i].id {
				t.Fatalf("seed %d: store %d key %d is record %d with %d bytes, want record %d with %d", seed, s, i, id, len(v), models[s][i].id, len(models[s][i].v))
			}
		}
		for step := range 3000 {
			s := r.IntN(2)
			k, model := stores[s], models[s]
			var touched []int
			n.mustCommit(func(u *RecoveryUnit) {
				for range 1 + r.IntN(3) {
					i := r.IntN(keys)
					touched = append(touched, i)
					old, there := model[i]
					switch {
					case !there || r.IntN(8) == 0: // anew, or deleted and anew
						if there {
							k.records.Delete(u, old.id)
						}
						v := fmt.Appendf(k.keyOf(i), "%d:%s", step, bytes.Repeat([]byte{'x'}, r.IntN([]int{20, 2000, 20_000}[r.IntN(3)])))
						k.records.PutNew(u, next, v)
						k.key.Index.Put(u, k.keyOf(i), next, nil)
						model[i] = record{next, string(v)}
						next++
					case r.IntN(6) == 0:
						k.records.Delete(u, old.id)
						k.key.Index.Remove(u, k.keyOf(i), old.id)
						delete(model, i)
					default:
						v := fmt.Appendf(k.keyOf(i), "%d:%s", step, bytes.Repeat([]byte{'y'}, max(0, len(old.v)-10+r.IntN(20))))
						k.records.Put(u, old.id, v)
						model[i] = record{old.id, string(v)}
					}
					if id, v := k.lookup(t, u, i); v != model[i].v || id != model[i].id {
						t.Fatalf("seed %d: a unit does not see its own record of key %d", seed, i)
					}
				}
			})
			for _, i := range touched {
				check(s, i)
			}
			for range 5 {
				check(r.IntN(2), r.IntN(keys))
			}
			if step%1000 == 999 {
				n.mustCommit(func(u *RecoveryUnit) { u.DropIdent(k.records.Table); u.DropIdent(k.key.Index.Table) })
				n.e.WaitDropped()
				for i := range keys {
					if id, _ := k.lookup(t, n.e, i); id != 0 {
						t.Fatalf("seed %d: key %d of a dropped store is found", seed, i)
					}
				}
				stores[s], models[s] = newKeyed(Ident(1000+10*step)), map[int]record{}
			}
		}
		if err := n.e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestLookupFollowsHints: once a record was read by its key, and its neighbours with it, they
// are read without the index.
func TestLookupFollowsHints(t *testing.T) {
	n := openNode(t, testOptions(vfs.NewMem()))
	defer n.e.Close()
	k := newKeyed(100)
	const keys = 40
	n.mustCommit(func(u *RecoveryUnit) {
		for i := range keys {
			k.records.PutNew(u, RecordID(i+1), append(k.keyOf(i), "value"...))
			k.key.Index.PutNew(u, k.keyOf(i), RecordID(i+1), nil)
		}
	})
	is := func(i int) func(v []byte) bool {
		return func(v []byte) bool { return bytes.HasPrefix(v, k.keyOf(i)) }
	}
	if id, _ := k.lookup(t, n.e, 0); id != 1 {
		t.Fatalf("record %d", id)
	}
	hash := func(i int) uint64 { return n.e.rows.hash(k.key.Index.AppendKey(nil, k.keyOf(i))) }
	recall := func(i int) bool {
		id, v, ok := n.e.rows.recall(hash(i), k.records.Table, is(i), nil, true)
		if ok && (id != RecordID(i+1) || string(v[4:]) != "value") {
			t.Errorf("key %d leads to record %d, %q", i, id, v)
		}
		return ok
	}
	for i := range keys {
		if !recall(i) {
			t.Errorf("no hint to key %d", i)
		}
		if _, _, ok := n.e.rows.recall(hash(i), k.records.Table, is(i+1), nil, true); ok {
			t.Errorf("key %d passes for another", i)
		}
		if _, _, ok := n.e.rows.recall(hash(i), Table{SpaceReplicated, 300}, is(i), nil, true); ok {
			t.Errorf("key %d passes for one of another store", i)
		}
	}
	n.mustCommit(func(u *RecoveryUnit) {
		k.records.Put(u, 1, append(k.keyOf(0), "VALUE"...))
		k.records.Delete(u, 2)
		k.key.Index.Remove(u, k.keyOf(1), 2)
	})
	if id, v := k.lookup(t, n.e, 0); id != 1 || v[4:] != "VALUE" {
		t.Errorf("record %d, %q", id, v)
	}
	if recall(1) {
		t.Error("a deleted record is recalled")
	}

	// A record that grows is put elsewhere, and the hint leads on: through some moves at once, and
	// straight there once it was followed.
	grow := func(n *node, size int) {
		t.Helper()
		n.mustCommit(func(u *RecoveryUnit) {
			k.records.Put(u, 6, append(append(k.keyOf(5), "value"...), make([]byte, size)...))
		})
	}
	long := func() (size int, ok bool) {
		_, v, ok := n.e.rows.recall(hash(5), k.records.Table, is(5), nil, true)
		return len(v) - 9, ok
	}
	for i := range hintHops {
		grow(n, 100*(i+1))
	}
	if size, ok := long(); !ok || size != 100*hintHops {
		t.Errorf("a record that moved %d times: %d, %t", hintHops, size, ok)
	}
	for i := range 2 * hintHops {
		grow(n, 1000*(i+1))
		if size, ok := long(); !ok || size != 1000*(i+1) {
			t.Errorf("a record of %d bytes that grew: %d, %t", 1000*(i+1), size, ok)
		}
	}
	for i := range hintHops + 1 {
		grow(n, 9000+1000*i)
	}
	if _, ok := long(); ok {
		t.Error("a hint was followed through more moves than it should")
	}
}

// TestLookupRace: while records change, grow and move, and the cache is turned over, whoever
// looks one up by its key sees that key, and never an older state than before.
func TestLookupRace(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.CacheBytes = 4 << 20
	n := openNode(t, o)
	defer n.e.Close()
	k := newKeyed(100)
	const keys, rounds = 300, 400
	value := func(r *rand.Rand, i, version int) []byte {
		return append(binary.BigEndian.AppendUint32(k.keyOf(i), uint32(version)), bytes.Repeat([]byte{byte(i)}, r.IntN(4000))...)
	}
	r := rand.New(rand.NewPCG(1, 5))
	n.mustCommit(func(u *RecoveryUnit) {
		for i := range keys {
			k.records.PutNew(u, RecordID(i+1), value(r, i, 0))
			k.key.Index.PutNew(u, k.keyOf(i), RecordID(i+1), nil)
		}
	})
	var stop atomic.Bool
	var wg sync.WaitGroup
	var found atomic.Int64
	for g := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 6))
			seen := map[int]uint32{}
			for !stop.Load() {
				i := r.IntN(keys)
				_, v := k.lookup(t, n.e, i)
				if len(v) < 8 || v[:4] != string(k.keyOf(i)) || bytes.Count([]byte(v[8:]), []byte{byte(i)}) != len(v)-8 {
					t.Errorf("key %d: %.20q", i, v)
					return
				}
				version := binary.BigEndian.Uint32([]byte(v[4:]))
				if version < seen[i] {
					t.Errorf("key %d: version %d after %d", i, version, seen[i])
					return
				}
				seen[i] = version
				found.Add(1)
			}
		})
	}
	for version := 1; version <= rounds || found.Load() < 1000 && !t.Failed(); version++ {
		n.mustCommit(func(u *RecoveryUnit) {
			for range 5 {
				i := r.IntN(keys)
				k.records.Put(u, RecordID(i+1), value(r, i, version))
			}
		})
	}
	stop.Store(true)
	wg.Wait()
}
