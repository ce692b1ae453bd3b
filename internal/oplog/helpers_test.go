package oplog

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/storage"
	"github.com/cairndb/cairn/internal/storage/journal"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// testStore is the one collection of the tests: record id to document.
var testStore = storage.RecordStore{Table: storage.Table{Space: storage.SpaceReplicated, Ident: 100}}

var testUUID = bson.UUID{1, 2, 3, 4, 5, 6, 7, 8}

// node is an engine with a sequencer in front of it.
type node struct {
	*Sequencer
	e *storage.Engine
}

func openEngine(t testing.TB, o storage.Options) *storage.Engine {
	t.Helper()
	o.Dir = "data"
	o.CheckpointInterval = -1
	e, err := storage.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Recover(context.Background(), replay); err != nil {
		t.Fatal(err)
	}
	return e
}

func openNode(t testing.TB, fs vfs.FS, o SequencerOptions) *node {
	t.Helper()
	e := openEngine(t, storage.Options{FS: fs})
	s, err := NewSequencer(e, o)
	if err != nil {
		t.Fatal(err)
	}
	return &node{s, e}
}

func (n *node) close(t testing.TB) {
	t.Helper()
	if err := n.Sequencer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.e.Close(); err != nil {
		t.Fatal(err)
	}
}

// replay is the applier of the tests: an insert's document goes where its rid
// says.
func replay(u *storage.RecoveryUnit, unit []journal.Record) error {
	for _, r := range unit {
		e, err := Decode(r.Payload)
		if err != nil {
			return err
		}
		if e.Op == OpInsert {
			testStore.Put(u, storage.RecordID(e.RID), e.O)
		}
	}
	return nil
}

func (n *node) unit() *WriteUnit { return NewWriteUnit(n.e.NewRecoveryUnit(nil)) }

// insert puts a document into the unit, with its entry.
func insert(w *WriteUnit, id int64, doc bson.Raw) {
	testStore.Put(w.RU, storage.RecordID(id), doc)
	w.Log(&Entry{Op: OpInsert, NS: "test.c", UUID: testUUID, O: doc, RID: id})
}

func idDoc(id int64) bson.Raw { return bson.D("_id", id) }

func (n *node) mustInsert(t testing.TB, ids ...int64) *Future {
	t.Helper()
	w := n.unit()
	for _, id := range ids {
		insert(w, id, idDoc(id))
	}
	f, err := n.Commit(w)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// entries reads all entries in the journal, undurable ones too.
func entries(t testing.TB, j *journal.Journal) []Entry {
	t.Helper()
	r, err := j.NewReader(journal.FromStart().Undurable())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out []Entry
	for r.Next() {
		if rec := r.Record(); rec.Kind == journal.KindEntry {
			doc := bson.Raw(rec.Payload).Clone()
			if err := bson.Validate(doc, bson.MaxDepth); err != nil {
				t.Fatalf("index %d: %v", rec.Index, err)
			}
			e, err := Decode(doc)
			if err != nil {
				t.Fatal(err)
			}
			if uint64(e.OpTime.TS) != rec.TS {
				t.Fatalf("index %d: ts %d in the document, %d in the record", rec.Index, e.OpTime.TS, rec.TS)
			}
			out = append(out, e)
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return out
}

// fakeClock is a clock that tests set.
type fakeClock struct{ t time.Time }

func (c *fakeClock) now() time.Time { return c.t }

func newFakeClock() *fakeClock { return &fakeClock{time.Unix(1_700_000_000, 0)} }

// idBytes is a payload that tells which id it belongs to.
func idBytes(id int64, n int) bson.Raw {
	return bson.D("_id", id, "p", binary.BigEndian.AppendUint64(make([]byte, n), uint64(id)))
}
