package storage

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/cairndb/cairn/internal/storage/journal"
)

// files reads everything under dir.
func files(t testing.TB, fs vfs.FS, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		path := fs.PathJoin(dir, n)
		st, err := fs.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.IsDir() {
			all[path+"/"] = ""
			maps.Copy(all, files(t, fs, path))
			continue
		}
		b, err := readFile(fs, path)
		if err != nil {
			t.Fatal(err)
		}
		all[path] = string(b)
	}
	return all
}

func sameFiles(t testing.TB, before, after map[string]string) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(after)) {
		if was, ok := before[path]; !ok || was != after[path] {
			t.Errorf("%s was changed or made", path)
		}
	}
	for path := range before {
		if _, ok := after[path]; !ok {
			t.Errorf("%s was removed", path)
		}
	}
}

// look opens a store read-only on a file system that notices every write, and
// returns what a start would replay.
func look(t testing.TB, fs vfs.FS) (RecoveryStats, journal.TornTail, map[string]string) {
	t.Helper()
	before := files(t, fs, "db")
	var wrote []string
	o := testOptions(errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && !strings.HasSuffix(op.Path, lockFile) {
			wrote = append(wrote, fmt.Sprintf("op %d of %s", op.Kind, op.Path))
		}
		return nil
	})))
	o.ReadOnly = true
	e, err := Open(o)
	if err != nil {
		t.Fatalf("open read-only: %v", err)
	}
	units := 0
	st, err := e.Unapplied(t.Context(), func([]journal.Record) error { units++; return nil })
	if err != nil || units != st.Units {
		t.Fatalf("unapplied: %d of %d units: %v", units, st.Units, err)
	}
	if _, err := e.Recover(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.journal.Describe(); err != nil {
		t.Fatal(err)
	}
	state, torn := readState(t, e), e.journal.Torn()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for _, op := range wrote {
		t.Errorf("read-only open wrote: %s", op)
	}
	sameFiles(t, before, files(t, fs, "db"))
	return st, torn, state
}

