package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func seeds(f *testing.F) {
	c := NewCompression()
	m := Msg{RequestID: 1, Body: bson.D("insert", "c", "$db", "d"), Sequences: []Docs{{"documents", []bson.Raw{bson.D("_id", 1), bson.D("s", "x")}}}}
	f.Add(m.Append(nil))
	m.Checksum, m.MoreToCome = true, true
	f.Add(m.Append(nil))
	for id := CompressorNone; id < compressors; id++ {
		b, err := m.AppendCompressed(nil, id, c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(AppendQuery(nil, 2, "admin.$cmd", bson.D("isMaster", 1)))
	f.Add(AppendQuery(nil, 2, "admin.c", bson.D("$query", bson.D("hello", 1))))
}

// FuzzParse: whatever arrives, a request is well-formed or refused with a kind of
// error that the server knows what to do with.
func FuzzParse(f *testing.F) {
	seeds(f)
	p := parser()
	f.Fuzz(func(t *testing.T, msg []byte) {
		var r Request
		defer r.Release()
		err := p.Parse(msg, &r)
		var fe *FrameError
		if err != nil {
			if _, ok := mongoerr.As(err); !ok && !errors.As(err, &fe) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		if err := bson.Validate(r.Body, MaxMessageDepth); err != nil {
			t.Fatal(err)
		}
		for i := range r.Sequences {
			n := 0
			for d := range r.Sequences[i].All() {
				if err := bson.Validate(d, MaxMessageDepth); err != nil {
					t.Fatal(err)
				}
				n++
			}
			if n != r.Sequences[i].Len() {
				t.Fatalf("%d documents, said %d", n, r.Sequences[i].Len())
			}
		}
		_ = r.Command()
	})
}

// FuzzReader: messages come out as they lie in the stream, however it is cut.
func FuzzReader(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := NewReader(bytes.NewReader(stream), 1<<20)
		off := 0
		for {
			msg, err := r.Next()
			if err != nil {
				var fe *FrameError
				if err != io.EOF && err != io.ErrUnexpectedEOF && !errors.As(err, &fe) {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(msg, stream[off:off+len(msg)]) {
				t.Fatal("message differs from the stream")
			}
			off += len(msg)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	seeds(f)
	c := NewCompression()
	f.Fuzz(func(t *testing.T, msg []byte) {
		if a, err := ParseAnswer(msg, c); err == nil {
			if err := bson.Validate(a.Doc, MaxMessageDepth); err != nil {
				t.Fatal(err)
			}
		}
	})
}
