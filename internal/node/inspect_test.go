package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// inspected makes a store: 10 documents with an index on v, closed cleanly, or crashed
// with the last 4 of them in the journal only.
func inspected(t *testing.T, crash bool) string {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	e, err := storage.Open(storage.Options{Dir: dir, CacheBytes: 8 << 20, CheckpointInterval: -1})
	must(err)
	cat, err := catalog.Open(catalog.Options{Engine: e})
	must(err)
	_, err = cat.Recover(ctx)
	must(err)
	seq, err := oplog.NewSequencer(e, oplog.SequencerOptions{})
	must(err)
	must(cat.Start(seq, nil))
	ns, _ := catalog.ParseNamespace("shop.orders")
	for i := range 10 {
		if i == 6 {
			must(e.Flush())
		}
		c, grant, err := cat.BeginWrite(ctx, ns, true)
		must(err)
		w := cat.NewUnit()
		must(c.Insert(ctx, w, []bson.Raw{bson.D("_id", i, "v", fmt.Sprint("v", i))}, nil))
		_, err = cat.Commit(w)
		must(err)
		grant.Release()
	}
	if crash {
		must(seq.Sync(ctx))
		e.Crash()
		_ = seq.Close() // it cannot write any more
		cat.Close()
		return dir
	}
	cat.Close()
	must(errors.Join(seq.Close(), e.Close()))
	return dir
}

func inspect(t *testing.T, dir string, o InspectOptions) (string, error) {
	var b bytes.Buffer
	err := Inspect(t.Context(), &b, dir, o)
	return b.String(), err
}

func TestInspectClean(t *testing.T) {
	dir := inspected(t, false)
	text, err := inspect(t, dir, InspectOptions{Oplog: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"closed cleanly", "shop.orders  10", `{"_id":1}`, `"o":{"_id":8,"v":"v8"}`, `"o":{"_id":9,"v":"v9"}`, "0000000000000000.journal"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, `"v7"`) {
		t.Errorf("more than two entries:\n%s", text)
	}
}

func TestInspectCrashed(t *testing.T) {
	dir := inspected(t, true)
	text, err := inspect(t, dir, InspectOptions{JSON: true, Oplog: 1})
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Format      int
		Replay      replayReport
		Oplog       struct{ Entries int }
		Collections []struct {
			NS        string
			Documents int
			Indexes   []struct{ Name string }
		}
		Journal       struct{ Segments []struct{ LastIndex int } }
		NewestEntries []struct{ O struct{ V string } }
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	// The create is an entry too.
	if r.Format != 1 || r.Replay.Entries != 4 || r.Oplog.Entries != 11 || len(r.Collections) != 1 || r.Collections[0].Documents != 6 ||
		r.Collections[0].Indexes[0].Name != "_id_" || r.Journal.Segments[0].LastIndex != 11 || r.NewestEntries[0].O.V != "v9" {
		t.Errorf("%+v\n%s", r, text)
	}
	again, err := inspect(t, dir, InspectOptions{JSON: true, Oplog: 1})
	if err != nil || again != text {
		t.Errorf("the first look changed something: %v\n%s", err, again)
	}
}

func TestInspectRefuses(t *testing.T) {
	if _, err := inspect(t, t.TempDir(), InspectOptions{}); !errors.Is(err, storage.ErrVersion) {
		t.Errorf("empty directory: %v", err)
	}
	dir := inspected(t, false)
	e, err := storage.Open(storage.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := inspect(t, dir, InspectOptions{}); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("open store: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	// The engine is ahead of a journal that somebody removed.
	segs, err := filepath.Glob(filepath.Join(dir, "journal", "*.journal"))
	if err != nil || len(segs) == 0 {
		t.Fatal(segs, err)
	}
	for _, s := range segs {
		if err := os.Remove(s); err != nil {
			t.Fatal(err)
		}
	}
	text, err := inspect(t, dir, InspectOptions{})
	if !errors.Is(err, storage.ErrCorruption) || !strings.Contains(text, "DAMAGED") || !strings.Contains(text, "shop.orders  10") {
		t.Errorf("without a journal: %v\n%s", err, text)
	}
}
