package storage

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestCleanShutdownLeavesNothingToReplay(t *testing.T) {
	fs := vfs.NewMem()
	n := openNode(t, testOptions(fs))
	for _, k := range []string{"a", "b", "c"} {
		n.mustCommit(func(u *RecoveryUnit) { u.Set(tkey(k), []byte(k+k)) })
	}
	want := n.e.Applied()
	if err := n.e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.e.Get(tkey("a"), nil); !errors.Is(err, ErrClosed) {
		t.Fatalf("read after close: %v", err)
	}
	e, err := Open(testOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	st, err := e.Recover(t.Context(), (&node{e: e}).replay)
	if err != nil {
		t.Fatal(err)
	}
	if st.Units != 0 || st.To != want {
		t.Fatalf("recovery after a clean shutdown: %+v, want nothing up to %+v", st, want)
	}
	if got := dump(t, e); got != "a=aa b=bb c=cc " {
		t.Fatal(got)
	}
}

// The number is in docs/FORMATS.md.
func TestFormatMajorVersionIsPinned(t *testing.T) {
	if formatMajorVersion != 21 {
		t.Fatalf("the engine's format is %d", formatMajorVersion)
	}
}
