package entry

import (
	"fmt"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

// sameAsParse compares a head with what Parse says.
func sameAsParse(t *testing.T, raw bson.Raw) (plain bool) {
	t.Helper()
	h := ReadHead(raw)
	var r HeadReader
	for range 3 {
		if again := r.Read(raw); !sameHead(again, h) {
			t.Fatalf("read again it is %+v, was %+v", again, h)
		}
	}
	if h.Kind == Unknown {
		return false
	}
	e, err := Parse(raw)
	if err != nil {
		t.Fatalf("a plain %s, but Parse: %v", h.Kind, err)
	}
	if e.OpTime != h.OpTime || e.Kind != h.Kind || e.NS != string(h.NS) || e.UUID != h.UUID {
		t.Fatalf("head %+v of %q, parsed %+v of %q", h, h.NS, e, e.NS)
	}
	touches, err := e.Touches()
	if err != nil || e.Kind == Noop != (len(touches) == 0) || len(touches) > 0 && touches[0] != string(h.NS) {
		t.Fatalf("a plain %s touches %q, %v", h.Kind, touches, err)
	}
	return true
}

func TestReadHead(t *testing.T) {
	for _, c := range kindCases {
		t.Run(c.name, func(t *testing.T) {
			plain := sameAsParse(t, stamped(c.fields))
			want := c.kind.IsCRUD() || c.kind == Noop
			switch c.name {
			case "delete with the shard key", "index of 3.4": // not what is fast to tell
				want = false
			}
			if plain != want {
				t.Errorf("plain: %v", plain)
			}
		})
	}
}

// Entries that begin alike and go on otherwise, and those that begin otherwise, are told apart.
func TestHeadReader(t *testing.T) {
	var r HeadReader
	at := func(n int) string {
		return fmt.Sprintf(`, "ts": {"$timestamp": {"t": 100, "i": %d}}, "t": {"$numberLong": "3"}`, n)
	}
	begin := `{"op": "i", "ns": "d.c", ` + uiJSON
	for i, text := range []string{
		begin + `"o": {"_id": 1}` + at(1), begin + `"o": {"_id": 1, "a": "x"}` + at(2), begin + `"o": {"a": 1}` + at(3), begin + `"o": 5` + at(4),
		begin + `"o": {"_id": 1}, "op": "d"` + at(5), begin + `"o": {"_id": 1}` + at(6), `{"op": "i", "ns": "d.d", ` + uiJSON + `"o": {"_id": 1}` + at(7),
		begin + `"o2": {"_id": 1}, "o": {"_id": 1}` + at(8), begin + `"o": {"_id": 1}, "multiOpType": 1` + at(9), begin + `"o": {"_id": 1}`,
		begin + `"t": {"$numberLong": "9"}, "o": {"_id": 1}, "ts": {"$timestamp": {"t": 1, "i": 1}}`, begin + `"o": {"_id": 1}, "ts": {"$timestamp": {"t": 1, "i": 2}}`,
	} {
		raw := extjson.MustParse(text + "}")
		got, want := r.Read(raw), ReadHead(raw)
		if !sameHead(got, want) {
			t.Errorf("%d: %+v, want %+v", i, got, want)
		}
	}
}

func sameHead(a, b Head) bool {
	return a.OpTime == b.OpTime && a.Kind == b.Kind && string(a.NS) == string(b.NS) && a.UUID == b.UUID
}

// Entries with the same fields behind o are recognised, whatever these hold, and those whose fields
// differ in a name, a type or a length are not taken for such.
func TestHeadReaderKnowsTheEnd(t *testing.T) {
	begin := `{"lsid": {"a": 1}, "op": "i", "ns": "d.c", ` + uiJSON
	known := extjson.MustParse(begin + `"o": {"_id": 1}, "stmtId": 4, "ts": {"$timestamp": {"t": 100, "i": 1}}, "t": {"$numberLong": "3"}, "v": {"$numberLong": "2"}, "wall": {"$date": "2024-05-01T00:00:00Z"}, "prevOpTime": {"ts": {"$timestamp": {"t": 100, "i": 1}}, "t": {"$numberLong": "3"}}}`)
	for _, c := range []struct {
		end  string
		fast bool
	}{
		{`"o": {"_id": 1, "b": "abc"}, "stmtId": 9, "ts": {"$timestamp": {"t": 102, "i": 70000}}, "t": {"$numberLong": "4"}, "v": {"$numberLong": "1"}, "wall": {"$date": "2025-05-01T00:00:00Z"}, "prevOpTime": {"ts": {"$timestamp": {"t": 1, "i": 1}}, "t": {"$numberLong": "-1"}}`, true},
		{`"o": {"_id": 1}, "stmtIx": 9, "ts": {"$timestamp": {"t": 102, "i": 70000}}, "t": {"$numberLong": "4"}, "v": {"$numberLong": "1"}, "wall": {"$date": "2025-05-01T00:00:00Z"}, "prevOpTime": {"ts": {"$timestamp": {"t": 1, "i": 1}}, "t": {"$numberLong": "-1"}}`, false},
		{`"o": {"_id": 1}, "stmtId": 9, "ts": {"$timestamp": {"t": 102, "i": 70000}}, "t": {"$numberLong": "4"}, "v": {"$numberLong": "1"}, "wall": {"$date": "2025-05-01T00:00:00Z"}, "prevOpTime": {"ts": {"$timestamp": {"t": 1, "i": 1}}, "t": 1.5}`, false},
		{`"o": {"_id": 1}, "stmtId": 9, "ts": {"$timestamp": {"t": 102, "i": 70000}}, "t": 4.5, "v": {"$numberLong": "1"}, "wall": {"$date": "2025-05-01T00:00:00Z"}, "prevOpTime": {"ts": {"$timestamp": {"t": 1, "i": 1}}, "t": {"$numberLong": "-1"}}`, false},
		{`"o": {"a": 1}, "stmtId": 9, "ts": {"$timestamp": {"t": 102, "i": 70000}}, "t": {"$numberLong": "4"}, "v": {"$numberLong": "1"}, "wall": {"$date": "2025-05-01T00:00:00Z"}, "prevOpTime": {"ts": {"$timestamp": {"t": 1, "i": 1}}, "t": {"$numberLong": "-1"}}`, false},
		{`"o": {"_id": 1}, "stmtId": 9, "ts": {"$timestamp": {"t": 0, "i": 0}}, "t": {"$numberLong": "4"}, "v": {"$numberLong": "1"}, "wall": {"$date": "2025-05-01T00:00:00Z"}, "prevOpTime": {"ts": {"$timestamp": {"t": 1, "i": 1}}, "t": {"$numberLong": "-1"}}`, false},
		{`"o": {"_id": 1}, "multiOpType": 1, "ts": {"$timestamp": {"t": 102, "i": 1}}, "t": {"$numberLong": "4"}`, false},
		{`"o": {"_id": 1}`, false},
	} {
		var r HeadReader
		r.Read(known)
		r.Read(known)
		if !r.learned {
			t.Fatal("nothing was learned")
		}
		raw := extjson.MustParse(begin + c.end + "}")
		if got, want := r.Read(raw), ReadHead(raw); !sameHead(got, want) {
			t.Errorf("%s: %+v, want %+v", c.end, got, want)
		}
		r.Read(known)
		h := Head{NS: []byte("d.c")}
		if fast := r.rest(raw[4+len(r.begin):len(raw)-1], &h); fast != c.fast {
			t.Errorf("%s: recognised: %v", c.end, fast)
		}
	}
}

// FuzzHeadReader reads an entry after another one, which must not matter.
func FuzzHeadReader(f *testing.F) {
	for _, c := range kindCases {
		f.Add([]byte(stamped(c.fields)), []byte(stamped(c.fields)))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var r HeadReader
		r.Read(a)
		r.Read(a)
		if got, want := r.Read(b), ReadHead(b); !sameHead(got, want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}

// FuzzHead holds ReadHead to what it promises: whatever it calls plain, Parse accepts as the same.
func FuzzHead(f *testing.F) {
	for _, c := range kindCases {
		f.Add([]byte(stamped(c.fields)))
	}
	f.Fuzz(func(t *testing.T, data []byte) { sameAsParse(t, data) })
}

func BenchmarkReadHead(b *testing.B) {
	raw := extjson.MustParse(`{"op": "i", "ns": "d.c", ` + uiJSON + `"o": {"_id": 1, "a": "x"}, "ts": {"$timestamp": {"t": 100, "i": 7}}, "t": {"$numberLong": "3"}, "v": {"$numberLong": "2"}, "wall": {"$date": "2024-05-01T00:00:00Z"}}`)
	var r HeadReader
	for b.Loop() {
		r.Read(raw)
	}
}
