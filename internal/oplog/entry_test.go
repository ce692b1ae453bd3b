package oplog

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
)

// realEntries are what a MongoDB 4.2 server wrote, one of every kind.
func realEntries(t testing.TB) []bson.Raw {
	t.Helper()
	b, err := os.ReadFile("testdata/mongodb-4.2-oplog.bson")
	if err != nil {
		t.Fatal(err)
	}
	var out []bson.Raw
	for len(b) > 4 {
		n := binary.LittleEndian.Uint32(b)
		out = append(out, bson.Raw(b[:n:n]))
		b = b[n:]
	}
	return out
}

func TestDecodeRealEntries(t *testing.T) {
	kinds := map[string]int{}
	for _, doc := range realEntries(t) {
		e, err := Decode(doc)
		if err != nil {
			t.Fatalf("%v: %v", doc, err)
		}
		kinds[e.Op.String()+" "+e.CommandName()]++
		if e.OpTime.TS == 0 || e.OpTime.Term != 3 || e.Wall == 0 || e.NS != doc.Get("ns").Str() ||
			e.HasUUID() != doc.Has("ui") || (e.O2 != nil) != doc.Has("o2") || (e.LSID != nil) != doc.Has("lsid") ||
			(e.PrevOpTime != nil) != doc.Has("prevOpTime") || (e.StmtIDs != nil) != doc.Has("stmtId") {
			t.Fatalf("%v decoded as %+v", doc, e)
		}
		// Encoded anew it says the same, but for what only old servers wrote.
		again, err := Decode(bson.Raw(e.Append(nil)))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(e.Append(nil), again.Append(nil)) {
			t.Fatalf("%v does not come back", doc)
		}
		for k, v := range doc.Elems() {
			if k == "h" || k == "v" || k == "preImageOpTime" || k == "postImageOpTime" {
				continue
			}
			if got := bson.Raw(e.Append(nil)).Get(k); got.Type != v.Type || !slices.Equal(got.Data, v.Data) {
				t.Fatalf("field %s is %v, was %v", k, got, v)
			}
		}
	}
	for _, kind := range []string{"i ", "u ", "d ", "c create", "c drop", "c dropDatabase", "c renameCollection", "c applyOps", "c createIndexes"} {
		if kinds[kind] == 0 {
			t.Errorf("no entry of kind %q in the sample: %v", kind, kinds)
		}
	}
}

func TestEncodedFieldOrder(t *testing.T) {
	e := Entry{
		OpTime: OpTime{5, 6}, Wall: 7, Op: OpUpdate, NS: "a.b", UUID: testUUID, O: bson.D("x", 1), O2: bson.D("_id", 1),
		RID: 8, LSID: bson.D("id", testUUID), TxnNumber: 9, StmtIDs: []int32{1, 2}, PrevOpTime: &OpTime{3, 4},
		NeedsRetryImage: "preImage", FromMigrate: true, MultiOpType: 1,
	}
	var keys []string
	doc := bson.Raw(e.Append([]byte("in front"))[8:])
	for k := range doc.Elems() {
		keys = append(keys, k)
	}
	want := "lsid txnNumber op ns ui o o2 stmtId ts t v wall prevOpTime needsRetryImage fromMigrate multiOpType rid"
	if got := strings.Join(keys, " "); got != want {
		t.Errorf("fields %s\nwant   %s", got, want)
	}
	if err := bson.Validate(doc, bson.MaxDepth); err != nil {
		t.Error(err)
	}
	back, err := Decode(doc)
	if err != nil || !slices.Equal(back.Append(nil), doc) {
		t.Errorf("decoded %+v, %v", back, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	ok := func(kv ...any) bson.Raw {
		return bson.D(append([]any{"op", "i", "ns", "a.b", "o", bson.D("_id", 1)}, kv...)...)
	}
	for want, doc := range map[string]bson.Raw{
		"field 'op' is missing":     bson.D("ns", "a.b", "o", bson.Empty),
		"unknown op":                bson.D("op", "x", "ns", "a.b", "o", bson.Empty),
		"field 'o' is missing":      bson.D("op", "i", "ns", "a.b"),
		"field 'ns' is missing":     bson.D("op", "i", "o", bson.Empty),
		"field 'o' is of type":      bson.D("op", "i", "ns", "a.b", "o", 1),
		"version":                   ok("v", 1),
		"field 'ui' is no UUID":     ok("ui", "x"),
		"field 'ts' is of type":     ok("ts", 1),
		"field 't' is no integer":   ok("t", "x"),
		"field 'stmtId' is no int":  ok("stmtId", bson.A("x")),
		"optime must be a document": ok("prevOpTime", 1),
		"unknown field 'extra'":     ok("extra", 1),
	} {
		if _, err := Decode(doc); !errors.Is(err, ErrEntry) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", doc, err, want)
		}
	}
	if e, err := Decode(bson.D("op", "db", "ns", "", "o", bson.Empty)); err != nil || e.Op != OpDatabase {
		t.Errorf("db entry: %+v %v", e, err)
	}
	if e, err := Decode(ok("ts", bson.NewTimestamp(1, 2), "t", int32(3))); err != nil || e.OpTime != (OpTime{bson.NewTimestamp(1, 2), 3}) {
		t.Errorf("int term: %+v %v", e, err)
	}
}

func TestOpTimeOrder(t *testing.T) {
	order := []OpTime{NullOpTime, {1, 0}, {5, 1}, {6, 1}, {2, 2}}
	for i, a := range order {
		for j, b := range order {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if a.Compare(b) != want {
				t.Errorf("%v compared to %v is not %d", a, b, want)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, doc := range realEntries(f) {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if bson.Validate(b, bson.MaxDepth) != nil {
			_, _ = Decode(b) // must not panic even so
			return
		}
		e, err := Decode(b)
		if err != nil {
			return
		}
		doc := bson.Raw(e.Append(nil))
		if err := bson.Validate(doc, bson.MaxDepth); err != nil && bson.Validate(b, bson.MaxDepth-1) == nil {
			t.Fatalf("%v encodes to no BSON: %v", bson.Raw(b), err)
		}
		again, err := Decode(doc)
		if err != nil {
			t.Fatalf("%v: %v", doc, err)
		}
		if !slices.Equal(again.Append(nil), doc) {
			t.Fatalf("%v does not come back", bson.Raw(b))
		}
	})
}
