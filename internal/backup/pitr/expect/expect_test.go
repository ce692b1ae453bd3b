package expect

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/docsum"
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

func apply(t *testing.T, s *Set, op, ns, o, o2 string) {
	t.Helper()
	b := bson.NewBuilder(nil)
	b.Timestamp("ts", bson.NewTimestamp(1, 1)).Str("op", op).Str("ns", ns).AppendDoc("o", extjson.MustParse(o))
	if o2 != "" {
		b.AppendDoc("o2", extjson.MustParse(o2))
	}
	e, err := entry.Parse(b.Finish())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unit(&entry.Unit{Entries: []entry.Entry{e}}); err != nil {
		t.Fatal(err)
	}
}

func (s *Set) text() string {
	var all []string
	for ns := range s.whole {
		all = append(all, ns+" whole")
	}
	for _, ns := range s.Touched() {
		for _, d := range s.docs[ns] {
			what := "there"
			if d.Absent {
				what = "absent"
			} else if d.Known {
				what = "known"
			}
			all = append(all, fmt.Sprintf("%s %s %s", ns, d.ID, what))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

func TestUnit(t *testing.T) {
	s := New(100)
	s.Collection("d.a", docsum.Sum{Documents: 3}, true, false)
	s.Collection("d.b", docsum.Sum{}, false, false)
	s.Collection("d.cap", docsum.Sum{}, true, true)
	for _, step := range []struct{ op, ns, o, o2, want string }{
		{"i", "d.b", `{"_id": 1, "x": 1}`, "", "d.a whole; d.b 1 known; d.cap whole"},
		{"i", "d.cap", `{"_id": 1, "x": 1}`, "", "d.a whole; d.b 1 known"},
		{"u", "d.b", `{"$v": 2, "diff": {"u": {"x": 2}}}`, `{"_id": 1}`, "d.a whole; d.b 1 there"},
		{"u", "d.b", `{"_id": 1, "y": 2}`, `{"_id": 1}`, "d.a whole; d.b 1 known"},
		{"d", "d.b", `{"_id": 1}`, "", "d.a whole; d.b 1 absent"},
		{"c", "d.$cmd", `{"renameCollection": "d.a", "to": "d.z"}`, "", "d.b 1 absent; d.z whole"},
		{"c", "d.$cmd", `{"renameCollection": "d.b", "to": "d.z", "dropTarget": true}`, "", "d.z 1 absent"},
		{"c", "d.$cmd", `{"create": "n"}`, "", "d.z 1 absent"},
		{"c", "d.$cmd", `{"applyOps": [{"op": "i", "ns": "d.n", "o": {"_id": 5}}, {"op": "u", "ns": "d.z", "o": {"$set": {"a": 1}}, "o2": {"_id": 2}}]}`, "", "d.n 5 known; d.z 1 absent; d.z 2 there"},
		{"c", "d.$cmd", `{"drop": "n"}`, "", "d.z 1 absent; d.z 2 there"},
		{"i", "config.transactions", `{"_id": 5}`, "", "d.z 1 absent; d.z 2 there"},
		{"c", "d.$cmd", `{"dropDatabase": 1}`, "", ""},
	} {
		apply(t, s, step.op, step.ns, step.o, step.o2)
		if got := s.text(); got != step.want {
			t.Errorf("after %s %s: %q, want %q", step.op, step.o, got, step.want)
		}
	}
	if s.n != 0 {
		t.Errorf("%d documents counted, none held", s.n)
	}
}

func TestSampleIsBoundedAndRight(t *testing.T) {
	s := New(1000)
	for i := range 20_000 {
		apply(t, s, "i", "d.c", fmt.Sprintf(`{"_id": %d}`, i), "")
	}
	docs := s.Documents("d.c")
	if !s.Sampled() || len(docs) > 1000 || len(docs) < 300 || s.n != len(docs) || s.Seen != 20_000 {
		t.Fatalf("%d documents, counted %d, seen %d", len(docs), s.n, s.Seen)
	}
	for k, d := range docs {
		n, _ := d.ID.AsInt64()
		if k != Key(d.ID) || d.Hash != sha256.Sum256(bson.D("_id", int32(n))) {
			t.Fatalf("%v", d)
		}
	}
}
