package pitr

import (
	"testing"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

// What is counted keeps nothing of the entries, whose memory is used again.
func TestWrittenKeepsItsNames(t *testing.T) {
	var w written
	for range 3 {
		raw := bson.D("ts", bson.NewTimestamp(1, 1), "t", int64(1), "op", "i", "ns", "d.c", "o", bson.D("_id", 1))
		e, err := entry.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.add(&e); err != nil {
			t.Fatal(err)
		}
		h := entry.ReadHead(raw)
		w.plain(&h)
		for i := range raw {
			raw[i] = 0xdb
		}
	}
	w.settle()
	if len(w.Namespaces) != 1 || w.Namespaces["d.c"] != 6 {
		t.Errorf("%v", w.Namespaces)
	}
}