func TestReadOnlyRefusesWrites(t *testing.T) {
	mem := vfs.NewMem()
	n := openNode(t, testOptions(mem))
	n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey("a"), []byte("1")) })
	if err := n.e.Close(); err != nil {
		t.Fatal(err)
	}
	o := testOptions(mem)
	o.ReadOnly = true
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	w := e.NewWriteSet()
	defer w.Release()
	w.Set(tkey("b"), nil)
	for what, err := range map[string]error{
		"apply":       e.Apply(Mark{Pos: 1 << 40, Index: 9}, w),
		"unlogged":    e.ApplyUnlogged(w),
		"flush":       e.Flush(),
		"compact":     e.Compact(testTable),
		"drop":        e.DropIdent(testTable),
		"file system": e.fs.MkdirAll("db/x", 0o755),
	} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = e.journal.Append([]journal.Record{{Kind: journal.KindLocal}})
	for what, err := range map[string]error{
		"append": err, "front": e.journal.TruncateFront(1), "tail": e.journal.TruncateAfter(1),
	} {
		if !errors.Is(err, journal.ErrReadOnly) {
			t.Errorf("journal %s: %v", what, err)
		}
	}
	if _, err := Open(testOptions(mem)); !errors.Is(err, ErrLocked) {
		t.Errorf("a second engine beside a reader: %v", err)
	}
	if got := dump(t, e); got != "a=1 " {
		t.Error(got)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestReadOnlyLeavesTornTail: what a crash left of an unfinished append is
// reported and stays; the writable open behind it cuts it.
func TestReadOnlyLeavesTornTail(t *testing.T) {
	mem := vfs.NewMem()
	n := openNode(t, testOptions(mem))
	n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey("a"), []byte("1")) })
	if err := n.e.Flush(); err != nil {
		t.Fatal(err)
	}
	n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey("b"), []byte("2")) })
	if err := n.e.journal.SyncTo(n.e.journal.Appended().Pos); err != nil {
		t.Fatal(err)
	}
	seg := n.e.journal.Segments()[0]
	n.e.Crash()
	f, err := mem.OpenReadWrite(seg.Path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt([]byte("half a record"), st.Size())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	rec, torn, state := look(t, mem)
	if rec.Units != 1 || rec.Entries != 1 || rec.To.Index != 2 {
		t.Errorf("a start would replay %+v", rec)
	}
	if torn.File != seg.Path || torn.Bytes != int64(len("half a record")) || torn.Offset != st.Size() {
		t.Errorf("torn tail: %+v", torn)
	}
	if fmt.Sprint(state) != "map[a:1]" {
		t.Error(state)
	}
	n = openNode(t, testOptions(mem))
	if got := dump(t, n.e); got != "a=1 b=2 " || n.e.journal.Torn() != torn {
		t.Errorf("%s, torn %+v", got, n.e.journal.Torn())
	}
	if err := n.e.Close(); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t testing.TB, fs vfs.FS, from, to string) {
	t.Helper()
	b, err := readFile(fs, from)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fs.Create(to, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestEngineAndJournalMustFit: an engine whose journal ends before the engine,
// begins behind it, or is another store's, is damage that names the positions.
// It can still be looked at.
func TestEngineAndJournalMustFit(t *testing.T) {
	unit := func(u *RecoveryUnit) { u.Set(tkey("k"), []byte(strings.Repeat("v", 900))) }
	build := func(t *testing.T) (*vfs.MemFS, *node) {
		mem := vfs.NewMem()
		o := testOptions(mem)
		o.JournalSegmentBytes = 1000
		return mem, openNode(t, o)
	}
	for name, damage := range map[string]func(t *testing.T, mem *vfs.MemFS, n *node) string{
		"journal ends early": func(t *testing.T, mem *vfs.MemFS, n *node) string {
			old := n.e.journal.Segments()[0].Path
			copyFile(t, mem, old, "db/old")
			for range 5 {
				n.mustCommit(unit)
			}
			if err := n.e.Flush(); err != nil {
				t.Fatal(err)
			}
			segs := n.e.journal.Segments()
			n.e.Crash()
			for _, s := range segs[1:] {
				if err := mem.Remove(s.Path); err != nil {
					t.Fatal(err)
				}
			}
			copyFile(t, mem, "db/old", old) // its header proves nothing of the rest
			return "but the journal ends at position"
		},
		"journal begins late": func(t *testing.T, mem *vfs.MemFS, n *node) string {
			if err := n.e.Flush(); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				n.mustCommit(unit)
			}
			if err := n.e.journal.SyncTo(n.e.journal.Appended().Pos); err != nil {
				t.Fatal(err)
			}
			if err := n.e.journal.TruncateFront(n.e.journal.Appended().Index); err != nil {
				t.Fatal(err)
			}
			n.e.Crash()
			return "but the journal begins at position"
		},
		"another journal": func(t *testing.T, mem *vfs.MemFS, n *node) string {
			other, m := build(t)
			// The same bytes in more entries.
			u := m.e.NewRecoveryUnit(nil)
			unit(u)
			if _, err := m.append(u, 1); err != nil {
				t.Fatal(err)
			}
			u.Rollback()
			rest := n.e.journal.Appended().Pos - m.e.journal.Appended().Pos
			if _, err := m.e.journal.Append([]journal.Record{{Kind: journal.KindLocal, Payload: make([]byte, rest-36)}}); err != nil {
				t.Fatal(err)
			}
			path := m.e.journal.Segments()[0].Path
			if err := m.e.journal.SyncTo(m.e.journal.Appended().Pos); err != nil {
				t.Fatal(err)
			}
			m.e.Crash()
			b, err := readFile(other, path)
			if err != nil {
				t.Fatal(err)
			}
			if err := n.e.Close(); err != nil {
				t.Fatal(err)
			}
			f, err := mem.Create(path, vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.Write(b)
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			return "do not belong together"
		},
	} {
		t.Run(name, func(t *testing.T) {
			mem, n := build(t)
			n.mustCommit(unit)
			if name == "another journal" {
				n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey("x"), []byte("y")) })
			}
			want := damage(t, mem, n)
			if _, err := tryOpenNode(t, testOptions(mem)); !errors.Is(err, ErrCorruption) || !strings.Contains(err.Error(), want) {
				t.Errorf("open: %v", err)
			}
			o := testOptions(mem)
			o.ReadOnly = true
			e, err := Open(o)
			if err != nil {
				t.Fatalf("read-only: %v", err)
			}
			if _, err := e.Unapplied(t.Context(), nil); !errors.Is(err, ErrCorruption) || !strings.Contains(err.Error(), want) {
				t.Errorf("unapplied: %v", err)
			}
			if len(readState(t, e)) == 0 {
				t.Error("the engine cannot be read")
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
