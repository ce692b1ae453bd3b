package storage

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestCursors runs the scripts of testdata/cursors: a base state, a unit laid
// over it, and the moves of cursors.
//
//	base            set/del/delrange lines, committed
//	unit [snapshot] begins a unit on the latest state or on a snapshot
//	change          set/del/delrange lines in the unit
//	cursor [lower=] [upper=] [keep]   moves; with keep the cursor stays open
//	move            moves of the kept cursor
//	get             keys, one a line
//	savepoint / rollback-to / commit / rollback
func TestCursors(t *testing.T) {
	datadriven.Walk(t, "testdata/cursors", func(t *testing.T, path string) {
		n := openNode(t, testOptions(vfs.NewMem()))
		s := &cursorScript{n: n, u: n.e.NewRecoveryUnit(nil)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.run(t, d) })
		s.end()
		if err := n.e.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

type cursorScript struct {
	n    *node
	u    *RecoveryUnit
	snap *Snapshot
	c    Cursor
	sp   Savepoint
}

func (s *cursorScript) end() {
	if s.c != nil {
		s.c.Close()
		s.c = nil
	}
	if !s.u.Ended() {
		s.u.Rollback()
	}
	if s.snap != nil {
		s.snap.Close()
		s.snap = nil
	}
}

func (s *cursorScript) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "base":
		s.n.mustCommit(func(u *RecoveryUnit) { scriptChanges(u, d.Input) })
	case "unit":
		s.end()
		if d.HasArg("snapshot") {
			var err error
			if s.snap, err = s.n.e.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
		s.u = s.n.e.NewRecoveryUnit(s.snap)
	case "change":
		scriptChanges(s.u, d.Input)
	case "get":
		var out []string
		for k := range strings.FieldsSeq(d.Input) {
			v, err := s.u.Get(tkey(k), nil)
			if err != nil {
				v = []byte(err.Error())
			}
			out = append(out, k+"="+string(v))
		}
		return strings.Join(out, "\n") + "\n"
	case "cursor":
		lo, hi := testTable.Bounds()
		var arg string
		if d.HasArg("lower") {
			d.ScanArgs(t, "lower", &arg)
			lo = tkey(arg)
		}
		if d.HasArg("upper") {
			d.ScanArgs(t, "upper", &arg)
			hi = tkey(arg)
		}
		c := s.u.NewCursor(lo, hi)
		if d.HasArg("keep") {
			s.c = c
		} else {
			defer c.Close()
		}
		return scriptMoves(c, d.Input)
	case "move":
		return scriptMoves(s.c, d.Input)
	case "savepoint":
		s.sp = s.u.Savepoint()
	case "rollback-to":
		if err := s.u.RollbackTo(s.sp); err != nil {
			t.Fatal(err)
		}
	case "commit":
		m, err := s.n.append(s.u, 1)
		if err == nil {
			err = s.n.e.Apply(m, s.u.ws)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.u.Commit(m.Index)
		s.u = s.n.e.NewRecoveryUnit(nil)
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
	return "ok\n"
}

func scriptChanges(u *RecoveryUnit, in string) {
	for line := range strings.Lines(in) {
		f := strings.Fields(line)
		switch f[0] {
		case "set":
			u.Set(tkey(f[1]), []byte(f[2]))
		case "del":
			u.Delete(tkey(f[1]))
		case "delrange":
			u.DeleteRange(tkey(f[1]), tkey(f[2]))
		}
	}
}

func scriptMoves(c Cursor, in string) string {
	var out strings.Builder
	for line := range strings.Lines(in) {
		for f := range strings.FieldsSeq(line) {
			var ok bool
			op, arg, _ := strings.Cut(f, ":")
			switch op {
			case "first":
				ok = c.First()
			case "last":
				ok = c.Last()
			case "next":
				ok = c.Next()
			case "prev":
				ok = c.Prev()
			case "ge":
				ok = c.SeekGE(tkey(arg))
			case "lt":
				ok = c.SeekLT(tkey(arg))
			}
			if !ok {
				fmt.Fprintf(&out, "%s .\n", f)
				continue
			}
			_, rest, _ := SplitKey(c.Key())
			fmt.Fprintf(&out, "%s %s=%s\n", f, rest, c.Value())
		}
	}
	if err := c.Err(); err != nil {
		fmt.Fprintf(&out, "err: %v\n", err)
	}
	return out.String()
}

// TestMergedCursorRandom compares units with a sorted map over many random
// changes and moves, changing while cursors are open.
func TestMergedCursorRandom(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		n := openNode(t, testOptions(vfs.NewMem()))
		model := map[string]string{}
		change := func(u *RecoveryUnit, ops int) {
			for range ops {
				k := fmt.Sprintf("%03d", r.IntN(120))
				switch r.IntN(10) {
				case 0, 1, 2:
					delete(model, k)
					u.Delete(tkey(k))
				case 3:
					hi := fmt.Sprintf("%03d", r.IntN(120))
					for m := range model {
						if m >= k && m < hi {
							delete(model, m)
						}
					}
					if k < hi {
						u.DeleteRange(tkey(k), tkey(hi))
					}
				default:
					v := fmt.Sprint(r.IntN(1000))
					model[k] = v
					u.Set(tkey(k), []byte(v))
				}
			}
		}
		n.mustCommit(func(u *RecoveryUnit) { change(u, 80) })
		u := n.e.NewRecoveryUnit(nil)
		u.Set(tkey("050"), []byte("mine")) // from here on its cursors are merged
		model["050"] = "mine"
		lo, hi := fmt.Sprintf("%03d", r.IntN(30)), fmt.Sprintf("%03d", 90+r.IntN(30))
		c := u.NewCursor(tkey(lo), tkey(hi))
		walkAgainstModel(t, r, c, model, lo, hi, func() { change(u, 1+r.IntN(4)) })
		for k := range model {
			if v, err := u.Get(tkey(k), nil); err != nil || string(v) != model[k] {
				t.Fatalf("seed %d: get %s: %q %v, want %q", seed, k, v, err, model[k])
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		u.Rollback()
		if err := n.e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func walkAgainstModel(t *testing.T, r *rand.Rand, c Cursor, model map[string]string, lo, hi string, change func()) {
	t.Helper()
	pos, have := "", false
	for range 300 {
		keys := make([]string, 0, len(model))
		for k := range model {
			if k >= lo && k < hi {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		arg := fmt.Sprintf("%03d", r.IntN(120))
		ge := func(k string) (string, bool) {
			i, _ := slices.BinarySearch(keys, k)
			if i == len(keys) {
				return "", false
			}
			return keys[i], true
		}
		lt := func(k string) (string, bool) {
			i, _ := slices.BinarySearch(keys, k)
			if i == 0 {
				return "", false
			}
			return keys[i-1], true
		}
		var got, wantOK bool
		var want, op string
		switch x := r.IntN(12); {
		case x == 0:
			change()
			continue
		case x == 1:
			op, got = "first", c.First()
			want, wantOK = ge("")
		case x == 2:
			op, got = "last", c.Last()
			want, wantOK = lt("~")
		case x == 3:
			op, got = "ge "+arg, c.SeekGE(tkey(arg))
			want, wantOK = ge(arg)
		case x == 4:
			op, got = "lt "+arg, c.SeekLT(tkey(arg))
			want, wantOK = lt(arg)
		case !have:
			continue
		case x < 9:
			op, got = "next from "+pos, c.Next()
			want, wantOK = ge(pos + "\x00")
		default:
			op, got = "prev from "+pos, c.Prev()
			want, wantOK = lt(pos)
		}
		if got != wantOK {
			t.Fatalf("%s: got %v, want %v (%s), err %v", op, got, wantOK, want, c.Err())
		}
		if have = got; !got {
			continue
		}
		pos = want
		if !bytes.Equal(c.Key(), tkey(want)) || string(c.Value()) != model[want] {
			t.Fatalf("%s: at %x=%s, want %s=%s", op, c.Key(), c.Value(), want, model[want])
		}
	}
}

func TestWriteSetIndexBlocks(t *testing.T) {
	n := openNode(t, testOptions(vfs.NewMem()))
	defer n.e.Close()
	r := rand.New(rand.NewPCG(3, 4))
	w := n.e.NewWriteSet()
	defer w.Release()
	want := map[string]bool{}
	for i := range 5000 {
		k := fmt.Sprintf("%06d", r.IntN(100000))
		if i%2 == 0 {
			k = fmt.Sprintf("a%06d", i) // ascending
		}
		w.Set([]byte(k), nil)
		want[k] = true
		if i%97 == 0 {
			if _, err := w.index(); err != nil {
				t.Fatal(err)
			}
		}
	}
	x, err := w.index()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for p := x.seekGE(nil); x.valid(p); p = x.next(p) {
		got = append(got, string(x.at(p).key))
	}
	if !slices.IsSorted(got) || len(got) != len(want) {
		t.Fatalf("%d keys, sorted %v, want %d", len(got), slices.IsSorted(got), len(want))
	}
	slices.Reverse(got)
	for p, i := x.prev(wsPlace{len(x.blocks), 0}), 0; x.valid(p); p, i = x.prev(p), i+1 {
		if string(x.at(p).key) != got[i] {
			t.Fatalf("backward %d: %s, want %s", i, x.at(p).key, got[i])
		}
	}
}

func TestLocalUnitStaysPrivate(t *testing.T) {
	n := openNode(t, testOptions(vfs.NewMem()))
	defer n.e.Close()
	private := Table{SpacePrivate, 7}
	w := n.e.NewWriteSet()
	defer w.Release()
	w.Set(private.AppendKey(nil, []byte("k")), []byte("v"))
	w.Delete(private.AppendKey(nil, []byte("d")))
	w.DeleteRange(private.Bounds())
	w.Set(droppedKey(private), nil)
	p, err := w.AppendLocal(nil)
	if err != nil {
		t.Fatal(err)
	}
	back := n.e.NewWriteSet()
	defer back.Release()
	if err := back.applyLocal(p); err != nil {
		t.Fatal(err)
	}
	if back.Len() != 4 || !bytes.Equal(back.b.Repr(), w.b.Repr()) {
		t.Fatal("a local unit does not come back as it was")
	}
	for cut := 1; cut < len(p); cut++ {
		x := n.e.NewWriteSet()
		_ = x.applyLocal(p[:cut]) // must not panic
		x.Release()
	}
	for _, key := range [][]byte{tkey("k"), appliedKeyBytes, {byte(SpacePrivate)}, droppedKey(testTable)} {
		w.Reset()
		w.Set(key, nil)
		if _, err := w.AppendLocal(nil); err == nil {
			t.Errorf("key %x is accepted in a local unit", key)
		}
	}
	if err := back.applyLocal(append([]byte{localVersion, byte(opSet), 6}, tkey("x")...)); !errors.Is(err, ErrCorruption) {
		t.Errorf("replay of a foreign key: %v", err)
	}
}

// FuzzLocalUnit: whatever bytes a local unit has, it is refused or touches
// private tables only, and comes back as it was.
func FuzzLocalUnit(f *testing.F) {
	n := openNode(f, testOptions(vfs.NewMem()))
	f.Cleanup(func() { n.e.Close() })
	w := n.e.NewWriteSet()
	private := Table{SpacePrivate, 7}
	w.Set(private.AppendKey(nil, []byte("k")), []byte("v"))
	w.Delete(private.AppendKey(nil, []byte("d")))
	w.DeleteRange(private.Bounds())
	w.Set(droppedKey(private), nil)
	p, err := w.AppendLocal(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Add([]byte{1, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, p []byte) {
		a, b := n.e.NewWriteSet(), n.e.NewWriteSet()
		defer a.Release()
		defer b.Release()
		if a.applyLocal(p) != nil {
			return
		}
		enc, err := a.AppendLocal(nil)
		if err != nil {
			t.Fatalf("accepted but cannot be written: %v", err)
		}
		if err := b.applyLocal(enc); err != nil || b.Len() != a.Len() {
			t.Fatalf("does not come back: %v", err)
		}
	})
}
