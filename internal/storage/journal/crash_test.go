package journal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// crashState is what a random run knows about its journal.
type crashState struct {
	units   []Mark // end of each unit, all ever appended since the last reopen
	synced  Mark   // what SyncTo has returned for
	floor   uint64 // a front truncation may have removed all below
	payload map[uint64][]byte
}

// TestRandomCrashes appends, syncs, truncates and crashes at random, with any
// part of the unsynced data surviving, and checks after each reopen that the
// journal is a prefix of whole units that holds all that was synced.
func TestRandomCrashes(t *testing.T) {
	rounds := 250
	if testing.Short() {
		rounds = 50
	}
	for seed := range uint64(rounds) {
		crashRun(t, seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func crashRun(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 77))
	fs := vfs.NewCrashableMem()
	opt := Options{FS: fs, Dir: "journal", SegmentSize: 1 << (11 + rng.IntN(6)), Preallocate: int64(rng.IntN(3)-1) * 8192}
	st := crashState{payload: map[uint64][]byte{}}
	for range 4 {
		j, err := Open(opt)
		if err != nil {
			t.Errorf("seed %d: open: %v", seed, err)
			return
		}
		st.check(t, j)
		for range 1 + rng.IntN(60) {
			st.step(t, j, rng)
		}
		cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}
		clone := fs.CrashClone(cfg)
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		fs, opt.FS = clone, clone
	}
}

func (st *crashState) step(t *testing.T, j *Journal, rng *rand.Rand) {
	switch rng.IntN(10) {
	case 0, 1:
		m := j.Appended()
		if err := j.SyncTo(m.Pos); err != nil {
			t.Error(err)
		}
		st.synced = m
	case 2:
		if err := j.flush(); err != nil {
			t.Error(err)
		}
	case 3:
		if rng.IntN(4) == 0 && st.synced.Index > 0 {
			st.floor = max(st.floor, rng.Uint64N(st.synced.Index))
			if err := j.TruncateFront(st.floor); err != nil {
				t.Error(err)
			}
		}
	default:
		st.append(t, j, rng)
	}
}

func (st *crashState) append(t *testing.T, j *Journal, rng *rand.Rand) {
	m := j.Appended()
	var recs []Record
	for n := 1 + rng.IntN(4); n > 0; n-- {
		p := make([]byte, rng.IntN(3000))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		rec := Record{Kind: KindLocal, More: n > 1, Payload: p}
		if rng.IntN(5) > 0 {
			m.Index++
			m.TS += 1 + rng.Uint64N(5)
			rec = Record{Kind: KindEntry, More: n > 1, Index: m.Index, TS: m.TS, Term: 3, Payload: p}
			st.payload[m.Index] = p
		}
		recs = append(recs, rec)
	}
	end, err := j.Append(recs)
	if err != nil {
		t.Error(err)
	}
	m.Pos = end
	st.units = append(st.units, m)
}

// check compares a reopened journal with what is known and makes it the new
// state.
func (st *crashState) check(t *testing.T, j *Journal) {
	t.Helper()
	end := j.Appended()
	if end.Pos < st.synced.Pos {
		t.Errorf("lost synced records: end %+v, synced %+v", end, st.synced)
	}
	known := end == (Mark{}) || end == st.synced
	for i, u := range st.units {
		if u == end {
			known = true
			st.units = st.units[:i+1]
			break
		}
	}
	if !known {
		t.Errorf("end %+v is no end of a unit", end)
	}
	if end != j.Durable() {
		t.Errorf("durable %+v after open, end %+v", j.Durable(), end)
	}
	st.synced = end
	first := j.First()
	if first.Index > max(1, st.floor) {
		t.Errorf("first index %d, truncated only before %d", first.Index, st.floor)
	}
	r, err := j.NewReader(FromStart())
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	next, n := first.Index, 0
	for ; r.Next(); n++ {
		rec := r.Record()
		if rec.Kind != KindEntry {
			continue
		}
		if rec.Index != next || !bytes.Equal(rec.Payload, st.payload[rec.Index]) {
			t.Errorf("index %d read as %d or with another payload", next, rec.Index)
		}
		next++
	}
	if r.Err() != nil || r.Pos() != end.Pos {
		t.Errorf("read to %d of %d: %v", r.Pos(), end.Pos, r.Err())
	}
	for ; r.Prev(); n-- {
	}
	if r.Err() != nil || n != 0 {
		t.Errorf("backward: %v, %d records left", r.Err(), n)
	}
}

func TestUnitIsCutWhole(t *testing.T) {
	fs := vfs.NewCrashableMem()
	j := openTest(t, fs, 0)
	appendEntries(t, j, 1, 3)
	syncAll(t, j)
	a, b := entry(4), entry(5)
	a.More = true
	b.Payload = make([]byte, 9000)
	if _, err := j.Append([]Record{a, b}); err != nil {
		t.Fatal(err)
	}
	if err := j.flush(); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(40) {
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 60, RNG: rand.New(rand.NewPCG(seed, 1))})
		j2 := openTest(t, clone, 0)
		if i := j2.Appended().Index; i != 3 && i != 5 {
			t.Errorf("seed %d: end at index %d, inside a unit", seed, i)
		}
		closeTest(t, j2)
	}
	closeTest(t, j)
}

func TestFailuresPoison(t *testing.T) {
	for name, c := range map[string]struct {
		kind errorfs.OpKind
		err  error
	}{
		"write":     {errorfs.OpFileWriteAt, errors.New("injected")},
		"disk full": {errorfs.OpFileWriteAt, syscall.ENOSPC},
		"sync":      {errorfs.OpFileSyncData, errors.New("injected")},
		"dir sync":  {errorfs.OpFileSync, errors.New("injected")},
		"new file":  {errorfs.OpOpen, errors.New("injected")},
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			on := false
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if on && op.Kind == c.kind {
					return c.err
				}
				return nil
			}))
			j := openTest(t, fs, 2048)
			appendEntries(t, j, 1, 5)
			syncAll(t, j)
			on = true
			appendEntries(t, j, 6, 60) // rolls: a file must be made
			err := j.SyncTo(j.Appended().Pos)
			if !errors.Is(err, c.err) {
				t.Fatalf("sync: %v", err)
			}
			on = false
			if _, err := j.Append([]Record{entry(61)}); !errors.Is(err, c.err) {
				t.Errorf("append after the failure: %v", err)
			}
			if err := j.SyncTo(j.Appended().Pos); !errors.Is(err, c.err) {
				t.Errorf("sync after the failure: %v", err)
			}
			if !errors.Is(j.Err(), c.err) {
				t.Errorf("Err: %v", j.Err())
			}
			wantRange(t, collect(t, j, FromStart()), 1, 5)
			if err := j.Close(); !errors.Is(err, c.err) {
				t.Errorf("close: %v", err)
			}
			j = openTest(t, mem.CrashClone(vfs.CrashCloneCfg{}), 2048)
			if got := j.Appended().Index; got < 5 {
				t.Errorf("index %d survived, 5 was synced", got)
			}
			closeTest(t, j)
		})
	}
}
