package extjson

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
)

func TestForms(t *testing.T) {
	d := bson.D("_id", 1, "l", int64(5), "d", 1.5, "t", bson.DateTime(0), "s", "<&>", "a", []any{nil, true}, "m", bson.Value{Type: bson.TypeMinKey})
	for _, c := range []struct {
		form Form
		want string
	}{
		{Canonical, `{"_id":{"$numberInt":"1"},"l":{"$numberLong":"5"},"d":{"$numberDouble":"1.5"},"t":{"$date":{"$numberLong":"0"}},"s":"<&>","a":[null,true],"m":{"$minKey":1}}`},
		{Relaxed, `{"_id":1,"l":5,"d":1.5,"t":{"$date":"1970-01-01T00:00:00Z"},"s":"<&>","a":[null,true],"m":{"$minKey":1}}`},
	} {
		got, err := Marshal(d, c.form)
		if err != nil || string(got) != c.want {
			t.Errorf("got  %s (%v)\nwant %s", got, err, c.want)
		}
	}
	back, err := Unmarshal([]byte(`{"_id":{"$numberInt":"1"},"l":{"$numberLong":"5"},"d":1.5,"t":{"$date":{"$numberLong":"0"}},"s":"<&>","a":[null,true],"m":{"$minKey":1}}`))
	if err != nil || !bytes.Equal(back, d) {
		t.Errorf("came back as %s (%v)", String(back), err)
	}
}

func TestValue(t *testing.T) {
	for _, text := range []string{`{"$numberLong":"5"}`, `"x"`, `[{"$numberInt":"1"},null]`, `{"a":{"$oid":"000000000000000000000001"}}`} {
		v, err := UnmarshalValue([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := MarshalValue(v, Canonical); err != nil || string(got) != text {
			t.Errorf("got %s (%v), want %s", got, err, text)
		}
	}
	if _, err := UnmarshalValue([]byte(`{"$oid":"zz"}`)); err == nil {
		t.Error("a bad ObjectId was taken")
	}
}

func TestReader(t *testing.T) {
	r, err := NewReader(strings.NewReader("{\"a\":1}\n{\"a\":2} {\"a\":3}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for want := int32(1); want <= 3; want++ {
		d, err := r.Next()
		if err != nil || d.Get("a").Int32() != want {
			t.Fatalf("got %s, %v; want a = %d", String(d), err, want)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(bson.D("a", 1, "b", []any{1.5, "x"})))
	f.Fuzz(func(t *testing.T, b []byte) {
		if bson.Validate(b, bson.MaxDepth) != nil {
			return
		}
		text, err := Marshal(b, Canonical)
		if err != nil {
			return // names and text that JSON cannot hold
		}
		back, err := Unmarshal(text)
		if err != nil {
			return // a document that looks like a wrapped value, such as {"$oid": 1}
		}
		if bson.Validate(back, 0xFFFF) != nil {
			t.Fatalf("%s became malformed", text)
		}
	})
}
