package bson

import (
	"bytes"
	"errors"
	"testing"
)

// TestAppendDocFrom: a document is the same whether it was put into the builder's memory, lies
// elsewhere, or overlaps that memory; after an error nothing of it is there.
func TestAppendDocFrom(t *testing.T) {
	doc := D("a", bytes.Repeat([]byte{7}, 300), "b", "text")
	for name, read := range map[string]func(room []byte) (Raw, error){
		"in place":  func(room []byte) (Raw, error) { return append(room, doc...), nil },
		"elsewhere": func([]byte) (Raw, error) { return doc, nil },
		"shifted":   func(room []byte) (Raw, error) { return Raw(append(append(room, 1, 2, 3), doc...)[3:]), nil },
	} {
		for _, size := range []int{0, 40, 4096} {
			b := NewBuilder(make([]byte, 0, size))
			b.Array("batch")
			if err := b.AppendDocFrom("", read); err != nil {
				t.Fatal(err)
			}
			if err := b.AppendDocFrom("", func(room []byte) (Raw, error) {
				return append(room, doc...), errors.New("no")
			}); err == nil {
				t.Error("the error is lost")
			}
			b.AppendDoc("", doc)
			b.End().Int32("n", 1)
			if got, want := b.Finish(), D("batch", A(doc, doc), "n", int32(1)); !bytes.Equal(got, want) {
				t.Errorf("%s, %d bytes of room: %v", name, size, got)
			}
		}
	}
}
