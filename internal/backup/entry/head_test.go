package entry

import (
	"testing"

	"github.com/cairndb/cairn/internal/bson"
)

// sameAsParse compares a head with what Parse says.
func sameAsParse(t *testing.T, raw bson.Raw) (plain bool) {
	t.Helper()
	h := ReadHead(raw)
	if h.Kind == Unknown {
		return false
	}
	e, err := Parse(raw)
	if err != nil {
		t.Fatalf("a plain %s, but Parse: %v", h.Kind, err)
	}
	if e.OpTime != h.OpTime || e.Kind != h.Kind || e.NS != string(h.NS) {
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

// FuzzHead holds ReadHead to what it promises: whatever it calls plain, Parse accepts as the same.
func FuzzHead(f *testing.F) {
	for _, c := range kindCases {
		f.Add([]byte(stamped(c.fields)))
	}
	f.Fuzz(func(t *testing.T, data []byte) { sameAsParse(t, data) })
}

func BenchmarkReadHead(b *testing.B) {
	raw := stamped(`"op": "i", "ns": "d.c", ` + uiJSON + `"o": {"_id": 1, "a": "x"}`)
	for b.Loop() {
		ReadHead(raw)
	}
}
